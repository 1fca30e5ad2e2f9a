//! Listeners: what the probes wrote about each slot, made into samples, and slots given back when nothing uses them any
//! more.

use std::{
    collections::BTreeSet,
    io, iter,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ptr,
    sync::Arc,
};

use aya::maps::{MapData, Queue};
use listentop_abi::listener::{
    FLAG_MPTCP, FLAG_REUSEPORT, FLAG_V6ONLY, ListenerCounters, ListenerInfo, Peaks, WALKED, Work,
};
use listentop_model::{
    coverage::{Coverage, Measure, Status},
    figures::Records,
    sample::{Counts, Distributions, DropsSample, GaugeSample, ListenerSample, Protocol},
    shared::Shared,
};

use super::{
    Inodes,
    distributions::{self, Totals},
    tables::{Counters, Tables},
    threads::{OfListener, Threads},
};
use crate::source::owners::{Owner, Scan};

const AF_INET: u16 = 2;

/// The listeners, and what user space must remember of each.
pub(super) struct Listeners {
    tables: Tables,
    free: Queue<MapData, u32>,
    /// Whether probes see accepts that fail before they reach the queue.
    sees_failed_accepts: bool,
    /// By slot.
    known: Vec<Option<Box<Known>>>,
    /// Slots of listeners that closed and whose connections live on.
    closed: Vec<u32>,
    /// Namespaces that hold a listener.
    namespaces: BTreeSet<u32>,
    /// The owner of some listener has not been found, and not been sought for long.
    ownerless: bool,
    /// Number of the scan that owners were taken from last.
    scanned: u64,
    /// Some listener is newer than that.
    discovered: bool,
    /// Enqueued connections of listeners that are gone whose enqueueing no probe saw.
    unseen_gone: u64,
    /// Clients that listeners had refused when they closed; and those of all listeners.
    clients_closed: u64,
    clients: u64,
}

/// What is remembered of a listener between two samples.
struct Known {
    generation: u32,
    inode: u64,
    netns: u32,
    /// The last sample with `closed` has been given out; only its connections live on.
    reported_closed: bool,
    owner: Owner,
    drops: Unwrapped,
    /// Accepts of unknown connections that were to be expected, of what was queued before the start; `None` if that is
    /// not known.
    expected_unknown: Option<u64>,
    /// Connections whose enqueueing no probe saw, though they were accepted.
    unseen: u64,
    /// `None` while there were none.
    distributions: Option<Totals>,
    /// Samples in which the distributions are to be read still: an event that was counted may not have got there yet.
    unsettled: u32,
    /// The last sample, and what it was made of. Given out again for as long as that stays the same.
    last: Option<(Arc<ListenerSample>, Readings)>,
}

/// What a sample is made of, but for threads and owner.
#[derive(PartialEq)]
struct Readings {
    info: ListenerInfo,
    counters: Counters,
    peaks: Peaks,
    available: Available,
}

/// Samples after a change in which distributions are read.
const SETTLING: u32 = 2;

/// The measures that are not unavailable, a bit each.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Available(u64);

impl Available {
    /// A part of the accepts that no measure stands for.
    const FAILED_ACCEPTS: u64 = 1 << 63;

    fn of(coverage: &[Coverage], failed_accepts: bool) -> Self {
        let available = coverage.iter().filter(|entry| entry.status != Status::Unavailable);
        let bits = available.fold(0, |bits, entry| bits | 1 << entry.measure as u32);
        Self(if failed_accepts { bits | Self::FAILED_ACCEPTS } else { bits })
    }

    fn has(self, measure: Measure) -> bool {
        self.0 & 1 << measure as u32 != 0
    }
}

const _: () = assert!(Measure::ALL.len() <= 63);

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

impl Listeners {
    /// `sees_failed_accepts`: probes see those that fail before they reach the queue.
    pub(super) fn new(tables: Tables, free: Queue<MapData, u32>, sees_failed_accepts: bool) -> Self {
        let known = iter::repeat_with(|| None).take(tables.geometry.slots as usize).collect();
        let (closed, namespaces) = (Vec::new(), BTreeSet::new());
        Self {
            tables,
            free,
            sees_failed_accepts,
            known,
            closed,
            namespaces,
            ownerless: false,
            scanned: 0,
            discovered: false,
            unseen_gone: 0,
            clients_closed: 0,
            clients: 0,
        }
    }

