//! One request that blocks an event loop blocks everybody.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// Once a second somebody has the bad luck.
const LOAD: &str = "--rate 100";

pub(crate) const LESSON: Lesson = Lesson {
    name: "event-loop-blocked",
    part: Part::WhoAccepts,
    title: "one slow request in a hundred, and who pays for it",
    question: "One request in a hundred takes 300 ms, because it waits for another service. How many clients notice?",
    prediction: Prediction {
        ask: "100 connections per second, one request each. One in a hundred blocks its thread for 300 ms. How many \
              clients of a server with one event loop wait noticeably?",
        answers: &[
            "One in a hundred: the one who asked",
            "About one in three: all who come while the loop is blocked",
            "All of them: the server cannot keep up",
        ],
        right: 1,
        because: "While the loop is in the blocking call nobody accepts and nobody reads: for 300 ms of every second. \
                  Who comes then waits for the rest of it.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo("event_loop", 7001, "--pattern single_thread --slow-request 100:300"),
            Server::demo("readers", 7002, "--pattern acceptor_readers --threads 4 --slow-request 100:300"),
            Server::demo("thread_each", 7003, "--pattern thread_per_connection --slow-request 100:300"),
        ],
        loads: &[Load::stress("event_loop", LOAD), Load::stress("readers", LOAD), Load::stress("thread_each", LOAD)],
    },
    steps: &[Step {
        name: "load",
        length_ms: 10_000,
        short_ms: 5_000,
        watch: "event_loop: the accept queue fills up for 300 ms of each second. readers: accepts at once, but a quarter \
                of the connections sits with the blocked reader. thread_each: only one client waits.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "everybody-waits",
            what: "response time (p90) of the event loop",
            figure: "load:event_loop:response_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(100.0),
            short: None,
            widened: None,
            why: "three in ten clients come while it is blocked, and wait for up to 300 ms: of all, one in ten waits \
                  200 ms or longer",
        },
        Expectation {
            id: "some-wait",
            what: "response time (p90) with four readers",
            figure: "load:readers:response_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(60.0),
            short: None,
            widened: Some("3 * run:late_us.p99 / 1000"),
            why: "one reader of four is blocked for three tenths of the time: one client in thirteen waits",
        },
        Expectation {
            id: "only-one-waits",
            what: "response time (p90) with a thread for each connection",
            figure: "load:thread_each:response_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(20.0),
            short: None,
            widened: Some("4 * run:late_us.p99 / 1000"),
            why: "nobody shares a thread with the one who asked",
        },
        Expectation {
            id: "before-accept",
            what: "longest accept wait of the event loop",
            figure: "listentop:event_loop:accept_queue.wait_us.max / 1000",
            unit: "ms",
            bounds: Bounds::Between(200.0, 500.0),
            short: None,
            widened: Some("run:late_us.max / 1000"),
            why: "the loop also accepts, so the wait is in front of the program, where its own log does not show it",
        },
        Expectation {
            id: "readers-accept",
            what: "accept wait (p90) with four readers",
            figure: "listentop:readers:accept_queue.wait_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(10.0),
            short: None,
            widened: Some("2 * run:late_us.p99 / 1000"),
            why: "its acceptor never works: its queue is empty while its clients wait for a reader",
        },
    ],
    findings: &["slow_accept", "slow_reader"],
    belief: "An event loop serves thousands of clients at once, so a slow request only delays itself.",
    mechanism: &[
        "An event loop is one thread: epoll_wait tells it what is ready, and it handles one thing after the other. A \
         call that blocks in a handler stops all of them, accept too.",
        "The kernel goes on: it completes handshakes and puts connections on the accept queue until the backlog is \
         full, and bytes into receive queues until the windows are.",
        "Asynchronous calls, threads for what blocks, or several loops keep the damage small. A stopped loop looks idle \
         in top: it sleeps.",
    ],
    try_next: &[
        "`cargo xtask demo async-runtime`: the same mistake in an asynchronous runtime.",
        "Halve the time (`--with 'server:event_loop --slow-request 100:150'`): half as many wait, and half as long, so the harm is a quarter.",
    ],
    spoiler: Spoiler {
        what: "slow requests of 3 ms instead of 300 ms at the event loop",
        change: Change::Server("event_loop", "100:300", "100:3"),
        fails: &["everybody-waits", "before-accept"],
    },
};
