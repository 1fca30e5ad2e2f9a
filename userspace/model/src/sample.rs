//! What a source reads: raw, timestamped, serialisable. Nothing here is derived; the model does that.
//!
//! Counters are cumulative since the probes were attached (or, for a listener opened later, since it was opened) and
//! are `None` where this machine cannot measure them. Gauges are values at [`Sample::monotonic_ns`]. A recording is a
//! sequence of these.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{coverage::Coverage, histogram::Histogram, shared::Shared};

/// One reading of everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// CLOCK_MONOTONIC at the reading, in nanoseconds: the clock of `bpf_ktime_get_ns`.
    pub monotonic_ns: u64,
    /// Wall clock at the reading, in milliseconds since the epoch. For display only; it may jump.
    pub unix_ms: u64,
    /// The machine.
    pub host: Host,
    /// What can be measured here, and how.
    pub coverage: Vec<Coverage>,
    /// What listentop itself has cost since the probes were attached.
    pub cost: Cost,
    /// What listentop could not track.
    pub losses: Losses,
    /// The network namespaces that hold a listener, with their kernel counters.
    pub namespaces: Vec<NamespaceSample>,
    /// Every listener open now, and those that closed since the previous sample (`closed` set), in no particular
    /// order. A socket that stopped to listen and listens again is in it as closed, and once more.
    /// One of which nothing changed may be shared with the sample before: it is then taken in without being read
    /// again.
    pub listeners: Shared<ListenerSample>,
}

/// The machine that was sampled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Online CPUs.
    pub cpus: u32,
}

/// The tool's own cost, cumulative.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Runs of all probes; `None` while kernel.bpf_stats_enabled is 0.
    pub probe_runs: Option<u64>,
    /// Nanoseconds in all probes; `None` while kernel.bpf_stats_enabled is 0.
    pub probe_ns: Option<u64>,
    /// CPU time of the listentop process, user and system, in nanoseconds.
    pub cpu_ns: u64,
    /// Resident memory of the listentop process, in bytes.
    pub rss_bytes: u64,
}

/// What was not tracked, cumulative. Each is shown wherever it is not 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Listeners that found the listener table full (`--max-listeners`).
    pub listeners: u64,
    /// Connections that found the connection table full (`--max-connections`): counted, but without waits and
    /// residency.
    pub connections: u64,
    /// Calls (accepts, reads, writes) of threads that found the thread table full (`--max-threads`): counted for the
    /// listener, by no thread.
    pub threads: u64,
    /// Runs that the kernel skipped because the probe interrupted itself (`recursion_misses`).
    pub missed_runs: u64,
    /// Connections whose beginning or end the kernel showed to no probe: counted as soon as that shows, without waits.
    #[serde(default)]
    pub unseen: u64,
    /// Connections that were open at the start and may have come through another shard of their group: of the group as
    /// a whole nothing is missing.
    #[serde(default)]
    pub ambiguous: u64,
    /// Anything else: queued sockets that could not be told, queues that were too long to be taken over at the start.
    pub other: u64,
}

impl Losses {
    /// Everything that was lost, but for skipped runs, which need not have lost anything, and for what only its shard
    /// has in doubt.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.listeners + self.connections + self.threads + self.unseen + self.other
    }

    /// What of this was lost after `earlier`, of which it is the continuation.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            listeners: self.listeners.saturating_sub(earlier.listeners),
            connections: self.connections.saturating_sub(earlier.connections),
            threads: self.threads.saturating_sub(earlier.threads),
            missed_runs: self.missed_runs.saturating_sub(earlier.missed_runs),
            unseen: self.unseen.saturating_sub(earlier.unseen),
            ambiguous: self.ambiguous.saturating_sub(earlier.ambiguous),
            other: self.other.saturating_sub(earlier.other),
        }
    }
}

/// One network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceSample {
    /// Inode number of the namespace, as `readlink /proc/PID/ns/net` shows.
    pub inode: u32,
    /// Its name under /run/netns, where it has one; `host` for the namespace of process 1.
    pub name: Option<String>,
    /// Its TCP counters, cumulative since the namespace was made; `None` where no way to read them was found.
    pub counters: Option<NamespaceCounters>,
}

/// The TcpExt counters of /proc/net/netstat that concern listeners, under the kernel's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceCounters {
    /// ListenOverflows: attempts refused because an accept queue was full.
    pub listen_overflows: u64,
    /// ListenDrops: attempts refused for any cause.
    pub listen_drops: u64,
    /// TCPReqQFullDrop: SYNs refused because a SYN queue was full and cookies were off.
    pub req_q_full_drop: u64,
    /// TCPReqQFullDoCookies: SYNs answered with a cookie because a SYN queue was full. Not a drop.
    pub req_q_full_do_cookies: u64,
    /// SyncookiesSent.
    pub syncookies_sent: u64,
    /// SyncookiesRecv: valid cookies that came back.
    pub syncookies_recv: u64,
    /// SyncookiesFailed: invalid cookies that came back.
    pub syncookies_failed: u64,
    /// TCPDeferAcceptDrop: bare ACKs ignored because of TCP_DEFER_ACCEPT; sk_drops counts them too.
    pub defer_accept_drop: u64,
    /// EmbryonicRsts: resets received for, or sent to, half-open connections (tcp_abort_on_overflow sends them).
    pub embryonic_rsts: u64,
}

