//! What a source reads: raw, timestamped, serialisable. The model derives the rest.
//!
//! Counters are cumulative since the probes were attached (or, for a listener opened later, since it was opened) and
//! are `None` where this machine cannot measure them. Gauges are values at [`Sample::monotonic_ns`]. A recording is a
//! sequence of these.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    blame::Blame,
    connections::{ConnectionLists, Listing},
    coverage::Coverage,
    names::names,
    shared::{Shared, shared_option},
};
pub use crate::{
    device::Device,
    figures::{Counts, Distributions, GaugeSample},
    likely::{LikelyAcceptor, LikelyBy},
    summed::{Summed, ThreadKey},
};

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
    /// order. A socket that stopped listening and listens again is in it twice, once as closed.
    /// A listener that did not change may be shared with the sample before; the tracker then need not read it.
    pub listeners: Shared<ListenerSample>,
    /// Connections were listed one by one, and how many at most; `None`: nobody asked for that.
    #[serde(default)]
    pub listing: Option<Listing>,
    /// What acceptors did while connections waited; `None`: nobody asked for that.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "shared_option::serialize",
        deserialize_with = "shared_option::deserialize"
    )]
    pub blame: Option<Arc<Blame>>,
    /// What was done on purpose since the previous sample to what is measured, in the order of time: what a lab does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<MarkSample>,
}

/// How the mark of another level of measuring begins; the level's name follows.
pub const LEVEL_MARK: &str = "measure ";

/// Something that was done on purpose, at its moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkSample {
    /// CLOCK_MONOTONIC when it was done, in nanoseconds.
    pub monotonic_ns: u64,
    /// What was done, in a few words.
    pub what: String,
    /// Inode of the network namespace that it concerns.
    pub netns: u32,
    /// The port of the server that it was done to; `None` if it concerns all of them.
    #[serde(default)]
    pub port: Option<u16>,
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

/// What was not tracked, cumulative. Views show each that is not 0.
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
    /// Connections whose beginning or end no probe saw: counted as soon as that is noticed, without waits.
    #[serde(default)]
    pub unseen: u64,
    /// Connections that were open at the start, of which it cannot be told through which listener they came. If that
    /// can only be shards of one group, each counts for one of them, and the group's sums are right. Otherwise it
    /// counts for none.
    #[serde(default)]
    pub ambiguous: u64,
    /// Anything else: queued sockets that could not be identified, queues too long to be taken over at the start.
    pub other: u64,
}

impl Losses {
    /// Everything that was lost. Skipped runs are left out: they may have lost nothing. So are ambiguous connections:
    /// none began while it was measured.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.listeners + self.connections + self.threads + self.unseen + self.other
    }

    /// What was lost after `earlier`.
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

/// Identity of a network namespace. The kernel gives an inode number to another namespace as soon as one is gone, but
/// never a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamespaceId {
    /// Inode number, as `readlink /proc/PID/ns/net` shows.
    pub inode: u32,
    /// `net->net_cookie`; `None` where the kernel has none (before 5.12). Then only the inode number is known.
    #[serde(default)]
    pub cookie: Option<u64>,
}

/// One network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceSample {
    /// Which.
    #[serde(flatten)]
    pub id: NamespaceId,
    /// Its name under /run/netns, where it has one; `host` for the namespace of process 1.
    pub name: Option<String>,
    /// Its TCP counters, cumulative since the namespace was made; `None` if they cannot be read.
    pub counters: Option<NamespaceCounters>,
    /// The same, read before any of its present listeners opened; `None` if they were not. What has been refused since
    /// was refused by these listeners.
    #[serde(default)]
    pub before_listeners: Option<NamespaceCounters>,
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

names! {
    /// Transport of a listener.
    pub enum Protocol {
        /// TCP over IPv4 or IPv6.
        Tcp = "tcp",
        /// Multipath TCP.
        Mptcp = "mptcp",
    }
}

