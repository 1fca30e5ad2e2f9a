//! What the attached hooks let us measure. All of it is derived from [`super::events`] and from what is attached.

use std::time::Duration;

use listentop_model::coverage::Measure;

use super::{
    Attached,
    events::{Event, Loss},
};
use crate::source::{
    coverage::{DESCRIPTORS_VIA, Entry, NOW_AND_THEN, Reason, WAITERS_VIA, out_of_sight},
    live::read::cost::Timing,
    owners::Sight,
};

/// What coverage depends on in addition to the hooks.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    /// Which runs of the probes the kernel times.
    pub timing: Timing,
    /// Whether the kernel shows where the functions lie that discard packets.
    pub addresses_known: bool,
    /// Why not all listeners were found that were open before the start.
    pub unseen: Option<Reason>,
    /// Why the connections cannot be walked over.
    pub not_walked: Option<Reason>,
    /// Why connections cannot be listed one by one.
    pub not_listed: Option<Reason>,
    /// Why half-open connections cannot be, though others can.
    pub no_half_open: Option<Reason>,
    /// Walks over maps are made of test runs, because the kernel refuses iterators over their elements.
    pub walks_by_test_runs: bool,
}

/// Coverage of every measure.
pub(crate) fn of(attached: &Attached, circumstances: &Circumstances) -> Vec<Entry> {
    Measure::ALL.iter().map(|measure| one(*measure, attached, circumstances)).collect()
}

fn one(measure: Measure, attached: &Attached, circumstances: &Circumstances) -> Entry {
    let missing = unavailable(measure, attached, circumstances);
    if !missing.is_empty() {
        return Entry::unavailable(measure, missing);
    }
    let mut reasons = limits(measure, attached);
    reasons.extend(incomplete(measure, attached));
    reasons.extend(without_hooks(measure, attached));
    reasons.extend(of_machine(measure, attached, circumstances));
    Entry::available(measure, via(measure, attached, circumstances), reasons)
}

/// Why a measure is unavailable: no attached hook observes an event that carries it. Empty if it is available.
fn unavailable(measure: Measure, attached: &Attached, circumstances: &Circumstances) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let carriers = || attached.outcomes.iter().filter(|outcome| outcome.definition.carries.contains(&measure));
    let level = carriers().filter_map(|outcome| outcome.failure.as_ref()?.level).max();
    reasons.extend(level.map(Reason::LeftOut));
    for outcome in carriers() {
        let Some(failure) = &outcome.failure else { continue };
        if failure.level.is_none() {
            let why = concerning(outcome.definition.without, measure).map(|loss| loss.without).next();
            reasons.push(Reason::NotAttached(why, failure.clone()));
        }
    }
    if let (Measure::ProbeTime, Timing::None(error)) = (measure, &circumstances.timing) {
        reasons.push(Reason::NotTimed(error.clone()));
    }
    if measure == Measure::OldestUnread && level.is_none() {
        reasons.extend(circumstances.not_walked.clone());
    }
    let one_by_one =
        matches!(measure, Measure::WaitingConnections | Measure::UnreadConnections | Measure::HalfOpenConnections);
    if one_by_one && level.is_none() {
        reasons.extend(circumstances.not_listed.clone());
    }
    if measure == Measure::HalfOpenConnections && circumstances.not_listed.is_none() {
        reasons.extend(circumstances.no_half_open.clone());
    }
    reasons
}

