//! A server that listens and does not accept: what its clients see.

use crate::format::{Act, Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

pub(crate) const LESSON: Lesson = Lesson {
    name: "handshake",
    part: Part::Accepting,
    title: "clients connect although nobody accepts",
    question: "Who finishes the handshake: the server program or the kernel? And what does a client notice of it?",
    prediction: Prediction {
        ask: "A server listens with a backlog of 128, but does not call accept(2). 20 clients connect and send a \
              request. What do they see?",
        answers: &[
            "connect() blocks until the server accepts",
            "connect() succeeds at once, and the request can be written; the answer does not come",
            "connect() fails: connection refused",
        ],
        right: 1,
        because: "The kernel answers the SYN and takes the final ACK alone. Each of the 20 is connected within a \
                  millisecond or so, while the server has accepted none.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[Server::demo("sleeper", 7001, "--pattern single_thread --backlog 128")],
        loads: &[Load::stress("sleeper", "--rate 40 --connections 20 --timeout-ms 60000").for_steps(0)],
    },
    steps: &[
        Step {
            name: "asleep",
            length_ms: 6_000,
            short_ms: 1_800,
            watch: "The server accepts nothing. Connections go from the SYN queue to the accept queue within \
                    microseconds, and stay there: depth 20.",
            acts: &[Act::Stall("sleeper")],
        },
        Step {
            name: "awake",
            length_ms: 5_000,
            short_ms: 1_200,
            watch: "The server accepts again. The queue is empty at once. The clients have waited for their answers in \
                    the accept queue.",
            acts: &[Act::Release("sleeper")],
        },
    ],
    expectations: &[
        Expectation {
            id: "connected",
            what: "clients that are connected while the server sleeps",
            figure: "load:sleeper:established@asleep",
            unit: "clients",
            bounds: Bounds::Exactly(20.0),
            short: None,
            widened: None,
            why: "the kernel finishes handshakes as long as the accept queue has room",
        },
        Expectation {
            id: "accepted",
            what: "connections that the server accepted while it slept",
            figure: "server:sleeper:total.accepts@asleep",
            unit: "connections",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "it is stalled",
        },
        Expectation {
            id: "queued",
            what: "depth of the accept queue at the end of the sleep",
            figure: "listentop:sleeper:accept_queue.depth@asleep",
            unit: "connections",
            bounds: Bounds::Exactly(20.0),
            short: None,
            widened: None,
            why: "every finished handshake waits there",
        },
        Expectation {
            id: "fast",
            what: "time that connect() takes (p50)",
            figure: "load:sleeper:connect_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(20.0),
            short: None,
            widened: Some("2 * run:late_us.p90 / 1000"),
            why: "on loopback a handshake takes some 30 µs. The client must get a CPU twice",
        },
        Expectation {
            id: "handshake",
            what: "handshake time (p50) that listentop saw: SYN-ACK sent until final ACK",
            figure: "listentop:sleeper:syn_queue.handshake_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(5.0),
            short: None,
            widened: Some("run:late_us.p90 / 1000"),
            why: "the client's kernel answers a SYN-ACK without its program",
        },
        Expectation {
            id: "answered",
            what: "answers, after the server accepts again",
            figure: "load:sleeper:responses@awake",
            unit: "answers",
            bounds: Bounds::Exactly(20.0),
            short: None,
            widened: None,
            why: "nothing is lost: the requests wait in the receive queues of connections that nobody has accepted",
        },
        Expectation {
            id: "waited",
            what: "longest wait for an answer",
            figure: "load:sleeper:response_us.max@awake / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(4_000.0),
            short: Some(Bounds::AtLeast(1_200.0)),
            widened: None,
            why: "the first client connects at the beginning of the sleep",
        },
    ],
    findings: &["hung_acceptor", "slow_accept"],
    belief: "A client that is connected has reached the server program.",
    mechanism: &[
        "For a SYN the server's kernel makes a request socket and answers with a SYN-ACK, also while the program \
         sleeps. The request sockets of a listener are its SYN queue.",
        "The final ACK turns the request into a connection and puts it on the accept queue. connect() does not wait \
         for that: the client is connected as soon as the SYN-ACK has come.",
        "Data that arrives before accept(2) is kept in the connection's receive queue, up to its window.",
        "A health check that only connects tests the kernel, not the program.",
    ],
    try_next: &[
        "Stall and release the acceptor yourself, and watch the depth.",
        "`cargo xtask demo overflow`: what happens when the accept queue is full.",
    ],
    spoiler: Spoiler {
        what: "a backlog of 4 instead of 128",
        change: Change::Server("sleeper", "--backlog 128", "--backlog 4"),
        fails: &["connected", "queued"],
    },
};
