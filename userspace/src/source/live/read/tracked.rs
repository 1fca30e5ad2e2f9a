//! One listener: what is remembered of it between two samples, and how a sample is made.

use std::{
    cell::Cell,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use listentop_abi::listener::{
    FLAG_MPTCP, FLAG_REUSEPORT, FLAG_V6ONLY, ListenerCounters, ListenerInfo, Peaks, WALKED, Work,
};
use listentop_model::{
    coverage::{Coverage, Measure, Status},
    figures::Records,
    sample::{Counts, Distributions, DropsSample, GaugeSample, ListenerSample, NamespaceId, Protocol},
};

use super::{
    distributions::Totals,
    tables::{Counters, Tables},
    threads::OfListener,
    unread::Walk,
};
use crate::source::{
    devices::Devices,
    live::attach::events::Part,
    owners::Owner,
    waiting::{Subject, Surroundings},
};

const AF_INET: u16 = 2;

/// What is remembered of a listener between two samples.
pub(super) struct TrackedListener {
    pub(super) generation: u32,
    pub(super) inode: u64,
    pub(super) namespace: NamespaceId,
    /// Index of the interface that it is bound to; 0 if to none.
    pub(super) device: u32,
    /// When it opened; 0 if before the probes were attached.
    pub(super) opened_ns: u64,
    /// The last sample with `closed` has been given out; only its connections live on.
    pub(super) reported_closed: bool,
    pub(super) owner: Owner,
    /// Its cookie, once it has been sampled.
    pub(super) cookie: Option<u64>,
    /// Who waits for it, and the descriptors of its process.
    pub(super) surroundings: Arc<Surroundings>,
    /// A look at its surroundings was asked for.
    looked_at: Cell<bool>,
    /// Accepts that found nothing, when it was last looked at.
    would_block: Cell<u64>,
    drops: Unwrapped,
    /// Expected accepts of unknown connections: those that were queued before the start. `None` if their number is not
    /// known.
    expected_unknown: Option<u64>,
    /// Accepted connections that no probe saw enqueued.
    pub(super) unseen: u64,
    /// `None` while there were none.
    distributions: Option<Totals>,
    /// Number of samples in which the distributions are still read: a counted event may reach them late.
    unsettled: u32,
    /// The last sample, and what it was made of. It is returned again while that stays the same.
    pub(super) last: Option<(Arc<ListenerSample>, Readings)>,
}

/// What a sample is made of, except threads and owner.
#[derive(PartialEq)]
pub(super) struct Readings {
    info: ListenerInfo,
    pub(super) counters: Counters,
    peaks: Peaks,
    /// When the connections were last walked over, if any of its bytes wait.
    walked_ns: u64,
    available: Available,
}

/// So many accepts that found nothing since the last look are worth another one.
const STORM: u64 = 50;
/// While bytes wait unread for so long, it is of interest what their readers do.
const UNREAD_US: u64 = 500_000;
/// The same where their age is not known.
const UNREAD_BYTES: u64 = 64 << 10;

impl Readings {
    fn records(&self, now_ns: u64) -> Records<'_> {
        Records {
            info: &self.info,
            counters: &self.counters.listener,
            handshakes: &self.counters.handshakes,
            work: &self.counters.work,
            peaks: self.peaks,
            now_ns,
            walked_ns: self.walked_ns,
        }
    }
}

/// Samples after a change in which distributions are read.
const SETTLING: u32 = 2;

/// The measures that are available, one bit each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Available(u64);

impl Available {
    pub(super) fn of(coverage: &[Coverage], parts: &[Part]) -> Self {
        let available = coverage.iter().filter(|entry| entry.status != Status::Unavailable);
        let bits = available.fold(0, |bits, entry| bits | 1 << entry.measure as u32);
        Self(parts.iter().fold(bits, |bits, part| bits | Self::bit(*part)))
    }

    fn has(self, measure: Measure) -> bool {
        self.0 & 1 << measure as u32 != 0
    }

    fn has_part(self, part: Part) -> bool {
        self.0 & Self::bit(part) != 0
    }

    /// The parts' bits are behind those of the measures.
    const fn bit(part: Part) -> u64 {
        1 << (Measure::ALL.len() + part as usize)
    }
}

const _: () = assert!(Available::bit(Part::Aborted) != 0, "more measures and parts than bits");

/// A 32-bit counter that wraps, since the listener was first tracked.
struct Unwrapped {
    last: u32,
    total: u64,
}

