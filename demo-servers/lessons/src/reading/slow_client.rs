//! Clients that read slowly keep a response in the server's send queue, and somebody who waits for it.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// Half a megabyte, of which slow clients take a tenth every 200 ms.
const LOAD: &str = "--rate 10 --response-bytes 500000 --slow-readers 40 --slow-ms 200 --receive-buffer 16384 \
                    --timeout-ms 30000";

pub(crate) const LESSON: Lesson = Lesson {
    name: "slow-client",
    part: Part::ReadingAndSending,
    title: "clients that read slowly, and who waits for them",
    question: "Some clients have a bad line and read slowly. What do they cost the others?",
    prediction: Prediction {
        ask: "Two in five clients take two seconds to read their response. One server has four workers that serve one \
              connection each, one has a single thread with an event loop. The other clients of which server must \
              wait?",
        answers: &[
            "Those of the event loop: it has one thread only",
            "Those of the four workers: they are busy with the slow clients",
            "Those of neither: the kernel sends the rest by itself",
        ],
        right: 1,
        because: "The send queue takes some of the response, and then the worker waits until the client has read. Four \
                  slow clients hold four workers. The event loop asks epoll when there is room, and serves others in \
                  the meantime.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo(
                "workers",
                7001,
                "--pattern thread_pool --threads 4 --response-bytes 500000 --send-buffer 16384",
            ),
            Server::demo("event_loop", 7002, "--pattern single_thread --response-bytes 500000 --send-buffer 16384"),
        ],
        loads: &[Load::stress("workers", LOAD), Load::stress("event_loop", LOAD)],
    },
    steps: &[Step {
        name: "load",
        length_ms: 12_000,
        short_ms: 7_000,
        watch: "workers: requests wait unread (residency), although the CPU is idle: four threads wait for slow clients. \
                event_loop: no wait, and many more open connections than threads.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "others-wait",
            what: "time to the first response (p90) of ordinary clients with four workers",
            figure: "load:workers:first_response_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(500.0),
            short: None,
            widened: None,
            why: "four slow clients a second, two seconds each, need eight workers. There are four",
        },
        Expectation {
            id: "loop-serves",
            what: "time to the first response (p90) of ordinary clients with the event loop",
            figure: "load:event_loop:first_response_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(300.0),
            short: None,
            widened: Some("20 * run:late_us.p90 / 1000"),
            why: "it writes what fits and goes on. Half a megabyte passes a small buffer in some twenty pieces, of some milliseconds in all",
        },
        Expectation {
            id: "waits-unread",
            what: "residency (p90) with four workers: the time that requests wait unread",
            figure: "listentop:workers:reads.residency_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(400.0),
            short: None,
            widened: None,
            why: "they are accepted at once, and no worker is free to read them",
        },
        Expectation {
            id: "idle",
            what: "CPU time of the four workers, per second",
            figure: "process:workers:cpu_ms / run:seconds",
            unit: "ms",
            bounds: Bounds::AtMost(250.0),
            short: None,
            widened: None,
            why: "they sleep: nothing looks busy",
        },
    ],
    findings: &["hung_reader", "slow_reader"],
    belief: "Writing a response is over when the write call returns, and slow clients only hurt themselves.",
    mechanism: &[
        "A write copies bytes into the send queue, which SO_SNDBUF and tcp_wmem bound. They stay there until the client \
         has acknowledged them, because they may have to be sent again.",
        "When it is full, a blocking write sleeps and a non-blocking one fails with EAGAIN. EPOLLOUT tells when there is \
         room again.",
        "That is why slow clients belong behind a proxy with an event loop: it takes the response at once, and the \
         worker is free.",
    ],
    try_next: &[
        "Give the workers a larger send buffer (`--with 'server:workers --send-buffer 1000000'`): the kernel keeps the whole response, but the \
         worker stays with its connection until the client closes. Keep-alive holds it too.",
        "`cargo xtask demo proxy`: somebody else waits for the slow clients.",
    ],
    spoiler: Spoiler {
        what: "four event loops instead of four workers with a connection each",
        change: Change::Server("workers", "--pattern thread_pool", "--pattern acceptor_readers"),
        fails: &["others-wait", "waits-unread"],
    },
};
