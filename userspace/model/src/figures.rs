//! Every figure of a listener, declared once.
//!
//! From this table come the fields of samples and models, how counters unwrap, recent rates, the sums of groups, the
//! JSON report and the field tables of `docs/schema.md`. An output that has every figure loops over [`FIGURES`].

#[macro_use]
mod declare;
mod kinds;

use listentop_abi::listener::{HandshakeCounters, ListenerCounters, ListenerInfo, Peaks, Work};
use serde::{Deserialize, Serialize};

pub(crate) use self::kinds::Combine;
#[cfg(any(test, feature = "fixtures"))]
use self::kinds::FromNumber;
pub use self::kinds::{Figure, Kind, Sum, Unit, Value};
use crate::{coverage::Measure, histogram::Histogram};

/// What the probes keep of one listener, from which its counters and gauges are read.
#[derive(Debug, Clone, Copy)]
pub struct Records<'a> {
    /// Identity and gauges.
    pub info: &'a ListenerInfo,
    /// Counters, summed over the listener's records.
    pub counters: &'a ListenerCounters,
    /// Counters of handshakes, summed likewise.
    pub handshakes: &'a HandshakeCounters,
    /// The work of all its threads, those that found the thread table full included.
    pub work: &'a Work,
    /// Peaks since the sample before.
    pub peaks: Peaks,
    /// When the gauges were read.
    pub now_ns: u64,
    /// When the connections were last walked over, for what waits unread.
    pub walked_ns: u64,
}

impl Records<'_> {
    /// Bytes that arrived and did not leave. The counters are not read at one instant, so a moment's excess of reads
    /// counts as 0.
    fn queued_bytes(&self) -> u64 {
        self.unread_bytes().saturating_sub(self.info.passed_bytes)
    }

    /// The same by the counters alone, before the sockets are asked.
    #[must_use]
    pub fn unread_bytes(&self) -> u64 {
        let left = self.work.read_bytes.wrapping_add(self.counters.otherwise_consumed_bytes);
        let waiting = self.counters.arrived_bytes.wrapping_sub(left) as i64;
        waiting.max(0).unsigned_abs()
    }

    /// Age of the oldest unread byte of an accepted connection, when the connections were walked over; 0 if none waits.
    fn oldest_unread_us(&self) -> u64 {
        match (self.queued_bytes(), self.info.unread_ns) {
            (0, _) | (_, 0) => 0,
            (_, since) => self.walked_ns.saturating_sub(since) / 1000,
        }
    }

    /// Unread bytes of accepted connections, when the connections were walked over.
    fn accepted_unread_bytes(&self) -> u64 {
        if self.queued_bytes() == 0 { 0 } else { self.info.accepted_unread }
    }

    /// Connections that were accepted, or open at the start, and are not destroyed.
    fn open(&self) -> u64 {
        let begun = self.work.accepts + self.counters.inherited_open;
        begun.saturating_sub(self.counters.accepted_unknown + self.counters.closed)
    }

    /// Age of the connection at the head of the accept queue; 0 if the queue is empty.
    fn oldest_waiting_us(&self) -> Option<u64> {
        match (self.info.depth, self.info.oldest_ns) {
            (0, _) => Some(0),
            (_, 0) => None,
            // The clock was read after the poll, so this is negative through rounding only.
            (_, since) => Some(self.now_ns.saturating_sub(since) / 1000),
        }
    }
}