/// Transport of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// Multipath TCP.
    Mptcp,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id (thread group id) in listentop's own PID namespace.
    pub pid: u32,
    /// Command name, as in /proc/PID/comm.
    pub comm: String,
    /// Container id (or a systemd unit's name where there is no container), read from the process' cgroup.
    pub container: Option<String>,
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListenerSample {
    /// Socket cookie: unique for the machine's uptime.
    pub id: u64,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// Transport.
    pub protocol: Protocol,
    /// Local address. `::` is dual-stack unless `v6only` is set.
    pub address: IpAddr,
    /// Local port.
    pub port: u16,
    /// IPV6_V6ONLY is set.
    pub v6only: bool,
    /// SO_REUSEPORT is set: listeners of the same netns, protocol, address and port form a group, each a shard.
    pub reuseport: bool,
    /// The process that holds it; of several, the one that started first. `None`: none found that may be seen.
    pub process: Option<Process>,
    /// Ids of the processes that hold it, the one that started first first; empty where that is unknown.
    pub holders: Vec<u32>,
    /// When it began to listen (CLOCK_MONOTONIC, nanoseconds); `None` if before the probes were attached.
    pub opened_ns: Option<u64>,
    /// It stopped listening since the previous sample; this is the last sample that has it.
    pub closed: bool,
    /// The accept queue.
    pub accept_queue: AcceptQueueSample,
    /// The SYN queue.
    pub syn_queue: SynQueueSample,
    /// Refused attempts.
    pub drops: DropsSample,
    /// Accepts; by thread in `threads`.
    pub accepts: AcceptsSample,
    /// Accepted connections.
    pub connections: ConnectionsSample,
    /// Reads from accepted connections; by thread in `threads`.
    pub reads: ReadsSample,
    /// Writes to accepted connections; by thread in `threads`.
    pub writes: WritesSample,
    /// The threads that were seen working for it, those that ended included.
    pub threads: Vec<ThreadSample>,
}

/// Accept queue of one listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AcceptQueueSample {
    /// `sk_ack_backlog`: connections waiting to be accepted.
    pub depth: u32,
    /// `sk_max_ack_backlog`: the argument of listen(2) after clamping to somaxconn. The kernel admits one more.
    pub backlog: u32,
    /// Largest depth since the previous sample, seen at every enqueue; `None` where only polling sees the depth.
    pub peak: Option<u32>,
    /// Connections put on the queue.
    pub enqueued: Option<u64>,
    /// Connections that left it without being accepted: the listener closed, or they were destroyed first.
    #[serde(default)]
    pub aborted: Option<u64>,
    /// Connections among `enqueued` that came from another shard's queue when that was closed
    /// (net.ipv4.tcp_migrate_req, or a BPF program).
    #[serde(default)]
    pub migrated: Option<u64>,
    /// How long its oldest connection has been waiting, in nanoseconds; `Some(0)` if the queue is empty.
    pub oldest_waiting_ns: Option<u64>,
    /// Accept waits.
    pub wait: Option<Histogram>,
}

/// SYN queue of one listener.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SynQueueSample {
    /// `qlen`: request sockets; `None` where not even polling sees them.
    pub depth: Option<u32>,
    /// `young`: request sockets whose SYN-ACK was not retransmitted yet.
    pub young: Option<u32>,
    /// Largest depth seen since the previous sample.
    pub peak: Option<u32>,
    /// Request sockets made.
    pub requests: Option<u64>,
    /// Request sockets that left the queue without a connection: timed out, reset, or closed with the listener.
    #[serde(default)]
    pub given_up: Option<u64>,
    /// SYN-ACKs sent again.
    pub synack_retransmits: Option<u64>,
    /// SYN cookies sent for this listener.
    pub cookies_sent: Option<u64>,
    /// Valid SYN cookies that came back to this listener.
    #[serde(default)]
    pub cookies_validated: Option<u64>,
    /// TCP_DEFER_ACCEPT is set: requests wait here for the client's first data, on purpose.
    #[serde(default)]
    pub defer_accept: Option<bool>,
    /// Handshake times.
    pub handshake: Option<Histogram>,
}

