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
            what: "depth of the accept queue at the end of the stall, of the new clients that connected",
            figure: "100 * listentop:hangs:accept_queue.depth@hangs / load:new_clients:established@hangs",
            unit: "%",
            bounds: Bounds::Between(90.0, 105.0),
            short: None,
            widened: None,
            why: "all new clients wait, 50 more every second. A client or two may connect while the figures are read",
        },
        Expectation {
            id: "nothing-accepted",
            what: "connections that were accepted during the stall",
            figure: "server:hangs:total.accepts@hangs - server:hangs:total.accepts@well",
            unit: "connections",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "only this thread accepts",
        },
        Expectation {
            id: "old-served",
            what: "requests per second of old clients during the stall, in units of those before",
            figure: "(load:old_clients:responses@hangs - load:old_clients:responses@well) \
                     / (run:seconds@hangs - run:seconds@well) \
                     / (load:old_clients:responses@well / run:seconds@well)",
            unit: "times",
            bounds: Bounds::AtLeast(0.6),
            short: None,
            widened: None,
            why: "10 clients with a request every 20 ms or a little more make up to 500 per second, before and during the stall. Other work on the machine comes and goes",
        },
        Expectation {
            id: "old-fast",
            what: "answer time (p99) of old clients, over the whole time",
            figure: "load:old_clients:response_us.p99 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(50.0),
            short: None,
            widened: Some("3 * run:late_us.p99 / 1000"),
            why: "readers do not wait for the acceptor",
        },
        Expectation {
            id: "new-connect",
            what: "time that connect() takes (p99) for new clients",
            figure: "load:new_clients:connect_us.p99 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(50.0),
            short: None,
            widened: Some("3 * run:late_us.p99 / 1000"),
            why: "the kernel finishes the handshake alone",
        },
        Expectation {
            id: "new-wait",
            what: "longest accept wait, in units of the stall",
            figure: "listentop:hangs:accept_queue.wait_us.max / 1000000 / (run:seconds@hangs - run:seconds@well)",
            unit: "times",
            bounds: Bounds::Between(0.9, 1.2),
            short: Some(Bounds::Between(0.8, 1.4)),
            widened: None,
            why: "the first new connection waits for the whole stall. listentop's longest wait may be up to 1/8 too \
                  long",
        },
        Expectation {
            id: "finding",
            what: "listentop names the cause during the stall: hung_acceptor",
            figure: "count(listentop:hangs:findings[hung_acceptor]@hangs)",
            unit: "",
            bounds: Bounds::Exactly(1.0),
            short: None,
            widened: None,
            why: "connections wait, and the only thread that accepts does not come",
        },
    ],
    findings: &["slow_accept"],
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
        fails: &["old-fast"],
    },
};