// One entry per figure, in the order of the JSON report:
//
//     counter { field, "json.path", Measure, Unit, "when null", "meaning", records => reading }
//     gauge { field: type, "json.path", Measure, Unit, Sum, "when null", "meaning", records => reading }
//     peak { as a gauge without Sum, sample => the value that may be the largest }
//     derived { as a gauge, sample => value }: a gauge that no source reads
//     rate { counter, "json.path", Measure, "when null", "meaning" }: per second of the interval
//     share { id, "json.path", Measure, "when null", "meaning", counts => share }: a part of the interval's counts
//     drops { field, "json.path", Measure, Unit, Sum, "when null", "meaning" }
//     distribution { field, "json.path", Measure, Unit, "when null", "meaning" }
//
// After a change, write the tables of docs/schema.md anew: UPDATE_DOCS=1 cargo test -p listentop --lib report
figures! {
    gauge { accept_depth: u32, "accept_queue.depth", AcceptQueueDepth, Connections, Add, "never",
        "connections waiting to be accepted", k => k.info.depth }
    gauge { backlog: u32, "accept_queue.backlog", AcceptQueueDepth, Connections, Add, "never",
        "argument of listen(2) after the kernel clamped it to somaxconn", k => k.info.backlog }
    derived { limit: u32, "accept_queue.limit", AcceptQueueDepth, Connections, Add, "never",
        "`backlog` + 1: what the kernel admits", sample => sample.backlog.saturating_add(1) }
    peak { accept_peak: Option<u32>, "accept_queue.peak", AcceptQueuePeak, Connections,
        "if depths are only polled", "largest depth", k => Some(k.peaks.accept_queue.max(k.info.depth)),
        // The depth may have been read after the peak.
        sample => sample.accept_peak.map(|peak| peak.max(sample.accept_depth)) }
    counter { enqueued, "accept_queue.enqueued", Enqueued, Connections, "if unavailable",
        "connections put on the queue", k => k.counters.enqueued }
    // Functions that see SYNs see the accept queue, too.
    counter { migrated, "accept_queue.migrated", SynRequests, Connections, "if unavailable",
        "connections, and requests of the SYN queue, that came from another shard's queues, because that shard was closed (`net.ipv4.tcp_migrate_req`, or a BPF program)",
        k => k.handshakes.migrated }
    counter { aborted, "accept_queue.aborted", Enqueued, Connections, "if unavailable, or if accepts are not seen",
        "connections that left the queue without being accepted, because the listener closed. (A connection that is reset while it waits is still accepted)",
        k => k.counters.aborted }
    gauge { oldest_waiting_us: Option<u64>, "accept_queue.oldest_waiting_us", OldestWaiting, Microseconds, Largest,
        "if unavailable", "age of the oldest connection still waiting; 0 if none waits",
        k => k.oldest_waiting_us() }
    distribution { accept_wait, "accept_queue.wait_us", AcceptWait, Microseconds, "if unavailable",
        "put on the queue → accepted" }

    gauge { syn_depth: Option<u32>, "syn_queue.depth", SynQueueDepth, Requests, Add,
        "if unavailable; without probes also for shards of one address while any request is there",
        "request sockets", k => Some(k.info.syn_depth) }
    gauge { syn_young: Option<u32>, "syn_queue.young", SynQueueDepth, Requests, Add, "as `depth`",
        "request sockets whose SYN-ACK was not sent again yet", k => Some(k.info.syn_young) }
    peak { syn_peak: Option<u32>, "syn_queue.peak", SynQueueDepth, Requests, "if unavailable",
        "largest depth that was seen", k => Some(k.peaks.syn_queue.max(k.info.syn_depth)),
        sample => sample.syn_peak.max(sample.syn_depth) }
    counter { syn_requests, "syn_queue.requests", SynRequests, Requests, "if unavailable",
        "request sockets made, or taken over from a shard that was closed", k => k.handshakes.requests }
    counter { synack_retransmits, "syn_queue.synack_retransmits", SynackRetransmits, SynAcks, "if unavailable",
        "SYN-ACKs sent again", k => k.counters.synack_retransmits }
    counter { syn_given_up, "syn_queue.given_up", SynRequests, Requests, "if unavailable",
        "request sockets that left the queue without a connection: timed out, reset, closed with the listener",
        k => k.handshakes.given_up }
    counter { cookies_sent, "syn_queue.cookies_sent", CookiesSent, Cookies, "if known for the namespace only",
        "SYN cookies sent for this listener", k => k.handshakes.cookies_sent }
    counter { cookies_validated, "syn_queue.cookies_validated", CookiesSent, Cookies, "as `cookies_sent`",
        "valid SYN cookies that came back to this listener", k => k.handshakes.cookies_validated }
    gauge { defer_accept: Option<bool>, "syn_queue.defer_accept", SynQueueDepth, Flag, Any, "if unavailable",
        "TCP_DEFER_ACCEPT is set: requests wait for the client's first data, on purpose",
        k => Some(k.info.defer_accept != 0) }
    distribution { handshake, "syn_queue.handshake_us", Handshake, Microseconds, "if unavailable",
        "SYN-ACK sent → final ACK received, which puts the connection on the accept queue" }

    drops { total, "drops.total", Drops, Attempts, Add, "if unavailable",
        "attempts refused. Without probes for final ACKs it is an upper bound, as `coverage` says" }
    drops { accept_queue_full_on_syn, "drops.accept_queue_full_on_syn", DropCause, Attempts, Add,
        "if causes are not known", "SYNs refused because the accept queue was full" }
    drops { accept_queue_full_on_ack, "drops.accept_queue_full_on_ack", Drops, Attempts, Add, "if unavailable",
        "final ACKs refused because the accept queue was full" }
    drops { syn_queue_full, "drops.syn_queue_full", DropCause, Attempts, Add, "if causes are not known",
        "SYNs refused because the SYN queue was full" }
    drops { other, "drops.other", DropCause, Attempts, Add, "if causes are not known",
        "refused for another known reason: allocation, route, last quarter of tcp_max_syn_backlog" }
    drops { unexplained, "drops.unexplained", Drops, Attempts, Add, "as `total`",
        "refused, cause not known. If `drop_cause` is `sampled`, causes of SYNs are inferred from the namespace's counters, and uncertain ones count here" }
    drops { clients, "drops.clients", DropClients, Clients, AddKnown,
        "unless every refused attempt was seen with its packet",
        "distinct pairs of remote address and port among them. If all listeners together refused more than about 65,000, some are forgotten and count again. The number is then an upper bound, as `coverage` says" }

    counter { accepts, "accepts.total", Accepts, Connections, "if unavailable",
        "connections accepted: taken off the queue, also by an accept that then fails because it cannot write the client's address (EFAULT)",
        k => k.work.accepts }
    rate { accepts, "accepts.per_second", Accepts, "if unavailable, or if the interval is empty",
        "`total` ÷ `interval.seconds`" }
    counter { would_block, "accepts.would_block", WouldBlock, Calls, "if unavailable",
        "accepts that returned EAGAIN", k => k.work.would_block }
    counter { accept_failed, "accepts.failed", Accepts, Calls,
        "if unavailable: also before Linux 5.15, and by tracepoints without tracefs",
        "accepts that failed with another error (EMFILE, …), without EINTR and ECONNABORTED", k => k.work.accept_failed }
    counter { accept_failed_emfile, "accepts.failed_emfile", Accepts, Calls, "as `failed`",
        "those that failed with EMFILE: the process had no file descriptor left", k => k.handshakes.accept_failed_emfile }
    counter { accept_failed_enfile, "accepts.failed_enfile", Accepts, Calls, "as `failed`",
        "those that failed with ENFILE: the machine had no file descriptor left", k => k.handshakes.accept_failed_enfile }
    counter { accept_failed_nomem, "accepts.failed_nomem", Accepts, Calls, "as `failed`",
        "those that failed with ENOMEM or ENOBUFS: the kernel had no memory left", k => k.handshakes.accept_failed_nomem }
    counter { client_closed, "accepts.client_gone.closed", ClientGone, Connections, "if unavailable",
        "those of `total` whose client had sent its FIN before they were accepted: it had closed, or finished sending and waits for the answer, which looks the same from here",
        k => k.handshakes.client_closed }
    counter { client_reset, "accepts.client_gone.reset", ClientGone, Connections, "if unavailable",
        "those of `total` that had ended before they were accepted: the client had reset them, or they had timed out",
        k => k.handshakes.client_reset }
    share { client_gone, "accepts.client_gone.share", ClientGone, "if unavailable, or if nothing was accepted",
        "(`closed` + `reset`) ÷ `total`", total => total.client_gone_share() }
    distribution { client_gone_wait, "accepts.client_gone.wait_us", ClientGone, Microseconds, "if unavailable",
        "of `closed` and `reset`: put on the queue → accepted" }

    gauge { open: Option<u64>, "connections.open", OpenConnections, Connections, Add, "if unavailable",
        "accepted and not yet destroyed. Among them are those that the program has closed, and that the kernel keeps until the client has acknowledged the last data",
        k => Some(k.open()) }
    distribution { first_byte, "connections.first_byte_us", FirstByte, Microseconds, "if unavailable",
        "accepted → first payload byte arrived; 0 if it was there" }
    distribution { first_read, "connections.first_read_us", FirstRead, Microseconds, "if unavailable",
        "accepted → first successful read" }
    distribution { answer, "connections.answer_us", Answer, Microseconds, "if unavailable",
        "first unread byte arrived → first write after the read that took it. Where a client sends on before it is answered (pipelining, HTTP/2), one write answers all that was read before it: a bound then, and fewer values than requests" }

    counter { reads, "reads.count", Reads, Calls, "if unavailable", "successful reads", k => k.work.reads }
    counter { read_bytes, "reads.bytes", Reads, Bytes, "if unavailable", "bytes that they took",
        k => k.work.read_bytes }
    rate { reads, "reads.per_second", Reads, "if unavailable, or if the interval is empty",
        "`count` ÷ `interval.seconds`" }
    distribution { residency, "reads.residency_us", Residency, Microseconds, "if unavailable",
        "first unread byte arrived, or the connection was accepted if that was later → the read that took it" }
    distribution { bytes_per_read, "reads.bytes_per_read", Reads, Bytes, "if unavailable", "bytes per read" }
    gauge { queued_bytes: Option<u64>, "reads.queued_bytes", QueuedBytes, Bytes, Add, "if unavailable",
        "bytes that arrived and were not read yet, over all its connections", k => Some(k.queued_bytes()) }
    gauge { oldest_unread_us: Option<u64>, "reads.oldest_unread_us", OldestUnread, Microseconds, Largest,
        "if unavailable",
        "age of the oldest byte that arrived and was not read yet, over its accepted connections, from the later of arrival and accept; 0 if none waits. If a read left a part of five and more arrivals, an upper bound",
        k => Some(k.oldest_unread_us()) }

    gauge { accepted_unread_bytes: Option<u64>, "reads.accepted_unread_bytes", OldestUnread, Bytes, Add,
        "if unavailable, and in recordings of earlier versions",
        "those of `queued_bytes` that wait on its accepted connections; the rest came on connections that wait to be accepted. Counted when the connections were last walked over, so it may be a moment older",
        k => Some(k.accepted_unread_bytes()) }

    counter { writes, "writes.count", Writes, Calls, "if unavailable", "successful writes", k => k.work.writes }
    counter { write_bytes, "writes.bytes", Writes, Bytes, "if unavailable", "bytes that the kernel took",
        k => k.work.write_bytes }
}

