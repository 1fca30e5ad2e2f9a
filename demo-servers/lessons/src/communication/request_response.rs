//! A connection for each request, or one for many.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

pub(crate) const LESSON: Lesson = Lesson {
    name: "request-response",
    part: Part::Communication,
    title: "a connection for each request, or one for twenty",
    question: "A client sends 400 requests per second. It may open a connection for each, or keep one open for twenty of \
               them. What does the server notice?",
    prediction: Prediction {
        ask: "The same 400 requests per second come on 400 new connections per second, or on 20. How much CPU time \
              does a request cost the server's process without keep-alive?",
        answers: &[
            "The same: a connection costs the kernel, not the server",
            "Noticeably more: each request also needs an accept, a registration and a close",
            "Less: short connections keep the queues short",
        ],
        right: 1,
        because: "An accept, an epoll_ctl and a close come on top of one read and one write. The handshake takes three \
                  segments and the end of a connection three or four, and every connection passes the accept queue.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo("fresh", 7001, "--pattern single_thread"),
            Server::demo("kept", 7002, "--pattern single_thread"),
        ],
        loads: &[
            Load::stress("fresh", "--rate 400 --requests 1"),
            Load::stress("kept", "--rate 20 --requests 20 --think-ms 10"),
        ],
    },
    steps: &[Step {
        name: "load",
        length_ms: 8_000,
        short_ms: 4_000,
        watch: "Both answer 400 requests per second. fresh accepts 400 connections per second, kept 20. Compare their \
                CPU (Enter, Tab: threads), and where a request may have to wait.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "accepts",
            what: "requests per accepted connection with keep-alive",
            figure: "server:kept:total.requests / server:kept:total.accepts",
            unit: "requests",
            bounds: Bounds::Between(18.0, 20.0),
            short: None,
            widened: None,
            why: "20 each, and fewer of those that the end cuts off",
        },
        Expectation {
            id: "one-each",
            what: "requests per accepted connection without",
            figure: "server:fresh:total.requests / server:fresh:total.accepts",
            unit: "requests",
            bounds: Bounds::Between(0.95, 1.0),
            short: None,
            widened: None,
            why: "one each",
        },
        Expectation {
            id: "price",
            what: "CPU time per request without keep-alive, in units of that with it",
            figure: "server:fresh:total.cpu_us / server:fresh:total.requests \
                     / (server:kept:total.cpu_us / server:kept:total.requests)",
            unit: "times",
            bounds: Bounds::AtLeast(1.3),
            short: None,
            widened: None,
            why: "accept, registration and close beside read and write. What softirqs do for the handshake is charged to \
                  whoever runs then, so it is not all in here",
        },
        Expectation {
            id: "counts",
            what: "bytes that listentop saw fresh read, less the server's own count",
            figure: "listentop:fresh:reads.bytes - server:fresh:total.read_bytes",
            unit: "bytes",
            bounds: Bounds::Between(-12_800.0, 0.0),
            short: None,
            widened: None,
            why: "both count every read. The last requests may be read after listentop's end",
        },
    ],
    findings: &[],
    belief: "Opening a connection is cheap on a local network.",
    mechanism: &[
        "A new connection costs a round trip before the first byte, a request socket, a full socket, a place in the \
         accept queue, a descriptor, and TIME_WAIT on the side that closes first.",
        "Keep-alive saves all of it, and holds a descriptor and some kilobytes of the kernel for as long as the \
         connection lives.",
        "A client that keeps connections open also keeps its server: a new process that comes up behind the same address \
         gets none of them until somebody reconnects.",
    ],
    try_next: &[
        "`cargo xtask demo pool`: how many connections to keep open.",
        "`cargo xtask demo tls`: what a new connection costs with encryption.",
    ],
    spoiler: Spoiler {
        what: "a new connection for each request of the client with keep-alive",
        change: Change::Load("kept", "--rate 20 --requests 20", "--rate 400 --requests 1"),
        fails: &["accepts", "price"],
    },
};
