//! Queue-wait blame, as people and programs read it: the charges with the names of functions.

mod acceptors;
mod folded;
mod frames;
pub mod json;
mod live;
mod perf_map;
mod remarks;
mod svg;
mod symbols;
mod table;
mod versus;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use listentop_model::blame::{Doing, States};
use listentop_model::{blame::share, model::Model, words::listener_endpoint};

#[cfg(test)]
use crate::source::live::blame::Waited;
use crate::source::live::blame::{Acceptor, Callers, Charge, Lack, Losses, Measured, Stack, State};

pub use acceptors::{Acceptors, Inference};
pub use folded::folded;
pub use frames::{Frame, Names};
pub use json::json;
pub use live::Blamer;
pub use svg::svg;
pub use symbols::Symbols;
pub use table::table;
pub use versus::versus;

/// What waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Of {
    /// Connections, to be accepted.
    #[default]
    Accepts,
    /// Bytes of connections, to be read.
    Reads,
}

impl Of {
    /// Its name, in every output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepts => "accepts",
            Self::Reads => "reads",
        }
    }

    /// That it waited, as the beginning of a sentence.
    fn waited(self) -> &'static str {
        match self {
            Self::Accepts => "Connections waited",
            Self::Reads => "Bytes waited to be read for",
        }
    }

    /// That it did not.
    fn none_waited(self) -> &'static str {
        match self {
            Self::Accepts => "No connection waited",
            Self::Reads => "No bytes waited to be read",
        }
    }

    /// Those who are charged.
    fn who(self) -> &'static str {
        match self {
            Self::Accepts => "acceptors",
            Self::Reads => "readers",
        }
    }

    /// Why there is nobody.
    fn nobody(self) -> &'static str {
        match self {
            Self::Accepts => "none has accepted since the start, none waits",
            Self::Reads => {
                "no thread has read from the connection since it was accepted, or the one that did has ended"
            }
        }
    }
}

/// What a thread in this state does.
fn doing(state: State) -> Doing {
    match state {
        State::Running => Doing::Running,
        State::Runnable => Doing::Runnable,
        State::Asleep => Doing::Asleep,
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
    /// Of that, what is there because of stacks of the same thread that were copied: not this one's, but as many were
    /// like it.
    pub sampled_ns: u64,
    /// The variance of `wait_ns` where stacks were drawn at random, in square nanoseconds; 0 if it is exact.
    pub variance: f64,
    /// Its callers were found by unwinding, not by frame pointers.
    pub unwound: bool,
}

/// The sampling error that belongs to a variance in square nanoseconds: of 100 times, the truth is not farther away 95
/// times. In nanoseconds.
#[must_use]
pub fn sampling_error(variance: f64) -> u64 {
    (1.96 * variance.max(0.0).sqrt()) as u64
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
    /// Threads, by id, that have neither accepted nor waited, and why they count as acceptors.
    pub inferred: BTreeMap<u32, Inference>,
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
    /// What waited.
    pub of: Of,
}

impl Blamed {
    /// Puts together what was measured, the listeners of the model, and the names of functions.
    #[must_use]
    pub fn new(measured: Measured, model: &Model, names: &Names) -> Self {
        let mut charges: BTreeMap<u64, Vec<Charge>> = BTreeMap::new();
        let mut unsampled_ns = 0;
        let of = if measured.of_reads { Of::Reads } else { Of::Accepts };
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
                inferred: BTreeMap::new(),
            };
            for charge in charges.remove(&waited.listener).unwrap_or_default() {
                listener.charge(&charge, names);
            }
            let untold = [Doing::Running, Doing::Runnable, Doing::Asleep].into_iter().zip(waited.untold_ns);
            for (doing, wait_ns) in untold.chain([(Doing::Nobody, waited.nobody_ns)]) {
                listener.charge_without_thread(doing, wait_ns, of);
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
            of,
        }
    }

    /// The share of the time that stacks of one or two frames are charged with, of what has a stack of a program: much
    /// of it means that the program has no frame pointers.
    #[must_use]
    pub fn short_stacks(&self) -> Option<f64> {
        let stacks = self.listeners.iter().flat_map(|listener| &listener.stacks).filter(|charged| !charged.unwound);
        remarks::short_stacks(stacks.map(|charged| (&charged.frames[..], charged.wait_ns)))
    }
}

impl Listener {
    fn charge(&mut self, charge: &Charge, names: &Names) {
        let doing = doing(charge.state);
        self.states.add(doing, charge.wait_ns);
        let position = self.threads.iter().position(|(acceptor, _)| *acceptor == charge.acceptor);
        let position = position.unwrap_or_else(|| {
            self.threads.push((charge.acceptor.clone(), States::default()));
            self.threads.len() - 1
        });
        self.threads[position].1.add(doing, charge.wait_ns);
        let frames = names.frames(charge);
        let sampled_ns = if charge.callers == Callers::Sampled { charge.wait_ns } else { 0 };
        let unwound = charge.callers != Callers::FramePointers;
        // Different addresses of the same functions are one stack to a reader.
        let same = |charged: &&mut Charged| {
            charged.doing == doing && charged.acceptor.as_ref() == Some(&charge.acceptor) && charged.frames == frames
        };
        match self.stacks.iter_mut().find(same) {
            Some(charged) => {
                charged.wait_ns += charge.wait_ns;
                charged.sampled_ns += sampled_ns;
                charged.variance += charge.variance;
                charged.unwound |= unwound;
            }
            None => self.stacks.push(Charged {
                doing,
                acceptor: Some(charge.acceptor.clone()),
                frames,
                wait_ns: charge.wait_ns,
                sampled_ns,
                variance: charge.variance,
                unwound,
            }),
        }
    }

    /// Says in addition why it is not known who accepted before.
    fn explain_nobody(&mut self, reason: &str, of: Of) {
        for charged in self.stacks.iter_mut().filter(|charged| charged.doing == Doing::Nobody) {
            charged.frames = vec![Frame::remark(&format!("{}: {reason}", of.nobody()))];
        }
    }

    fn charge_without_thread(&mut self, doing: Doing, wait_ns: u64, of: Of) {
        if wait_ns == 0 {
            return;
        }
        self.states.add(doing, wait_ns);
        let frames = vec![Frame::remark(without_thread(of, doing))];
        self.stacks.push(Charged {
            doing,
            acceptor: None,
            frames,
            wait_ns,
            sampled_ns: 0,
            variance: 0.0,
            unwound: false,
        });
    }
}

/// Why no thread is charged.
fn without_thread(of: Of, doing: Doing) -> &'static str {
    match doing {
        Doing::Nobody => of.nobody(),
        _ => "the table of charges was full",
    }
}

/// An acceptor's name, with its id.
fn thread_name(acceptor: Option<&Acceptor>) -> String {
    let Some(acceptor) = acceptor else { return "-".to_owned() };
    let tid = if acceptor.tid == 0 { acceptor.initial_tid } else { acceptor.tid };
    format!("{} ({tid})", acceptor.comm)
}
