//! The same echo on tokio and on io_uring, and a call that blocks an asynchronous runtime.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};
use crate::programs::{ECHO, ECHO_LOAD};

const LOAD: &str = "--rate 50 --requests 20";
/// 5 ms of waiting every 4 ms: too much for one after the other.
const WAITING: &str = "--rate 250";

pub(crate) const LESSON: Lesson = Lesson {
    name: "async-runtime",
    part: Part::WhoAccepts,
    title: "one thread on tokio, on io_uring, and blocked",
    question: "An asynchronous server has one thread for everything. What does the kernel see of it, and when does it \
               stop being asynchronous?",
    prediction: Prediction {
        ask: "250 requests per second each wait 5 ms for a database. One server awaits it. The other one calls a \
              library that sleeps. Both have one thread. Which one keeps up?",
        answers: &[
            "Both: tokio runs tasks side by side",
            "Neither: 250 × 5 ms is more than a second",
            "The one that awaits; the other serves 200 per second at most, and its clients queue",
        ],
        right: 2,
        because: "A task that awaits gives the thread back. A call that sleeps takes it along, and with it every other \
                  task, the one that accepts too. 1 s ÷ 5 ms is 200 requests.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::of(ECHO, "tokio", 7001, "--protocol raw"),
            Server::of(ECHO, "io_uring", 7002, "--protocol raw --engine io_uring"),
            Server::of(ECHO, "awaits", 7003, "--protocol raw --wait-us 5000"),
            Server::of(ECHO, "sleeps", 7004, "--protocol raw --block-us 5000"),
        ],
        loads: &[
            Load::of(ECHO_LOAD, "tokio", LOAD),
            Load::of(ECHO_LOAD, "io_uring", LOAD),
            Load::of(ECHO_LOAD, "awaits", WAITING),
            Load::of(ECHO_LOAD, "sleeps", WAITING),
        ],
    },
    steps: &[Step {
        name: "load",
        length_ms: 10_000,
        short_ms: 5_000,
        watch: "tokio and io_uring: one thread that accepts, reads and writes, the same counts. awaits: no wait at all. \
                sleeps: accept wait and residency grow, although its thread sleeps.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "same-work",
            what: "requests that io_uring answered, in units of tokio's",
            figure: "server:io_uring:total.requests / server:tokio:total.requests",
            unit: "times",
            bounds: Bounds::Between(0.97, 1.03),
            short: None,
            widened: None,
            why: "the same load. The last requests may be cut off by the end",
        },
        Expectation {
            id: "calls",
            what: "system calls of io_uring per request",
            figure: "server:io_uring:more.ring_calls / server:io_uring:total.requests",
            unit: "calls",
            bounds: Bounds::AtMost(2.5),
            short: None,
            widened: None,
            why: "one call submits what is to be sent and waits for what comes. epoll takes epoll_wait, read and write: \
                  three. Where much comes at once, a call brings several",
        },
        Expectation {
            id: "seen",
            what: "reads of io_uring that listentop counts, in units of the server's own count",
            figure: "listentop:io_uring:reads.count / server:io_uring:total.reads",
            unit: "times",
            bounds: Bounds::Between(0.97, 1.03),
            short: None,
            widened: None,
            why: "no thread calls read, but the kernel receives for it, and that is where listentop looks. The last reads \
                  may come after listentop's",
        },
        Expectation {
            id: "awaits",
            what: "response time (p50) of the server that awaits",
            figure: "load:awaits:response_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::Between(5.0, 20.0),
            short: None,
            widened: Some("4 * run:late_us.p90 / 1000"),
            why: "the 5 ms of the wait. Client and server must each get a CPU twice",
        },
        Expectation {
            id: "sleeps",
            what: "time to the first response (p90) of the server that sleeps",
            figure: "load:sleeps:first_response_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(200.0),
            short: None,
            widened: None,
            why: "50 requests too many per second: each second adds 250 ms to the queue",
        },
        Expectation {
            id: "capacity",
            what: "requests per second of the server that sleeps",
            figure: "load:sleeps:completed / load:sleeps:seconds",
            unit: "per second",
            bounds: Bounds::AtMost(201.0),
            short: None,
            widened: None,
            why: "1 s ÷ 5 ms",
        },
    ],
    findings: &["slow_accept", "slow_reader"],
    belief: "An asynchronous server cannot be blocked.",
    mechanism: &[
        "tokio's thread waits in epoll_wait for what is ready, then reads and writes by ordinary calls. io_uring is told \
         in advance what to accept and to receive, and finds the results in shared memory.",
        "A multishot accept or receive is submitted once and goes on bringing results. Buffers come from a group that \
         the kernel takes from.",
        "Neither knows what a handler does. A handler that sleeps, computes or locks for long holds up every connection \
         of its thread; spawn_blocking and a pool of threads are for these.",
    ],
    try_next: &[
        "Give the one that sleeps more threads (`--with 'server:sleeps --threads 4'`): four times as much, by four blocked threads.",
        "`cargo xtask demo event-loop-blocked`: the same without a runtime.",
    ],
    spoiler: Spoiler {
        what: "a server that awaits in the place of the one that sleeps",
        change: Change::Server("sleeps", "--block-us 5000", "--wait-us 5000"),
        fails: &["sleeps", "capacity"],
    },
};
