//! accept(2) that fails because the process has no descriptor left.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

pub(crate) const LESSON: Lesson = Lesson {
    name: "out-of-descriptors",
    part: Part::Accepting,
    title: "a process without free descriptors cannot accept",
    question: "The accept queue fills although the acceptor is awake and calls accept(2) again and again. What does it \
               lack?",
    prediction: Prediction {
        ask: "A server may have 64 open files. 100 clients connect and stay. What do those see for whom no file is \
              left?",
        answers: &[
            "'Too many open files': the kernel passes the server's error on",
            "'Connection refused'",
            "A connection that works, except that no answer comes",
        ],
        right: 2,
        because: "accept(2) fails with EMFILE in the server. The connection stays in the accept queue; its client is \
                  connected and knows nothing of the error.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[Server::demo(
            "few_files",
            7001,
            "--pattern single_thread --backlog 128 --max-open-files 64 --accept-batch 0",
        )],
        loads: &[Load::stress(
            "few_files",
            "--rate 100 --connections 100 --requests 100000 --think-ms 200 --timeout-ms 60000",
        )
        .for_steps(0)],
    },
    steps: &[Step {
        name: "full",
        length_ms: 8_000,
        short_ms: 3_000,
        watch: "Open connections stop below 64. The acceptor is not asleep: its accepts fail with EMFILE, again and \
                again. The rest waits in the accept queue.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "connected",
            what: "clients that are connected",
            figure: "load:few_files:established",
            unit: "clients",
            bounds: Bounds::Exactly(100.0),
            short: None,
            widened: None,
            why: "the kernel needs no descriptor for a connection that waits",
        },
        Expectation {
            id: "accepted",
            what: "connections that the server could accept",
            figure: "server:few_files:total.accepts",
            unit: "connections",
            bounds: Bounds::Between(40.0, 63.0),
            short: None,
            widened: None,
            why: "64 descriptors less those for stdin, stdout, stderr, the listener, epoll and the like",
        },
        Expectation {
            id: "waiting",
            what: "connections that are accepted or wait in the accept queue",
            figure: "listentop:few_files:accept_queue.depth + server:few_files:total.accepts",
            unit: "connections",
            bounds: Bounds::Exactly(100.0),
            short: None,
            widened: None,
            why: "nobody is refused: who is not accepted waits",
        },
        Expectation {
            id: "emfile",
            what: "failed accepts that the server counted beyond those with EMFILE that listentop saw",
            figure: "server:few_files:total.accept_failures - listentop:few_files:accepts.failed_emfile",
            unit: "calls",
            bounds: Bounds::Between(-1.0, 2.0),
            short: None,
            widened: Some("run:late_us.max / 100000"),
            why: "both count each failed call. While listentop reports the server goes on, ten times a second; and it counts a call a little after the kernel",
        },
        Expectation {
            id: "failed",
            what: "accepts that failed",
            figure: "server:few_files:total.accept_failures",
            unit: "calls",
            bounds: Bounds::AtLeast(20.0),
            short: Some(Bounds::AtLeast(5.0)),
            widened: None,
            why: "after each failure this server pauses for 100 ms. One that does not pause spins on a full CPU",
        },
        Expectation {
            id: "finding",
            what: "listentop names the cause: accept_errors or descriptors_low",
            figure: "count(listentop:few_files:findings[accept_errors]) + count(listentop:few_files:findings[descriptors_low])",
            unit: "",
            bounds: Bounds::Between(1.0, 2.0),
            short: None,
            widened: None,
            why: "accepts fail, and the process has no descriptor left",
        },
    ],
    findings: &[],
    belief: "A server that runs out of something says so to its clients.",
    mechanism: &[
        "accept(2) needs a descriptor before it takes a connection off the queue. Without one it returns EMFILE (the \
         process) or ENFILE (the machine), and the connection stays.",
        "Level-triggered epoll reports the listener as ready at once again. A loop that does not pause takes a whole CPU.",
        "The soft limit (RLIMIT_NOFILE) is often 1024 by default, far below what a backlog can hold.",
    ],
    try_next: &[
        "The listener view shows the process's open descriptors and their limit.",
        "`prlimit --nofile` changes the limit of a running process.",
    ],
    spoiler: Spoiler {
        what: "a limit of 4096 open files instead of 64",
        change: Change::Server("few_files", "--max-open-files 64", "--max-open-files 4096"),
        fails: &["accepted", "failed", "finding"],
    },
};
