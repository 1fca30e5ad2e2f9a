//! Clients that try again keep a server down that has recovered.

use crate::format::{Act, Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// 50 requests per second at most. A backlog that holds everything, so that nothing is refused.
const SERVER: &str = "--pattern single_thread --block-us 20000 --backlog 4000";

pub(crate) const LESSON: Lesson = Lesson {
    name: "retry-storm",
    part: Part::InBetween,
    title: "clients that try again, and a server that stays down",
    question: "A server stops for two seconds and goes on. It can do more than twice what is asked of it. Why do its clients still \
               get nothing?",
    prediction: Prediction {
        ask: "20 requests per second come, and the server does 50. It stops for two seconds. Clients give up after 500 \
              ms. One group goes away, the other one tries again at once, up to three times. When are both served \
              again?",
        answers: &[
            "Both within a few seconds: there is capacity for more than twice the load",
            "Those who go away within a few seconds; those who try again, not as long as they do so",
            "Those who try again are served first",
        ],
        right: 1,
        because: "What has queued in two seconds is older than 500 ms when its turn comes: the server works for clients \
                  who have gone. Four attempts for each request make 80 per second, and the server does 50: the queue \
                  never gets short enough.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[Server::demo("gives_up", 7001, SERVER), Server::demo("retries", 7002, SERVER)],
        loads: &[
            Load::stress("gives_up", "--rate 20 --timeout-ms 500 --connect-timeout-ms 500").for_steps(3),
            Load::stress("retries", "--rate 20 --timeout-ms 500 --connect-timeout-ms 500 --retries 3").for_steps(3),
        ],
    },
    steps: &[
        Step {
            name: "calm",
            length_ms: 3_000,
            short_ms: 1_000,
            watch: "Less than half of the capacity is used. Nobody waits.",
            acts: &[],
        },
        Step {
            name: "stopped",
            length_ms: 2_000,
            short_ms: 2_000,
            watch: "Both servers accept nothing. Connections queue; their clients give up after 500 ms. Those of retries \
                    come back at once.",
            acts: &[Act::Stall("gives_up"), Act::Stall("retries")],
        },
        Step {
            name: "recovered",
            length_ms: 12_000,
            short_ms: 5_000,
            watch: "Both go on. gives_up: dead clients are taken off, and all is well. retries: accepts for clients that \
                    have gone (dead on accept), and an accept queue that stays.",
            acts: &[Act::Release("gives_up"), Act::Release("retries")],
        },
    ],
    expectations: &[
        Expectation {
            id: "recovers",
            what: "requests that are answered, of those that give up",
            figure: "100 * load:gives_up:completed / load:gives_up:due",
            unit: "%",
            bounds: Bounds::AtLeast(45.0),
            short: Some(Bounds::AtLeast(25.0)),
            widened: None,
            why: "all but those of the stop and of the seconds in which the old queue is worked off",
        },
        Expectation {
            id: "stays-down",
            what: "requests that are answered with retries, in units of those that are without",
            figure: "load:retries:completed / load:gives_up:completed",
            unit: "times",
            bounds: Bounds::AtMost(0.8),
            short: Some(Bounds::AtMost(0.9)),
            widened: None,
            why: "only those before the stop, and a few lucky ones",
        },
        Expectation {
            id: "dead-on-accept",
            what: "accepts for clients that had gone, with retries",
            figure: "100 * listentop:retries:accepts.client_gone.share",
            unit: "%",
            bounds: Bounds::AtLeast(55.0),
            short: None,
            widened: None,
            why: "who has waited longer than 500 ms has gone",
        },
        Expectation {
            id: "work-for-nobody",
            what: "requests that the server worked on per answered request, with retries",
            figure: "server:retries:total.requests / load:retries:completed",
            unit: "requests",
            bounds: Bounds::AtLeast(1.8),
            short: Some(Bounds::AtLeast(1.4)),
            widened: None,
            why: "it does the work of attempts whose clients have gone, and each attempt counts. If the request is an \
                  order, it is ordered again: retries need idempotent requests",
        },
        Expectation {
            id: "more-load",
            what: "attempts per request, with retries",
            figure: "load:retries:started / load:retries:due",
            unit: "attempts",
            bounds: Bounds::AtLeast(1.8),
            short: Some(Bounds::AtLeast(1.6)),
            widened: None,
            why: "up to four each, from the stop on",
        },
    ],
    findings: &["acceptor_paused", "busy_acceptor", "dead_on_accept", "slow_accept"],
    belief: "Trying again makes a service more reliable.",
    mechanism: &[
        "A client that gives up closes its connection, but the connection stays in the accept queue with its request, \
         and a FIN or reset behind it. accept returns it, and the server works for nobody.",
        "An overload that feeds itself is called metastable: its cause is gone, but the retries keep the queue so long \
         that every request times out, which makes the retries.",
        "What helps: fewer retries than requests (a retry budget), a short queue that refuses early, and servers that \
         look whether the client is still there before they work. Pauses help if they are long enough to bring the \
         attempts per second below what the server can do, and random, so that clients do not come back all at once.",
    ],
    try_next: &[
        "Let the clients wait longer before each attempt (`--with 'load:retries --retry-after-ms 2000 --backoff'`): it \
         recovers. Those who gave up during the stop come back over some 14 seconds, and the server has capacity to spare \
         for them.",
        "A short queue (`--with 'server:retries --backlog 8'`): who is refused costs nothing, and nearly all are served.",
    ],
    spoiler: Spoiler {
        what: "clients that never try again",
        change: Change::Load("retries", "--retries 3", "--retries 0"),
        fails: &["stays-down", "more-load"],
    },
};
