//! What can be measured without probes.

use std::time::Duration;

use listentop_model::coverage::Measure;

use crate::source::{
    coverage::{DESCRIPTORS_VIA, Entry, Reason, WAITERS_VIA, WithoutProbes, out_of_sight},
    owners::Sight,
};

/// What it depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Circumstances {
    /// Why there are no probes.
    pub(super) without_probes: WithoutProbes,
    /// Which namespaces' listeners are not seen.
    pub(super) unseen: Option<Reason>,
    /// Which processes can be seen.
    pub(super) sight: Sight,
    /// Time between two readings of the listeners, where it is longer than that between two samples.
    pub(super) listeners_every: Option<Duration>,
    /// The same for SYN queues.
    pub(super) requests_every: Option<Duration>,
    /// The same for connections one by one.
    pub(super) lists_every: Option<Duration>,
    /// No namespace's counters can be read.
    pub(super) no_counters: bool,
}

/// Coverage of every measure.
pub(super) fn of(circumstances: &Circumstances) -> Vec<Entry> {
    Measure::ALL.iter().map(|measure| one(*measure, circumstances)).collect()
}

fn one(measure: Measure, circumstances: &Circumstances) -> Entry {
    let Circumstances { without_probes, unseen, sight, listeners_every, requests_every, lists_every, no_counters } =
        circumstances;
    let sampled = |via, reasons| Entry::available(measure, via, reasons);
    match measure {
        Measure::AcceptQueueDepth => {
            let mut reasons = vec![Reason::ReadEvery(*listeners_every, ": what comes and goes in between is missed")];
            reasons.extend(unseen.clone());
            sampled("sock_diag: idiag_rqueue, idiag_wqueue", reasons)
        }
        Measure::SynQueueDepth => {
            let counted = ", counted by local address; unknown for shards of one address while one has any";
            sampled("sock_diag: request sockets", vec![Reason::ReadEvery(*requests_every, counted)])
        }
        Measure::WaitingConnections | Measure::UnreadConnections => {
            let ages = if measure == Measure::WaitingConnections {
                "their ages are unavailable: a lower bound is when their clients were heard last"
            } else {
                "their ages are unavailable: a lower bound is when the last payload came. Who reads is unknown"
            };
            let read = Reason::ReadEvery(*lists_every, ", while asked for");
            let via = "sock_diag: connections by local address, idiag_rqueue, tcp_info";
            sampled(via, vec![read, Reason::Limit(ages), Reason::WithoutProbes(without_probes.clone())])
        }
        Measure::HalfOpenConnections => {
            let less = "their ages are unavailable: a lower bound is when they were seen first. Whether a final ACK came is \
                        unknown";
            let read = Reason::ReadEvery(*lists_every, ", while asked for");
            let via = "sock_diag: request sockets by local address";
            sampled(via, vec![read, Reason::Limit(less), Reason::WithoutProbes(without_probes.clone())])
        }
        Measure::Drops => {
            let bound = if *no_counters {
                "an upper bound: a refused final ACK counts twice, and no namespace's counters can be read"
            } else {
                "an upper bound where several listeners of a namespace drop at once: a refused final ACK counts twice"
            };
            sampled("sock_diag: SK_MEMINFO_DROPS", vec![Reason::Limit(bound)])
        }
        Measure::DropCause if *no_counters => {
            Entry::unavailable(measure, vec![Reason::Limit("no namespace's counters can be read")])
        }
        Measure::DropCause => {
            let inferred =
                "inferred from counters, exactly where one listener drops at a time; the rest stays unexplained";
            sampled("the namespace's TcpExt counters", vec![Reason::Limit(inferred)])
        }
        Measure::Owners => sampled("/proc/PID/fd", out_of_sight(measure, *sight).unwrap_or_default()),
        Measure::Waiters | Measure::Descriptors => {
            let via = if measure == Measure::Waiters { WAITERS_VIA } else { DESCRIPTORS_VIA };
            sampled(via, out_of_sight(measure, *sight).unwrap_or_default())
        }
        _ => Entry::unavailable(measure, vec![Reason::WithoutProbes(without_probes.clone())]),
    }
}
