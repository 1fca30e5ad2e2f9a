//! Loading programs side by side. Most of a start is the kernel's verifying of programs one after the other, and it
//! verifies on as many CPUs as ask. What was loaded here is found loaded when its turn comes; what is not needed after
//! all is unloaded there.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use aya::{Ebpf, programs::Program};
use listentop_btf::KernelBtf;

use super::{
    Attacher, Programs, Wanted,
    events::{Definition, EVENTS, Hook, Target},
    fitting::{fits, lacks, load},
    refusal::{Failure, Refusal},
};
use crate::source::live::visitor::Visitors;

/// Programs and targets that the kernel refused, and why.
pub(crate) type Refused = HashMap<(&'static str, Target), Refusal>;

/// Threads at most: the kernel takes memory for each program that it verifies.
const MOST_THREADS: usize = 8;

/// Something to be loaded.
enum Task {
    /// The first method of an event that the kernel takes.
    Event(&'static Definition),
    /// An iterator, and what it visits.
    Iterator(&'static str, &'static str),
}

/// Loads these iterators and what is wanted of the events. Returns what was refused of the events.
pub(crate) fn preload(
    ebpf: &mut Ebpf,
    (visitors, kernel): (Visitors<'_>, &KernelBtf),
    wanted: Wanted<'_>,
    iterators: impl Iterator<Item = (&'static str, &'static str)>,
) -> Refused {
    // What another event's hooks may bring is loaded when that is known.
    let may_be_brought =
        |of: &Definition| EVENTS.iter().flat_map(|other| other.methods).any(|method| method.also == Some(of.event));
    let events = EVENTS.iter().rev().filter(|definition| wanted.loads(definition) && !may_be_brought(definition));
    let tasks: Vec<Task> =
        events.map(Task::Event).chain(iterators.map(|(program, visits)| Task::Iterator(program, visits))).collect();
    let shared = Shared {
        programs: ebpf.programs_mut().map(|(name, program)| (name.to_owned(), Mutex::new(program))).collect(),
        visitors,
        kernel,
        refused: Mutex::default(),
    };
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            shared.run(task, wanted);
        }
    };
    let helpers = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS) - 1;
    thread::scope(|scope| {
        for _ in 0..helpers {
            // Where no thread can be started, those that there are do it all.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    shared.refused.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The object's programs, each for one thread at a time.
struct Shared<'a> {
    programs: HashMap<String, Mutex<&'a mut Program>>,
    visitors: Visitors<'a>,
    kernel: &'a KernelBtf,
    refused: Mutex<Refused>,
}

impl<'a> Shared<'a> {
    fn run(&self, task: &Task, wanted: Wanted<'_>) {
        match task {
            Task::Event(definition) => {
                let mut programs = self;
                let mut attacher = Attacher { programs: &mut programs, wanted, trials: Vec::new() };
                attacher.load(definition, 0, &mut Failure::default());
            }
            Task::Iterator(program, visits) => {
                // What the kernel does not take is tried once more where that is reported.
                let _ = self.visitors.load((program, visits), |name, load| match self.program(name) {
                    Some(mut program) => load(&mut program),
                    None => Ok(()),
                });
            }
        }
    }

    fn program(&self, name: &str) -> Option<MutexGuard<'_, &'a mut Program>> {
        Some(self.programs.get(name)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Programs for &Shared<'_> {
    fn load(&mut self, hook: &Hook) -> Result<(), Refusal> {
        let mut program = self.program(hook.program).ok_or_else(|| Refusal::no_program(hook.program))?;
        if program.fd().is_ok() {
            return Ok(());
        }
        let outcome = fits(self.kernel, hook).and_then(|()| load(&mut program, hook, self.visitors.btf));
        if let Err(refusal) = &outcome {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.insert((hook.program, hook.target), refusal.clone());
        }
        outcome
    }

    /// Nothing is attached here.
    fn attach(&mut self, hook: &Hook) -> Result<(), Refusal> {
        Err(Refusal::no_program(hook.program))
    }

    /// Another event may use it. It is unloaded where the outcome of all is known.
    fn unload(&mut self, _: &Hook) {}

    fn detach(&mut self, _: &Hook) {}

    fn is_loaded(&self, hook: &Hook) -> bool {
        self.program(hook.program).is_some_and(|program| program.fd().is_ok())
    }

    fn lacks(&self, target: Target) -> bool {
        lacks(self.kernel, target)
    }
}
