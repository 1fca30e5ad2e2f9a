//! A connection pool that is too small, right, and too large.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// Eight workers of 20 ms: 400 requests per second at most.
const SERVER: &str = "--pattern thread_pool --threads 8 --block-us 20000";

pub(crate) const LESSON: Lesson = Lesson {
    name: "pool",
    part: Part::InBetween,
    title: "a connection pool: too small, right, too large",
    question: "An application keeps a pool of connections to its database. It is slow. Should the pool be larger?",
    prediction: Prediction {
        ask: "A database has eight workers that serve one connection each, 20 ms per request. 20 requests come every \
              100 ms. Three applications have pools of 2, 8 and 32 connections. Which of them gets all its answers \
              soonest?",
        answers: &["The one with 2", "The one with 8", "The one with 32", "They are equal: the database decides"],
        right: 1,
        because: "Two connections carry 100 requests per second, and 200 come. Of 32 connections eight have a worker; a \
                  request on one of the others waits until one of these connections is closed.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo("small", 7001, SERVER),
            Server::demo("right", 7002, SERVER),
            Server::demo("large", 7003, SERVER),
        ],
        loads: &[
            Load::stress("small", "--burst 20:100 --pool 2 --timeout-ms 1000"),
            Load::stress("right", "--burst 20:100 --pool 8 --timeout-ms 1000"),
            Load::stress("large", "--burst 20:100 --pool 32 --timeout-ms 1000"),
        ],
    },
    steps: &[Step {
        name: "load",
        length_ms: 8_000,
        short_ms: 4_000,
        watch: "small: the server is nearly idle, its clients wait for a connection of their own pool. large: connections \
                that are accepted and not read, until their clients give up.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "small-waits",
            what: "time that a request waits for a connection of the pool of 2 (p50)",
            figure: "load:small:pool.wait_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(500.0),
            short: Some(Bounds::AtLeast(300.0)),
            widened: None,
            why: "twice as many come as two connections carry: the queue in the application grows all the time",
        },
        Expectation {
            id: "small-idle",
            what: "answer time (p50) of the small pool's server, as the kernel sees it",
            figure: "listentop:small:connections.answer_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(40.0),
            short: None,
            widened: Some("2 * run:late_us.p90 / 1000"),
            why: "20 ms of work: the server knows nothing of the wait",
        },
        Expectation {
            id: "right",
            what: "response time (p99) with a pool of 8, the wait for a connection included",
            figure: "load:right:response_us.p99 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(120.0),
            short: None,
            widened: Some("9 * run:late_us.p99 / 1000"),
            why: "20 requests in three rounds of 20 ms. In each of them client and server must get a CPU",
        },
        Expectation {
            id: "right-no-failure",
            what: "failed requests with a pool of 8",
            figure: "load:right:failures.response.timeout + load:right:failures.response.closed",
            unit: "requests",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "each connection has a worker",
        },
        Expectation {
            id: "large-fails",
            what: "requests that the pool of 32 loses to its time limit",
            figure: "load:large:failures.response.timeout",
            unit: "requests",
            bounds: Bounds::AtLeast(10.0),
            short: None,
            widened: None,
            why: "20 connections are opened by the first 20 requests, and twelve of them have no worker. The limit of \
                  1 s closes them, and the next ones take their place",
        },
        Expectation {
            id: "large-unread",
            what: "longest residency at the large pool's server, and age of its oldest unread byte",
            figure: "(listentop:large:reads.residency_us.max + listentop:large:reads.oldest_unread_us) / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(500.0),
            short: None,
            widened: None,
            why: "requests on connections without a worker have arrived, and nobody reads them. Residency has those \
                  that are read in the end",
        },
    ],
    findings: &["slow_reader"],
    belief: "A larger pool is faster, or at least it does no harm.",
    mechanism: &[
        "A pool is a queue with a bound: requests wait in the application for a connection. Little's law gives its size: \
         requests per second × seconds per request, and some more for bursts. Here 200 × 0.02 = 4.",
        "Connections beyond what the server can work on do not add capacity. They move the wait from the application, \
         where it can be bounded and measured, to the server, where it is in receive queues.",
        "With a worker or process per connection (PostgreSQL, Apache prefork, thread pools) an idle connection also \
         holds a worker, so pools of several applications add up.",
    ],
    try_next: &[
        "Serve the large pool by `--with 'server:large --pattern acceptor_readers'`: threads are not tied to connections, and the \
         large pool does no harm.",
        "`cargo xtask demo slow-client`: who else holds workers.",
    ],
    spoiler: Spoiler {
        what: "8 connections in the small pool",
        change: Change::Load("small", "--pool 2", "--pool 8"),
        fails: &["small-waits"],
    },
};
