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
        because: "The kernel answers the SYN and takes the final ACK alone. All 20 are connected within a \
                  millisecond or so, while the server has accepted 0.",
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
            watch: "The server accepts again. The queue is empty at once. What the clients waited for the answer was \
                    spent in the accept queue.",
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
            why: "the kernel finishes handshakes as long as the accept queue has room",
        },
        Expectation {
            id: "accepted",
            what: "connections that the server has accepted by then",
            figure: "server:sleeper:total.accepts@asleep",
            unit: "connections",
            bounds: Bounds::Exactly(0.0),
            short: None,
            why: "it is stalled",
        },
        Expectation {
            id: "queued",
            what: "depth of the accept queue by then",
            figure: "listentop:sleeper:accept_queue.depth@asleep",
            unit: "connections",
            bounds: Bounds::Exactly(20.0),
            short: None,
            why: "every finished handshake waits there",
        },
        Expectation {
            id: "fast",
            what: "half of the connects take at most this long",
            figure: "load:sleeper:connect_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(20.0),
            short: None,
            why: "on loopback a handshake takes some 30 µs; a busy machine delays the client",
        },
        Expectation {
            id: "handshake",
            what: "half of the handshakes, as listentop saw them: SYN-ACK sent until final ACK",
            figure: "listentop:sleeper:syn_queue.handshake_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(5.0),
            short: None,
            why: "the client's kernel answers a SYN-ACK without its program",
        },
        Expectation {
            id: "answered",
            what: "answers at the end",
            figure: "load:sleeper:responses",
            unit: "answers",
            bounds: Bounds::Exactly(20.0),
            short: None,
            why: "nothing is lost: the requests wait in the receive queues of connections that nobody has accepted",
        },
        Expectation {
            id: "waited",
            what: "the longest wait for an answer",
            figure: "load:sleeper:response_us.max / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(4_000.0),
            short: Some(Bounds::AtLeast(1_200.0)),
            why: "the first client connects at the beginning of the sleep",
        },
    ],
    belief: "A client that is connected has reached the server program.",
    mechanism: &[
        "A SYN makes a request socket: the SYN queue. The kernel answers with a SYN-ACK, also while the program sleeps.",
        "The final ACK turns the request into a connection and puts it on the accept queue. connect() has returned by \
         then: the client is established after the SYN-ACK.",
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