/// The losses that concern a measure.
fn concerning(losses: &'static [Loss], measure: Measure) -> impl Iterator<Item = &'static Loss> {
    losses.iter().filter(move |loss| loss.measures.contains(&measure))
}

/// What the methods in use lack.
fn limits(measure: Measure, attached: &Attached) -> Vec<Reason> {
    let methods = attached.outcomes.iter().filter_map(|outcome| outcome.method);
    let losses = methods.flat_map(|method| concerning(method.limits, measure));
    losses.map(|loss| Reason::Limit(loss.without)).collect()
}

/// What is missing because no attached hook observes an event.
fn incomplete(measure: Measure, attached: &Attached) -> Vec<Reason> {
    let failed = attached.outcomes.iter().filter_map(|outcome| Some((outcome.definition, outcome.failure.as_ref()?)));
    failed
        .flat_map(|(definition, failure)| {
            concerning(definition.without, measure).map(|loss| {
                // If the event carries measures, those report the failure.
                if let Some(level) = failure.level {
                    Reason::PartLeftOut(loss.without, level)
                } else if definition.carries.is_empty() {
                    Reason::Incomplete(loss.without, failure.clone())
                } else {
                    Reason::Limit(loss.without)
                }
            })
        })
        .collect()
}

/// What is missing because a hook is not attached: an optional one of the method in use, or one of another event that
/// the method relies on. A kernel without the hook's target misses nothing.
fn without_hooks(measure: Measure, attached: &Attached) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for outcome in &attached.outcomes {
        let Some(method) = outcome.method else { continue };
        // No attempt was made at an optional hook whose function this kernel does not have.
        let optional = method.hooks.iter().filter_map(|hook| Some((hook.target, hook.loss()?, false)));
        let relied_on = method.relies_on.iter().map(|(target, loss)| (*target, *loss, true));
        for (target, loss, untried_is_lost) in optional.chain(relied_on) {
            if attached.has(target) || !loss.measures.contains(&measure) {
                continue;
            }
            match attached.refusal(target) {
                Some(refusal) if refusal.is_absence_of(target) => {}
                None if !untried_is_lost => {}
                refusal => reasons.push(Reason::Without(loss.without, target, refusal.cloned())),
            }
        }
    }
    reasons
}

/// What is missing because of the machine, independent of the hooks.
fn of_machine(measure: Measure, attached: &Attached, circumstances: &Circumstances) -> Option<Reason> {
    match measure {
        Measure::Drops if !circumstances.addresses_known && !attached.is_by_function(Event::AckRefused) => {
            Some(Reason::HiddenAddresses)
        }
        Measure::ProbeTime if circumstances.timing == Timing::Windows => Some(Reason::TimedInWindows),
        Measure::AcceptQueueDepth | Measure::HalfOpenConnections => circumstances.unseen.clone(),
        Measure::Waiters | Measure::Descriptors => Some(Reason::Limit(NOW_AND_THEN)),
        Measure::QueuedBytes if circumstances.not_walked.is_some() => {
            Some(Reason::Limit("bytes that the kernel takes by itself (sockmap, zero-copy receive) count as waiting"))
        }
        _ => None,
    }
}

/// Where a measure comes from.
fn via(measure: Measure, attached: &Attached, circumstances: &Circumstances) -> String {
    let walk = if circumstances.walks_by_test_runs { "test runs over a map" } else { "iter/bpf_map_elem" };
    let hooks = |events: &[Event]| hooks(measure, events, attached);
    let sees_syns = attached.source(Event::Syn).is_some();
    match measure {
        Measure::AcceptQueueDepth => format!("{walk}: sk_ack_backlog"),
        Measure::AcceptQueuePeak => format!("{}: sk_ack_backlog at every enqueue", hooks(&[Event::Enqueued])),
        Measure::Enqueued => hooks(&[Event::Enqueued]),
        Measure::AcceptWait => format!("{} → {}", hooks(&[Event::Enqueued]), hooks(&[Event::Accepted])),
        Measure::OldestWaiting => format!("{walk}: head of the accept queue"),
        Measure::SynQueueDepth if sees_syns => {
            format!("{walk}: qlen; peak: {} at every request", hooks(&[Event::Syn]))
        }
        Measure::SynQueueDepth => format!("{walk}, {}: qlen", hooks(&[Event::Enqueued])),
        Measure::SynRequests => hooks(&[Event::Syn, Event::RequestGivenUp]),
        Measure::SynackRetransmits => hooks(&[Event::SynackRetransmitted]),
        Measure::CookiesSent => hooks(&[Event::Syn, Event::CookieValidated]),
        Measure::Handshake if attached.is_by_function(Event::Enqueued) => {
            format!("{}: since the first SYN-ACK", hooks(&[Event::Enqueued]))
        }
        Measure::Handshake => format!("{}: srtt_us of the new connection", hooks(&[Event::Enqueued])),
        Measure::Drops => format!("sk_drops, {}", hooks(&[Event::AckRefused])),
        Measure::DropCause if sees_syns => hooks(&[Event::Syn, Event::AckRefused]),
        Measure::DropCause => format!("{}; for SYNs the namespace's TcpExt counters", hooks(&[Event::AckRefused])),
        Measure::DropClients => hooks(&[Event::Syn, Event::AckRefused]),
        Measure::Accepts | Measure::WouldBlock => hooks(&[Event::Accepted]),
        Measure::ClientGone => format!("{}: state of the connection", hooks(&[Event::Accepted])),
        Measure::OpenConnections => format!("accepts less {}", hooks(&[Event::Destroyed])),
        Measure::FirstByte => hooks(&[Event::Arrived]),
        Measure::FirstRead => hooks(&[Event::Read, Event::Spliced]),
        Measure::Answer => format!(
            "{} → {} → {}",
            hooks(&[Event::Arrived]),
            hooks(&[Event::Read, Event::Spliced]),
            hooks(&[Event::Written])
        ),
        Measure::Reads => hooks(&[Event::Read, Event::Spliced]),
        Measure::Residency => format!("{} → {}", hooks(&[Event::Arrived]), hooks(&[Event::Read, Event::Spliced])),
        Measure::QueuedBytes => format!("{} less copied_seq", hooks(&[Event::Arrived])),
        Measure::OldestUnread => {
            format!("{walk}: connections; {} less copied_seq", hooks(&[Event::Arrived]))
        }
        Measure::WaitingConnections => format!("{walk}: accept queues, while asked for"),
        Measure::UnreadConnections => {
            format!("{walk}: connections, while asked for; {} less copied_seq", hooks(&[Event::Arrived]))
        }
        Measure::HalfOpenConnections => "iter/tcp: request sockets, while asked for".to_owned(),
        Measure::Writes => hooks(&[Event::Written]),
        Measure::Owners => "/proc/PID/fd".to_owned(),
        Measure::Waiters => WAITERS_VIA.to_owned(),
        Measure::Descriptors => DESCRIPTORS_VIA.to_owned(),
        Measure::ThreadTimes => "/proc/PID/task/TID/schedstat".to_owned(),
        Measure::ProbeTime => "the kernel's program statistics".to_owned(),
    }
}

