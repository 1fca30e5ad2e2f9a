//! Attaching: for each event the first of its ways that works here.

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, FEntry, FExit, Program, ProgramError, TracePoint},
};
use listentop_abi::{settings, syscall};
use listentop_btf::{KernelBtf, Value};
use listentop_model::coverage::Measure;

use super::{
    StartError,
    events::{self, ACCEPT_CALLS, Definition, EVENTS, Event, Hook, Kind, Need, Target, URING_COMPLETE, Way},
    signatures, tracefs,
};
use crate::say::say;

/// One attempt to attach a program.
#[derive(Debug, Clone)]
pub struct Trial {
    /// What it was to bring.
    pub event: Event,
    /// Name of the program.
    pub program: &'static str,
    /// Where it was to go, such as `fexit/inet_csk_accept`.
    pub target: String,
    /// Which kind of probes it counts as; `None`: either.
    pub kind: Option<Kind>,
    /// Whether it is attached, or why not, in a line.
    pub outcome: Result<(), String>,
    /// Measures that the event carries.
    pub measures: &'static [Measure],
}

/// What became of an event.
#[derive(Debug)]
pub(super) struct Outcome {
    pub definition: &'static Definition,
    /// The way that works; `None` if none does, or another event's hooks bring this one.
    pub way: Option<&'static Way>,
    /// Why nothing brings it.
    pub failure: Option<String>,
}

/// What came of attaching.
#[derive(Debug, Default)]
pub(super) struct Attached {
    pub outcomes: Vec<Outcome>,
    pub trials: Vec<Trial>,
}

impl Attached {
    /// What brings an event.
    pub(super) fn way(&self, event: Event) -> Option<&'static Way> {
        self.outcomes.iter().find(|outcome| outcome.definition.event == event)?.way
    }

    /// Why nothing brings an event.
    pub(super) fn failure(&self, event: Event) -> Option<&str> {
        self.outcomes.iter().find(|outcome| outcome.definition.event == event)?.failure.as_deref()
    }

    /// Whether some event is brought by a function, whose programs can be preempted.
    pub(super) fn uses_functions(&self) -> bool {
        let ways = self.outcomes.iter().filter_map(|outcome| outcome.way);
        ways.flat_map(|way| way.hooks).any(|hook| hook.target.is_function() && self.has(&hook.target.name()))
    }

    /// The hooks by which accepts are seen to end in vain, for whatever reason; empty where none are.
    pub(super) fn accepts_in_vain(&self) -> Vec<Target> {
        let calls = [
            [ACCEPT_CALLS.0, ACCEPT_CALLS.1],
            [Target::Syscall("sys_exit_accept4"), Target::Syscall("sys_exit_accept")],
        ];
        let has = |target: &Target| self.has(&target.name());
        let calls = calls.into_iter().find(|calls| calls.iter().all(has));
        let uring = [Target::Tracepoint(URING_COMPLETE, 3)];
        calls.map_or_else(Vec::new, |calls| calls.into_iter().chain(uring).filter(has).collect())
    }

    /// Bits of [`settings`] that say what completions of io_uring are to tell of.
    pub(super) fn uring_settings(&self) -> u64 {
        let by_tracepoints = |event| self.way(event).is_some_and(|way| way.kind == Some(Kind::Tracepoint));
        let accepts = if by_tracepoints(Event::Accepted) { settings::URING_ACCEPTS } else { 0 };
        let splices = if by_tracepoints(Event::Spliced) { settings::URING_SPLICES } else { 0 };
        accepts | splices
    }

    /// Whether this hook is attached.
    pub(super) fn has(&self, target: &str) -> bool {
        self.trials.iter().any(|trial| trial.target == target && trial.outcome.is_ok())
    }
}

/// Everything that attaching needs.
struct Attacher<'a> {
    ebpf: &'a mut Ebpf,
    btf: &'a Btf,
    kernel: &'a KernelBtf,
    wanted: Option<Kind>,
    refuse: &'a [String],
    tracefs: Result<(), String>,
    attached: Attached,
}