impl Unwrapped {
    fn read(&mut self, value: u32) -> u64 {
        self.total += u64::from(value.wrapping_sub(self.last));
        self.last = value;
        self.total
    }
}

impl TrackedListener {
    /// A listener that is new in the tables.
    pub(super) fn new(info: &ListenerInfo, tables: &Tables, slot: u32) -> Self {
        // What waited at the start is known when its queue has been walked to the end.
        let expected_unknown = match info.opened_ns {
            0 => (info.cursor == WALKED).then(|| tables.counters(slot, Work::default()).listener.accepted_unknown),
            _ => Some(0),
        };
        Self {
            generation: info.generation,
            inode: info.inode,
            namespace: namespace(info),
            device: info.device,
            opened_ns: info.opened_ns,
            reported_closed: false,
            owner: Owner::default(),
            cookie: None,
            surroundings: Arc::default(),
            looked_at: Cell::new(false),
            would_block: Cell::new(0),
            drops: Unwrapped { last: info.first_drops, total: 0 },
            expected_unknown,
            unseen: 0,
            distributions: None,
            unsettled: 0,
            last: None,
        }
    }

    /// Samples it. If nothing has changed, the sample is the last one.
    pub(super) fn sample(
        &mut self,
        tables: &mut Tables,
        slot: u32,
        now_ns: u64,
        threads: &OfListener<'_>,
        (available, devices): (Available, &Devices),
        walk: Option<&mut Walk>,
    ) -> io::Result<Arc<ListenerSample>> {
        let mut info = tables.info.read(slot);
        // The time of the poll and the position of the queue's take-over are not part of a sample.
        (info.polled_ns, info.cursor) = (0, 0);
        // No peak is below the depth.
        let mut peaks = tables.take_peaks(slot);
        peaks.accept_queue = peaks.accept_queue.max(info.depth);
        peaks.syn_queue = peaks.syn_queue.max(info.syn_depth);
        let counters = tables.counters(slot, threads.work());
        let mut readings = Readings { info, counters, peaks, walked_ns: 0, available };
        let waits = readings.records(now_ns).unread_bytes() > 0;
        if let Some(walk) = walk.filter(|_| waits) {
            readings.walked_ns = walk.settle(&tables.info)?;
            let found = tables.info.read(slot);
            (readings.info.unread_ns, readings.info.passed_bytes) = (found.unread_ns, found.passed_bytes);
            readings.info.accepted_unread = found.accepted_unread;
        } else {
            (readings.info.unread_ns, readings.info.passed_bytes) = (0, 0);
            readings.info.accepted_unread = 0;
        }
        if self.is_as_before(&readings, threads)
            && let Some((last, _)) = self.last.as_ref()
        {
            return Ok(last.clone());
        }
        let distributions = self.distributions(tables, slot, &readings)?;
        let ListenerCounters { accepted_unknown, untracked_enqueued, .. } = readings.counters.listener;
        self.unseen = self.unseen.max(unseen(self.expected_unknown, untracked_enqueued, accepted_unknown));
        self.inode = info.inode;
        self.cookie = Some(info.cookie);
        self.namespace = namespace(&info);
        self.device = info.device;
        self.reported_closed = info.closed_ns != 0;
        let sample = Arc::new(self.describe(&readings, now_ns, threads, distributions, devices));
        self.last = Some((sample.clone(), readings));
        Ok(sample)
    }

    /// Whether its surroundings are to be looked at soon: it is new, something waits, or accepts find nothing.
    pub(super) fn is_of_interest(&self, threads: &OfListener<'_>) -> bool {
        let Some((sample, _)) = self.last.as_ref() else { return false };
        let is_new = !self.looked_at.get();
        is_new
            || sample.gauges.accept_depth > 0
            || has_unread(&sample.gauges)
            || self.storms(threads.work().would_block)
    }

    /// Whether many accepts have found nothing since the last look.
    fn storms(&self, would_block: u64) -> bool {
        would_block.saturating_sub(self.would_block.get()) >= STORM
    }