/// Attempts that a listener's queues refused. The model turns these into drops by cause.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DropsSample {
    /// Growth of the socket's `sk_drops`, 32-bit wrap removed. It counts a refused SYN once, a refused final ACK
    /// twice, a bare ACK ignored because of TCP_DEFER_ACCEPT once.
    pub socket_drops: Option<u64>,
    /// Final ACKs refused because the accept queue was full.
    pub ack_overflow: Option<u64>,
    /// Final ACKs that carried a valid SYN cookie, refused because the accept queue was full: one in `socket_drops`
    /// each.
    #[serde(default)]
    pub cookie_ack_overflow: Option<u64>,
    /// Final ACKs refused for another reason (allocation, route): two in `socket_drops` each.
    pub ack_other: Option<u64>,
    /// Packets to the listener dropped for a reason that refuses no attempt (TCP_DEFER_ACCEPT): one in `socket_drops`
    /// each.
    pub not_attempts: Option<u64>,
    /// SYNs refused because the accept queue was full, where a probe sees each; otherwise the model infers them.
    pub syn_accept_queue_full: Option<u64>,
    /// SYNs refused because the SYN queue was full, where a probe sees each; otherwise the model infers them.
    pub syn_queue_full: Option<u64>,
    /// SYNs refused for another reason, where a probe sees each; otherwise the model infers them.
    pub syn_other: Option<u64>,
    /// Distinct remote address and port pairs among the refused attempts that a probe saw with their packet.
    pub clients: Option<u64>,
    /// Whether `clients` has seen refused SYNs too, not only refused final ACKs.
    pub clients_cover_syn: bool,
}

/// Accepts from one listener.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AcceptsSample {
    /// Connections accepted.
    pub total: Option<u64>,
    /// Accepts that returned EAGAIN.
    pub would_block: Option<u64>,
    /// Accepts that failed otherwise (EMFILE, ENFILE, ENOBUFS, ENOMEM, …), EINTR and ECONNABORTED left out.
    pub failed: Option<u64>,
}

/// Accepted connections of one listener.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConnectionsSample {
    /// Accepted and not yet destroyed.
    pub open: Option<u64>,
    /// First-byte times: accepted → first payload byte arrived.
    pub first_byte: Option<Histogram>,
    /// First-read times: accepted → first successful read.
    pub first_read: Option<Histogram>,
}

/// Reads from one listener's connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReadsSample {
    /// Successful reads (at least one byte).
    pub count: Option<u64>,
    /// Bytes read.
    pub bytes: Option<u64>,
    /// Residency of the first unread byte.
    pub residency: Option<Histogram>,
    /// Bytes per read.
    pub bytes_per_read: Option<Histogram>,
    /// Bytes that arrived and were not read yet, over all its connections.
    pub queued_bytes: Option<u64>,
}

/// Writes to one listener's connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WritesSample {
    /// Successful writes.
    pub count: Option<u64>,
    /// Bytes accepted from the program by the kernel.
    pub bytes: Option<u64>,
}

/// What one thread did for one listener.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ThreadSample {
    /// Process id (thread group id).
    pub pid: u32,
    /// Thread id; 0 for the sum over threads that ended and are not given one by one any more.
    pub tid: u32,
    /// When the thread started (CLOCK_BOOTTIME, nanoseconds): tells it from another that got the same id later.
    pub start_ns: u64,
    /// Command name of the thread when it was first seen working.
    pub comm: String,
    /// It has ended.
    pub ended: bool,
    /// Connections it accepted.
    pub accepts: u64,
    /// Its accepts that returned EAGAIN.
    pub would_block: u64,
    /// Its accepts that failed otherwise.
    pub accept_failed: u64,
    /// Its successful reads.
    pub reads: u64,
    /// Bytes it read.
    pub read_bytes: u64,
    /// Connections on which it was the first to read.
    pub first_reads: u64,
    /// Its successful writes.
    pub writes: u64,
    /// Bytes it wrote.
    pub write_bytes: u64,
    /// Time on a CPU since the thread started, in nanoseconds (/proc/PID/task/TID/schedstat); not only for this
    /// listener.
    pub on_cpu_ns: Option<u64>,
    /// Time runnable but waiting for a CPU since the thread started, in nanoseconds.
    pub run_queue_ns: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::Losses;

    #[test]
    fn losses_since_are_of_each_kind() {
        let earlier =
            Losses { listeners: 1, connections: 2, threads: 3, missed_runs: 4, unseen: 5, ambiguous: 6, other: 7 };
        let now = Losses {
            listeners: 11,
            connections: 22,
            threads: 33,
            missed_runs: 44,
            unseen: 55,
            ambiguous: 66,
            other: 7,
        };
        let since = Losses {
            listeners: 10,
            connections: 20,
            threads: 30,
            missed_runs: 40,
            unseen: 50,
            ambiguous: 60,
            other: 0,
        };
        assert_eq!(now.since(&earlier), since);
        assert_eq!(earlier.since(&now), Losses::default());
    }
}