/// Loads and attaches what brings the events, going on past what cannot. `wanted`: probes of one kind only; `refuse`:
/// targets that are to be taken as refused, to see what is lost with them.
///
/// # Errors
/// If an event without which nothing makes sense cannot be seen, or none of those that the wanted kind of probes is
/// for.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    btf: &Btf,
    kernel: &KernelBtf,
    wanted: Option<Kind>,
    refuse: &[String],
) -> Result<Attached, (StartError, Vec<Trial>)> {
    // System call tracepoints need tracefs, which is mounted for this thread only where it is not mounted at all.
    let tracefs = tracefs::available_to_this_thread();
    let mut attacher = Attacher { ebpf, btf, kernel, wanted, refuse, tracefs, attached: Attached::default() };
    // All is loaded before anything is attached, which takes far less time: the events are to begin at one moment. From
    // the last on, because what brings connections may bring arrivals too.
    let mut loaded: Vec<(&'static Definition, Result<usize, String>)> = Vec::new();
    for definition in EVENTS.iter().rev() {
        let covered = loaded
            .iter()
            .any(|(other, way)| way.as_ref().is_ok_and(|way| other.ways[*way].also == Some(definition.event)));
        if !covered {
            loaded.push((definition, attacher.load(definition, 0)));
        }
    }
    for definition in EVENTS {
        let Some(index) = loaded.iter().position(|(other, _)| other.event == definition.event) else {
            attacher.attached.outcomes.push(Outcome { definition, way: None, failure: None });
            continue;
        };
        let mut way = loaded.swap_remove(index).1;
        while let Ok(index) = way {
            match attacher.attach(definition, &definition.ways[index]) {
                Ok(()) => break,
                Err(_) => way = attacher.load(definition, index + 1),
            }
        }
        let (way, failure) = match way {
            Ok(index) => (Some(&definition.ways[index]), None),
            Err(reason) => (None, Some(reason)),
        };
        if let Some(reason) = failure.as_ref().filter(|_| definition.essential) {
            let error = attacher.refusal(definition, reason);
            return Err((error, attacher.attached.trials));
        }
        attacher.attached.outcomes.push(Outcome { definition, way, failure });
    }
    Ok(attacher.attached)
}

impl Attacher<'_> {
    /// Why nothing can be measured without this event.
    fn refusal(&self, definition: &Definition, reason: &str) -> StartError {
        let event = definition.event.name();
        match self.wanted {
            Some(kind) => StartError::Refused(format!("{} probes do not run here: {event}: {reason}", kind.name())),
            None => StartError::Refused(format!("{event}: {reason}")),
        }
    }

    /// Loads the first of the ways from `from` on that the kernel takes; returns which, or why there is none.
    fn load(&mut self, definition: &'static Definition, from: usize) -> Result<usize, String> {
        let mut reasons: Vec<String> = Vec::new();
        for (index, way) in definition.ways.iter().enumerate().skip(from) {
            if !events::allowed(way, self.wanted) {
                continue;
            }
            match self.load_way(definition, way) {
                Ok(()) => return Ok(index),
                Err(reason) if reasons.contains(&reason) => {}
                Err(reason) => reasons.push(reason),
            }
        }
        if reasons.is_empty() {
            // What failed before is told by the trials; if nothing did, it was not allowed.
            let failed = self.attached.trials.iter().rev().find(|trial| trial.event == definition.event);
            reasons.push(match (failed.map(|trial| &trial.outcome), self.wanted) {
                (Some(Err(reason)), _) => reason.clone(),
                (_, Some(kind)) => format!("{} probes do not see it", kind.name()),
                (_, None) => "nothing brings it".to_owned(),
            });
        }
        Err(reasons.join("; "))
    }

    fn load_way(&mut self, definition: &'static Definition, way: &'static Way) -> Result<(), String> {
        for (at, hook) in way.hooks.iter().enumerate() {
            let Err(reason) = self.load_hook(hook) else { continue };
            let skipped = self.skipped(hook);
            if !skipped {
                self.note(definition, way, hook, Err(reason.clone()));
            }
            if matches!(hook.need, Need::Always | Need::Beside) || (hook.need == Need::IfPresent && !skipped) {
                // What was loaded of it is of no use.
                way.hooks[..at].iter().for_each(|hook| self.unload(hook));
                return Err(format!("{}: {reason}", hook.target.name()));
            }
        }
        Ok(())
    }

    /// Whether a hook is of no concern here: this kernel does not have the function, or functions are not wanted.
    fn skipped(&self, hook: &Hook) -> bool {
        !matches!(hook.need, Need::Always | Need::Beside)
            && match hook.target {
                Target::Entry(name) | Target::Exit(name) => {
                    self.wanted == Some(Kind::Tracepoint) || self.kernel.function(name).is_err()
                }
                Target::Tracepoint(..) | Target::Syscall(_) => false,
            }
    }

    fn load_hook(&mut self, hook: &Hook) -> Result<(), String> {
        if self.refuse.contains(&hook.target.name()) {
            return Err("it is to be taken as refused".to_owned());
        }
        if hook.target.is_function() && self.wanted == Some(Kind::Tracepoint) {
            return Err("functions are not wanted".to_owned());
        }
        let program =
            self.ebpf.program_mut(hook.program).ok_or_else(|| format!("the object has no program {}", hook.program))?;
        // One program may serve several targets.
        if program.fd().is_ok() {
            return match hook.target {
                Target::Syscall(_) => self.tracefs.clone(),
                _ => Ok(()),
            };
        }
        match hook.target {
            Target::Tracepoint(name, arguments) => {
                let signature = self.kernel.tracepoint(name).map_err(|error| error.to_string())?;
                let present = signature.parameters.len() as u32;
                if present < arguments {
                    return Err(format!(
                        "tracepoint {name} passes {present} arguments on this kernel, {arguments} are needed"
                    ));
                }
                if name == URING_COMPLETE && !matches!(signature.parameters[1].value, Value::Pointer(_)) {
                    // Since 5.18.
                    return Err(format!("tracepoint {name} passes no request on this kernel"));
                }
                if name == "kfree_skb" {
                    // Since 6.15. Before, a refused final ACK is dropped like one that is ignored on purpose.
                    let reason = self.kernel.enumerator("SKB_DROP_REASON_TCP_LISTEN_OVERFLOW");
                    reason.map_err(|error| error.to_string())?;
                }
                let program: &mut BtfTracePoint = program.try_into().map_err(describe)?;
                program.load(name, self.btf).map_err(describe)
            }
            Target::Syscall(_) => {
                self.tracefs.clone()?;
                let result = self.kernel.member("syscall_trace_exit", "ret").map_err(|error| error.to_string())?.byte();
                if result as usize != syscall::RESULT {
                    return Err(format!("a system call's result is at byte {result} of its record on this kernel"));
                }
                if hook.program == "exit_accept_in_vain" {
                    // Which listener a call was about that brought nothing, its arguments alone tell: since 5.15.
                    self.kernel.function("bpf_task_pt_regs").map_err(|error| error.to_string())?;
                }
                let program: &mut TracePoint = program.try_into().map_err(describe)?;
                program.load().map_err(describe)
            }
            Target::Entry(name) => {
                signatures::check(self.kernel, name)?;
                let program: &mut FEntry = program.try_into().map_err(describe)?;
                program.load(name, self.btf).map_err(describe)
            }
            Target::Exit(name) => {
                signatures::check(self.kernel, name)?;
                let program: &mut FExit = program.try_into().map_err(describe)?;
                program.load(name, self.btf).map_err(describe)
            }
        }
    }

    /// Attaches what was loaded of a way; all of it, or nothing.
    fn attach(&mut self, definition: &'static Definition, way: &'static Way) -> Result<(), String> {
        for hook in way.hooks {
            let loaded = self.ebpf.program(hook.program).is_some_and(|program| program.fd().is_ok());
            // What was not loaded was refused already, and is not needed.
            if !loaded || self.skipped(hook) || self.refuse.contains(&hook.target.name()) {
                continue;
            }
            let outcome = self.attach_hook(hook);
            self.note(definition, way, hook, outcome.clone());
            if let Err(reason) = outcome
                && hook.need != Need::Helps
            {
                // Unloading a program detaches it.
                way.hooks.iter().for_each(|hook| self.unload(hook));
                return Err(format!("{}: {reason}", hook.target.name()));
            }
        }
        Ok(())
    }

    fn attach_hook(&mut self, hook: &Hook) -> Result<(), String> {
        let missing = || format!("the object has no program {}", hook.program);
        match (self.ebpf.program_mut(hook.program).ok_or_else(missing)?, hook.target) {
            (Program::BtfTracePoint(program), _) => program.attach().map(drop).map_err(describe),
            (Program::TracePoint(program), Target::Syscall(name)) => {
                program.attach("syscalls", name).map(drop).map_err(describe)
            }
            (Program::FEntry(program), _) => program.attach().map(drop).map_err(describe),
            (Program::FExit(program), _) => program.attach().map(drop).map_err(describe),
            _ => Err(missing()),
        }
    }

    fn unload(&mut self, hook: &Hook) {
        // A program that is not loaded, or serves another target that failed before, has nothing to unload.
        let _ = match self.ebpf.program_mut(hook.program) {
            Some(Program::BtfTracePoint(program)) => program.unload(),
            Some(Program::TracePoint(program)) => program.unload(),
            Some(Program::FEntry(program)) => program.unload(),
            Some(Program::FExit(program)) => program.unload(),
            _ => Ok(()),
        };
    }

    fn note(&mut self, definition: &Definition, way: &Way, hook: &Hook, outcome: Result<(), String>) {
        self.attached.trials.push(Trial {
            event: definition.event,
            program: hook.program,
            target: hook.target.name(),
            kind: way.kind,
            outcome,
            measures: definition.carries,
        });
    }
}

/// An error with its causes, in one line; the verifier's log goes to the debug output only.
fn describe(error: impl Into<ProgramError>) -> String {
    let error = error.into();
    if let ProgramError::LoadError { io_error, verifier_log } = &error {
        if std::env::var_os("LISTENTOP_VERIFIER_LOG").is_some() {
            say(verifier_log);
        }
        return format!("the kernel refuses the program: {io_error}");
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.lines().collect::<Vec<_>>().join(" ")
}
