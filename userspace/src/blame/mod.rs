//! Queue-wait blame, as people and programs read it: the charges with the names of functions.

mod folded;
mod frames;
pub mod json;
mod svg;
mod symbols;
mod table;
mod versus;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use listentop_model::{model::Model, words::listener_endpoint};

#[cfg(test)]
use crate::source::live::blame::Waited;
use crate::source::live::blame::{Acceptor, Charge, Lack, Losses, Measured, Stack, State};

pub use folded::folded;
pub use frames::{Frame, Names};
pub use json::json;
pub use svg::svg;
pub use symbols::Symbols;
pub use table::table;
pub use versus::versus;

/// What was done while connections waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    fn of(state: State) -> Self {
        match state {
            State::Running => Self::Running,
            State::Runnable => Self::Runnable,
            State::Asleep => Self::Asleep,
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

    fn add(&mut self, doing: Doing, wait_ns: u64) {
        self.0[doing as usize] += wait_ns;
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// A stack, and the waiting that it is charged with.
#[derive(Debug, Clone, PartialEq)]
pub struct Charged {
    /// What was done.
    pub doing: Doing,
    /// By whom; `None` for nobody, or where that is not known.
    pub acceptor: Option<Acceptor>,
    /// Where: the innermost frame first.
    pub frames: Vec<Frame>,
    /// How much, in nanoseconds.
    pub wait_ns: u64,
}

/// A listener that connections waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Its id.
    pub id: u64,
    /// Its address and port.
    pub endpoint: String,
    /// Its port.
    pub port: u16,
    /// Depth × time, in nanoseconds.
    pub total_ns: u64,
    /// The same, by what was done.
    pub states: States,
    /// By thread, the most blamed first.
    pub threads: Vec<(Acceptor, States)>,
    /// By stack, likewise.
    pub stacks: Vec<Charged>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Blamed {
    /// How long was measured, in nanoseconds.
    pub elapsed_ns: u64,
    /// Depth × time over all listeners.
    pub total_ns: u64,
    /// The same, by what was done.
    pub states: States,
    /// The listeners, the longest wait first.
    pub listeners: Vec<Listener>,
    /// What could not be done.
    pub losses: Losses,
    /// What could not be attached.
    pub lacks: Vec<Lack>,
    /// Of the time on a CPU, what has no sample.
    pub unsampled_ns: u64,
}

impl Blamed {
    /// Puts together what was measured, the listeners of the model, and the names of functions.
    #[must_use]
    pub fn new(measured: Measured, model: &Model, names: &Names) -> Self {
        let mut charges: BTreeMap<u64, Vec<Charge>> = BTreeMap::new();
        let mut unsampled_ns = 0;
        for charge in measured.charges {
            if charge.state == State::Running && charge.user == Stack::None && charge.kernel == Stack::None {
                unsampled_ns += charge.wait_ns;
            }
            charges.entry(charge.listener).or_default().push(charge);
        }
        let mut listeners: Vec<Listener> = Vec::new();
        for waited in measured.listeners {
            let Some(known) = model.listeners.iter().find(|listener| listener.id == waited.listener) else { continue };
            let mut listener = Listener {
                id: waited.listener,
                endpoint: listener_endpoint(known),
                port: known.port,
                total_ns: waited.total_ns,
                states: States::default(),
                threads: Vec::new(),
                stacks: Vec::new(),
            };
            for charge in charges.remove(&waited.listener).unwrap_or_default() {
                listener.charge(&charge, names);
            }
            let untold = [Doing::Running, Doing::Runnable, Doing::Asleep].into_iter().zip(waited.untold_ns);
            for (doing, wait_ns) in untold.chain([(Doing::Nobody, waited.nobody_ns)]) {
                listener.charge_without_thread(doing, wait_ns);
            }
            listener.threads.sort_by_key(|(acceptor, states)| (u64::MAX - states.total(), acceptor.initial_tid));
            listener.stacks.sort_by_key(|charged| u64::MAX - charged.wait_ns);
            listeners.push(listener);
        }
        listeners.sort_by_key(|listener| (u64::MAX - listener.total_ns, listener.port, listener.id));
        let mut states = States::default();
        for doing in Doing::ALL {
            states.add(doing, listeners.iter().map(|listener| listener.states.wait_ns(doing)).sum());
        }
        Self {
            elapsed_ns: measured.elapsed_ns,
            total_ns: listeners.iter().map(|listener| listener.total_ns).sum(),
            states,
            listeners,
            losses: measured.losses,
            lacks: measured.lacks,
            unsampled_ns,
        }
    }

    /// The share of the time that stacks of one or two frames are charged with, of what has a stack of a program: much
    /// of it means that the program has no frame pointers.
    #[must_use]
    pub fn short_stacks(&self) -> Option<f64> {
        let of_programs = || {
            let stacks = self.listeners.iter().flat_map(|listener| &listener.stacks);
            stacks.filter_map(|charged| {
                let frames = charged.frames.iter().filter(|frame| !frame.kernel && !frame.is_remark).count();
                (frames > 0).then_some((frames, charged.wait_ns))
            })
        };
        let all: u64 = of_programs().map(|(_, wait_ns)| wait_ns).sum();
        let short: u64 = of_programs().filter(|(frames, _)| *frames <= SHORT).map(|(_, wait_ns)| wait_ns).sum();
        (all > 0).then(|| short as f64 / all as f64)
    }
}

/// Frames that a stack has if it could not be followed.
const SHORT: usize = 2;

impl Listener {
    fn charge(&mut self, charge: &Charge, names: &Names) {
        let doing = Doing::of(charge.state);
        self.states.add(doing, charge.wait_ns);
        let position = self.threads.iter().position(|(acceptor, _)| *acceptor == charge.acceptor);
        let position = position.unwrap_or_else(|| {
            self.threads.push((charge.acceptor.clone(), States::default()));
            self.threads.len() - 1
        });
        self.threads[position].1.add(doing, charge.wait_ns);
        let frames = names.frames(charge);
        // Different addresses of the same functions are one stack to a reader.
        let same = |charged: &&mut Charged| {
            charged.doing == doing && charged.acceptor.as_ref() == Some(&charge.acceptor) && charged.frames == frames
        };
        match self.stacks.iter_mut().find(same) {
            Some(charged) => charged.wait_ns += charge.wait_ns,
            None => self.stacks.push(Charged {
                doing,
                acceptor: Some(charge.acceptor.clone()),
                frames,
                wait_ns: charge.wait_ns,
            }),
        }
    }

    fn charge_without_thread(&mut self, doing: Doing, wait_ns: u64) {
        if wait_ns == 0 {
            return;
        }
        self.states.add(doing, wait_ns);
        let remark = match doing {
            Doing::Nobody => "none has accepted since the start, none waits",
            _ => "the table of charges was full",
        };
        self.stacks.push(Charged { doing, acceptor: None, frames: vec![Frame::remark(remark)], wait_ns });
    }
}

/// A part of the whole; 0 of nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// An acceptor's name, with its id.
fn thread_name(acceptor: Option<&Acceptor>) -> String {
    let Some(acceptor) = acceptor else { return "-".to_owned() };
    let tid = if acceptor.tid == 0 { acceptor.initial_tid } else { acceptor.tid };
    format!("{} ({tid})", acceptor.comm)
}
