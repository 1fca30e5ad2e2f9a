//! Two small writes, one answer, 40 ms: Nagle's algorithm meets the delayed ACK.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

pub(crate) const LESSON: Lesson = Lesson {
    name: "nagle",
    part: Part::ReadingAndSending,
    title: "two small writes, and 40 ms that nobody spends",
    question: "A request of 64 bytes takes 40 ms on a machine that has nothing to do. Client and server each say that it \
               was the other one. Who is right?",
    prediction: Prediction {
        ask: "A client writes its request in two pieces of 32 bytes, and the server answers at once when it has both. \
              How long does that take on loopback?",
        answers: &[
            "Less than a millisecond: both pieces are sent at once",
            "40 ms: the second piece is not sent before the first one's ACK, and the server delays that",
            "1 s: the second piece is lost and sent again",
        ],
        right: 1,
        because: "Nagle's algorithm holds back a small segment while another one is not acknowledged. The server's \
                  kernel waits 40 ms before it sends an ACK alone, in the hope of an answer to send it with. Each waits \
                  for the other.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo("default", 7001, "--pattern single_thread"),
            Server::demo("nodelay", 7002, "--pattern single_thread"),
            Server::demo("one_write", 7003, "--pattern single_thread"),
        ],
        loads: &[
            Load::stress("default", "--rate 10 --requests 20 --think-ms 10 --pieces 2"),
            Load::stress("nodelay", "--rate 10 --requests 20 --think-ms 10 --pieces 2 --nodelay"),
            Load::stress("one_write", "--rate 10 --requests 20 --think-ms 10"),
        ],
    },
    steps: &[Step {
        name: "load",
        length_ms: 8_000,
        short_ms: 4_000,
        watch: "Three clients, the same servers. default: an answer time (Enter) of 40 ms, of which no thread knows. \
                nodelay and one_write: none of it.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "forty",
            what: "response time (p50) with two writes",
            figure: "load:default:response_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::Between(38.0, 60.0),
            short: None,
            widened: Some("4 * run:late_us.p90 / 1000"),
            why: "the delayed ACK's timer is 40 ms (TCP_DELACK_MIN), and fires a little later",
        },
        Expectation {
            id: "server-sees-it",
            what: "answer time (p50) with two writes, from the first byte on",
            figure: "listentop:default:connections.answer_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::Between(36.0, 60.0),
            short: None,
            widened: Some("2 * run:late_us.p90 / 1000"),
            why: "the first piece is there for 40 ms. The server has read it and waits for the rest",
        },
        Expectation {
            id: "nodelay",
            what: "response time (p50) with two writes and TCP_NODELAY",
            figure: "load:nodelay:response_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(10.0),
            short: None,
            widened: Some("4 * run:late_us.p90 / 1000"),
            why: "the second piece follows the first one at once",
        },
        Expectation {
            id: "one-write",
            what: "response time (p50) with one write",
            figure: "load:one_write:response_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(10.0),
            short: None,
            widened: Some("4 * run:late_us.p90 / 1000"),
            why: "there is no second segment to hold back",
        },
        Expectation {
            id: "delayed-acks",
            what: "delayed ACKs per request with two writes",
            figure: "kernel:TcpExtDelayedACKs / load:default:requests",
            unit: "ACKs",
            bounds: Bounds::AtLeast(0.5),
            short: None,
            widened: None,
            why: "one for each first piece, except at the beginning of a connection, where the kernel acknowledges at \
                  once",
        },
    ],
    findings: &[],
    belief: "TCP sends what a program writes.",
    mechanism: &[
        "Nagle's algorithm: a segment that is not full waits while sent data is unacknowledged. It made telnet cheap. \
         TCP_NODELAY turns it off; most HTTP libraries do that.",
        "Delayed ACK: the receiver waits up to 40 ms for data of its own that can carry the ACK. A server that answers \
         after each segment never notices it.",
        "Write, write, read is the pattern that has both. One write of the whole request, or writev, is better than any \
         option: it also saves a system call and a segment.",
    ],
    try_next: &[
        "Write in three pieces (`--with 'load:default --pieces 3'`): still 40 ms, because the second and third are sent together.",
        "Look at reads per request: two with pieces, one without.",
    ],
    spoiler: Spoiler {
        what: "TCP_NODELAY at the first client too",
        change: Change::Load("default", "--pieces 2", "--pieces 2 --nodelay"),
        fails: &["forty", "server-sees-it"],
    },
};
