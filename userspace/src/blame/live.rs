//! Blame while the dashboard runs: on a thread of its own, which attaches the programs when somebody asks, reads what
//! they charge, and detaches them. Whoever samples takes what is there and never waits.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Instant,
};

use listentop_model::{
    blame::{Blame, Blamed, BlamedStack, share},
    connections::Actor,
};

use super::{
    Doing, Frame, Symbols, doing,
    remarks::{remarks, short_stacks},
};
use crate::{
    rights,
    source::live::blame::{Acceptor, Apart, Callers, Charge, Measured, Stack, State, Subject, Waited, Watch},
};

/// Reading takes this part of the time, at most: with thousands of charges it is read less often.
const READING: u32 = 20;
/// Stacks of a listener that a sample has, at most: those that are charged with most. The others are summed up.
const MOST_STACKS: usize = 256;
/// Frames of a stack that it has, at most: the innermost.
const MOST_FRAMES: usize = 96;

/// What is to be watched.
enum Request {
    /// These listeners, for this time: a higher number begins anew.
    Watch { time: u64, anew: u64, subjects: Vec<Subject> },
    /// Nothing.
    Stop,
}

/// What was read last, and for which time.
type Latest = Arc<Mutex<Option<(u64, Arc<Blame>)>>>;

/// The thread. It ends with this.
#[derive(Debug)]
pub struct Blamer {
    requests: mpsc::Sender<Request>,
    latest: Latest,
    /// How often it was turned on.
    time: u64,
    is_on: bool,
}

impl Blamer {
    /// Starts the thread. To be called before rights are given up.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(apart: Apart) -> io::Result<Self> {
        let symbols = Symbols::start()?;
        let (requests, wanted) = mpsc::channel();
        let latest = Latest::default();
        let shared = latest.clone();
        let (ready, prepared) = mpsc::channel();
        std::thread::Builder::new().name("blame".to_owned()).spawn(move || {
            apart.prepare_thread();
            // If that fails, the thread goes on with the rights that it has.
            let _ = rights::restrict_to_blame();
            drop(ready);
            Worker { apart, symbols, latest: shared, watch: None, refused: None }.run(&wanted);
        })?;
        // Behind this the sandbox comes, which refuses what prepares the thread.
        let _: Result<(), _> = prepared.recv();
        Ok(Self { requests, latest, time: 0, is_on: false })
    }

    /// Watches these listeners from now on, and returns what is known of them. To be called with every sample.
    pub fn watch(&mut self, subjects: Vec<Subject>, anew: u64) -> Arc<Blame> {
        if !self.is_on {
            (self.is_on, self.time) = (true, self.time + 1);
        }
        // If the thread is gone, nothing comes.
        let _ = self.requests.send(Request::Watch { time: self.time, anew, subjects });
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().filter(|(time, _)| *time == self.time).map(|(_, blame)| blame.clone()).unwrap_or_default()
    }

    /// Watches nothing any more: everything is detached.
    pub fn stop(&mut self) {
        if std::mem::take(&mut self.is_on) {
            let _ = self.requests.send(Request::Stop);
        }
    }
}

struct Worker {
    apart: Apart,
    symbols: Symbols,
    latest: Latest,
    watch: Option<Running>,
    /// Why it could not be attached. It is tried again when somebody asks the next time.
    refused: Option<String>,
}

/// A watch that goes on.
struct Running {
    watch: Watch,
    /// What has begun when, by listener.
    since: HashMap<u64, u64>,
    anew: u64,
    baseline: Baseline,
    /// When it may be read again.
    due: Instant,
}

impl Worker {
    fn run(mut self, wanted: &mpsc::Receiver<Request>) {
        while let Ok(request) = wanted.recv() {
            // Only the last of several matters, but for one that stops.
            let mut last = request;
            while let Ok(next) = wanted.try_recv() {
                if matches!(last, Request::Stop) {
                    self.stop();
                }
                last = next;
            }
            match last {
                Request::Stop => self.stop(),
                Request::Watch { time, anew, subjects } => {
                    if let Some(blame) = self.look(anew, &subjects) {
                        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some((time, Arc::new(blame)));
                    }
                }
            }
        }
    }

    fn stop(&mut self) {
        if self.watch.take().is_some() {
            self.symbols.forget();
        }
        self.refused = None;
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Reads what is known of these listeners; `None` if it is not the time for that.
    fn look(&mut self, anew: u64, subjects: &[Subject]) -> Option<Blame> {
        if self.watch.is_none() && self.refused.is_none() {
            match self.apart.attach() {
                Ok(watch) => self.watch = Some(Running::new(watch, anew)),
                Err(refused) => self.refused = Some(refused.to_string()),
            }
        }
        let Some(running) = &mut self.watch else {
            return self.refused.clone().map(|reason| Blame { unavailable: Some(reason), ..Blame::default() });
        };
        match running.look(anew, subjects, &mut self.symbols) {
            Ok(blame) => blame,
            Err(error) => Some(Blame { unavailable: Some(error.to_string()), ..Blame::default() }),
        }
    }
}

impl Running {
    fn new(watch: Watch, anew: u64) -> Self {
        Self { watch, since: HashMap::new(), anew, baseline: Baseline::default(), due: Instant::now() }
    }

