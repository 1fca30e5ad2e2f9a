//! The same wait in three places: in the accept queue, in the receive queue, inside the process.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// 20 at once, of 9 ms each: 180 ms of work, so the median client waits some 90 ms.
const LOAD: &str = "--burst 20:500";

pub(crate) const LESSON: Lesson = Lesson {
    name: "eager-acceptor",
    part: Part::ReadingAndSending,
    title: "an empty accept queue, and the delay is elsewhere",
    question: "A server was slow, and its accept queue was full. Now it accepts everybody at once, and the queue is \
               always empty. Is it faster?",
    prediction: Prediction {
        ask: "20 clients come at the same time, and each costs 9 ms of the only worker. One server accepts when it has \
              time. One accepts at once and queues connections. One also reads at once and queues requests. Which \
              clients are answered first?",
        answers: &[
            "Those of the server that accepts and reads at once",
            "Those of the server that accepts when it has time",
            "There is no difference",
        ],
        right: 2,
        because: "The work is 20 × 9 ms in each of them. Accepting early only moves the wait: out of the accept queue, \
                  into the receive queue, or into the memory of the process, where the kernel does not see it.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            // The pause lets a request come before the next accept. Without it the thread may accept all 20 before
            // their clients have sent anything.
            Server::demo("when_it_can", 7001, "--pattern single_thread --accept-delay-us 500 --block-us 9000"),
            Server::demo("queues_conns", 7002, "--pattern thread_pool --threads 1 --block-us 9000"),
            Server::demo("queues_requests", 7003, "--pattern message_balancing --threads 1 --block-us 9000"),
        ],
        loads: &[
            Load::stress("when_it_can", LOAD),
            Load::stress("queues_conns", LOAD),
            Load::stress("queues_requests", LOAD),
        ],
    },
    steps: &[Step {
        name: "bursts",
        length_ms: 10_000,
        short_ms: 4_000,
        watch: "The same bursts. when_it_can: accept wait. queues_conns: no accept wait, but residency. \
                queues_requests: neither; only the answer time (Enter) is long.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "no-faster",
            what: "time to the first response (p50) of queues_requests, in units of when_it_can's",
            figure: "load:queues_requests:first_response_us.p50 / load:when_it_can:first_response_us.p50",
            unit: "times",
            bounds: Bounds::Between(0.4, 1.6),
            short: None,
            widened: None,
            why: "the same worker does the same work in the same order. when_it_can sleeps twice for each client, so \
                  busy CPUs slow it more",
        },
        Expectation {
            id: "in-accept-queue",
            what: "accept wait (p50) of when_it_can",
            figure: "listentop:when_it_can:accept_queue.wait_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(40.0),
            short: None,
            widened: None,
            why: "half of 20 clients are served before: 90 ms",
        },
        Expectation {
            id: "left-accept-queue",
            what: "accept wait (p50) of queues_requests",
            figure: "listentop:queues_requests:accept_queue.wait_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(10.0),
            short: None,
            widened: Some("2 * run:late_us.p99 / 1000"),
            why: "its thread does nothing but accept and read. 20 connections take it some milliseconds at most",
        },
        Expectation {
            id: "in-receive-queue",
            what: "residency (p50) of queues_conns: the time that requests wait unread",
            figure: "listentop:queues_conns:reads.residency_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(40.0),
            short: None,
            widened: None,
            why: "they are in accepted connections that no worker has taken yet",
        },
        Expectation {
            id: "inside",
            what: "answer time (p50) of queues_requests: arrival to the first byte of the response",
            figure: "listentop:queues_requests:connections.answer_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(40.0),
            short: None,
            widened: None,
            why: "the wait inside the process ends with the write. This figure is the only one that has it",
        },
        Expectation {
            id: "not-unread",
            what: "residency (p50) of queues_requests",
            figure: "listentop:queues_requests:reads.residency_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(10.0),
            short: None,
            widened: Some("2 * run:late_us.p99 / 1000"),
            why: "they are read at once",
        },
    ],
    findings: &["slow_accept", "slow_reader"],
    belief: "An empty accept queue means that the server keeps up.",
    mechanism: &[
        "The kernel has two queues in front of a program: connections that nobody has accepted, and bytes that nobody \
         has read. What the program takes out of both waits in a queue of its own.",
        "Waiting in the accept queue has merits: it is bounded by the backlog, it can be seen from outside, and a client \
         that gives up costs little. A queue in memory has no bound unless the program sets one.",
        "The sum of the waits is the same. So judge a server by the time until the answer, not by the queue that it \
         keeps empty.",
    ],
    try_next: &[
        "Compare the three servers' columns: accept wait, residency, answer.",
        "Give queues_requests two workers (`--with 'server:queues_requests --threads 2'`): now it is faster.",
    ],
    spoiler: Spoiler {
        what: "8 workers instead of one at queues_requests",
        change: Change::Server("queues_requests", "--threads 1", "--threads 8"),
        fails: &["no-faster", "inside"],
    },
};