/// The attached hooks by which these events bring a measure: first those that the methods do not work without, then
/// those that complete it.
fn hooks(measure: Measure, events: &[Event], attached: &Attached) -> String {
    let sources = || events.iter().filter_map(|event| attached.source(*event));
    let of = |optional: bool| {
        let hooks = sources().flat_map(|outcome| &outcome.hooks);
        hooks.filter(move |hook| hook.has(measure) && hook.loss().is_some() == optional).map(|hook| hook.target)
    };
    let relied_on = sources()
        .filter_map(|outcome| outcome.method)
        .flat_map(|method| method.relies_on)
        .filter(|(target, loss)| loss.measures.contains(&measure) && attached.has(*target))
        .map(|(target, _)| *target);
    let mut names: Vec<String> = Vec::new();
    for target in of(false).chain(of(true)).chain(relied_on) {
        let name = target.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// Notes which processes cannot be seen. Returns whether that is new.
pub(crate) fn note_sight(entries: &mut [Entry], sight: Sight) -> bool {
    let mut changed = false;
    for entry in entries.iter_mut().filter(|entry| entry.available) {
        let Some(reasons) = out_of_sight(entry.measure, sight) else { continue };
        changed |= entry.reasons != reasons;
        entry.reasons = reasons;
    }
    changed
}

/// Notes that refused clients may have been forgotten, and counted again. Returns whether that is new.
pub(crate) fn note_forgotten_clients(entries: &mut [Entry]) -> bool {
    let Some(clients) = entries.iter_mut().find(|entry| entry.measure == Measure::DropClients) else { return false };
    let new = clients.available && !clients.reasons.contains(&Reason::ForgottenClients);
    if new {
        clients.reasons.push(Reason::ForgottenClients);
    }
    new
}

/// Notes how often the connections are walked over; `None`: at each refresh. Returns whether that is new.
pub(crate) fn note_walks(entries: &mut [Entry], measure: Measure, every: Option<Duration>) -> bool {
    let Some(unread) = entries.iter_mut().find(|entry| entry.measure == measure) else { return false };
    // To a tenth of a second, as it is written: not every change is news.
    let tenths = |duration: Duration| duration.as_millis() / 100;
    let before = unread.reasons.iter().find_map(|reason| match reason {
        Reason::ReadEvery(every, _) => *every,
        _ => None,
    });
    if !unread.available || before.map(tenths) == every.map(tenths) {
        return false;
    }
    unread.reasons.retain(|reason| !matches!(reason, Reason::ReadEvery(..)));
    unread.reasons.extend(every.map(|every| Reason::ReadEvery(Some(every), ": the age is that of the last reading")));
    true
}
