//! Listeners: what the probes wrote about each slot, made into samples, and slots given back when nothing uses them any more.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
    ptr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use aya::maps::{MapData, Queue};
use listentop_abi::{
    histogram::BUCKETS,
    listener::{
        Buckets, FLAG_REUSEPORT, FLAG_V6ONLY, ListenerCounters, ListenerDistributions, ListenerInfo, ListenerRef, Peaks,
        Work,
    },
};
use listentop_model::{
    coverage::{Coverage, Measure, Status},
    histogram::Histogram,
    sample::{
        AcceptQueueSample, AcceptsSample, ConnectionsSample, DropsSample, ListenerSample, Process, Protocol,
        ReadsSample, SynQueueSample, ThreadSample, WritesSample,
    },
};

use super::{Geometry, Inodes, shared::SharedArray, threads::Threads};
use crate::source::owners::{self, Scan};

const AF_INET: u16 = 2;

/// The tables of listeners, and what user space must remember of each.
pub(super) struct Listeners {
    info: SharedArray<ListenerInfo>,
    counters: SharedArray<ListenerCounters>,
    distributions: SharedArray<ListenerDistributions>,
    peaks: SharedArray<Peaks>,
    geometry: Geometry,
    free: Queue<MapData, u32>,
    known: HashMap<u32, Known>,
}

/// What is remembered of a listener between two samples.
struct Known {
    generation: u32,
    inode: u64,
    netns: u32,
    /// The last sample with `closed` has been given out; only its connections live on.
    reported_closed: bool,
    owner: Option<Process>,
    holders: u32,
    drops: Unwrapped,
    distributions: Option<Box<Totals>>,
}

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

/// Number of distributions in [`ListenerDistributions`].
const DISTRIBUTIONS: usize = 6;

/// Distributions with 64-bit buckets; the probes' wrap at 32.
struct Totals([[u64; BUCKETS]; DISTRIBUTIONS]);

/// Counters of one listener, summed over the shards.
#[derive(Default)]
struct Counters {
    enqueued: u64,
    aborted: u64,
    closed: u64,
    accepted_unknown: u64,
    inherited_waiting: u64,
    inherited_open: u64,
    untracked_enqueued: u64,
    synack_retransmits: u64,
    ack_overflow: u64,
    cookie_ack_overflow: u64,
    not_attempts: u64,
    clients: u64,
    arrived_bytes: u64,
    otherwise_consumed_bytes: u64,
    work: Work,
}

impl Counters {
    /// Connections in the table that came through this listener.
    fn tracked(&self) -> u64 {
        (self.enqueued + self.inherited_waiting + self.inherited_open)
            .saturating_sub(self.untracked_enqueued + self.aborted + self.closed)
    }

    /// Bytes that arrived and did not leave. The counters are not read at one instant, so a moment's excess of reads is none.
    fn queued_bytes(&self) -> u64 {
        let waiting =
            self.arrived_bytes.wrapping_sub(self.work.read_bytes).wrapping_sub(self.otherwise_consumed_bytes) as i64;
        waiting.max(0).unsigned_abs()
    }
}

impl Listeners {
    pub(super) fn new(
        info: SharedArray<ListenerInfo>,
        counters: SharedArray<ListenerCounters>,
        distributions: SharedArray<ListenerDistributions>,
        peaks: SharedArray<Peaks>,
        geometry: Geometry,
        free: Queue<MapData, u32>,
    ) -> Self {
        Self { info, counters, distributions, peaks, geometry, free, known: HashMap::new() }
    }

    /// Takes notice of listeners that are new in the tables.
    pub(super) fn discover(&mut self) {
        for slot in 0..self.geometry.slots {
            // SAFETY: inside the mapping; a field of a record of integers, read as a whole.
            let cookie = unsafe { ptr::read_volatile(&raw const (*self.info.pointer(slot)).cookie) };
            if cookie == 0 || self.known.contains_key(&slot) {
                continue;
            }
            let info = self.info.read(slot);
            if info.polled_ns == 0 && info.closed_ns == 0 {
                // It opened since the poll and is not identified yet: next time.
                continue;
            }
            self.known.insert(
                slot,
                Known {
                    generation: info.generation,
                    inode: info.inode,
                    netns: info.netns,
                    reported_closed: false,
                    owner: None,
                    holders: 0,
                    drops: Unwrapped { last: info.first_drops, total: 0 },
                    distributions: None,
                },
            );
        }
    }