impl Counts {
    /// The part of the accepts that went to clients that were gone.
    fn client_gone_share(&self) -> Option<f64> {
        let (accepts, gone) = (self.accepts?, self.client_closed? + self.client_reset?);
        (accepts > 0).then(|| gone as f64 / accepts as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn every_figure_has_a_name_a_place_and_words_of_its_own() {
        let all = |of: fn(&Figure) -> &str| -> BTreeSet<&str> { FIGURES.iter().map(of).collect() };
        assert_eq!(all(|f| f.id).len(), FIGURES.len(), "two ids are equal");
        assert_eq!(all(|f| f.path).len(), FIGURES.len(), "two paths are equal");
        for figure in FIGURES {
            assert!(!figure.place().0.is_empty(), "{} has no part", figure.path);
            assert!(!figure.help.is_empty() && !figure.null.is_empty(), "{}", figure.id);
            assert!(!figure.help.contains('|') && !figure.null.contains('|'), "{}: no cell of a table", figure.id);
        }
    }

    #[test]
    fn figures_of_one_part_stand_together() {
        let mut parts: Vec<&str> = FIGURES.iter().map(|figure| figure.place().0).collect();
        parts.dedup();
        let distinct: BTreeSet<&str> = parts.iter().copied().collect();
        assert_eq!(parts.len(), distinct.len(), "{parts:?}");
    }

    #[test]
    fn what_is_unknown_adds_nothing() {
        assert_eq!(Some(2u64).add(None).add(Some(3)), Some(5));
        assert_eq!(None::<u64>.add(None), None);
        assert_eq!((Some(2u64).add_known(None), Some(2u64).add_known(Some(3))), (None, Some(5)));
        assert_eq!(Some(2u32).largest(Some(7)).largest(None), Some(7));
        assert_eq!(Some(false).largest(Some(true)), Some(true));
        assert_eq!(Some(4u32).where_available(false), None);
    }

    /// Units are clear: what counts system calls is no sum of connections.
    #[test]
    fn kinds_agree_with_units_and_sums() {
        for figure in FIGURES {
            let merged = figure.sum == Sum::Merged;
            assert_eq!(merged, figure.kind == Kind::Distribution, "{}", figure.id);
            assert_eq!(figure.unit == Unit::PerSecond, figure.kind == Kind::Rate, "{}", figure.id);
            assert_eq!(figure.unit == Unit::Share, figure.kind == Kind::Share, "{}", figure.id);
            assert_eq!(figure.sum == Sum::OfSums, figure.kind == Kind::Share, "{}", figure.id);
            assert_eq!(figure.unit == Unit::Flag, figure.sum == Sum::Any, "{}", figure.id);
            assert!(figure.kind != Kind::Peak || figure.sum == Sum::Largest, "{}", figure.id);
        }
    }

    /// The records of the probes, each counter with a number of its own, and the names of the counters by these
    /// numbers.
    fn numbered() -> (ListenerInfo, ListenerCounters, HandshakeCounters, Work, BTreeMap<u64, String>) {
        let mut next = 1_000;
        let mut number = || {
            next += 1;
            next
        };
        let mut work = || Work {
            reads: number(),
            read_bytes: number(),
            writes: number(),
            write_bytes: number(),
            accepts: number(),
            would_block: number(),
            accept_failed: number(),
            first_reads: number(),
        };
        let (untracked, work) = (work(), work());
        let counters = ListenerCounters {
            enqueued: number(),
            aborted: number(),
            closed: number(),
            accepted_unknown: number(),
            inherited_waiting: number(),
            inherited_open: number() + 10_000,
            untracked_enqueued: number(),
            synack_retransmits: number(),
            ack_overflow: number(),
            cookie_ack_overflow: number(),
            not_attempts: number(),
            clients: number(),
            arrived_bytes: number() + 20_000,
            otherwise_consumed_bytes: number(),
            acceptor: number(),
            moved_away: number(),
            untracked,
        };
        let handshakes = HandshakeCounters {
            requests: number(),
            given_up: number(),
            cookies_sent: number(),
            cookies_validated: number(),
            accept_queue_full: number(),
            syn_queue_full: number(),
            syn_other: number(),
            ack_other: number(),
            migrated: number(),
            client_closed: number(),
            accept_failed_emfile: number(),
            accept_failed_enfile: number(),
            accept_failed_nomem: number(),
            client_reset: number(),
            ..HandshakeCounters::default()
        };
        let info = ListenerInfo {
            depth: 3,
            backlog: 17,
            syn_depth: 11,
            syn_young: 5,
            defer_accept: 1,
            oldest_ns: 9_000,
            unread_ns: 5_000,
            passed_bytes: 50,
            accepted_unread: 61,
            ..ListenerInfo::default()
        };
        // Their names, as the records themselves write them.
        let written = format!("{counters:?} {handshakes:?} {work:?}");
        let fields = written.split(&['{', ',', '}'][..]).filter_map(|field| field.trim().split_once(": "));
        let names = fields.filter_map(|(name, number)| Some((number.parse().ok()?, name.to_owned()))).collect();
        (info, counters, handshakes, work, names)
    }

    fn records<'a>(
        info: &'a ListenerInfo,
        counters: &'a ListenerCounters,
        handshakes: &'a HandshakeCounters,
        work: &'a Work,
    ) -> Records<'a> {
        let peaks = Peaks { accept_queue: 13, syn_queue: 12 };
        Records { info, counters, handshakes, work, peaks, now_ns: 2_009_500, walked_ns: 2_008_500 }
    }

