//! What can be measured without probes.

use std::time::Duration;

use listentop_model::coverage::{Coverage, Measure, Status};

use crate::source::owners;

/// What it depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Circumstances {
    /// Why there are no probes, and what would help.
    pub(super) without_probes: String,
    /// Which namespaces' listeners are not seen, and what would help.
    pub(super) unseen: Option<String>,
    /// Processes whose descriptors may not be read.
    pub(super) hidden: u32,
    /// Time between two readings of the listeners, where it is longer than that between two samples.
    pub(super) listeners_every: Option<Duration>,
    /// The same for SYN queues.
    pub(super) requests_every: Option<Duration>,
    /// No namespace's counters can be read.
    pub(super) no_counters: bool,
}

/// Coverage of every measure.
pub(super) fn of(circumstances: &Circumstances) -> Vec<Coverage> {
    Measure::ALL.iter().map(|measure| one(*measure, circumstances)).collect()
}

fn one(measure: Measure, circumstances: &Circumstances) -> Coverage {
    let Circumstances { without_probes, unseen, hidden, listeners_every, requests_every, no_counters } = circumstances;
    let sampled =
        |via: &str, reason: String| Coverage { measure, status: Status::Sampled, via: via.to_owned(), reason };
    let read = |every: &Option<Duration>| match every {
        // To a tenth of a second: it is to be read, not to be reckoned with.
        Some(every) => format!("read every {:.1} s, as reading takes long here", every.as_secs_f64()),
        None => "read at each refresh".to_owned(),
    };
    match measure {
        Measure::AcceptQueueDepth => {
            let mut reason = format!("{}: what comes and goes in between is missed", read(listeners_every));
            if let Some(unseen) = unseen {
                reason = format!("{reason}; {unseen}");
            }
            sampled("sock_diag: idiag_rqueue, idiag_wqueue", reason)
        }
        Measure::SynQueueDepth => sampled(
            "sock_diag: request sockets",
            format!(
                "{}, counted by local address; unknown for shards of one address while one has any",
                read(requests_every)
            ),
        ),
        Measure::Drops => sampled(
            "sock_diag: SK_MEMINFO_DROPS",
            if *no_counters {
                "an upper bound: a refused final ACK counts twice, and no namespace's counters can be read".to_owned()
            } else {
                "an upper bound where several listeners of a namespace drop at once: a refused final ACK counts twice"
                    .to_owned()
            },
        ),
        Measure::DropCause if *no_counters => unavailable(measure, "no namespace's counters can be read"),
        Measure::DropCause => sampled(
            "the namespace's TcpExt counters",
            "inferred from counters, exactly where one listener drops at a time; the rest stays unexplained".to_owned(),
        ),
        Measure::Owners if *hidden == 0 => {
            Coverage { measure, status: Status::Measured, via: "/proc/PID/fd".to_owned(), reason: String::new() }
        }
        Measure::Owners => sampled("/proc/PID/fd", owners::hidden_reason(*hidden)),
        _ => unavailable(measure, without_probes),
    }
}

fn unavailable(measure: Measure, reason: &str) -> Coverage {
    Coverage { measure, status: Status::Unavailable, via: String::new(), reason: reason.to_owned() }
}