    /// Takes notice of listeners that are new in the tables.
    pub(super) fn discover(&mut self) {
        for (slot, known) in (0..).zip(&mut self.known).filter(|(_, known)| known.is_none()) {
            // SAFETY: inside the mapping; a field of a record of integers, read as a whole.
            let cookie = unsafe { ptr::read_volatile(&raw const (*self.tables.info.pointer(slot)).cookie) };
            if cookie == 0 {
                continue;
            }
            let info = self.tables.info.read(slot);
            if info.polled_ns == 0 && info.closed_ns == 0 {
                // It opened since the poll and is not identified yet: next time.
                continue;
            }
            // What waited at the start is known when its queue has been walked to the end.
            let expected_unknown = match info.opened_ns {
                0 => (info.cursor == WALKED)
                    .then(|| self.tables.counters(slot, Work::default()).listener.accepted_unknown),
                _ => Some(0),
            };
            *known = Some(Box::new(Known {
                generation: info.generation,
                inode: info.inode,
                netns: info.netns,
                reported_closed: false,
                owner: Owner::default(),
                drops: Unwrapped { last: info.first_drops, total: 0 },
                expected_unknown,
                unseen: 0,
                distributions: None,
                unsettled: 0,
                last: None,
            }));
            self.namespaces.insert(info.netns);
            self.ownerless = true;
            self.discovered = true;
        }
    }

    /// Those that listen now, or have closed since the last sample.
    fn open(&self) -> impl Iterator<Item = &Known> {
        self.known.iter().flatten().map(Box::as_ref).filter(|known| !known.reported_closed)
    }

    /// Inodes of the sockets that listen now.
    pub(super) fn inodes(&self) -> Inodes {
        self.open().map(|known| known.inode).collect()
    }

    /// Connections so far that were accepted, though no probe saw them enqueued.
    pub(super) fn unseen(&self) -> u64 {
        self.unseen_gone + self.known.iter().flatten().map(|known| known.unseen).sum::<u64>()
    }

    /// Refused clients that were counted, of all listeners that there were.
    pub(super) fn clients(&self) -> u64 {
        self.clients
    }

    /// Whether a scan out of turn may find the owner of some listener.
    pub(super) fn has_ownerless(&self) -> bool {
        self.ownerless
    }

    /// Namespaces that hold a listener, in order.
    pub(super) fn namespaces(&self) -> Vec<u32> {
        self.namespaces.iter().copied().collect()
    }

    /// Tells each listener who holds it, if the scan or some listener is new.
    pub(super) fn assign_owners(&mut self, scan: &Scan) {
        let again = std::mem::replace(&mut self.scanned, scan.number) == scan.number;
        let discovered = std::mem::take(&mut self.discovered);
        if again && !discovered {
            return;
        }
        for known in self.known.iter_mut().flatten().filter(|known| !known.reported_closed) {
            known.owner.update(known.inode, scan, again);
            if known.owner.take_changed() {
                known.last = None;
            }
        }
    }

    /// Samples every listener that is open or has closed since the last time. One of which nothing changed is shared
    /// with the sample before.
    ///
    /// # Errors
    /// If a part of a table cannot be mapped.
    pub(super) fn sample(
        &mut self,
        now_ns: u64,
        threads: &Threads,
        coverage: &[Coverage],
    ) -> io::Result<Shared<ListenerSample>> {
        let available = Available::of(coverage, self.sees_failed_accepts);
        let mut samples = Shared::default();
        self.namespaces.clear();
        self.ownerless = false;
        self.clients = self.clients_closed;
        for (slot, known) in (0..).zip(&mut self.known) {
            let Some(known) = known.as_deref_mut().filter(|known| !known.reported_closed) else { continue };
            samples.push(known.sample(&mut self.tables, slot, now_ns, &threads.of(slot), available)?);
            let clients = known.last.as_ref().map_or(0, |(_, last)| last.counters.listener.clients);
            self.clients += clients;
            if known.reported_closed {
                self.closed.push(slot);
                self.clients_closed += clients;
            }
            self.namespaces.insert(known.netns);
            self.ownerless |= known.owner.is_sought();
        }
        self.tables.distributions.unmap_unused();
        Ok(samples)
    }