    /// `syn_requests` is read from `requests`, `accepts` from the `accepts` of the threads, and so on.
    #[test]
    fn each_counter_is_read_from_the_field_of_its_name() {
        let (info, counters, handshakes, work, names) = numbered();
        let counts = Counts::read(&records(&info, &counters, &handshakes, &work), |_| true);
        for (id, value) in Counts::NAMES.iter().zip(counts.values()) {
            let from = &names[&value.expect("it is available")];
            assert!(id == from || id.strip_prefix("syn_") == Some(from), "{id} is read from {from}");
        }
    }

    #[test]
    fn gauges_are_read_from_the_records() {
        let (info, counters, handshakes, work, _) = numbered();
        let gauges = GaugeSample::read(&records(&info, &counters, &handshakes, &work), |_| true);
        let expected = GaugeSample {
            accept_depth: 3,
            backlog: 17,
            accept_peak: Some(13),
            oldest_waiting_us: Some(2_000),
            syn_depth: Some(11),
            syn_young: Some(5),
            syn_peak: Some(12),
            defer_accept: Some(true),
            open: Some(work.accepts + counters.inherited_open - counters.accepted_unknown - counters.closed),
            queued_bytes: Some(counters.arrived_bytes - work.read_bytes - counters.otherwise_consumed_bytes - 50),
            oldest_unread_us: Some(2_003),
            accepted_unread_bytes: Some(info.accepted_unread),
        };
        assert_eq!(gauges, expected);
        let none =
            Records { info: &ListenerInfo { depth: 0, ..info }, ..records(&info, &counters, &handshakes, &work) };
        assert_eq!(GaugeSample::read(&none, |_| true).oldest_waiting_us, Some(0), "nobody waits");
        let unseen =
            Records { info: &ListenerInfo { oldest_ns: 0, ..info }, ..records(&info, &counters, &handshakes, &work) };
        assert_eq!(GaugeSample::read(&unseen, |_| true).oldest_waiting_us, None, "it is not known who waits");
    }

