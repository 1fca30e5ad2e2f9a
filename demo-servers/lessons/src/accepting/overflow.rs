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
        because: "The kernel drops the SYN without an answer. The client's own timer decides what happens next: 1 s, \
                  then 2 s more, then 4 s.",
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
            watch: "No client is new, but those that were refused come back after 1 s and 3 s. Each attempt counts \
                    again.",
            acts: &[],
        },
    ],
    expectations: &[
        Expectation {
            id: "peak",
            what: "connections that the queue holds at most: the backlog of 8 and one more",
            figure: "listentop:slow_acceptor:accept_queue.peak",
            unit: "connections",
            bounds: Bounds::Between(9.0, 10.0),
            short: None,
            why: "the kernel refuses when the depth is above the backlog, so one more than the backlog fits. Two CPUs \
                  that look at the same moment may both find room: then it is 10",
        },
        Expectation {
            id: "refused",
            what: "refused attempts, as listentop counts them, less those that the kernel counts",
            figure: "listentop:slow_acceptor:drops.total - kernel:TcpExtListenDrops",
            unit: "attempts",
            bounds: Bounds::Exactly(0.0),
            short: None,
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
            why: "30 of 80 do not fit. Those whose final ACK was dropped believe that they are connected, and send \
                  no SYN again",
        },
        Expectation {
            id: "wait",
            what: "half of the connections wait this long in the queue: 9 places, 20 ms each",
            figure: "listentop:slow_acceptor:accept_queue.wait_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::Between(120.0, 400.0),
            short: None,
            why: "9 × 20 ms are 180 ms. On a busy machine each sleep of the server takes longer",
        },
        Expectation {
            id: "idle",
            what: "CPU that the server uses, of one core",
            figure: "process:slow_acceptor:cpu_ms / (10 * run:seconds)",
            unit: "%",
            bounds: Bounds::AtMost(5.0),
            short: None,
            why: "50 connections per second cost some milliseconds; the rest is sleep",
        },
        Expectation {
            id: "finding",
            what: "listentop names the cause: accept_queue_overflow",
            figure: "count(listentop:slow_acceptor:findings[accept_queue_overflow])",
            unit: "",
            bounds: Bounds::Exactly(1.0),
            short: None,
            why: "attempts were refused because the accept queue was full",
        },
    ],
    belief: "A server with idle CPUs has no trouble with its load.",
    mechanism: &[
        "The kernel finishes the handshake alone and puts the connection on the accept queue. accept(2) takes it off. \
         listen(2)'s backlog bounds the queue; at depth = backlog one more gets in.",
        "A SYN that finds the queue full is dropped without an answer (ListenOverflows, ListenDrops). The client's \
         kernel sends it again after 1 s, 2 s, 4 s.",
        "A final ACK that finds it full is dropped too. That client believes that it is connected and sends its \
         request; the kernel keeps its request socket in the SYN queue and sends the SYN-ACK again.",
    ],
    try_next: &[
        "`--cookies`: cookies answer a full SYN queue. They do not help here, because the accept queue is the \
         bottleneck.",
        "`--abort-on-overflow`: refused clients fail at once instead of waiting (lesson `abort-on-overflow`).",
        "A larger backlog: lesson `burst-or-overload` shows when that helps.",
    ],
    spoiler: Spoiler {
        what: "a backlog of 4096 instead of 8",
        change: Change::Server("slow_acceptor", "--backlog 8", "--backlog 4096"),
        fails: &["peak", "retried", "wait", "finding"],
    },
};