    /// What it takes to look at its surroundings; `None` before its first sample.
    pub(super) fn subject(&self, threads: &OfListener<'_>) -> Option<Subject> {
        let (sample, readings) = self.last.as_ref()?;
        self.looked_at.set(true);
        let would_block = threads.work().would_block;
        let storm = self.storms(would_block);
        self.would_block.set(would_block);
        let queued = sample.gauges.accept_depth > 0;
        let accepting = threads.acceptors();
        let awaited = match (has_unread(&sample.gauges), queued) {
            (true, _) => threads.workers(),
            (false, true) => accepting.clone(),
            (false, false) => Vec::new(),
        };
        let orphaned = queued && accepting.is_empty() && readings.available.has(Measure::Accepts);
        Some(Subject {
            id: sample.id,
            inode: self.inode,
            holders: self.owner.holders.clone(),
            accepting,
            awaited,
            urgent: queued || storm,
            orphaned,
        })
    }

    /// Whether a sample of these readings would be the last one again. Notes for how long distributions are to be read.
    fn is_as_before(&mut self, readings: &Readings, threads: &OfListener<'_>) -> bool {
        let last = self.last.as_ref().map(|(_, last)| last);
        let changed = last != Some(readings);
        let recounted = changed && last.is_none_or(|last| last.counters != readings.counters);
        if recounted || readings.info.closed_ns != 0 {
            self.unsettled = SETTLING;
        }
        // The times of connections that wait go on.
        !changed && self.unsettled == 0 && readings.info.depth == 0 && !threads.have_changed()
    }

    /// The distributions: those of the last sample, if nothing can have been added since.
    fn distributions(&mut self, tables: &mut Tables, slot: u32, readings: &Readings) -> io::Result<Distributions> {
        let has = |measure| readings.available.has(measure);
        if !readings.counters.used() {
            self.unsettled = 0;
            return Ok(Distributions::read(Default::default(), has));
        }
        let last = self.last.as_ref().filter(|(_, last)| self.unsettled == 0 && last.available == readings.available);
        if let Some((last, _)) = last {
            return Ok(last.distributions.clone());
        }
        self.unsettled = self.unsettled.saturating_sub(1);
        let records = tables.records(slot);
        let totals = self.distributions.get_or_insert_default().read(&mut tables.distributions, records)?;
        Ok(Distributions::read(totals, has))
    }

    fn describe(
        &mut self,
        readings: &Readings,
        now_ns: u64,
        threads: &OfListener<'_>,
        distributions: Distributions,
        devices: &Devices,
    ) -> ListenerSample {
        let Readings { info, available, .. } = readings;
        let has = |measure| available.has(measure);
        let records = readings.records(now_ns);
        ListenerSample {
            id: info.cookie,
            netns: self.namespace.inode,
            net_cookie: self.namespace.cookie,
            protocol: if info.flags & FLAG_MPTCP != 0 { Protocol::Mptcp } else { Protocol::Tcp },
            address: address(info),
            port: info.port,
            device: (info.device != 0).then(|| devices.get(self.namespace, info.device)),
            v6only: info.flags & FLAG_V6ONLY != 0,
            reuseport: info.flags & FLAG_REUSEPORT != 0,
            process: self.owner.process.clone(),
            holders: self.owner.holders.clone(),
            opened_ns: (info.opened_ns != 0).then_some(info.opened_ns),
            closed: info.closed_ns != 0,
            gauges: GaugeSample::read(&records, has),
            counts: self.counts(&records, *available),
            distributions,
            drops: drops(readings, self.drops.read(info.socket_drops)),
            threads: threads.samples(),
            waiters: self.surroundings.waiters.clone(),
            likely_acceptors: self.surroundings.likely_acceptors.clone().filter(|_| info.depth > 0),
            descriptors: self.surroundings.descriptors,
            somaxconn: (info.somaxconn != 0).then_some(info.somaxconn),
            // A later listen(2) on the same socket is not seen; it may have changed the backlog.
            backlog_wanted: (info.asked != 0 && info.backlog == info.first_backlog).then_some(info.asked_backlog),
            connections: None,
        }
    }

    fn counts(&self, records: &Records<'_>, available: Available) -> Counts {
        let mut counts = Counts::read(records, |measure| available.has(measure));
        // A connection that was accepted was enqueued.
        counts.enqueued = counts.enqueued.map(|enqueued| enqueued + self.unseen);
        for (count, part) in [
            (&mut counts.accept_failed, Part::FailedAccepts),
            (&mut counts.accept_failed_emfile, Part::FailedAccepts),
            (&mut counts.accept_failed_enfile, Part::FailedAccepts),
            (&mut counts.accept_failed_nomem, Part::FailedAccepts),
            (&mut counts.syn_given_up, Part::RequestsGivenUp),
            (&mut counts.cookies_validated, Part::CookiesValidated),
            (&mut counts.aborted, Part::Aborted),
        ] {
            *count = count.filter(|_| available.has_part(part));
        }
        leave_to_the_next(&mut counts);
        counts
    }
}

