//! What the attached hooks let us measure.

use listentop_model::coverage::{Coverage, Measure, Status};

use super::{
    cost::Timing,
    events::{EVENTS, Event, Kind, Need, Target, Way},
    hooks::Attached,
};
use crate::source::owners;

/// Where a measure comes from, and what must be said about it.
struct Source {
    status: Status,
    via: String,
    reason: String,
}

fn measured(via: impl Into<String>) -> Source {
    Source { status: Status::Measured, via: via.into(), reason: String::new() }
}

fn sampled(via: impl Into<String>, reason: &str) -> Source {
    Source { status: Status::Sampled, via: via.into(), reason: reason.to_owned() }
}

fn unavailable(reason: impl Into<String>) -> Source {
    Source { status: Status::Unavailable, via: String::new(), reason: reason.into() }
}

/// The hooks of the way that an event is seen, as lists name them.
fn via(attached: &Attached, event: Event) -> String {
    let way: Option<&Way> = attached.way(event).or_else(|| {
        // Another event's hooks bring it.
        let other = EVENTS.iter().filter_map(|other| attached.way(other.event)).find(|way| way.also == Some(event));
        other.filter(|_| attached.failure(event).is_none())
    });
    let Some(way) = way else { return String::new() };
    let sources = way.hooks.iter().filter(|hook| !matches!(hook.need, Need::Helps | Need::Beside));
    let names: Vec<String> = sources
        .map(|hook| hook.target.name())
        .filter(|name| attached.has(name))
        .map(|name| name.trim_start_matches("tracepoint/syscalls/").to_owned())
        .collect();
    names.join(", ")
}

fn by_function(attached: &Attached, event: Event) -> bool {
    attached.way(event).is_some_and(|way| way.kind == Some(Kind::Fentry))
}

/// Where a measure comes from, its hooks being attached.
fn source(measure: Measure, attached: &Attached) -> Source {
    let via = |event| via(attached, event);
    let by_function = |event| by_function(attached, event);
    let because = |event| attached.failure(event).unwrap_or_default();
    let syn = by_function(Event::Syn);
    match measure {
        Measure::AcceptQueueDepth => measured("iter/bpf_map_elem: sk_ack_backlog"),
        Measure::AcceptQueuePeak => measured(format!("{}: sk_ack_backlog at every enqueue", via(Event::Enqueued))),
        Measure::Enqueued => measured(via(Event::Enqueued)),
        Measure::AcceptWait => {
            let accepted = if by_function(Event::Accepted) { "" } else { ", tp_btf/io_uring_complete" };
            measured(format!("{} → {}{accepted}", via(Event::Enqueued), via(Event::Accepted)))
        }
        Measure::OldestWaiting => measured("iter/bpf_map_elem: head of the accept queue"),
        Measure::SynQueueDepth if syn => {
            measured("iter/bpf_map_elem: qlen; peak: fexit/inet_csk_reqsk_queue_hash_add at every request")
        }
        Measure::SynQueueDepth => sampled(
            format!("iter/bpf_map_elem, {}: qlen", via(Event::Enqueued)),
            "read at each refresh and enqueue; a peak in between is missed",
        ),
        Measure::SynRequests if syn => measured("fexit/inet_csk_reqsk_queue_hash_add"),
        Measure::SynRequests => {
            unavailable(format!("no tracepoint fires when a request is made; {}", because(Event::Syn)))
        }
        Measure::SynackRetransmits => measured(via(Event::SynackRetransmitted)),
        Measure::CookiesSent if syn => measured("fentry/cookie_v4_init_sequence, fentry/cookie_v6_init_sequence"),
        Measure::CookiesSent => {
            unavailable(format!("counted per namespace only (SyncookiesSent); {}", because(Event::Syn)))
        }
        Measure::Handshake if by_function(Event::Enqueued) => {
            measured(format!("{}: since the first SYN-ACK", via(Event::Enqueued)))
        }
        Measure::Handshake => sampled(
            format!("{}: srtt_us of the new connection", via(Event::Enqueued)),
            "left out: handshakes whose SYN-ACK was sent again or was a cookie",
        ),
        Measure::Drops => measured(format!("sk_drops, {}", via(Event::AckRefused))),
        Measure::DropCause if syn && by_function(Event::AckRefused) => {
            measured(format!("fexit/tcp_conn_request, {}", via(Event::AckRefused)))
        }
        Measure::DropCause => sampled(
            format!("{}; for SYNs the namespace's TcpExt counters", via(Event::AckRefused)),
            "no tracepoint fires for a refused SYN: its cause is inferred from counters, exactly where one listener drops at a time",
        ),
        Measure::DropClients if syn => measured(format!("fexit/tcp_conn_request, {}", via(Event::AckRefused))),
        Measure::DropClients => {
            sampled(via(Event::AckRefused), "refused final ACKs only: no tracepoint shows a refused SYN")
        }
        Measure::Accepts if by_function(Event::Accepted) => measured(via(Event::Accepted)),
        Measure::Accepts => measured(format!("{}, tp_btf/io_uring_complete", via(Event::Accepted))),
        Measure::WouldBlock => {
            let names: Vec<String> = attached.accepts_in_vain().into_iter().map(Target::name).collect();
            if names.is_empty() { measured(via(Event::Accepted)) } else { measured(names.join(", ")) }
        }
        Measure::OpenConnections => measured(format!("accepts less {}", via(Event::Destroyed))),
        Measure::FirstByte => measured(via(Event::Arrived)),
        Measure::FirstRead => measured(via(Event::Read)),
        Measure::Reads => measured([via(Event::Read), via(Event::Spliced)].join(", ")),
        Measure::Residency => measured(format!("{} → {}", via(Event::Arrived), via(Event::Read))),
        Measure::QueuedBytes => measured(format!("{} less copied_seq", via(Event::Arrived))),
        Measure::Writes => measured(via(Event::Written)),
        Measure::Owners => measured("/proc/PID/fd"),
        Measure::ThreadTimes => measured("/proc/PID/task/TID/schedstat"),
        Measure::ProbeTime => measured("the kernel's program statistics"),
    }
}