    fn look(&mut self, anew: u64, subjects: &[Subject], symbols: &mut Symbols) -> io::Result<Option<Blame>> {
        let now_ns = crate::source::monotonic_ns();
        let mut watching = self.watch.watching();
        watching.watch(subjects)?;
        subjects.iter().for_each(|subject| _ = self.since.entry(subject.listener).or_insert(now_ns));
        let is_anew = self.anew != anew;
        if !is_anew && Instant::now() < self.due {
            return Ok(None);
        }
        let begun = Instant::now();
        let measured = watching.so_far()?;
        let until_ns = crate::source::monotonic_ns();
        if is_anew {
            self.anew = anew;
            self.baseline = Baseline::of(&measured);
            self.since.values_mut().for_each(|since| *since = until_ns);
        }
        name(&measured, symbols);
        let frames = |charge: &Charge| symbols.frames_so_far(charge);
        let blame = blame(&measured, &self.baseline, (&self.since, until_ns), subjects, &frames);
        self.due = Instant::now() + begun.elapsed() * READING;
        Ok(Some(blame))
    }
}

/// Has functions named that are new, while their processes live. The thread that names them is another.
fn name(measured: &Measured, symbols: &mut Symbols) {
    for charge in &measured.charges {
        if let Stack::Known(addresses) | Stack::Before(addresses) = &charge.kernel {
            symbols.kernel(addresses);
        }
        if let Stack::Known(addresses) = &charge.user {
            symbols.process(charge.acceptor.pid, addresses);
        }
    }
}

/// What a charge is for: its listener, thread, state and stacks.
type Key = (u64, (u64, u32), State, Stack, Stack);

/// A listener, a thread and what it did: this is exact. Of it the stacks may have other parts from one reading to the
/// next, where only some were copied.
type Sum = (u64, (u64, u32), State);

/// What was charged before it was begun anew.
#[derive(Debug, Default)]
struct Baseline {
    charges: HashMap<Key, u64>,
    /// The same by listener, thread and state.
    sums: HashMap<Sum, u64>,
    /// What is charged to no thread, by listener and what was done.
    others: HashMap<(u64, Doing), u64>,
}

fn key(charge: &Charge) -> Key {
    let thread = (charge.acceptor.start_ns, charge.acceptor.initial_tid);
    (charge.listener, thread, charge.state, charge.kernel.clone(), charge.user.clone())
}

/// What is charged to no thread.
fn others(waited: &Waited) -> [(Doing, u64); 4] {
    let [running, runnable, asleep] = waited.untold_ns;
    [(Doing::Running, running), (Doing::Runnable, runnable), (Doing::Asleep, asleep), (Doing::Nobody, waited.nobody_ns)]
}

fn sum(charge: &Charge) -> Sum {
    (charge.listener, (charge.acceptor.start_ns, charge.acceptor.initial_tid), charge.state)
}

impl Baseline {
    fn of(measured: &Measured) -> Self {
        let of_listener = |waited: &Waited| others(waited).map(|(doing, ns)| ((waited.listener, doing), ns));
        let (mut charges, mut sums) = (HashMap::new(), HashMap::new());
        for charge in &measured.charges {
            // The same charge may be in two parts: what was charged, and what is open.
            *charges.entry(key(charge)).or_default() += charge.wait_ns;
            *sums.entry(sum(charge)).or_default() += charge.wait_ns;
        }
        Self { charges, sums, others: measured.listeners.iter().flat_map(of_listener).collect() }
    }

    /// Each charge, with what was added to it since.
    fn since<'a>(&self, charges: &'a [Charge]) -> Vec<(&'a Charge, u64)> {
        if self.charges.is_empty() {
            return charges.iter().map(|charge| (charge, charge.wait_ns)).collect();
        }
        let (mut now, mut grown, mut spent) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut added = Vec::with_capacity(charges.len());
        for charge in charges {
            let key = key(charge);
            let before = self.charges.get(&key).copied().unwrap_or(0);
            let spent: &mut u64 = spent.entry(key).or_default();
            let old = before.saturating_sub(*spent).min(charge.wait_ns);
            *spent += old;
            added.push((charge, charge.wait_ns - old));
            *now.entry(sum(charge)).or_insert(0_u64) += charge.wait_ns;
            *grown.entry(sum(charge)).or_insert(0_u64) += charge.wait_ns - old;
        }
        for (charge, wait_ns) in &mut added {
            let sum = sum(charge);
            let exact = now[&sum].saturating_sub(self.sums.get(&sum).copied().unwrap_or(0));
            let parts = u128::from(*wait_ns) * u128::from(exact);
            *wait_ns = u64::try_from(parts / u128::from(grown[&sum].max(1))).unwrap_or(*wait_ns);
        }
        added
    }
}

