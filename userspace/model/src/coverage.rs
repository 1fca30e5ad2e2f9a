//! What can be measured on this machine, by which hook, and why not.

use serde::{Deserialize, Serialize};

use crate::names::names;

/// One measure's coverage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Which measure.
    pub measure: Measure,
    /// How well it is covered here.
    pub status: Status,
    /// The hook or file that it comes from; empty if it is unavailable.
    pub via: String,
    /// Why it is less than `measured`, and what would help; empty if it is measured.
    pub reason: String,
    /// Since when that is so, by the clock of the samples; `None`: since the start. What was measured before, or not,
    /// says nothing about the time since: counts of a measure that came back begin anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ns: Option<u64>,
}

names! {
    /// How well a measure is covered.
    pub enum Status {
        /// Every event is seen.
        Measured = "measured",
        /// Read now and then, inferred, or an upper or lower bound: the reason says which.
        Sampled = "sampled",
        /// Not known here.
        Unavailable = "unavailable",
    }
}

names! {
    /// Everything that listentop can measure, under the names that the coverage lists use.
    pub enum Measure {
        /// Depth and backlog of accept queues.
        AcceptQueueDepth = "accept_queue_depth",
        /// Peak depth of accept queues between two samples.
        AcceptQueuePeak = "accept_queue_peak",
        /// Connections enqueued.
        Enqueued = "enqueued",
        /// Accept wait.
        AcceptWait = "accept_wait",
        /// Age of the oldest connection still waiting.
        OldestWaiting = "oldest_waiting",
        /// Depth and young requests of SYN queues.
        SynQueueDepth = "syn_queue_depth",
        /// Request sockets made.
        SynRequests = "syn_requests",
        /// SYN-ACK retransmits.
        SynackRetransmits = "synack_retransmits",
        /// SYN cookies sent, per listener.
        CookiesSent = "cookies_sent",
        /// Handshake time.
        Handshake = "handshake",
        /// Refused attempts.
        Drops = "drops",
        /// The cause of each refused attempt.
        DropCause = "drop_cause",
        /// Distinct clients among refused attempts.
        DropClients = "drop_clients",
        /// Accepts.
        Accepts = "accepts",
        /// Would-block accepts.
        WouldBlock = "would_block",
        /// Connections whose client was gone when they were accepted.
        ClientGone = "client_gone",
        /// Open connections.
        OpenConnections = "open_connections",
        /// First-byte time.
        FirstByte = "first_byte",
        /// First-read time.
        FirstRead = "first_read",
        /// Answer time.
        Answer = "answer",
        /// Reads and bytes read.
        Reads = "reads",
        /// Residency.
        Residency = "residency",
        /// Bytes waiting unread.
        QueuedBytes = "queued_bytes",
        /// Age of the oldest unread byte.
        OldestUnread = "oldest_unread",
        /// Connections on accept queues, one by one.
        WaitingConnections = "waiting_connections",
        /// Connections with unread bytes, one by one.
        UnreadConnections = "unread_connections",
        /// Half-open connections, one by one.
        HalfOpenConnections = "half_open_connections",
        /// Writes and bytes written.
        Writes = "writes",
        /// Which process holds a listener.
        Owners = "owners",
        /// Which threads wait for a listener's connections, and what its acceptors do while some wait.
        Waiters = "waiters",
        /// Open descriptors of the accepting process, and their limit.
        Descriptors = "descriptors",
        /// CPU, run-queue and blocked time of threads.
        ThreadTimes = "thread_times",
        /// Time that the probes take.
        ProbeTime = "probe_time",
    }
}