    /// Inodes of the sockets that listen now.
    pub(super) fn inodes(&self) -> Inodes {
        self.known.values().filter(|known| !known.reported_closed).map(|known| known.inode).collect()
    }

    /// Whether the owner of some listener has not been found.
    pub(super) fn has_ownerless(&self) -> bool {
        self.known.values().any(|known| !known.reported_closed && known.owner.is_none())
    }

    /// Namespaces that hold a listener, in order.
    pub(super) fn namespaces(&self) -> Vec<u32> {
        let inodes: BTreeSet<u32> =
            self.known.values().filter(|known| !known.reported_closed).map(|known| known.netns).collect();
        inodes.into_iter().collect()
    }

    /// Tells each listener who holds it.
    pub(super) fn assign_owners(&mut self, scan: &Scan) {
        for known in self.known.values_mut().filter(|known| !known.reported_closed) {
            let Some(holders) = scan.holders.get(&known.inode) else { continue };
            known.holders = holders.len() as u32;
            if known.owner.as_ref().map(|owner| owner.pid) != holders.first().copied() {
                // The first that still lives.
                known.owner = holders.iter().find_map(|pid| owners::describe(*pid)).or(known.owner.take());
            }
        }
    }

    /// Samples every listener that is open or has closed since the last time.
    pub(super) fn sample(
        &mut self,
        now_ns: u64,
        threads: &HashMap<u32, Vec<&ThreadSample>>,
        coverage: &[Coverage],
    ) -> Vec<ListenerSample> {
        let available =
            |measure| coverage.iter().any(|entry| entry.measure == measure && entry.status != Status::Unavailable);
        let slots: Vec<u32> =
            self.known.iter().filter(|(_, known)| !known.reported_closed).map(|(slot, _)| *slot).collect();
        let none = Vec::new();
        slots
            .into_iter()
            .map(|slot| self.sample_one(slot, now_ns, threads.get(&slot).unwrap_or(&none), &available))
            .collect()
    }

    fn sample_one(
        &mut self,
        slot: u32,
        now_ns: u64,
        threads: &[&ThreadSample],
        available: &dyn Fn(Measure) -> bool,
    ) -> ListenerSample {
        let info = self.info.read(slot);
        let counters = self.counters(slot, threads);
        let peaks = self.take_peaks(slot);
        let records: Vec<*mut ListenerDistributions> =
            self.records(slot).map(|index| self.distributions.pointer(index)).collect();
        let active = counters.enqueued + counters.tracked() + counters.work.accepts + counters.work.reads > 0;
        #[expect(clippy::expect_used, reason = "the caller lists the slots that are known")]
        let known = self.known.get_mut(&slot).expect("known");
        known.inode = info.inode;
        known.netns = info.netns;
        let distributions = active.then(|| {
            known.distributions.get_or_insert_with(|| Box::new(Totals([[0; BUCKETS]; DISTRIBUTIONS])));
            known.distributions.as_mut().map(|totals| totals.read(&records)).unwrap_or_default()
        });
        let [wait, handshake, first_byte, first_read, residency, bytes_per_read] = distributions.unwrap_or_default();
        let closed = info.closed_ns != 0;
        known.reported_closed = closed;
        let when = |measure, value: u64| available(measure).then_some(value);
        let shown = |measure, histogram: Histogram| available(measure).then_some(histogram);
        ListenerSample {
            id: info.cookie,
            netns: info.netns,
            protocol: Protocol::Tcp,
            address: address(&info),
            port: info.port,
            v6only: info.flags & FLAG_V6ONLY != 0,
            reuseport: info.flags & FLAG_REUSEPORT != 0,
            process: known.owner.clone(),
            holders: known.holders,
            opened_ns: (info.opened_ns != 0).then_some(info.opened_ns),
            closed,
            accept_queue: AcceptQueueSample {
                depth: info.depth,
                backlog: info.backlog,
                peak: available(Measure::AcceptQueuePeak).then_some(peaks.accept_queue.max(info.depth)),
                enqueued: when(Measure::Enqueued, counters.enqueued),
                aborted: when(Measure::Enqueued, counters.aborted),
                // The sample's clock was read after the poll, so this is not negative but for rounding.
                oldest_waiting_ns: if info.depth == 0 {
                    Some(0)
                } else {
                    (info.oldest_ns != 0).then(|| now_ns.saturating_sub(info.oldest_ns))
                },
                wait: shown(Measure::AcceptWait, wait),
            },
            syn_queue: SynQueueSample {
                depth: Some(info.syn_depth),
                young: Some(info.syn_young),
                peak: Some(peaks.syn_queue.max(info.syn_depth)),
                requests: None,
                synack_retransmits: when(Measure::SynackRetransmits, counters.synack_retransmits),
                cookies_sent: None,
                handshake: shown(Measure::Handshake, handshake),
            },
            drops: DropsSample {
                socket_drops: Some(known.drops.read(info.socket_drops)),
                ack_overflow: when(Measure::Drops, counters.ack_overflow),
                cookie_ack_overflow: when(Measure::Drops, counters.cookie_ack_overflow),
                ack_other: when(Measure::Drops, 0),
                not_attempts: when(Measure::Drops, counters.not_attempts),
                clients: when(Measure::DropClients, counters.clients),
                ..DropsSample::default()
            },
            accepts: AcceptsSample {
                total: when(Measure::Accepts, counters.work.accepts),
                would_block: when(Measure::WouldBlock, counters.work.would_block),
                failed: when(Measure::Accepts, counters.work.accept_failed),
            },
            connections: ConnectionsSample {
                open: when(
                    Measure::OpenConnections,
                    (counters.work.accepts + counters.inherited_open)
                        .saturating_sub(counters.accepted_unknown + counters.closed),
                ),
                first_byte: shown(Measure::FirstByte, first_byte),
                first_read: shown(Measure::FirstRead, first_read),
            },
            reads: ReadsSample {
                count: when(Measure::Reads, counters.work.reads),
                bytes: when(Measure::Reads, counters.work.read_bytes),
                residency: shown(Measure::Residency, residency),
                bytes_per_read: shown(Measure::Reads, bytes_per_read),
                queued_bytes: when(
                    Measure::QueuedBytes,
                    counters.queued_bytes(),
                ),
            },
            writes: WritesSample {
                count: when(Measure::Writes, counters.work.writes),
                bytes: when(Measure::Writes, counters.work.write_bytes),
            },
            threads: threads.iter().map(|thread| (*thread).clone()).collect(),
        }
    }

