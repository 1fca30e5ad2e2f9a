//! Blame as JSON. Field names are a contract: add, don't rename.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Blamed, Doing, Frame, Listener, Of, States, sampling_error, share};
use crate::{report::json::SCHEMA, source::live::blame::Acceptor};

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[expect(missing_docs, reason = "docs/schema.md describes each field, for those who read the JSON too")]
            pub struct $name { $($(#[$of])* pub $field: $type,)* }
        )*
    };
}

parts! {
    /// A whole report.
    Report {
        schema: u32, interval_us: u64, total_wait_us: u64, states: BTreeMap<String, Share>, listeners: Vec<Entry>, lost: Lost,
        unavailable: Vec<String>, unsampled_us: u64, #[serde(default = "accepts")] of: String,
    }
    /// A part of the wait.
    Share { wait_us: u64, share: f64, }
    /// A listener.
    Entry {
        id: u64, endpoint: String, port: u16, total_wait_us: u64, states: BTreeMap<String, Share>, threads: Vec<Thread>,
        stacks: Vec<StackEntry>,
    }
    /// An acceptor.
    Thread {
        pid: u32, tid: u32, comm: String, ended: bool, wait_us: u64, share: f64, states: BTreeMap<String, Share>,
        inferred: Option<String>,
    }
    /// A stack.
    StackEntry { state: String, thread: Option<ThreadRef>, wait_us: u64, share: f64, #[serde(default)] unwound: bool, #[serde(default)] sampled_us: u64, #[serde(default)] error_us: u64, frames: Vec<FrameEntry>, }
    /// Whose it is.
    ThreadRef { pid: u32, tid: u32, comm: String, }
    /// A frame; the innermost is the first.
    FrameEntry { function: Option<String>, address: Option<String>, module: Option<String>, kernel: bool, remark: Option<String>, #[serde(default)] unnamed: Option<String>, }
    /// What could not be done.
    Lost { stacks: u64, charges: u64, threads: u64, seats: u64, late: u64, #[serde(default)] copies: u64, #[serde(default)] connections: u64, }
}

/// What waited, in reports that do not say it.
fn accepts() -> String {
    Of::Accepts.name().to_owned()
}

/// The report, indented.
///
/// # Errors
/// None is known.
pub fn json(blamed: &Blamed) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(&report(blamed))?;
    text.push('\n');
    Ok(text)
}

pub(super) fn report(blamed: &Blamed) -> Report {
    let losses = blamed.losses;
    Report {
        schema: SCHEMA,
        interval_us: blamed.elapsed_ns / 1_000,
        total_wait_us: blamed.total_ns / 1_000,
        states: states(&blamed.states, blamed.total_ns),
        listeners: blamed.listeners.iter().map(listener).collect(),
        lost: Lost {
            stacks: losses.stacks,
            charges: losses.charges,
            threads: losses.threads,
            seats: losses.seats,
            late: losses.late,
            copies: losses.copies,
            connections: losses.connections,
        },
        unavailable: blamed.lacks.iter().map(ToString::to_string).collect(),
        unsampled_us: blamed.unsampled_ns / 1_000,
        of: blamed.of.name().to_owned(),
    }
}

fn states(states: &States, whole: u64) -> BTreeMap<String, Share> {
    let of = |doing: Doing| {
        let wait_ns = states.wait_ns(doing);
        (doing.name().to_owned(), Share { wait_us: wait_ns / 1_000, share: rounded(share(wait_ns, whole)) })
    };
    Doing::ALL.map(of).into()
}

/// Six digits are enough.
fn rounded(share: f64) -> f64 {
    (share * 1e6).round() / 1e6
}

fn listener(listener: &Listener) -> Entry {
    let whole = listener.total_ns;
    let thread = |(acceptor, of): &(Acceptor, States)| Thread {
        pid: acceptor.pid,
        tid: acceptor.tid,
        comm: acceptor.comm.clone(),
        ended: acceptor.ended,
        wait_us: of.total() / 1_000,
        share: rounded(share(of.total(), whole)),
        states: states(of, whole),
        inferred: listener.inferred.get(&acceptor.tid).map(|inference| inference.text().to_owned()),
    };
    let named = |acceptor: &Acceptor| ThreadRef { pid: acceptor.pid, tid: acceptor.tid, comm: acceptor.comm.clone() };
    Entry {
        id: listener.id,
        endpoint: listener.endpoint.clone(),
        port: listener.port,
        total_wait_us: whole / 1_000,
        states: states(&listener.states, whole),
        threads: listener.threads.iter().map(thread).collect(),
        stacks: listener
            .stacks
            .iter()
            .map(|charged| StackEntry {
                state: charged.doing.name().to_owned(),
                thread: charged.acceptor.as_ref().map(named),
                wait_us: charged.wait_ns / 1_000,
                share: rounded(share(charged.wait_ns, whole)),
                unwound: charged.unwound,
                sampled_us: charged.sampled_ns / 1_000,
                error_us: sampling_error(charged.variance) / 1_000,
                frames: charged.frames.iter().map(frame).collect(),
            })
            .collect(),
    }
}

fn frame(frame: &Frame) -> FrameEntry {
    let text = || Some(frame.function.clone());
    FrameEntry {
        function: if frame.named { text() } else { None },
        address: if frame.named || frame.is_remark { None } else { text() },
        module: frame.module.clone(),
        kernel: frame.kernel,
        remark: if frame.is_remark { text() } else { None },
        unnamed: frame.why.clone(),
    }
}
