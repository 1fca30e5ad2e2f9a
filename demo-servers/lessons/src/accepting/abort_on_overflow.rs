//! Refused clients that are reset instead of left waiting.

use crate::format::{Act, Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

const LOAD: &str = "--rate 80 --max-open 4000 --connect-timeout-ms 5000 --timeout-ms 5000";

pub(crate) const LESSON: Lesson = Lesson {
    name: "abort-on-overflow",
    part: Part::Accepting,
    title: "an overflow that tells its clients, and one that does not",
    question: "Clients of a full server hang for seconds. Can the kernel tell them at once that there is no room?",
    prediction: Prediction {
        ask: "The accept queue is full, and net.ipv4.tcp_abort_on_overflow is set to 1. What becomes of new clients?",
        answers: &[
            "All of them get 'connection refused' at once",
            "Those whose final ACK finds no room are reset after their connect() succeeded; a SYN is still dropped in \
             silence",
            "Nothing changes: the sysctl is for the SYN queue",
        ],
        right: 1,
        because: "The reset answers the final ACK. The client is connected by then, so its connect() succeeds and its \
                  first read fails with ECONNRESET. A SYN that finds the queue full is dropped as before.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[Server::demo("full", 7001, "--pattern single_thread --backlog 8 --accept-delay-us 20000")],
        loads: &[Load::stress("full", LOAD).named("silent"), Load::stress("full", LOAD).named("told").in_step(1)],
    },
    steps: &[
        Step {
            name: "silence",
            length_ms: 8_000,
            short_ms: 3_500,
            watch: "tcp_abort_on_overflow is 0. Clients that find no room hear nothing. Those that believe that they are \
                    connected wait for an answer.",
            acts: &[],
        },
        Step {
            name: "resets",
            length_ms: 8_000,
            short_ms: 3_500,
            watch: "tcp_abort_on_overflow is 1. A final ACK that finds no room is answered with a reset: these clients \
                    fail at once.",
            acts: &[Act::Sysctl("net/ipv4/tcp_abort_on_overflow", "1")],
        },
    ],
    expectations: &[
        Expectation {
            id: "no-reset",
            what: "handshakes that the kernel reset while the sysctl was 0",
            figure: "kernel:TcpExtEmbryonicRsts@silence",
            unit: "resets",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "without the sysctl a final ACK is dropped in silence",
        },
        Expectation {
            id: "resets",
            what: "handshakes that the kernel reset while the sysctl was 1",
            figure: "kernel:TcpExtEmbryonicRsts@resets - kernel:TcpExtEmbryonicRsts@silence",
            unit: "resets",
            bounds: Bounds::AtLeast(5.0),
            short: Some(Bounds::AtLeast(1.0)),
            widened: None,
            why: "those whose final ACK found the queue full. How many that are depends on how the attempts fall",
        },
        Expectation {
            id: "clients-told",
            what: "clients that were reset",
            figure: "load:told:failures.connect.reset + load:told:failures.response.reset \
                     + load:silent:failures.connect.reset + load:silent:failures.response.reset",
            unit: "clients",
            bounds: Bounds::AtLeast(5.0),
            short: Some(Bounds::AtLeast(1.0)),
            widened: None,
            why: "each reset handshake is one client's",
        },
        Expectation {
            id: "before",
            what: "clients that were reset while the sysctl was 0",
            figure: "load:silent:failures.connect.reset@silence + load:silent:failures.response.reset@silence",
            unit: "clients",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "they hear nothing",
        },
        Expectation {
            id: "still-silent",
            what: "SYNs that are dropped in silence while the sysctl is 1",
            figure: "listentop:full:drops.accept_queue_full_on_syn@resets - listentop:full:drops.accept_queue_full_on_syn@silence",
            unit: "SYNs",
            bounds: Bounds::AtLeast(50.0),
            short: Some(Bounds::AtLeast(10.0)),
            widened: None,
            why: "the sysctl is about final ACKs only",
        },
    ],
    findings: &["accept_queue_overflow", "slow_accept", "syn_queue_overflow"],
    belief: "tcp_abort_on_overflow makes a full server refuse clients quickly.",
    mechanism: &[
        "A SYN that finds the accept queue full is always dropped without an answer: the client's kernel tries again \
         after 1 s.",
        "Between SYN and final ACK the queue can fill up. By default the final ACK is dropped too, and the SYN-ACK is \
         sent again later: the client has a second chance that it does not know of.",
        "With tcp_abort_on_overflow the kernel answers this ACK with a reset (EmbryonicRsts) and forgets the request. A \
         short burst then costs clients that could have been served a moment later.",
    ],
    try_next: &[
        "`cargo xtask demo overflow --abort-on-overflow`: the same from the start.",
        "A load balancer that must know at once is better served by a limit in the program itself.",
    ],
    spoiler: Spoiler {
        what: "tcp_abort_on_overflow is 1 from the start",
        change: Change::Sysctl("net/ipv4/tcp_abort_on_overflow", "1"),
        fails: &["no-reset"],
    },
};