/// A process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id (thread group id) in listentop's own PID namespace.
    pub pid: u32,
    /// Command name, as in /proc/PID/comm.
    pub comm: String,
    /// Container: its id or, with LXC and systemd-nspawn, its name; outside any container, `service`. From the process'
    /// cgroup, as the next two.
    pub container: Option<String>,
    /// The pod that the container belongs to: its unique id in Kubernetes, its short id in Podman.
    #[serde(default)]
    pub pod: Option<String>,
    /// The innermost systemd service that it runs in.
    #[serde(default)]
    pub service: Option<String>,
    /// What the runtime calls the container, where one of its files says so.
    #[serde(default)]
    pub container_name: Option<String>,
    /// The container around that one, by name or else by id.
    #[serde(default)]
    pub container_outer: Option<String>,
    /// Name of the pod, where a file of the runtime or of the kubelet says so.
    #[serde(default)]
    pub pod_name: Option<String>,
    /// Kubernetes namespace of the pod, likewise.
    #[serde(default)]
    pub pod_namespace: Option<String>,
    /// User id of the service manager that runs the service; `None`: the system's.
    #[serde(default)]
    pub service_uid: Option<u32>,
    /// Path of its cgroup: in the unified hierarchy, or, where it is in that one's root, in another.
    #[serde(default)]
    pub cgroup: Option<String>,
}

impl Process {
    /// The container that it is in, by name or else by id. Unlike `container` it is never a service.
    #[must_use]
    pub fn in_container(&self) -> Option<&str> {
        let id = self.container.as_deref().filter(|id| self.service.as_deref() != Some(*id));
        id.map(|id| self.container_name.as_deref().unwrap_or(id))
    }

    /// The pod that it is in, by name or else by id.
    #[must_use]
    pub fn in_pod(&self) -> Option<&str> {
        self.pod_name.as_deref().or(self.pod.as_deref())
    }
}

names! {
    /// How a thread waits for connections.
    pub enum WaitKind {
        /// In accept or accept4.
        Accept = "accept",
        /// In epoll_wait and its relatives.
        Epoll = "epoll",
        /// In poll or ppoll.
        Poll = "poll",
        /// In select or pselect.
        Select = "select",
        /// In io_uring_enter, with an accept or poll in the ring.
        IoUring = "io_uring",
    }
}

/// A thread that waits for a listener's next connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    /// Process id.
    pub pid: u32,
    /// Thread id; 0 where only the process is known: it polls the listener, and none of its threads was seen waiting.
    pub tid: u32,
    /// Command name of the thread (of the process, without a thread).
    pub comm: String,
    /// How it waits.
    pub how: WaitKind,
    /// EPOLLEXCLUSIVE is set; `None` if it does not wait by epoll.
    pub exclusive: Option<bool>,
    /// EPOLLET (edge-triggered) is set; `None` if it does not wait by epoll.
    pub edge: Option<bool>,
    /// It was asleep there when last looked at. Otherwise it was doing something else just then: its epoll still polls
    /// the listener, or it waited there a moment ago.
    pub waits: bool,
    /// What it waits by holds the listener, or did when last looked at: its program asks for connections. `None` if
    /// that is not known.
    #[serde(default)]
    pub polls: Option<bool>,
}

/// The descriptors of an accepting process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptors {
    /// The process: of several, the one that is nearest to its limit.
    pub pid: u32,
    /// Descriptors that are open.
    pub open: u64,
    /// RLIMIT_NOFILE, the soft limit: accept fails (EMFILE) beyond it.
    pub soft_limit: u64,
}

impl Descriptors {
    /// Of two, the one with more of its limit in use.
    #[must_use]
    pub fn max_by_use(self, other: Self) -> Self {
        if self.by_use(&other).is_lt() { other } else { self }
    }

    /// Orders by how much of the limit is in use.
    #[must_use]
    pub fn by_use(&self, other: &Self) -> std::cmp::Ordering {
        let parts = |one: &Self, other: &Self| u128::from(one.open) * u128::from(other.soft_limit);
        parts(self, other).cmp(&parts(other, self))
    }
}

/// What a thread does at the moment, or sleeps in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadState {
    /// As in /proc/PID/stat: R runs or may run, S sleeps, D sleeps uninterruptibly, T is stopped, t is traced, …
    pub letter: char,
    /// The kernel function that it sleeps in; `None` if it does not sleep, or the kernel does not say.
    pub wchan: Option<String>,
    /// The system call that it is in; `None` if it is in none, or that may not be read.
    pub syscall: Option<String>,
    /// Functions of its kernel stack, the innermost first; empty if it is not in the kernel, or that may not be read.
    pub kernel_stack: Vec<String>,
}

