//! Connections that are handed over only when their first data is there.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// Clients that connect and send their request 400 ms later.
const LOAD: &str = "--rate 50 --first-delay-ms 400";

pub(crate) const LESSON: Lesson = Lesson {
    name: "defer-accept",
    part: Part::Accepting,
    title: "TCP_DEFER_ACCEPT: no wake-up before there is work",
    question: "Clients connect early and send late. Must the server hold a descriptor, and perhaps a thread, for each that only \
               waits?",
    prediction: Prediction {
        ask: "Clients send their request 400 ms after the connect. A server sets TCP_DEFER_ACCEPT on its listener. Where do the \
              connections spend these 400 ms?",
        answers: &[
            "In the accept queue",
            "In the SYN queue: the kernel takes no notice of the final ACK and waits for data",
            "In the server, as always",
        ],
        right: 1,
        because: "The kernel drops the bare ACK on purpose and keeps the request socket. The first data completes the handshake: \
                  accept(2) returns with the request already there.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo("plain", 7001, "--pattern single_thread --backlog 256"),
            Server::demo("deferred", 7002, "--pattern single_thread --backlog 256 --defer-accept 5"),
        ],
        loads: &[Load::stress("plain", LOAD), Load::stress("deferred", LOAD)],
    },
    steps: &[Step {
        name: "load",
        length_ms: 8_000,
        short_ms: 3_500,
        watch: "plain holds some 20 connections that say nothing. deferred holds next to none: its clients are in the SYN queue \
                until their request comes.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "plain-silence",
            what: "plain: time from accept to the first byte (p50)",
            figure: "listentop:plain:connections.first_byte_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::Between(350.0, 500.0),
            short: None,
            widened: Some("2 * run:late_us.p90 / 1000"),
            why: "the clients' pause of 400 ms, which listentop knows to 1/16",
        },
        Expectation {
            id: "deferred-silence",
            what: "deferred: time from accept to the first byte (p50)",
            figure: "listentop:deferred:connections.first_byte_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(1.0),
            short: None,
            widened: None,
            why: "the first byte is there when the connection can be accepted",
        },
        Expectation {
            id: "handshake",
            what: "deferred: time in the SYN queue (p50)",
            figure: "listentop:deferred:syn_queue.handshake_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::Between(350.0, 500.0),
            short: None,
            widened: Some("2 * run:late_us.p90 / 1000"),
            why: "the pause is spent there instead",
        },
        Expectation {
            id: "ignored",
            what: "bare ACKs that the kernel ignored on purpose, per client of deferred",
            figure: "kernel:TcpExtTCPDeferAcceptDrop / load:deferred:established",
            unit: "ACKs",
            bounds: Bounds::Between(0.95, 1.05),
            short: None,
            widened: None,
            why: "one for each client. One or two may be under way at the end",
        },
        Expectation {
            id: "served",
            what: "clients of deferred that were answered, of those of plain",
            figure: "100 * load:deferred:completed / load:plain:completed",
            unit: "%",
            bounds: Bounds::Between(97.0, 103.0),
            short: None,
            widened: None,
            why: "nobody is lost. A client or two may be under way at the end",
        },
        Expectation {
            id: "seen",
            what: "listentop says that the option is set",
            figure: "listentop:deferred:syn_queue.defer_accept",
            unit: "",
            bounds: Bounds::Exactly(1.0),
            short: None,
            widened: None,
            why: "it reads the option from the socket",
        },
    ],
    findings: &[],
    belief: "A connection that the client has established is in the accept queue.",
    mechanism: &[
        "With TCP_DEFER_ACCEPT the final ACK without data is dropped (TCPDeferAcceptDrop) and the request is marked as \
         acknowledged. The client is connected and notices nothing.",
        "Data completes the handshake. If none comes, the SYN-ACK is sent again after about the time of the option, \
         and the ACK to that one is taken: the connection goes to the accept queue without data.",
        "The connections do not count against the accept queue but against the SYN queue, whose limit is the backlog, too.",
        "It is for protocols in which the client speaks first. With SMTP or MySQL everybody waits for the other.",
    ],
    try_next: &[
        "nginx: `listen 80 deferred;`. Apache sets it by default.",
        "Turn the load up (F4) and the backlog of deferred down (F5) until its SYN queue is full: what do new clients \
         see?",
    ],
    spoiler: Spoiler {
        what: "the option is not set",
        change: Change::Server("deferred", "--defer-accept 5", ""),
        fails: &["deferred-silence", "ignored", "seen"],
    },
};
