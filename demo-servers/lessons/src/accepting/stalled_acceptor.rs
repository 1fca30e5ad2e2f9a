//! A thread that should accept and hangs, beside readers that go on.

use crate::format::{Act, Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

pub(crate) const LESSON: Lesson = Lesson {
    name: "stalled-acceptor",
    part: Part::Accepting,
    title: "new clients hang while old ones are served",
    question: "Half of the monitoring is green, half is red: some clients are served as always, others get no answer. \
               How can that be one server?",
    prediction: Prediction {
        ask: "One thread accepts, four others read. The accepting thread hangs for some seconds. Who notices?",
        answers: &[
            "All clients: the server hangs",
            "Only clients that connect now. Those that are connected are served as before",
            "Nobody: the kernel accepts for it",
        ],
        right: 1,
        because: "Readers do not need the acceptor. New connections are established by the kernel and wait in the accept \
                  queue for as long as the thread hangs.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[Server::demo("hangs", 7001, "--pattern acceptor_readers --threads 4 --backlog 1024")],
        loads: &[
            Load::stress("hangs", "--burst 10:100 --connections 10 --requests 100000 --think-ms 20 --timeout-ms 60000")
                .named("old_clients")
                .for_steps(0),
            Load::stress("hangs", "--rate 50 --timeout-ms 60000").named("new_clients").in_step(1).for_steps(2),
        ],
    },
    steps: &[
        Step {
            name: "well",
            length_ms: 3_000,
            short_ms: 1_000,
            watch: "Ten clients are connected and send a request every 20 ms.",
            acts: &[],
        },
        Step {
            name: "hangs",
            length_ms: 6_000,
            short_ms: 2_000,
            watch: "The accepting thread hangs. New clients connect all the same and wait: the depth grows by 50 per \
                    second. Reads of the old clients go on.",
            acts: &[Act::Stall("hangs")],
        },
        Step {
            name: "released",
            length_ms: 4_000,
            short_ms: 1_500,
            watch: "It accepts again, all that have waited at once. The accept wait shows the whole stall.",
            acts: &[Act::Release("hangs")],
        },
    ],
    expectations: &[
        Expectation {
            id: "queued",
            what: "depth of the accept queue at the end of the stall",
            figure: "listentop:hangs:accept_queue.depth@hangs",
            unit: "connections",
            bounds: Bounds::Between(240.0, 400.0),
            short: Some(Bounds::Between(75.0, 110.0)),
            why: "50 connections per second wait. On a busy machine the clients are late, and the step lasts longer",
        },
        Expectation {
            id: "nothing-accepted",
            what: "connections that were accepted during the stall",
            figure: "server:hangs:total.accepts@hangs - server:hangs:total.accepts@well",
            unit: "connections",
            bounds: Bounds::Exactly(0.0),
            short: None,
            why: "only this thread accepts",
        },
        Expectation {
            id: "old-served",
            what: "requests of old clients that were served during the stall",
            figure: "load:old_clients:responses@hangs - load:old_clients:responses@well",
            unit: "requests",
            bounds: Bounds::AtLeast(1_000.0),
            short: Some(Bounds::AtLeast(250.0)),
            why: "10 clients with a request every 20 ms or a little more make up to 500 per second; a busy machine makes \
                  fewer",
        },
        Expectation {
            id: "old-fast",
            what: "99 of 100 requests of old clients take at most this long, over the whole time",
            figure: "load:old_clients:response_us.p99 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(100.0),
            short: None,
            why: "readers do not wait for the acceptor; a busy machine delays both sides",
        },
        Expectation {
            id: "new-connect",
            what: "99 of 100 connects of new clients take at most this long",
            figure: "load:new_clients:connect_us.p99 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(100.0),
            short: None,
            why: "the kernel finishes the handshake alone",
        },
        Expectation {
            id: "new-wait",
            what: "the longest accept wait",
            figure: "listentop:hangs:accept_queue.wait_us.max / 1000",
            unit: "ms",
            bounds: Bounds::Between(5_500.0, 8_000.0),
            short: Some(Bounds::Between(1_700.0, 4_000.0)),
            why: "the first new connection waits for the whole stall; it is known to 1/8 upwards",
        },
        Expectation {
            id: "finding",
            what: "listentop names the cause during the stall: hung_acceptor",
            figure: "count(listentop:hangs:findings[hung_acceptor]@hangs)",
            unit: "",
            bounds: Bounds::Exactly(1.0),
            short: None,
            why: "connections wait, and the only thread that accepts does not come",
        },
    ],
    belief: "If the server answers somebody, it is up.",
    mechanism: &[
        "Accepting and reading are separate waits. A thread that does not call accept(2) leaves the accept queue as it \
         is; connections that are accepted do not pass through it any more.",
        "The kernel goes on finishing handshakes until the queue is full. Then SYNs are dropped (lesson `overflow`).",
        "A health check over a connection that is kept open sees nothing of this. One that connects anew does.",
    ],
    try_next: &[
        "Stall it again until the queue is full: how long does that take with a backlog of 1024 and 50 per second?",
        "Add an acceptor during the stall: does it help?",
    ],
    spoiler: Spoiler {
        what: "single_thread instead of acceptor_readers: each request costs the accepting thread 100 ms",
        change: Change::Server("hangs", "acceptor_readers --threads 4", "single_thread --block-us 100000"),
        fails: &["old-fast", "old-served"],
    },
};
