//! Queue-wait blame: while connections waited to be accepted, what did the threads do that should have accepted them?
//! A sample has it while somebody asks: all that was charged since then, with the names of functions.

mod way;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    connections::Actor,
    words::prose::{duration, plural},
};

pub use way::{telling, way};

/// What was done while connections waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// An acceptor was on a CPU.
    Running,
    /// It waited for a CPU.
    Runnable,
    /// It slept.
    Asleep,
    /// There was no acceptor.
    Nobody,
}

impl Doing {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Running, Self::Runnable, Self::Asleep, Self::Nobody];

    /// Its name, in every output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Runnable => "runnable",
            Self::Asleep => "asleep",
            Self::Nobody => "nobody",
        }
    }
}

/// Waiting by what was done meanwhile, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct States([u64; 4]);

impl States {
    /// What was waited while this was done.
    #[must_use]
    pub fn wait_ns(&self, doing: Doing) -> u64 {
        self.0[doing as usize]
    }

    /// Adds to it.
    pub fn add(&mut self, doing: Doing, wait_ns: u64) {
        self.0[doing as usize] += wait_ns;
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// A frame, or a remark in the place of frames.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Frame {
    /// The function; of an unnamed one its address in the process.
    pub function: String,
    /// The file that it is in, without its folder; `None` for the kernel's own and where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// It is the kernel's.
    #[serde(default)]
    pub kernel: bool,
    /// It was named.
    #[serde(default)]
    pub named: bool,
    /// It is no frame: it says why there is none.
    #[serde(default)]
    pub is_remark: bool,
    /// Code is there. Where none is, the stack could not be followed: a function keeps no frame pointer.
    #[serde(default = "is_code", skip_serializing_if = "is_true")]
    pub is_code: bool,
    /// Why it has no name, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

const fn is_code() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_true(flag: &bool) -> bool {
    *flag
}

impl Frame {
    /// A function by its name.
    #[must_use]
    pub fn named(function: String, module: Option<String>, kernel: bool) -> Self {
        Self { function, module, kernel, named: true, is_remark: false, is_code: true, why: None }
    }

    /// An address without a name.
    #[must_use]
    pub fn unnamed(address: u64, module: Option<String>, kernel: bool) -> Self {
        Self {
            function: format!("{address:#x}"),
            module,
            kernel,
            named: false,
            is_remark: false,
            is_code: true,
            why: None,
        }
    }

    /// What takes the place of frames.
    #[must_use]
    pub fn remark(text: &str) -> Self {
        Self {
            function: text.to_owned(),
            module: None,
            kernel: false,
            named: false,
            is_remark: true,
            is_code: true,
            why: None,
        }
    }

    /// As lists show it: what is unnamed with the file that it is in, and why.
    #[must_use]
    pub fn label(&self) -> String {
        let why = self.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        match (&self.module, self.is_remark, self.named) {
            (_, true, _) => format!("[{}]", self.function),
            (Some(module), false, false) => format!("{} in {module}{why}", self.function),
            (None, false, false) => format!("{}{why}", self.function),
            _ => self.script().unwrap_or_else(|| self.function.clone()),
        }
    }
}

/// The blame of a sample: of every listener that somebody asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blame {
    /// Why nobody can be blamed here, and what would help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// What is missing or was lost, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// The listeners; none while the watch begins.
    #[serde(default)]
    pub listeners: Vec<Blamed>,
}

/// A listener, and what its acceptors did while connections waited for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blamed {
    /// Its id.
    pub listener: u64,
    /// When the watch began (CLOCK_MONOTONIC, nanoseconds).
    pub since_ns: u64,
    /// Until when it was read.
    pub until_ns: u64,
    /// What is charged adds up to depth × time.
    pub stacks: Vec<BlamedStack>,
}

/// A stack, and the waiting that it is charged with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlamedStack {
    /// What was done.
    pub doing: Doing,
    /// By whom; `None` for nobody, or where that is not known.
    pub thread: Option<Actor>,
    /// Where: the innermost frame first.
    pub frames: Vec<Frame>,
    /// How much, in nanoseconds.
    pub wait_ns: u64,
}

/// Stacks of one thread in one state that lead to the same function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// The one that is charged with most.
    pub most: &'a BlamedStack,
    /// What all are charged with, in nanoseconds.
    pub wait_ns: u64,
    /// The way to the function: see [`way`].
    pub way: String,
}

/// A part of a whole; 0 of nothing.
#[must_use]
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// How a thread is named in sentences and lists.
#[must_use]
pub fn thread_name(thread: Option<&Actor>) -> String {
    thread.map_or_else(|| "-".to_owned(), |actor| format!("{} ({})", actor.comm, actor.tid.unwrap_or(actor.pid)))
}

