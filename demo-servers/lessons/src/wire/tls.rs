//! What a TLS connection costs before the first request, and what resumption saves.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};
use crate::programs::{ECHO, ECHO_LOAD, FAR_ECHO_LOAD};

pub(crate) const LESSON: Lesson = Lesson {
    name: "tls",
    part: Part::Protocols,
    title: "the price of a TLS handshake: 1.2, 1.3, resumed",
    question: "A connection is accepted, and the first request is not there yet. What do client and server do in the \
               meantime?",
    prediction: Prediction {
        ask: "50 connections per second with one HTTP request each: without TLS, with TLS 1.2, with TLS 1.3, and with \
              TLS 1.3 that resumes earlier sessions. What does resumption save the server most of?",
        answers: &[
            "Round trips: the first request comes with the first segment",
            "Bytes and CPU: no certificate is sent and no signature made",
            "Nothing measurable",
        ],
        right: 1,
        because: "A resumed handshake proves by a shared secret who the server is. The certificate and the signature \
                  are left out. With TLS 1.3 it takes as many round trips as a full one, unless the client sends early \
                  data.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::of(ECHO, "plain", 7001, "--protocol http1"),
            Server::of(ECHO, "tls12", 7002, "--protocol http1 --tls 1.2 --no-resume"),
            Server::of(ECHO, "tls13", 7003, "--protocol http1 --tls 1.3 --no-resume"),
            Server::of(ECHO, "resumed", 7004, "--protocol http1 --tls 1.3"),
            Server::of(ECHO, "far_plain", 7011, "--protocol http1 --address 0.0.0.0"),
            Server::of(ECHO, "far_tls12", 7012, "--protocol http1 --tls 1.2 --address 0.0.0.0"),
            Server::of(ECHO, "far_tls13", 7013, "--protocol http1 --tls 1.3 --address 0.0.0.0"),
        ],
        loads: &[
            Load::of(ECHO_LOAD, "plain", "--protocol http1 --rate 50"),
            Load::of(ECHO_LOAD, "tls12", "--protocol http1 --rate 50 --tls 1.2 --no-resume"),
            Load::of(ECHO_LOAD, "tls13", "--protocol http1 --rate 50 --tls 1.3 --no-resume"),
            Load::of(ECHO_LOAD, "resumed", "--protocol http1 --rate 50 --tls 1.3"),
            Load::of(FAR_ECHO_LOAD, "far_plain", "--protocol http1 --rate 10").in_step(1),
            Load::of(FAR_ECHO_LOAD, "far_tls12", "--protocol http1 --rate 10 --tls 1.2 --no-resume").in_step(1),
            Load::of(FAR_ECHO_LOAD, "far_tls13", "--protocol http1 --rate 10 --tls 1.3 --no-resume").in_step(1),
        ],
    },
    steps: &[
        Step {
            name: "near",
            length_ms: 8_000,
            short_ms: 4_000,
            watch: "The same 50 connections per second, one request each. Compare bytes and reads per second (Enter), \
                    and the CPU of the threads (Tab).",
            acts: &[],
        },
        Step {
            name: "far",
            length_ms: 6_000,
            short_ms: 4_000,
            watch: "Clients on hosts of their own, 20 ms there and 20 ms back. Handshake and time to the first byte: a \
                    connection waits for round trips, in no queue.",
            acts: &[],
        },
    ],
    expectations: &[
        Expectation {
            id: "price",
            what: "CPU time per connection with TLS 1.3, in units of one without TLS",
            figure: "server:tls13:total.cpu_us / server:tls13:total.accepts \
                     / (server:plain:total.cpu_us / server:plain:total.accepts)",
            unit: "times",
            bounds: Bounds::AtLeast(1.5),
            short: None,
            widened: None,
            why: "a key exchange and a signature on an elliptic curve: some hundred microseconds of arithmetic",
        },
        Expectation {
            id: "resumed",
            what: "handshakes of resumed that were resumed",
            figure: "100 * server:resumed:more.resumed / server:resumed:more.handshakes",
            unit: "%",
            bounds: Bounds::AtLeast(30.0),
            short: None,
            widened: None,
            why: "all but the first, and those that begin before a ticket of those before them has come: few where CPUs \
                  are free, up to half where they are not",
        },
        Expectation {
            id: "full",
            what: "handshakes of tls12 and tls13 that were resumed",
            figure: "server:tls12:more.resumed + server:tls13:more.resumed",
            unit: "handshakes",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "neither side keeps a session",
        },
        Expectation {
            id: "bytes",
            what: "bytes that tls13 writes per connection, less those of plain",
            figure: "server:tls13:total.write_bytes / server:tls13:total.accepts \
                     - server:plain:total.write_bytes / server:plain:total.accepts",
            unit: "bytes",
            bounds: Bounds::Between(500.0, 5_000.0),
            short: None,
            widened: None,
            why: "the certificate, the signature and the key share. Real chains of certificates have 2 to 4 KB",
        },
        Expectation {
            id: "reads",
            what: "reads per connection of TLS 1.2, in units of one without TLS",
            figure: "server:tls12:total.reads / server:tls12:total.accepts \
                     / (server:plain:total.reads / server:plain:total.accepts)",
            unit: "times",
            bounds: Bounds::AtLeast(1.8),
            short: None,
            widened: None,
            why: "the client's hello, its key exchange, and then the request",
        },
        Expectation {
            id: "far-tls12",
            what: "time until the first request can be sent with TLS 1.2, 40 ms away",
            figure: "load:far_tls12:setup_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::Between(120.0, 200.0),
            short: None,
            widened: Some("12 * run:late_us.p90 / 1000"),
            why: "three round trips: the TCP handshake, and two of TLS. It cannot be less. The line is a program too, which must get a CPU six times; so must client and server",
        },
        Expectation {
            id: "far-tls13",
            what: "time until the first request can be sent with TLS 1.3, 40 ms away",
            figure: "load:far_tls13:setup_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::Between(80.0, 150.0),
            short: None,
            widened: Some("8 * run:late_us.p90 / 1000"),
            why: "two round trips: the client sends its key share at once, in the hope that the server takes it. Line, \
                  client and server must each get a CPU a few times",
        },
        Expectation {
            id: "far-difference",
            what: "what TLS 1.3 saves a client that is 40 ms away",
            figure: "(load:far_tls12:setup_us.p50 - load:far_tls13:setup_us.p50) / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(25.0),
            short: None,
            widened: Some("2 * run:late_us.p50 / 1000"),
            why: "one round trip of 40 ms; the two medians scatter",
        },
        Expectation {
            id: "nobody-failed",
            what: "connections of the near clients that ended by an error",
            figure: "server:tls12:more.broken + server:tls13:more.broken + server:resumed:more.broken",
            unit: "connections",
            bounds: Bounds::AtMost(3.0),
            short: None,
            widened: None,
            why: "those that the end of the load cuts off in the middle of a handshake",
        },
    ],
    findings: &[],
    belief: "TLS is expensive because encryption is expensive.",
    mechanism: &[
        "Encrypting a stream costs next to nothing on a CPU with AES instructions. The handshake is what costs: public \
         key arithmetic on both sides, per connection.",
        "TLS 1.2 needs two round trips before the request, TLS 1.3 one, and TCP one before them. On loopback a round trip \
         is some microseconds; from another continent it is 150 ms, and then that is all that counts.",
        "To the kernel a TLS connection is accepted as any other. The time until the first request is in no queue: \
         listentop shows it as time to the first byte, reads and answer time.",
    ],
    try_next: &[
        "20 requests per connection (`--with 'load:tls13 --requests 20'`): the handshake's price is shared by all of them.",
        "`cargo xtask demo request-response`: the same question without TLS.",
    ],
    spoiler: Spoiler {
        what: "a client that does not resume",
        change: Change::Load("resumed", "--tls 1.3", "--tls 1.3 --no-resume"),
        fails: &["resumed"],
    },
};