names! {
    /// What set the limit of an accept queue.
    pub enum LimitSetBy {
        /// The argument of listen(2): somaxconn would allow more.
        Program = "program",
        /// net.core.somaxconn: the program wanted more.
        Somaxconn = "somaxconn",
        /// One of the two: they are equal, or it cannot be told.
        Either = "either",
    }
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListenerSample {
    /// Socket cookie: unique for the machine's uptime.
    pub id: u64,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// Cookie of its network namespace: see [`NamespaceId`].
    #[serde(default)]
    pub net_cookie: Option<u64>,
    /// Transport.
    pub protocol: Protocol,
    /// Local address. `::` is dual-stack unless `v6only` is set.
    pub address: IpAddr,
    /// Local port.
    pub port: u16,
    /// The interface that it is bound to, by SO_BINDTODEVICE or the scope of a link-local address; `None` if to none.
    #[serde(default)]
    pub device: Option<Device>,
    /// IPV6_V6ONLY is set.
    pub v6only: bool,
    /// SO_REUSEPORT is set: listeners of the same netns, protocol, address, port and device form a group, each a
    /// shard.
    pub reuseport: bool,
    /// The process that holds it; of several, the one that started first. `None` if no holder can be seen.
    pub process: Option<Process>,
    /// Ids of the processes that hold it, the oldest first; empty if unknown.
    pub holders: Vec<u32>,
    /// When it began to listen (CLOCK_MONOTONIC, nanoseconds); `None` if before the probes were attached.
    pub opened_ns: Option<u64>,
    /// It stopped listening since the previous sample; this is the last sample that has it.
    pub closed: bool,
    /// Its gauges.
    pub gauges: GaugeSample,
    /// Its counters, cumulative.
    pub counts: Counts,
    /// Its distributions, cumulative.
    pub distributions: Distributions,
    /// Refused attempts.
    pub drops: DropsSample,
    /// The threads that were seen working for it, including those that ended. No two have the same
    /// [`ThreadSample::key`]; at most one is a sum.
    pub threads: Vec<ThreadSample>,
    /// The threads that wait for its connections, by process and thread; `None` if that is not known (yet).
    #[serde(default)]
    pub waiters: Option<Vec<Waiter>>,
    /// Who probably should accept; read only while connections wait and nobody was seen accepting.
    #[serde(default)]
    pub likely_acceptors: Option<Vec<LikelyAcceptor>>,
    /// The descriptors of its accepting process.
    #[serde(default)]
    pub descriptors: Option<Descriptors>,
    /// net.core.somaxconn of its namespace at the reading.
    #[serde(default)]
    pub somaxconn: Option<u32>,
    /// The backlog that its program asked for when it called listen(2) last; `None` if nobody saw the call.
    #[serde(default)]
    pub backlog_wanted: Option<u32>,
    /// Its connections that wait longest; `None` if it has none, or they were not [listed](Sample::listing).
    #[serde(default)]
    pub connections: Option<ConnectionLists>,
}

impl ListenerSample {
    /// Its network namespace.
    #[must_use]
    pub fn namespace(&self) -> NamespaceId {
        NamespaceId { inode: self.netns, cookie: self.net_cookie }
    }
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

/// What one thread did for one listener; or, with `summed`, what the ended threads did that are no longer listed one by
/// one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ThreadSample {
    /// Process id (thread group id); 0 if listentop's PID namespace does not show it.
    pub pid: u32,
    /// Thread id; 0 likewise.
    pub tid: u32,
    /// Process id in the initial PID namespace, in which every process has one; 0 if the source does not know it.
    #[serde(default)]
    pub initial_pid: u32,
    /// Thread id there; 0 likewise.
    #[serde(default)]
    pub initial_tid: u32,
    /// When the thread started (CLOCK_BOOTTIME, nanoseconds): distinguishes it from a later thread with the same id.
    pub start_ns: u64,
    /// Command name of the thread when it was first seen working.
    pub comm: String,
    /// It has ended.
    pub ended: bool,
    /// Connections it accepted.
    pub accepts: u64,
    /// When it first accepted one (CLOCK_MONOTONIC, nanoseconds); `None` if it did not, or the source does not know.
    #[serde(default)]
    pub first_accept_ns: Option<u64>,
    /// When it last did.
    #[serde(default)]
    pub last_accept_ns: Option<u64>,
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
    /// What it does; read only while connections or unread bytes wait for it.
    #[serde(default)]
    pub state: Option<ThreadState>,
    /// It is a sum over ended threads, which are never listed one by one again; what they were.
    #[serde(default)]
    pub summed: Option<Box<Summed>>,
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