    /// Gives back the slots of listeners that closed and whose connections are all gone.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub(super) fn recycle(&mut self, threads: &mut Threads) -> io::Result<()> {
        let (tables, known) = (&mut self.tables, &mut self.known);
        let (done, closed): (Vec<u32>, Vec<u32>) =
            self.closed.iter().partition(|slot| tables.counters(**slot, Work::default()).tracked() == 0);
        self.closed = closed;
        for slot in done {
            let Some(gone) = known[slot as usize].take() else { continue };
            self.unseen_gone += gone.unseen;
            threads.forget(slot)?;
            if tables.counters(slot, Work::default()).used() {
                let records = tables.records(slot);
                distributions::clear(&mut tables.distributions, records)?;
            }
            tables.clear(slot);
            let generation = gone.generation.wrapping_add(1);
            tables.info.write(slot, ListenerInfo { generation, ..ListenerInfo::default() });
            self.free.push(&slot, 0).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl Known {
    fn sample(
        &mut self,
        tables: &mut Tables,
        slot: u32,
        now_ns: u64,
        threads: &OfListener<'_>,
        available: Available,
    ) -> io::Result<Arc<ListenerSample>> {
        let mut info = tables.info.read(slot);
        // The time of the poll is no part of a sample, nor is where the take-over of the queue was.
        (info.polled_ns, info.cursor) = (0, 0);
        // No peak is below the depth.
        let mut peaks = tables.take_peaks(slot);
        peaks.accept_queue = peaks.accept_queue.max(info.depth);
        peaks.syn_queue = peaks.syn_queue.max(info.syn_depth);
        let readings = Readings { info, counters: tables.counters(slot, threads.work()), peaks, available };
        let (changed, recounted) = self
            .last
            .as_ref()
            .map_or((true, true), |(_, last)| (*last != readings, last.counters != readings.counters));
        if recounted || info.closed_ns != 0 {
            self.unsettled = SETTLING;
        }
        // Connections that wait have times that go on.
        if !changed
            && self.unsettled == 0
            && info.depth == 0
            && !threads.have_changed()
            && let Some((last, _)) = self.last.as_ref()
        {
            return Ok(last.clone());
        }
        let has = |measure| available.has(measure);
        let distributions = if !readings.counters.used() {
            self.unsettled = 0;
            Distributions::read(Default::default(), has)
        } else if let Some((last, _)) =
            self.last.as_ref().filter(|(_, last)| self.unsettled == 0 && last.available == available)
        {
            last.distributions.clone()
        } else {
            self.unsettled = self.unsettled.saturating_sub(1);
            let records = tables.records(slot);
            let totals = self.distributions.get_or_insert_default().read(&mut tables.distributions, records)?;
            Distributions::read(totals, has)
        };
        let ListenerCounters { accepted_unknown, untracked_enqueued, .. } = readings.counters.listener;
        self.unseen = self.unseen.max(unseen(self.expected_unknown, untracked_enqueued, accepted_unknown));
        self.inode = info.inode;
        self.netns = info.netns;
        self.reported_closed = info.closed_ns != 0;
        let sample = Arc::new(self.describe(&readings, now_ns, threads, distributions));
        self.last = Some((sample.clone(), readings));
        Ok(sample)
    }

    fn describe(
        &mut self,
        readings: &Readings,
        now_ns: u64,
        threads: &OfListener<'_>,
        distributions: Distributions,
    ) -> ListenerSample {
        let Readings { info, counters, peaks, available } = readings;
        let has = |measure| available.has(measure);
        let when = |measure, value: u64| has(measure).then_some(value);
        let (handshakes, listener) = (&counters.handshakes, &counters.listener);
        let records = Records { info, counters: listener, handshakes, work: &counters.work, peaks: *peaks, now_ns };
        let mut counts = Counts::read(&records, has);
        // Who was accepted was enqueued.
        counts.enqueued = counts.enqueued.map(|enqueued| enqueued + self.unseen);
        if available.0 & Available::FAILED_ACCEPTS == 0 {
            counts.accept_failed = None;
        }
        ListenerSample {
            id: info.cookie,
            netns: info.netns,
            protocol: if info.flags & FLAG_MPTCP != 0 { Protocol::Mptcp } else { Protocol::Tcp },
            address: address(info),
            port: info.port,
            v6only: info.flags & FLAG_V6ONLY != 0,
            reuseport: info.flags & FLAG_REUSEPORT != 0,
            process: self.owner.process.clone(),
            holders: self.owner.holders.clone(),
            opened_ns: (info.opened_ns != 0).then_some(info.opened_ns),
            closed: info.closed_ns != 0,
            gauges: GaugeSample::read(&records, has),
            counts,
            distributions,
            drops: DropsSample {
                socket_drops: when(Measure::Drops, self.drops.read(info.socket_drops)),
                ack_overflow: when(Measure::Drops, listener.ack_overflow),
                cookie_ack_overflow: when(Measure::Drops, listener.cookie_ack_overflow),
                ack_other: when(Measure::Drops, handshakes.ack_other),
                not_attempts: when(Measure::Drops, listener.not_attempts),
                syn_accept_queue_full: when(Measure::SynRequests, handshakes.accept_queue_full),
                syn_queue_full: when(Measure::SynRequests, handshakes.syn_queue_full),
                syn_other: when(Measure::SynRequests, handshakes.syn_other),
                clients: when(Measure::DropClients, listener.clients),
                clients_cover_syn: available.has(Measure::SynRequests),
            },
            threads: threads.samples(),
        }
    }
}

/// Of the accepted connections that were in no table, those that were to be in one: whose enqueueing no probe saw.
/// `expected` are those that waited before the start and were gone before they could be taken over; where that is not
/// known none is taken for unseen.
fn unseen(expected: Option<u64>, untracked_enqueued: u64, accepted_unknown: u64) -> u64 {
    expected.map_or(0, |expected| accepted_unknown.saturating_sub(expected + untracked_enqueued))
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
    use super::unseen;

    #[test]
    fn accepts_of_what_was_never_enqueued_are_unseen() {
        assert_eq!(unseen(Some(0), 0, 3), 3);
        assert_eq!(unseen(Some(2), 0, 3), 1, "two waited before the start");
        assert_eq!(unseen(Some(0), 2, 3), 1, "two were enqueued and found the table full");
        assert_eq!(unseen(Some(0), 5, 3), 0, "what found no room may wait still");
        assert_eq!(unseen(None, 0, 3), 0, "what waited before is not known");
    }
}
