//! Requests that come with the SYN.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

pub(crate) const LESSON: Lesson = Lesson {
    name: "fast-open",
    part: Part::Accepting,
    title: "TCP Fast Open: the request comes with the SYN",
    question: "A client that comes back must wait for a handshake before it may ask. Can it ask at once?",
    prediction: Prediction {
        ask: "Server and clients use TCP Fast Open. 50 clients per second connect, each with one request. How many of them send \
              it with their SYN?",
        answers: &[
            "All",
            "None: the kernel forbids data before the handshake is over",
            "All but the first, or the first few: they need a cookie from the server",
        ],
        right: 2,
        because: "The first SYN asks for a cookie, which proves later that the address is the client's own. Every later SYN carries \
                  the cookie and the request.",
    },
    setup: Setup {
        sysctls: &[("net/ipv4/tcp_fastopen", "3")],
        servers: &[
            Server::demo("plain", 7001, "--pattern single_thread"),
            Server::demo("fast", 7002, "--pattern single_thread --fast-open 64"),
        ],
        loads: &[Load::stress("plain", "--rate 50"), Load::stress("fast", "--rate 50 --fast-open")],
    },
    steps: &[Step {
        name: "load",
        length_ms: 8_000,
        short_ms: 3_000,
        watch: "Both serve the same. In fast the request comes with the connection: first byte after 0 µs (Enter, \
                Tab), and nothing waits in the SYN queue.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "with-syn",
            what: "connections of fast whose request did not come with the SYN",
            figure: "load:fast:established - kernel:TcpExtTCPFastOpenPassive",
            unit: "connections",
            bounds: Bounds::Between(1.0, 5.0),
            short: None,
            widened: Some("run:late_us.max / 20000"),
            why: "the first client has no cookie yet, nor have those that come before the first one's handshake is over: one every 20 ms, which come together when the client program gets a CPU late",
        },
        Expectation {
            id: "asked",
            what: "SYNs that asked for a cookie",
            figure: "kernel:TcpExtTCPFastOpenCookieReqd",
            unit: "SYNs",
            bounds: Bounds::Between(1.0, 5.0),
            short: None,
            widened: Some("run:late_us.max / 20000"),
            why: "the clients' kernel keeps the cookie for the address. Who connects before it has come asks too",
        },
        Expectation {
            id: "first-byte",
            what: "fast: time from accept to the first byte (p50)",
            figure: "listentop:fast:connections.first_byte_us.p50",
            unit: "µs",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "it is there already",
        },
        Expectation {
            id: "handshakes",
            what: "handshakes of fast that went through the SYN queue, of its connections",
            figure: "100 * listentop:fast:syn_queue.handshake_us.count / listentop:fast:accept_queue.enqueued",
            unit: "%",
            bounds: Bounds::AtMost(10.0),
            short: None,
            widened: None,
            why: "a SYN with a valid cookie makes a connection at once; the final ACK comes later",
        },
        Expectation {
            id: "plain-handshakes",
            what: "handshakes of plain that went through the SYN queue, of its connections",
            figure: "100 * listentop:plain:syn_queue.handshake_us.count / listentop:plain:accept_queue.enqueued",
            unit: "%",
            bounds: Bounds::AtLeast(95.0),
            short: None,
            widened: None,
            why: "each waits in the SYN queue for its final ACK",
        },
        Expectation {
            id: "served",
            what: "clients of fast that were answered, of those that were due",
            figure: "100 * load:fast:completed / load:fast:due",
            unit: "%",
            bounds: Bounds::AtLeast(97.0),
            short: None,
            widened: None,
            why: "nobody is lost. A client or two may be under way at the end",
        },
    ],
    findings: &[],
    belief: "No data can flow before the three-way handshake is over.",
    mechanism: &[
        "A client that has the server's cookie puts it into the SYN, together with data. The server's kernel checks the cookie, \
         makes the connection and puts it on the accept queue at the SYN: one round trip less.",
        "The listener has a limit of its own for connections whose handshake is not finished (TCP_FASTOPEN); beyond it the kernel \
         falls back to the ordinary handshake.",
        "The request may arrive twice, if the SYN is sent again after a loss: it must be safe to repeat.",
        "Both sides must want it: net.ipv4.tcp_fastopen has a bit for clients (1) and one for servers (2). Some networks drop such \
         SYNs.",
    ],
    try_next: &[
        "`nstat -az 'TcpExtTCPFastOpen*'` on a server of your own.",
        "On loopback a round trip takes microseconds, so the gain is not in the response times here. Over a line with \
         a round trip of 50 ms the gain is 50 ms.",
    ],
    spoiler: Spoiler {
        what: "the server does not take part",
        change: Change::Server("fast", "--fast-open 64", ""),
        fails: &["with-syn", "handshakes"],
    },
};
