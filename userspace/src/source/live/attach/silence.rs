//! Hooks that are attached and show nothing.
//!
//! A compiler that optimizes across files (clang, LTO) may merge an exported function into its caller. The function is
//! there still, so a program attaches to it, and never runs. What other hooks show of the same connections tells.

use super::{Attached, events::Event, events::Target, refusal::Refusal};

/// What the probes have counted so far, over all listeners, as far as it shows that a hook is silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// Requests made.
    pub requests: u64,
    /// Those of them that were made while no SYN was processed.
    pub requests_without_syn: u64,
    /// Completed requests where none was ever made.
    pub completed_without_request: u64,
    /// Completed requests while no final ACK was checked.
    pub completed_without_check: u64,
    /// Connections put on accept queues.
    pub enqueued: u64,
    /// Accepted connections that no hook saw enqueued.
    pub unseen: u64,
    /// Reads of connections.
    pub reads: u64,
    /// Payload bytes that arrived.
    pub arrived_bytes: u64,
}

/// As many events must be missing, and more than the kernel skipped runs of probes: some are missed at the start, and
/// some kernels hide a few at times.
const MANY: u64 = 64;

impl Evidence {
    /// Adds that of another listener.
    pub(crate) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.requests_without_syn += other.requests_without_syn;
        self.completed_without_request += other.completed_without_request;
        self.completed_without_check += other.completed_without_check;
        self.enqueued += other.enqueued;
        self.unseen += other.unseen;
        self.reads += other.reads;
        self.arrived_bytes += other.arrived_bytes;
    }

    /// The events that happened and were not seen, each with what shows it.
    fn unseen_events(&self, missed_runs: u64) -> impl Iterator<Item = (Event, Option<Target>, &'static str)> {
        let many = |count| count > MANY + missed_runs;
        let without_request = many(self.completed_without_request) && self.requests == 0;
        [
            (
                Event::Syn,
                Some(Target::Exit("inet_csk_reqsk_queue_hash_add")),
                "handshakes were completed",
                without_request,
            ),
            (
                Event::Syn,
                Some(Target::Entry("tcp_conn_request")),
                "requests were made",
                many(self.requests_without_syn),
            ),
            (
                Event::AckRefused,
                Some(Target::Entry("tcp_check_req")),
                "handshakes were completed",
                many(self.completed_without_check),
            ),
            (Event::Enqueued, None, "connections were accepted", many(self.unseen) && self.enqueued == 0),
            (Event::Arrived, None, "payload was read", many(self.reads) && self.arrived_bytes == 0),
        ]
        .into_iter()
        .filter_map(|(event, target, shown_by, silent)| silent.then_some((event, target, shown_by)))
    }
}

/// Takes the events whose hooks are silent for events that nothing brings. Returns whether there are new ones.
pub(crate) fn note(attached: &mut Attached, evidence: &Evidence, missed_runs: u64) -> bool {
    let mut new = false;
    for (event, target, shown_by) in evidence.unseen_events(missed_runs) {
        new |= attached.silence(event, target, Refusal::Silent(shown_by));
    }
    new
}