    /// Gives back the slots of listeners that closed and whose connections are all gone.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub(super) fn recycle(
        &mut self,
        threads: &mut Threads,
    ) -> io::Result<()> {
        let done: Vec<ListenerRef> = self
            .known
            .iter()
            .filter(|(slot, known)| known.reported_closed && self.counters(**slot, &[]).tracked() == 0)
            .map(|(slot, known)| ListenerRef { slot: *slot, generation: known.generation })
            .collect();
        for listener in done {
            threads.forget(listener)?;
            for index in self.records(listener.slot) {
                // SAFETY: inside the mappings, all-zero is a valid record, and no probe knows the slot: its listener and
                // connections are gone from their tables.
                unsafe {
                    ptr::write_bytes(self.counters.pointer(index), 0, 1);
                    ptr::write_bytes(self.distributions.pointer(index), 0, 1);
                }
            }
            self.take_peaks(listener.slot);
            let generation = listener.generation.wrapping_add(1);
            self.info.write(listener.slot, ListenerInfo { generation, ..ListenerInfo::default() });
            self.known.remove(&listener.slot);
            self.free.push(listener.slot, 0).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Where a slot's counters and distributions are.
    fn records(&self, slot: u32) -> Range<u32> {
        let first = slot << self.geometry.shard_shift;
        first..first + self.geometry.shards()
    }

    fn counters(&self, slot: u32, threads: &[&ThreadSample]) -> Counters {
        let mut sum = Counters::default();
        for index in self.records(slot) {
            let record = self.counters.pointer(index);
            // SAFETY: the record is inside the mapping; each counter is an aligned u64 that the probes add to atomically.
            let read = |counter: *mut u64| unsafe { AtomicU64::from_ptr(counter) }.load(Ordering::Relaxed);
            // SAFETY: places inside the record; nothing is read here.
            let field = unsafe {
                [
                    (&raw mut (*record).enqueued, &mut sum.enqueued),
                    (&raw mut (*record).aborted, &mut sum.aborted),
                    (&raw mut (*record).closed, &mut sum.closed),
                    (&raw mut (*record).accepted_unknown, &mut sum.accepted_unknown),
                    (&raw mut (*record).inherited_waiting, &mut sum.inherited_waiting),
                    (&raw mut (*record).inherited_open, &mut sum.inherited_open),
                    (&raw mut (*record).untracked_enqueued, &mut sum.untracked_enqueued),
                    (&raw mut (*record).synack_retransmits, &mut sum.synack_retransmits),
                    (&raw mut (*record).ack_overflow, &mut sum.ack_overflow),
                    (&raw mut (*record).cookie_ack_overflow, &mut sum.cookie_ack_overflow),
                    (&raw mut (*record).not_attempts, &mut sum.not_attempts),
                    (&raw mut (*record).clients, &mut sum.clients),
                    (&raw mut (*record).arrived_bytes, &mut sum.arrived_bytes),
                    (&raw mut (*record).otherwise_consumed_bytes, &mut sum.otherwise_consumed_bytes),
                    (&raw mut (*record).untracked.accepts, &mut sum.work.accepts),
                    (&raw mut (*record).untracked.would_block, &mut sum.work.would_block),
                    (&raw mut (*record).untracked.accept_failed, &mut sum.work.accept_failed),
                    (&raw mut (*record).untracked.reads, &mut sum.work.reads),
                    (&raw mut (*record).untracked.read_bytes, &mut sum.work.read_bytes),
                    (&raw mut (*record).untracked.writes, &mut sum.work.writes),
                    (&raw mut (*record).untracked.write_bytes, &mut sum.work.write_bytes),
                ]
            };
            for (counter, total) in field {
                *total = total.wrapping_add(read(counter));
            }
        }
        for thread in threads {
            sum.work.accepts += thread.accepts;
            sum.work.would_block += thread.would_block;
            sum.work.accept_failed += thread.accept_failed;
            sum.work.reads += thread.reads;
            sum.work.read_bytes += thread.read_bytes;
            sum.work.writes += thread.writes;
            sum.work.write_bytes += thread.write_bytes;
        }
        sum
    }

    /// The largest depths on any CPU since the last time.
    fn take_peaks(&self, slot: u32) -> Peaks {
        let mut peaks = Peaks::default();
        for cpu in 0..self.geometry.cpus {
            // Both depths are swapped for 0 in one step; their order in the record is that of the bytes.
            let bytes = self.peaks.take(cpu * self.geometry.slots + slot).to_ne_bytes();
            let depth = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            peaks.accept_queue = peaks.accept_queue.max(depth(0));
            peaks.syn_queue = peaks.syn_queue.max(depth(4));
        }
        peaks
    }
}

impl Totals {
    /// Adds what was counted since the last time, and returns the totals.
    fn read(&mut self, records: &[*mut ListenerDistributions]) -> [Histogram; DISTRIBUTIONS] {
        let places = |record: *mut ListenerDistributions| -> [*mut Buckets; DISTRIBUTIONS] {
            // SAFETY: places inside the record; nothing is read here.
            unsafe {
                [
                    &raw mut (*record).wait,
                    &raw mut (*record).handshake,
                    &raw mut (*record).first_byte,
                    &raw mut (*record).first_read,
                    &raw mut (*record).residency,
                    &raw mut (*record).bytes_per_read,
                ]
            }
        };
        let mut out: [Histogram; DISTRIBUTIONS] = Default::default();
        for (which, (totals, histogram)) in self.0.iter_mut().zip(&mut out).enumerate() {
            for (index, total) in totals.iter_mut().enumerate() {
                let sum = records.iter().fold(0_u32, |sum, record| {
                    // SAFETY: bucket `index` of the distribution, inside the mapping, added to atomically by the probes.
                    let bucket = unsafe { AtomicU32::from_ptr(places(*record)[which].cast::<u32>().add(index)) };
                    sum.wrapping_add(bucket.load(Ordering::Relaxed))
                });
                // The total's low half is the sum as it was read last.
                *total += u64::from(sum.wrapping_sub(*total as u32));
                if *total != 0 {
                    histogram.buckets.push((index as u16, *total));
                }
            }
        }
        out
    }
}

fn address(info: &ListenerInfo) -> IpAddr {
    if info.family == AF_INET {
        let [a, b, c, d, ..] = info.address;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        IpAddr::V6(Ipv6Addr::from(info.address))
    }
}