/// Coverage of every measure, given what became of the hooks, how much the kernel times, whether it shows where
/// tcp_v4_rcv and tcp_v6_rcv lie, and why not all namespaces' listeners were found.
pub(super) fn of(
    attached: &Attached,
    timing: &Timing,
    receive_ranges_known: bool,
    unseen: Option<&str>,
) -> Vec<Coverage> {
    Measure::ALL
        .iter()
        .map(|measure| {
            let failure = attached.outcomes.iter().find_map(|outcome| {
                let reason = outcome.failure.as_ref()?;
                // What only functions tell has its own words above.
                let told = outcome.definition.event != Event::Syn && outcome.definition.carries.contains(measure);
                told.then(|| reason.clone())
            });
            let failure = failure.or_else(|| match timing {
                Timing::None(reason) if *measure == Measure::ProbeTime => Some(reason.clone()),
                _ => None,
            });
            let Source { status, via, reason } = match failure {
                Some(reason) if *measure == Measure::ProbeTime => unavailable(reason),
                Some(reason) => unavailable(format!("not attached: {reason}")),
                None if *measure == Measure::Drops
                    && !receive_ranges_known
                    && !by_function(attached, Event::AckRefused) =>
                {
                    sampled(
                        source(*measure, attached).via,
                        "an upper bound: packets ignored because of TCP_DEFER_ACCEPT are in it, as the kernel hides \
                         its addresses; CAP_SYSLOG and a kernel.kptr_restrict below 2 would help",
                    )
                }
                None if *measure == Measure::ProbeTime && *timing == Timing::Windows => sampled(
                    source(*measure, attached).via,
                    "timed for 10 ms each second and interpolated; --probe-stats times every run",
                ),
                None => match unseen.filter(|_| *measure == Measure::AcceptQueueDepth) {
                    Some(unseen) => sampled(source(*measure, attached).via, unseen),
                    None => source(*measure, attached),
                },
            };
            // A way may bring it less well than another would.
            let note = EVENTS.iter().filter_map(|event| attached.way(event.event)?.note);
            let note = note.filter(|(measures, _)| measures.contains(measure)).map(|(_, note)| note).next();
            let (status, reason) = match note.filter(|_| status != Status::Unavailable) {
                Some(note) if reason.is_empty() => (Status::Sampled, note.to_owned()),
                Some(note) => (Status::Sampled, format!("{reason}; {note}")),
                None => (status, reason),
            };
            Coverage { measure: *measure, status, via, reason }
        })
        .collect()
}

/// Says so if some processes' descriptors may not be read.
pub(super) fn note_hidden_owners(coverage: &mut [Coverage], hidden: u32) {
    let Some(owners) = coverage.iter_mut().find(|entry| entry.measure == Measure::Owners) else { return };
    if hidden > 0 {
        owners.status = Status::Sampled;
        owners.reason = owners::hidden_reason(hidden);
    } else {
        owners.status = Status::Measured;
        owners.reason.clear();
    }
}

/// Says that refused clients may have been forgotten, and counted again.
pub(super) fn note_forgotten_clients(coverage: &mut [Coverage]) {
    const FORGOTTEN: &str =
        "an upper bound: so many were refused that some were forgotten, and counted again when they came back";
    let Some(clients) = coverage.iter_mut().find(|entry| entry.measure == Measure::DropClients) else { return };
    match clients.status {
        Status::Unavailable => {}
        Status::Measured => {
            clients.status = Status::Sampled;
            FORGOTTEN.clone_into(&mut clients.reason);
        }
        Status::Sampled if clients.reason.ends_with(FORGOTTEN) => {}
        Status::Sampled => clients.reason = format!("{}; {FORGOTTEN}", clients.reason),
    }
}
