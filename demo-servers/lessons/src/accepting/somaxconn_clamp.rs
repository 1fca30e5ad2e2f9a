//! listen(2) with a backlog that net.core.somaxconn cuts.

use crate::format::{Act, Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

pub(crate) const LESSON: Lesson = Lesson {
    name: "somaxconn-clamp",
    part: Part::Accepting,
    title: "a backlog that the kernel cuts without a word",
    question: "A server asks for a backlog of 1024 and still refuses a burst of 100. Where is its backlog?",
    prediction: Prediction {
        ask: "net.core.somaxconn is 16, and the server calls listen(fd, 1024). Then the administrator sets somaxconn to \
              4096. When does the queue hold 100 connections?",
        answers: &[
            "From the start: listen(2) returned success",
            "As soon as somaxconn is 4096",
            "Only when the server calls listen(2) again",
        ],
        right: 2,
        because: "listen(2) takes the smaller of both values once and says nothing. The limit stays 17 with somaxconn \
                  4096, and is 1025 after the next listen(2).",
    },
    setup: Setup {
        sysctls: &[("net/core/somaxconn", "16")],
        servers: &[Server::demo("wants_1024", 7001, "--pattern single_thread --backlog 1024 --accept-delay-us 2000")],
        loads: &[Load::stress("wants_1024", "--burst 100:1500 --connect-timeout-ms 2500").for_steps(4)],
    },
    steps: &[
        Step {
            name: "cut",
            length_ms: 5_000,
            short_ms: 1_900,
            watch: "The program asked for 1024, but the limit is 17: somaxconn is 16. Each burst of 100 is refused for \
                    the most part.",
            acts: &[],
        },
        Step {
            name: "raised",
            length_ms: 5_000,
            short_ms: 1_900,
            watch: "somaxconn is 4096 now. Nothing changes: the limit was set when listen(2) was called.",
            acts: &[Act::Sysctl("net/core/somaxconn", "4096")],
        },
        Step {
            name: "again",
            length_ms: 1_000,
            short_ms: 500,
            watch: "The server has called listen(2) again on the same socket: the limit is 1025 at once.",
            acts: &[Act::Backlog("wants_1024", 1024)],
        },
        Step {
            name: "fits",
            length_ms: 5_000,
            short_ms: 1_900,
            watch: "Each burst of 100 fits now. Nothing is refused any more.",
            acts: &[],
        },
    ],
    expectations: &[
        Expectation {
            id: "cut",
            what: "limit of the accept queue in step cut",
            figure: "listentop:wants_1024:accept_queue.limit@cut",
            unit: "connections",
            bounds: Bounds::Exactly(17.0),
            short: None,
            widened: None,
            why: "somaxconn is 16, and the queue takes one more than the backlog",
        },
        Expectation {
            id: "raised",
            what: "limit of the accept queue in step raised",
            figure: "listentop:wants_1024:accept_queue.limit@raised",
            unit: "connections",
            bounds: Bounds::Exactly(17.0),
            short: None,
            widened: None,
            why: "somaxconn takes part only when listen(2) is called",
        },
        Expectation {
            id: "again",
            what: "limit of the accept queue in step again, after the second listen(2)",
            figure: "listentop:wants_1024:accept_queue.limit@again",
            unit: "connections",
            bounds: Bounds::Exactly(1_025.0),
            short: None,
            widened: None,
            why: "listen(2) on a socket that listens only sets the backlog",
        },
        Expectation {
            id: "refused-before",
            what: "attempts that were refused in the steps cut and raised",
            figure: "listentop:wants_1024:drops.total@raised",
            unit: "attempts",
            bounds: Bounds::AtLeast(60.0),
            short: None,
            widened: None,
            why: "17 of 100 fit at once, and a few more while the server accepts one every 2 ms",
        },
        Expectation {
            id: "refused-after",
            what: "attempts that were refused in step fits",
            figure: "listentop:wants_1024:drops.total@fits - listentop:wants_1024:drops.total@again",
            unit: "attempts",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "bursts of 100 fit into 1025 places, with those that come back",
        },
    ],
    findings: &["accept_queue_overflow", "slow_accept", "syn_queue_overflow"],
    belief: "listen(fd, 1024) gives a backlog of 1024.",
    mechanism: &[
        "listen(2) silently takes min(backlog, net.core.somaxconn) of the socket's network namespace. It was 128 before \
         Linux 5.4 and is 4096 since.",
        "The value is copied into the socket (sk_max_ack_backlog). A later change of the sysctl does not reach sockets \
         that listen already.",
        "A container has a somaxconn of its own: the host's value does not count in it.",
    ],
    try_next: &[
        "Select the server and press Enter: the listener view says what limits the queue.",
        "`sudo nsenter -n -t \"$(pgrep -x wants_1024)\" ss -ltn`, in another terminal while it runs: Send-Q is the \
         backlog that the kernel cut, one less than the limit.",
    ],
    spoiler: Spoiler {
        what: "somaxconn is 4096 from the start",
        change: Change::Sysctl("net/core/somaxconn", "4096"),
        fails: &["cut", "raised", "refused-before"],
    },
};
