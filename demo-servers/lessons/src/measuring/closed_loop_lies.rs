//! The same overload by a closed and by an open loop.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// 10 ms per request: 100 per second at most.
const SERVER: &str = "--pattern single_thread --backlog 4096 --block-us 10000";

pub(crate) const LESSON: Lesson = Lesson {
    name: "closed-loop-lies",
    part: Part::Measuring,
    title: "a benchmark that waits for the server sees no overload",
    question: "The benchmark says 50 ms at full load. In production clients wait for seconds. Who is right?",
    prediction: Prediction {
        ask: "A server can serve 100 requests per second. One generator has 5 users, each of whom asks again when the answer has \
              come (closed loop). The other sends 130 per second, whatever happens (open loop). What do they report after some \
              seconds?",
        answers: &[
            "About the same: the server is full in both cases",
            "The closed loop reports some 50 ms for ever; in the open loop the time grows as long as the load lasts",
            "The closed loop reports longer times, because its users compete",
        ],
        right: 1,
        because: "Five users can have five requests waiting, no more: 5 × 10 ms. In the open loop 30 per second are left over, and \
                  each second adds 0.3 s to the wait.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[Server::demo("closed", 7001, SERVER), Server::demo("open", 7002, SERVER)],
        loads: &[
            Load::stress("closed", "--closed 5 --timeout-ms 60000"),
            Load::stress("open", "--rate 130 --timeout-ms 60000"),
        ],
    },
    steps: &[
        Step {
            name: "first",
            length_ms: 5_000,
            short_ms: 2_000,
            watch: "Both servers are busy all the time. closed: the accept queue holds 5 at most. open: the depth grows by 30 per \
                    second.",
            acts: &[],
        },
        Step {
            name: "later",
            length_ms: 5_000,
            short_ms: 2_000,
            watch: "closed reports what it reported before. The clients of open wait twice as long as a while ago.",
            acts: &[],
        },
    ],
    expectations: &[
        Expectation {
            id: "closed-time",
            what: "closed loop: time until the answer (p99), from the connect on",
            figure: "load:closed:first_response_us.p99 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(100.0),
            short: None,
            widened: Some("15 * run:late_us.p99 / 1000"),
            why: "5 requests of 10 ms each. For each of them the server must get a CPU twice, the client once",
        },
        Expectation {
            id: "open-time",
            what: "open loop: time until the answer (p99), from the intended start on",
            figure: "load:open:first_response_us.p99 / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(500.0),
            short: Some(Bounds::AtLeast(250.0)),
            widened: None,
            why: "30 of 130 per second are left over; the last of them wait for all before them",
        },
        Expectation {
            id: "open-grows",
            what: "open loop: time until the answer (p90) at the end, in units of that after the first step",
            figure: "load:open:first_response_us.p90 / load:open:first_response_us.p90@first",
            unit: "times",
            bounds: Bounds::AtLeast(1.3),
            short: None,
            widened: None,
            why: "it is twice as long after twice the time",
        },
        Expectation {
            id: "closed-steady",
            what: "closed loop: time until the answer (p50) at the end, in units of that after the first step",
            figure: "load:closed:first_response_us.p50 / load:closed:first_response_us.p50@first",
            unit: "times",
            bounds: Bounds::Between(0.7, 1.4),
            short: None,
            widened: Some("15 * (run:late_us.p90 - run:late_us.p90@first) / load:closed:first_response_us.p50@first"),
            why: "a closed loop cannot get further than its users",
        },
        Expectation {
            id: "depth",
            what: "largest depth of the accept queue in the open loop, in units of that in the closed loop",
            figure: "listentop:open:accept_queue.peak / listentop:closed:accept_queue.peak",
            unit: "times",
            bounds: Bounds::AtLeast(3.0),
            short: None,
            widened: None,
            why: "closed: never more than 5. open: 30 more per second",
        },
        Expectation {
            id: "same-work",
            what: "requests that the server of the open loop served, of those of the closed loop",
            figure: "100 * server:open:total.requests / server:closed:total.requests",
            unit: "%",
            bounds: Bounds::AtLeast(80.0),
            short: None,
            widened: None,
            why: "open is busy all the time, and at the end it still serves what is left over. closed is busy too, but when its users get a CPU late it gets fewer requests",
        },
    ],
    findings: &["busy_acceptor", "slow_accept"],
    belief: "A load test at full load shows what users feel at full load.",
    mechanism: &[
        "In a closed loop the server sets the pace: whoever waits sends nothing. Real users do not know of each other; they arrive, \
         however slow the server is.",
        "A closed loop also leaves out what it did not send: while an answer takes 1 s, all the requests that would have come in that \
         second are missing from the statistics (coordinated omission).",
        "`stress` counts from the intended start, so its own delay is part of the result.",
    ],
    try_next: &[
        "Load down to 75 %: open is at 98 per second then. Watch its queue.",
        "`storm` is a closed loop on purpose: for throughput it is the right tool, for waits it is not.",
    ],
    spoiler: Spoiler {
        what: "60 instead of 130 per second in the open loop",
        change: Change::Load("open", "--rate 130", "--rate 60"),
        fails: &["open-time", "depth"],
    },
};