/// What a stack is told apart by: what was done, by whom, and where.
type Place = (Doing, Option<(u32, u32, String)>, Vec<Frame>);

/// The blame of what was measured since the baseline.
fn blame(
    measured: &Measured,
    baseline: &Baseline,
    (since, until_ns): (&HashMap<u64, u64>, u64),
    subjects: &[Subject],
    frames: &dyn Fn(&Charge) -> Vec<Frame>,
) -> Blame {
    let mut sums: HashMap<u64, HashMap<Place, u64>> = HashMap::new();
    let (mut by_pointers, mut sampled_ns, mut total_ns) = (Vec::new(), 0, 0);
    for (charge, wait_ns) in baseline.since(&measured.charges) {
        if wait_ns == 0 {
            continue;
        }
        let frames = frames(charge);
        total_ns += wait_ns;
        match charge.callers {
            Callers::Sampled => sampled_ns += wait_ns,
            Callers::FramePointers => by_pointers.push((frames.clone(), wait_ns)),
            Callers::Unwound => {}
        }
        let of = (doing(charge.state), Some(thread(&charge.acceptor)), shortened(frames));
        *sums.entry(charge.listener).or_default().entry(of).or_default() += wait_ns;
    }
    for waited in &measured.listeners {
        for (doing, wait_ns) in others(waited) {
            let before = baseline.others.get(&(waited.listener, doing)).copied().unwrap_or(0);
            let wait_ns = wait_ns.saturating_sub(before);
            if wait_ns > 0 {
                let of = (doing, None, vec![Frame::remark(super::without_thread(super::Of::Accepts, doing))]);
                *sums.entry(waited.listener).or_default().entry(of).or_default() += wait_ns;
            }
        }
    }
    let mut listeners = Vec::new();
    for id in subjects.iter().map(|subject| subject.listener) {
        let stacks = sums.remove(&id).unwrap_or_default().into_iter();
        let stacks = stacks.map(|((doing, thread, frames), wait_ns)| {
            let thread = thread.map(|(pid, tid, comm)| Actor { pid, tid: Some(tid), comm });
            BlamedStack { doing, thread, frames, wait_ns }
        });
        let since_ns = since.get(&id).copied().unwrap_or(until_ns);
        listeners.push(Blamed { listener: id, since_ns, until_ns, stacks: bounded(stacks.collect()) });
    }
    let short = short_stacks(by_pointers.iter().map(|(frames, wait_ns)| (&frames[..], *wait_ns)));
    let remarks = remarks(&measured.lacks, &measured.losses, short, share(sampled_ns, total_ns));
    Blame { unavailable: None, remarks, listeners }
}

fn thread(acceptor: &Acceptor) -> (u32, u32, String) {
    let tid = if acceptor.tid == 0 { acceptor.initial_tid } else { acceptor.tid };
    let pid = if acceptor.pid == 0 { acceptor.initial_pid } else { acceptor.pid };
    (pid, tid, acceptor.comm.clone())
}

/// A stack without its outermost frames, if it has very many.
fn shortened(mut frames: Vec<Frame>) -> Vec<Frame> {
    if frames.len() > MOST_FRAMES {
        let more = frames.len() - MOST_FRAMES;
        frames.truncate(MOST_FRAMES);
        frames.push(Frame::remark(&format!("{more} more")));
    }
    frames
}

/// The stacks that are charged with most, and the sums of the others. They are in an order that lasts: recordings then
/// have little to write.
fn bounded(mut stacks: Vec<BlamedStack>) -> Vec<BlamedStack> {
    if stacks.len() > MOST_STACKS {
        stacks.sort_by_key(|stack| u64::MAX - stack.wait_ns);
        let mut sums = Blamed::default();
        for stack in stacks.split_off(MOST_STACKS) {
            sums.charge(BlamedStack { frames: vec![Frame::remark("other places")], ..stack });
        }
        stacks.append(&mut sums.stacks);
    }
    let tid = |stack: &BlamedStack| stack.thread.as_ref().map(|thread| (thread.pid, thread.tid));
    stacks.sort_by(|a, b| (a.doing, tid(a), &a.frames).cmp(&(b.doing, tid(b), &b.frames)));
    stacks
}

#[cfg(test)]
mod tests;
