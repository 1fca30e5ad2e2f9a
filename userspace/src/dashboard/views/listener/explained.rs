//! What the help explains about the listener view.

/// What is not a column of the overview, in the order of the screen.
pub(super) const EXPLAINED: &[(&str, &str)] = &[
    ("backlog", "In the title: the argument of listen(), as the kernel capped it to net.core.somaxconn."),
    ("now, young", "Handshakes in progress now, and how many of them had no SYN-ACK sent again."),
    ("peak", "The largest depth in the interval. In the graph: since the refresh before."),
    (
        "SYN-ACK again",
        "SYN-ACKs sent again, per second and, below, in the interval: the final ACK was late, lost or refused.",
    ),
    ("enqueued/s", "Handshakes completed: connections put on the accept queue per second."),
    (
        "8 of 9, 8/9, limit",
        "Connections waiting to be accepted, of those that the kernel admits: the backlog and one more. CPUs that complete \
         handshakes at the same moment can exceed it.",
    ),
    (
        "oldest, none waits",
        "Under ACCEPT QUEUE: how long the connection at its head has waited so far. Under RECEIVE QUEUES: how long the oldest unread byte \
         has waited, since it arrived or, if later, since its connection was accepted. none waits: there is none.",
    ),
    ("accepted/s", "Connections taken from the accept queue per second."),
    (
        "threads, processes",
        "Under ACCEPTORS: threads that were seen accepting in the interval, and the processes that they belong to. Under READERS: \
         threads seen reading. none seen: nothing was accepted, read or written yet.",
    ),
    ("writers", "Threads that were seen writing to its connections in the interval."),
    ("thr., proc., wr.", "Short for threads, processes and writers."),
    (
        "would-block, EAGAIN",
        "Accepts per second that returned EAGAIN: a thread was woken and found no connection. Also: empty.",
    ),
    ("failed", "Accepts that failed with another error in the interval, such as a lack of file descriptors (EMFILE)."),
    (
        "gone",
        "Accepts in the interval that went to clients that were gone: they had closed, or reset the connection, while they waited. \
         A client that only closed its side and waits for the answer counts too.",
    ),
    (
        "open",
        "Connections that were accepted and are not yet destroyed: also those that the program has closed, while the client has yet to \
         acknowledge the last data.",
    ),
    ("unread, left", "Bytes that arrived on open connections and are not read yet."),
    ("reads/s, read", "Successful reads per second, and the bytes that they took per second."),
    (
        "SYNs, by SYN queue",
        "SYNs refused: new connections refused at their SYN: the accept queue or the SYN queue was full. The client tries again a second \
         later, and again, with longer and longer pauses. In brackets: per second, in the recent span.",
    ),
    (
        "final ACKs refused",
        "Handshakes that the client believes complete, but the accept queue was full: the client waits, or is reset.",
    ),
    ("all drops", "Attempts refused in the interval: the sum of all causes, other and unexplained."),
    ("other", "Refused for another known reason: no memory, no route, or the last quarter of tcp_max_syn_backlog."),
    ("unexplained", "Refused, cause not known."),
    ("clients", "Distinct client addresses and ports among the refused attempts."),
    (
        "aborted",
        "Connections that left the accept queue without being accepted: the listener closed and discarded them.",
    ),
    ("cookies", "SYN cookies sent in the interval: handshakes answered without a place in the SYN queue."),
    (
        "accept queue depth",
        "Over time, a column per refresh: waiting connections; ▔: the peak since the refresh before; line: the limit.",
    ),
    (
        "wait over time",
        "A row per band of waits, a column per refresh: the darker, the more connections had waited so long when they were accepted. \
         <1.0ms: shorter than that, and not in the band below.",
    ),
    ("drops per refresh", "Over time: attempts refused since the refresh before."),
    (
        "handshake",
        "From the SYN-ACK until the final ACK: about one round trip to the client. The path of the SYN is not part of it.",
    ),
    (
        "accept wait",
        "From when a connection enters the accept queue until accept takes it. The client's network is not part of it.",
    ),
    (
        "first byte",
        "From accept until the client's first byte arrives; <1µs if it was there already. Large: the client is slow.",
    ),
    ("first read", "From accept until the server's first read. Large while first byte is small: the server is slow."),
    (
        "residency",
        "From the arrival of the first unread byte until a thread reads it: how long requests wait for a reader.",
    ),
    ("client gone", "Accept wait of the connections whose client was gone when they were accepted."),
    (
        "answer, ans.",
        "From the arrival of the first unread byte until the first write after it was read: what the server takes, seen from outside. \
         Where clients send on before they are answered (pipelining, HTTP/2), one write answers all that was read: a bound.",
    ),
    ("bytes per read", "How much one read takes. Small reads cost CPU."),
    ("nothing seen yet", "The distribution has no value in the span that is shown."),
    ("count, n", "How many values a distribution has."),
    (
        "p50, p90, p99, max",
        "50, 90, 99 and 100 % of the values are no larger than this. Below the columns: smallest and largest value.",
    ),
    ("THREAD, ended", "Name and id of a thread; ended: it does not exist any more."),
    ("ARW, ROLES", "What a thread was seen doing: A accepts, R reads, W writes."),
    (
        "accepts … writes",
        "Of that thread in the interval: accepts, those that returned EAGAIN, reads, bytes read, writes.",
    ),
    ("share", "A thread's part of the accepts or reads of its listener; for a shard, of its group."),
    ("onCPU", "Part of the time since the thread was first seen in which it ran, for any work."),
    ("runq", "Part of that time in which it was ready to run but waited for a CPU: the machine is too busy."),
    ("block", "The rest: asleep, without work or waiting for something."),
    (
        "┊ ┴",
        "In graphs over time: something was done on purpose at this moment, such as by a lab. Below stands what. The events have all of \
         it; the trend of the overview has it underlined.",
    ),
    ("Blame", "Opens the view of what acceptors do while connections wait: it is watched while that is open."),
];
