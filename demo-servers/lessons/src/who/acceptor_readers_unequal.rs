//! Requests of unequal length: readers that own their connections against workers that share a queue.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// 2 ms for most requests, and 100 ms more for one in 50. Four threads are busy for a quarter of the time.
const LOAD: &str = "--rate 60 --arrivals poisson --requests 4 --think-ms 10";

pub(crate) const LESSON: Lesson = Lesson {
    name: "acceptor-readers-unequal",
    part: Part::WhoAccepts,
    title: "a slow request delays its neighbours, or nobody",
    question: "One request in 50 takes 100 ms, the others 2 ms. Why do short ones take 100 ms too, on one server and not on the \
               other?",
    prediction: Prediction {
        ask: "acceptor_readers gives each connection to one of four readers for good. message_balancing reads in one thread and gives \
              each request to the next free one of four workers. Both get the same requests. Where do short requests wait longer?",
        answers: &[
            "acceptor_readers: behind a slow request of another connection of the same reader, though other readers are idle",
            "message_balancing: one thread reads everything",
            "Equally: both have four threads for the work",
        ],
        right: 0,
        because: "A reader that works on a slow request reads none of its other connections. A shared queue gives the next request to \
                  whoever is free.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo(
                "own_readers",
                7001,
                "--pattern acceptor_readers --threads 4 --block-us 2000 --slow-request 50:100",
            ),
            Server::demo(
                "shared_queue",
                7002,
                "--pattern message_balancing --threads 4 --block-us 2000 --slow-request 50:100",
            ),
        ],
        loads: &[Load::stress("own_readers", LOAD), Load::stress("shared_queue", LOAD)],
    },
    steps: &[Step {
        name: "load",
        length_ms: 12_000,
        short_ms: 5_000,
        watch: "own_readers: requests stay unread for up to 100 ms (residency p99) while other readers sleep. shared_queue reads all at \
                once; only the slow ones are slow.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "own-residency",
            what: "own_readers: residency (p99), the time that a request waits unread",
            figure: "listentop:own_readers:reads.residency_us.p99 / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(30.0),
            short: Some(Bounds::AtLeast(20.0)),
            widened: None,
            why: "behind a request of 100 ms of another connection",
        },
        Expectation {
            id: "shared-residency",
            what: "shared_queue: residency (p99)",
            figure: "listentop:shared_queue:reads.residency_us.p99 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(20.0),
            short: None,
            widened: Some("2 * run:late_us.p99 / 1000"),
            why: "the dispatcher only reads",
        },
        Expectation {
            id: "short-requests",
            what: "answer time (p95) at own_readers, in units of shared_queue's",
            figure: "load:own_readers:response_us.p95 / load:shared_queue:response_us.p95",
            unit: "times",
            bounds: Bounds::AtLeast(3.0),
            short: Some(Bounds::AtLeast(2.0)),
            widened: None,
            why: "one request in 50 is slow, and about one in eight waits behind such a one; 5 % lie between the two",
        },
        Expectation {
            id: "same-answers",
            what: "answers of both servers, one in percent of the other",
            figure: "100 * load:own_readers:responses / load:shared_queue:responses",
            unit: "%",
            bounds: Bounds::Between(97.0, 103.0),
            short: None,
            widened: None,
            why: "the same clients at the same times; a few may be under way at the end",
        },
    ],
    findings: &[],
    belief: "Four threads are four threads: it does not matter how the work is given to them.",
    mechanism: &[
        "A connection that belongs to one thread waits for this thread, whatever the others do. The kernel does not move it.",
        "A shared queue keeps every thread busy while there is work (as in a bank with one line). Its price is a hand-over per \
         request, and that answers of one connection can overtake each other if nothing orders them.",
        "listentop shows the first kind as residency: bytes that have arrived and are not read. In the second kind the wait is inside \
         the process, and only the answer time shows it.",
    ],
    try_next: &[
        "`cargo xtask demo event-loop-blocked`: the same with one thread for everything.",
        "Look at the threads of both servers: who reads, who is idle.",
    ],
    spoiler: Spoiler {
        what: "no request is slow",
        change: Change::Server("own_readers", "--slow-request 50:100", ""),
        fails: &["own-residency", "short-requests"],
    },
};
