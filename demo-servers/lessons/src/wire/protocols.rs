//! The same exchange in five protocols, as the kernel sees it.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};
use crate::programs::{ECHO, ECHO_LOAD};

pub(crate) const LESSON: Lesson = Lesson {
    name: "protocols",
    part: Part::Protocols,
    title: "64 bytes there, 64 back, in five protocols",
    question: "A request of 64 bytes is answered by 64 bytes. What does a protocol add before the handler runs?",
    prediction: Prediction {
        ask: "Raw framing sends 68 bytes. HTTP/1.1, HTTP/2, WebSocket and gRPC send the same content. Which of them adds \
              the least to a request on an open connection?",
        answers: &[
            "HTTP/2: its headers are compressed",
            "WebSocket: after the upgrade a message has a header of a few bytes",
            "gRPC: it is a binary protocol",
            "HTTP/1.1: it is the simplest",
        ],
        right: 1,
        because: "A WebSocket message has 2 to 14 bytes of header. HTTP/2 and gRPC send several frames for a request, \
                  though with compressed headers, and gRPC also ends each response with trailers.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::of(ECHO, "raw", 7001, "--protocol raw"),
            Server::of(ECHO, "http1", 7002, "--protocol http1"),
            Server::of(ECHO, "http2", 7003, "--protocol http2"),
            Server::of(ECHO, "websocket", 7004, "--protocol websocket"),
            Server::of(ECHO, "grpc", 7005, "--protocol grpc"),
        ],
        loads: &[
            Load::of(ECHO_LOAD, "raw", "--protocol raw --rate 20 --requests 20 --think-ms 2"),
            Load::of(ECHO_LOAD, "http1", "--protocol http1 --rate 20 --requests 20 --think-ms 2"),
            Load::of(ECHO_LOAD, "http2", "--protocol http2 --rate 20 --requests 20 --think-ms 2"),
            Load::of(ECHO_LOAD, "websocket", "--protocol websocket --rate 20 --requests 20 --think-ms 2"),
            Load::of(ECHO_LOAD, "grpc", "--protocol grpc --rate 20 --requests 20 --think-ms 2"),
        ],
    },
    steps: &[Step {
        name: "load",
        length_ms: 10_000,
        short_ms: 5_000,
        watch: "20 connections and 400 requests per second for each. Compare reads, writes, bytes and the answer time \
                (Enter), and the CPU of the threads (Tab).",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "raw-bytes",
            what: "bytes per request of raw framing",
            figure: "server:raw:total.read_bytes / server:raw:total.requests",
            unit: "bytes",
            bounds: Bounds::Between(67.5, 68.5),
            short: None,
            widened: None,
            why: "four bytes of length and 64 of content",
        },
        Expectation {
            id: "websocket-bytes",
            what: "bytes per request of WebSocket, without its upgrade of 152 bytes per connection",
            figure: "(server:websocket:total.read_bytes - 152 * server:websocket:total.accepts) \
                     / server:websocket:total.requests",
            unit: "bytes",
            bounds: Bounds::Between(69.5, 70.5),
            short: None,
            widened: None,
            why: "2 bytes of header, 4 of mask and 64 of content. The upgrade is not in it: how many requests share one \
                  depends on what the end of the load cuts off",
        },
        Expectation {
            id: "http1-bytes",
            what: "bytes per request of HTTP/1.1",
            figure: "server:http1:total.read_bytes / server:http1:total.requests",
            unit: "bytes",
            bounds: Bounds::Between(100.0, 180.0),
            short: None,
            widened: None,
            why: "the request line and two headers, written out each time. Browsers send ten times as many",
        },
        Expectation {
            id: "grpc-writes",
            what: "bytes per response of gRPC, in units of raw framing's",
            figure: "server:grpc:total.write_bytes / server:grpc:total.requests \
                     / (server:raw:total.write_bytes / server:raw:total.requests)",
            unit: "times",
            bounds: Bounds::AtLeast(1.3),
            short: None,
            widened: None,
            why: "headers, a message with its own length, and trailers with the status, each in a frame; and answers to \
                  window updates and pings",
        },
        Expectation {
            id: "grpc-cpu",
            what: "CPU time per request of gRPC's server, in units of raw framing's",
            figure: "server:grpc:total.cpu_us / server:grpc:total.requests \
                     / (server:raw:total.cpu_us / server:raw:total.requests)",
            unit: "times",
            bounds: Bounds::AtLeast(1.3),
            short: None,
            widened: None,
            why: "frames, header tables, streams and the message's encoding. It varies with the CPU's caches",
        },
        Expectation {
            id: "seen",
            what: "bytes that listentop saw http1 read, in units of the server's own count",
            figure: "listentop:http1:reads.bytes / server:http1:total.read_bytes",
            unit: "times",
            bounds: Bounds::Between(0.97, 1.0),
            short: None,
            widened: None,
            why: "both count every read. The last requests may be read after listentop's end",
        },
    ],
    findings: &[],
    belief: "The protocol's overhead is its headers, and binary protocols have none.",
    mechanism: &[
        "The kernel sees bytes, reads and writes. What a read brings may be half a request or five frames: each protocol \
         has to find the boundaries itself.",
        "HTTP/2 and gRPC begin a connection with a preface, settings and their acknowledgement: segments that are not \
         requests. In return one connection can carry many requests at the same time.",
        "The size on the wire matters on slow lines. On a server it is the number of reads, writes and wake-ups per \
         request, and the CPU time between them.",
    ],
    try_next: &[
        "One request per connection (`--with 'load:grpc --requests 1'`): the beginnings of HTTP/2, WebSocket and gRPC become visible.",
        "`cargo xtask demo tls`: the price that comes on top.",
    ],
    spoiler: Spoiler {
        what: "requests of 200 bytes over raw framing",
        change: Change::Load("raw", "--protocol raw", "--protocol raw --request-bytes 200"),
        fails: &["raw-bytes"],
    },
};
