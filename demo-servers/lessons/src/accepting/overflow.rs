//! One slow acceptor with a small backlog, under more load than it can accept.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

pub(crate) const LESSON: Lesson = Lesson {
    name: "overflow",
    part: Part::Accepting,
    title: "an accept queue that overflows while the server looks idle",
    question: "Clients wait for seconds or give up, but the server uses next to no CPU. Where do the connections stay?",
    prediction: Prediction {
        ask: "80 clients per second connect. The server accepts at most 50 per second, and its backlog is 8. What \
              becomes of a client that finds the queue full?",
        answers: &[
            "It gets 'connection refused' at once",
            "It hears nothing, sends its SYN again after 1 s, and may get in then",
            "It waits in the queue until the server has time",
        ],
        right: 1,
        because: "The kernel drops the SYN without an answer. The client's own timer decides what happens next: it \
                  tries again a second later, and again and again.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[Server::demo("slow_acceptor", 7001, "--pattern single_thread --backlog 8 --accept-delay-us 20000")],
        loads: &[Load::stress(
            "slow_acceptor",
            "--rate 80 --arrivals constant --max-open 4000 --connect-timeout-ms 8000",
        )],
    },
    steps: &[
        Step {
            name: "overload",
            length_ms: 12_000,
            short_ms: 2_500,
            watch: "The accept queue stays full at 9. Drops go up: SYNs and final ACKs that found no room. The server \
                    sleeps most of the time.",
            acts: &[],
        },
        Step {
            name: "served",
            length_ms: 9_000,
            short_ms: 4_500,
            watch: "No client is new, but those that were refused come back, a second after each attempt. Each attempt \
                    counts again.",
            acts: &[],
        },
    ],
    expectations: &[
        Expectation {
            id: "peak",
            what: "largest depth of the accept queue: the backlog of 8 and one more",
            figure: "listentop:slow_acceptor:accept_queue.peak",
            unit: "connections",
            bounds: Bounds::Between(9.0, 10.0),
            short: None,
            widened: None,
            why: "the kernel refuses when the depth is above the backlog, so one more than the backlog fits. Two CPUs \
                  that look at the same moment may both find room: then it is 10",
        },
        Expectation {
            id: "refused",
            what: "refused attempts that listentop counts beyond those that the kernel counts",
            figure: "listentop:slow_acceptor:drops.total - kernel:TcpExtListenDrops",
            unit: "attempts",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "both count each refused SYN and each refused final ACK once",
        },
        Expectation {
            id: "retried",
            what: "share of the clients that had to send their SYN again",
            figure: "100 * (load:slow_acceptor:syn_retries.one + load:slow_acceptor:syn_retries.two \
                     + load:slow_acceptor:syn_retries.three_or_more) / load:slow_acceptor:due",
            unit: "%",
            bounds: Bounds::AtLeast(15.0),
            short: Some(Bounds::AtLeast(10.0)),
            widened: None,
            why: "30 of 80 per second are too many. A client whose final ACK was dropped believes that it is \
                  connected, and does not send its SYN again",
        },
        Expectation {
            id: "wait",
            what: "accept wait (p50)",
            figure: "listentop:slow_acceptor:accept_queue.wait_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::Between(120.0, 260.0),
            short: None,
            widened: Some("9 * run:late_us.p90 / 1000"),
            why: "a connection that comes last into a queue of 9 waits for 9 accepts, 20 ms each: 180 ms. The server \
                  sleeps 9 times, and each time it must get a CPU afterwards",
        },
        Expectation {
            id: "idle",
            what: "CPU time of the server, in percent of one CPU",
            figure: "process:slow_acceptor:cpu_ms / (10 * run:seconds)",
            unit: "%",
            bounds: Bounds::AtMost(5.0),
            short: None,
            widened: None,
            why: "50 connections per second cost some milliseconds; the rest is sleep",
        },
        Expectation {
            id: "finding",
            what: "listentop names the cause: accept_queue_overflow",
            figure: "count(listentop:slow_acceptor:findings[accept_queue_overflow])",
            unit: "",
            bounds: Bounds::Exactly(1.0),
            short: None,
            widened: None,
            why: "attempts were refused because the accept queue was full",
        },
    ],
    findings: &["slow_accept", "syn_queue_overflow"],
    belief: "A server with idle CPUs has no trouble with its load.",
    mechanism: &[
        "The kernel finishes the handshake alone and puts the connection on the accept queue. accept(2) takes it off. \
         listen(2)'s backlog bounds the queue; at depth = backlog one more gets in.",
        "A SYN that finds the queue full is dropped without an answer (ListenOverflows, ListenDrops). The client's \
         kernel sends it again: since Linux 6.5 every second for the first five times, then with pauses of 2, 4, 8 s \
         (tcp_syn_linear_timeouts); before, the pauses doubled from the first.",
        "A final ACK that finds it full is dropped too. That client believes that it is connected and sends its \
         request. The server's kernel keeps its request socket in the SYN queue and sends the SYN-ACK again, and the \
         client's next ACK may find room.",
    ],
    try_next: &[
        "`--cookies`: cookies answer a full SYN queue. They do not help here, because the accept queue is the \
         bottleneck.",
        "`--abort-on-overflow`: clients whose final ACK finds no room fail at once. Those whose SYN finds none go on \
         waiting (lesson `abort-on-overflow`).",
        "A larger backlog: lesson `burst-or-overload` shows when that helps.",
    ],
    spoiler: Spoiler {
        what: "a backlog of 4096 instead of 8",
        change: Change::Server("slow_acceptor", "--backlog 8", "--backlog 4096"),
        fails: &["peak", "retried", "wait", "finding"],
    },
};
