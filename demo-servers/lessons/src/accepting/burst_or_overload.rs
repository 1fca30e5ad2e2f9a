//! A burst that a larger backlog holds, and an overload that none does.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// 40 connections at once every 2 s: 20 per second on average.
const BURSTS: &str = "--burst 40:2000 --connect-timeout-ms 3500";
/// Twice as many as the server can accept.
const OVERLOAD: &str = "--rate 200 --connect-timeout-ms 3500 --max-open 3000";

pub(crate) const LESSON: Lesson = Lesson {
    name: "burst-or-overload",
    part: Part::Accepting,
    title: "a larger backlog: a cure for bursts, poison for overload",
    question: "Connections are refused because the accept queue is full. Does a larger backlog help?",
    prediction: Prediction {
        ask: "Servers that can accept 100 connections per second get 40 at once every 2 s (bursts), or 200 per second \
              all the time (overload). Of each sort one has a backlog of 8 and one a backlog of 128. Who gains by the \
              larger backlog?",
        answers: &[
            "Both: fewer connections are refused",
            "Only the one with bursts. The other goes on refusing, and everybody waits longer",
            "Neither: the backlog does not matter",
        ],
        right: 1,
        because: "A burst of 40 fits into a backlog of 128 and is served within 0.4 s. An overload fills any queue; \
                  then each connection waits for the 128 before it, which takes 1.3 s instead of 0.1 s.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo("burst_8", 7001, "--pattern single_thread --backlog 8 --accept-delay-us 10000"),
            Server::demo("burst_128", 7002, "--pattern single_thread --backlog 128 --accept-delay-us 10000"),
            Server::demo("overload_8", 7003, "--pattern single_thread --backlog 8 --accept-delay-us 10000"),
            Server::demo("overload_128", 7004, "--pattern single_thread --backlog 128 --accept-delay-us 10000"),
        ],
        loads: &[
            Load::stress("burst_8", BURSTS),
            Load::stress("burst_128", BURSTS),
            Load::stress("overload_8", OVERLOAD),
            Load::stress("overload_128", OVERLOAD),
        ],
    },
    steps: &[Step {
        name: "load",
        length_ms: 12_000,
        short_ms: 4_500,
        watch: "burst_128 refuses nothing; burst_8 refuses most of each burst. overload_8 and overload_128 both refuse; \
                the larger queue only makes the wait longer.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "burst-small",
            what: "bursts: attempts that the backlog of 8 refuses",
            figure: "listentop:burst_8:drops.total",
            unit: "attempts",
            bounds: Bounds::AtLeast(50.0),
            short: Some(Bounds::AtLeast(25.0)),
            widened: None,
            why: "9 of 40 fit at once; the others are refused and come back together after 1 s",
        },
        Expectation {
            id: "burst-large",
            what: "bursts: attempts that the backlog of 128 refuses",
            figure: "listentop:burst_128:drops.total",
            unit: "attempts",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "40 connections fit into 129 places, and are gone before the next 40 come",
        },
        Expectation {
            id: "needed",
            what: "bursts: the backlog that they need, as listentop says",
            figure: "listentop:burst_8:accept_queue.backlog_needed",
            unit: "connections",
            bounds: Bounds::Between(16.0, 64.0),
            short: None,
            widened: None,
            why: "what waits and what is refused of one burst of 40. It is more where a client is refused twice, and \
                  less where a busy machine stretches the burst",
        },
        Expectation {
            id: "overload-small",
            what: "overload: attempts that the backlog of 8 refuses",
            figure: "listentop:overload_8:drops.total",
            unit: "attempts",
            bounds: Bounds::AtLeast(500.0),
            short: Some(Bounds::AtLeast(150.0)),
            widened: None,
            why: "100 of 200 per second do not fit, and come back",
        },
        Expectation {
            id: "overload-large",
            what: "overload: attempts that the backlog of 128 refuses",
            figure: "listentop:overload_128:drops.total",
            unit: "attempts",
            bounds: Bounds::AtLeast(300.0),
            short: Some(Bounds::AtLeast(50.0)),
            widened: None,
            why: "100 too many per second fill 129 places in 1.3 s. After that it refuses as the other does",
        },
        Expectation {
            id: "wait-small",
            what: "overload: accept wait (p90) with the backlog of 8",
            figure: "listentop:overload_8:accept_queue.wait_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(200.0),
            short: None,
            widened: Some("9 * run:late_us.p90 / 1000"),
            why: "9 × 10 ms are 90 ms, and the server sleeps that often",
        },
        Expectation {
            id: "wait-large",
            what: "overload: accept wait (p90) with the backlog of 128",
            figure: "listentop:overload_128:accept_queue.wait_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::Between(1_000.0, 3_000.0),
            short: None,
            widened: Some("129 * run:late_us.p90 / 1000"),
            why: "129 × 10 ms are 1.3 s, and the server sleeps that often",
        },
    ],
    findings: &[
        "accept_queue_overflow",
        "backlog_small",
        "busy_acceptor",
        "refused_unexplained",
        "slow_accept",
        "syn_queue_overflow",
    ],
    belief: "Refused connections mean that the backlog is too small.",
    mechanism: &[
        "A queue evens out what comes unevenly. It adds no capacity: what comes in must go out at the same rate in the \
         long run.",
        "Where more comes than goes out, any queue is full after a while. Its length then decides only how long the \
         connections in it wait: length ÷ rate.",
        "listentop distinguishes the two by time: if it refuses for more than a second, that is no burst, and \
         listentop names no backlog.",
    ],
    try_next: &[
        "Turn the load of the overload down until it fits, and watch how long the queue takes to empty.",
        "Change the backlog of overload_8 while it runs.",
    ],
    spoiler: Spoiler {
        what: "a backlog of 16 instead of 128 for the bursts",
        change: Change::Server("burst_128", "--backlog 128", "--backlog 16"),
        fails: &["burst-large"],
    },
};