/// Whether bytes have waited unread for so long, or are so many, that it is of interest what their readers do.
fn has_unread(gauges: &GaugeSample) -> bool {
    gauges
        .oldest_unread_us
        .map_or(gauges.queued_bytes.is_some_and(|bytes| bytes >= UNREAD_BYTES), |age| age >= UNREAD_US)
}

/// What lacked when accepts failed is counted apart from the failures, and read a moment later. What failed between is
/// left to the next sample, so that no part is more than all.
fn leave_to_the_next(counts: &mut Counts) {
    let Some(mut left) = counts.accept_failed else { return };
    for part in [&mut counts.accept_failed_emfile, &mut counts.accept_failed_enfile, &mut counts.accept_failed_nomem] {
        *part = part.map(|part| part.min(left));
        left -= part.unwrap_or(0);
    }
}

fn drops(readings: &Readings, socket_drops: u64) -> DropsSample {
    let Readings { counters, available, .. } = readings;
    let (listener, handshakes) = (&counters.listener, &counters.handshakes);
    let when = |measure, value: u64| available.has(measure).then_some(value);
    DropsSample {
        socket_drops: when(Measure::Drops, socket_drops),
        ack_overflow: when(Measure::Drops, listener.ack_overflow),
        cookie_ack_overflow: when(Measure::Drops, listener.cookie_ack_overflow),
        ack_other: when(Measure::Drops, handshakes.ack_other),
        not_attempts: when(Measure::Drops, listener.not_attempts),
        syn_accept_queue_full: when(Measure::SynRequests, handshakes.accept_queue_full),
        syn_queue_full: when(Measure::SynRequests, handshakes.syn_queue_full),
        syn_other: when(Measure::SynRequests, handshakes.syn_other),
        clients: when(Measure::DropClients, listener.clients),
        clients_cover_syn: available.has(Measure::SynRequests),
    }
}

/// The number of accepted connections that no probe saw enqueued. These are the ones in no table, less those that have
/// a known reason: they found the table full, or (`expected`) waited before the start and left before they could be
/// taken over. If `expected` is unknown, the result is 0.
fn unseen(expected: Option<u64>, untracked_enqueued: u64, accepted_unknown: u64) -> u64 {
    expected.map_or(0, |expected| accepted_unknown.saturating_sub(expected + untracked_enqueued))
}

fn namespace(info: &ListenerInfo) -> NamespaceId {
    NamespaceId { inode: info.netns, cookie: (info.net_cookie != 0).then_some(info.net_cookie) }
}

fn address(info: &ListenerInfo) -> IpAddr {
    if info.family == AF_INET {
        let [a, b, c, d, ..] = info.address;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        IpAddr::V6(Ipv6Addr::from(info.address))
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, leave_to_the_next, unseen};

    #[test]
    fn no_part_of_the_failed_accepts_is_more_than_all() {
        for (failed, [emfile, nomem], expected) in [
            (Some(123), [Some(124), Some(0)], [Some(123), Some(0)]),
            (Some(9), [Some(4), Some(5)], [Some(4), Some(5)]),
            (Some(9), [Some(4), Some(6)], [Some(4), Some(5)]),
            (Some(9), [None, Some(10)], [None, Some(9)]),
            (None, [Some(4), None], [Some(4), None]),
        ] {
            let mut counts = Counts {
                accept_failed: failed,
                accept_failed_emfile: emfile,
                accept_failed_nomem: nomem,
                ..Counts::default()
            };
            leave_to_the_next(&mut counts);
            assert_eq!([counts.accept_failed_emfile, counts.accept_failed_nomem], expected, "{failed:?}");
        }
    }

    #[test]
    fn accepts_of_what_was_never_enqueued_are_unseen() {
        assert_eq!(unseen(Some(0), 0, 3), 3);
        assert_eq!(unseen(Some(2), 0, 3), 1, "two waited before the start");
        assert_eq!(unseen(Some(0), 2, 3), 1, "two were enqueued and found the table full");
        assert_eq!(unseen(Some(0), 5, 3), 0, "what found no room may wait still");
        assert_eq!(unseen(None, 0, 3), 0, "what waited before is not known");
    }
}