/// Less waiting than this is not worth a sentence, in nanoseconds.
const LEAST_NS: u64 = 10_000_000;
/// A place with a smaller share explains nothing.
const LEAST_SHARE: f64 = 0.1;

impl Blame {
    /// What is known of these listeners, as of one; `None` if none of them is watched.
    #[must_use]
    pub fn of(&self, listeners: &[u64]) -> Option<Blamed> {
        let mut found = self.listeners.iter().filter(|blamed| listeners.contains(&blamed.listener));
        let mut all = found.next()?.clone();
        found.for_each(|other| all.add(other));
        Some(all)
    }
}

impl Blamed {
    /// Adds what another listener's connections waited for.
    fn add(&mut self, other: &Self) {
        self.since_ns = self.since_ns.min(other.since_ns);
        self.until_ns = self.until_ns.max(other.until_ns);
        for stack in &other.stacks {
            self.charge(stack.clone());
        }
    }

    /// Charges a stack.
    pub fn charge(&mut self, stack: BlamedStack) {
        let same = |known: &&mut BlamedStack| {
            known.doing == stack.doing && known.thread == stack.thread && known.frames == stack.frames
        };
        match self.stacks.iter_mut().find(same) {
            Some(known) => known.wait_ns += stack.wait_ns,
            None => self.stacks.push(stack),
        }
    }

    /// By what was done.
    #[must_use]
    pub fn states(&self) -> States {
        let mut states = States::default();
        self.stacks.iter().for_each(|stack| states.add(stack.doing, stack.wait_ns));
        states
    }

    /// How long connections waited, in nanoseconds: depth × time.
    #[must_use]
    pub fn total_ns(&self) -> u64 {
        self.stacks.iter().map(|stack| stack.wait_ns).sum()
    }

    /// For how long it was watched, in nanoseconds.
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        self.until_ns.saturating_sub(self.since_ns)
    }

    /// Where the waiting went, the most blamed place first.
    #[must_use]
    pub fn places(&self) -> Vec<Place<'_>> {
        let mut places: Vec<Place<'_>> = Vec::new();
        for stack in &self.stacks {
            let way = way(&stack.frames);
            let same = |place: &&mut Place<'_>| {
                place.most.doing == stack.doing && place.most.thread == stack.thread && place.way == way
            };
            match places.iter_mut().find(same) {
                Some(place) => {
                    place.wait_ns += stack.wait_ns;
                    if stack.wait_ns > place.most.wait_ns {
                        place.most = stack;
                    }
                }
                None => places.push(Place { most: stack, wait_ns: stack.wait_ns, way }),
            }
        }
        places.sort_by(|a, b| b.wait_ns.cmp(&a.wait_ns).then_with(|| a.way.cmp(&b.way)));
        places
    }

    /// The most blamed place in a sentence; `None` if little was waited, or nothing stands out.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let total_ns = self.total_ns();
        let places = self.places();
        // What several threads do in the same way is one thing.
        let mut by_way: BTreeMap<(Doing, &str), (u64, Vec<_>)> = BTreeMap::new();
        for place in &places {
            let (wait_ns, threads) = by_way.entry((place.most.doing, &place.way)).or_default();
            *wait_ns += place.wait_ns;
            threads.push(place.most.thread.as_ref());
        }
        let ((doing, way), (wait_ns, threads)) = by_way.into_iter().max_by_key(|(_, (wait_ns, _))| *wait_ns)?;
        if total_ns < LEAST_NS || share(wait_ns, total_ns) < LEAST_SHARE {
            return None;
        }
        let who = match &threads[..] {
            [Some(one)] => thread_name(Some(one)),
            [None] => "an acceptor".to_owned(),
            several => plural(several.len() as u64, "thread"),
        };
        let what = match (doing, way.starts_with('[')) {
            (Doing::Nobody, _) => "no thread was there to accept".to_owned(),
            (Doing::Runnable, _) => format!("{who} waited for a CPU"),
            (Doing::Running, true) => format!("{who} ran"),
            (Doing::Running, false) => format!("{who} ran {way}"),
            (Doing::Asleep, true) => format!("{who} slept {way}"),
            (Doing::Asleep, false) => format!("{who} slept in {way}"),
        };
        let time = |ns: u64| duration(ns / 1_000);
        Some(format!("Of {} waited, {} while {what}.", time(total_ns), time(wait_ns)))
    }
}

#[cfg(test)]
mod tests;