    #[test]
    fn more_reads_than_arrivals_are_nothing_unread() {
        let (info, counters, handshakes, work, _) = numbered();
        let early = ListenerCounters { arrived_bytes: 5, ..counters };
        let records = records(&info, &early, &handshakes, &work);
        assert_eq!((records.queued_bytes(), records.oldest_unread_us()), (0, 0));
    }

    #[test]
    fn what_the_sockets_have_passed_waits_no_more() {
        let (info, counters, handshakes, work, _) = numbered();
        let unread = records(&info, &counters, &handshakes, &work).unread_bytes();
        for (passed_bytes, queued, oldest) in [(unread - 1, 1, 2_003), (unread, 0, 0), (unread + 1, 0, 0)] {
            let info = ListenerInfo { passed_bytes, accepted_unread: 77, ..info };
            let records = records(&info, &counters, &handshakes, &work);
            assert_eq!((records.queued_bytes(), records.oldest_unread_us()), (queued, oldest));
            assert_eq!(records.accepted_unread_bytes(), if queued == 0 { 0 } else { 77 });
        }
        let queued_only = ListenerInfo { unread_ns: 0, ..info };
        let records = records(&queued_only, &counters, &handshakes, &work);
        assert_eq!(records.oldest_unread_us(), 0, "what waits is on connections that wait to be accepted");
    }

    #[test]
    fn the_share_of_clients_that_were_gone() {
        let counts = |accepts| Counts {
            accepts: Some(accepts),
            client_closed: Some(2),
            client_reset: Some(1),
            ..Counts::default()
        };
        assert_eq!(counts(4).client_gone_share(), Some(0.75));
        assert_eq!(counts(0).client_gone_share(), None);
        assert_eq!(Counts { client_reset: None, ..counts(4) }.client_gone_share(), None);
    }

    #[test]
    fn what_no_probe_measures_is_unknown() {
        let (info, counters, handshakes, work, _) = numbered();
        let records = records(&info, &counters, &handshakes, &work);
        let but_reads = |measure| measure != Measure::Reads;
        let counts = Counts::read(&records, but_reads);
        assert_eq!((counts.reads, counts.read_bytes, counts.writes), (None, None, Some(work.writes)));
        assert_eq!(Counts::read(&records, |_| false), Counts::default());
        let gauges = GaugeSample::read(&records, |_| false);
        assert_eq!(gauges, GaugeSample { accept_depth: 3, backlog: 17, ..GaugeSample::default() });
    }
}
