//! The same acceptors as threads of one process and as processes: the queue is the same, the limits are not.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

const LOAD: &str = "--rate 150 --arrivals poisson";
/// More connections than one process may have descriptors, fewer than four may have.
const HELD: &str = "--rate 100 --connections 120 --silent 100 --timeout-ms 60000";

pub(crate) const LESSON: Lesson = Lesson {
    name: "threads-vs-processes",
    part: Part::WhoAccepts,
    title: "acceptors as threads or as processes: which limits",
    question: "Four acceptors share a listener, as threads of one process or as four processes. Does the kernel treat \
               them differently?",
    prediction: Prediction {
        ask: "Each process may have 48 open files. 120 clients connect and stay. How many connections does the server \
              with four threads hold, how many the one with four processes?",
        answers: &[
            "Both some 40: the limit counts for all processes of a user together",
            "Both 120: a connection is no file",
            "Four threads some 40, four processes all 120",
        ],
        right: 2,
        because: "The limit of open files (RLIMIT_NOFILE) is that of a process, and its threads share one table of \
                  descriptors. Four processes have four tables. When a table is full, accept fails with EMFILE, and \
                  the connections stay in the accept queue.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo("threads", 7001, "--pattern multi_acceptor --threads 4 --max-open-files 48 --backlog 512"),
            Server::demo(
                "processes",
                7002,
                "--pattern multi_acceptor --threads 4 --processes --max-open-files 48 --backlog 512",
            ),
        ],
        loads: &[
            Load::stress("threads", LOAD),
            Load::stress("processes", LOAD),
            Load::stress("threads", HELD).named("held_threads").in_step(1),
            Load::stress("processes", HELD).named("held_processes").in_step(1),
        ],
    },
    steps: &[
        Step {
            name: "equal",
            length_ms: 5_000,
            short_ms: 3_000,
            watch: "Short connections. Accept wait, reads and shares of the acceptors (Enter, Tab) look the same: \
                    threads and processes are the same to the scheduler and to accept.",
            acts: &[],
        },
        Step {
            name: "held",
            length_ms: 6_000,
            short_ms: 4_000,
            watch: "120 clients stay. threads: descriptors run out, accepts fail with EMFILE, the accept queue keeps the \
                    rest. processes: all are accepted.",
            acts: &[],
        },
    ],
    expectations: &[
        Expectation {
            id: "same-queue",
            what: "accept wait (p50) of the threads, in units of the processes'",
            figure: "listentop:threads:accept_queue.wait_us.p50@equal \
                     / listentop:processes:accept_queue.wait_us.p50@equal",
            unit: "times",
            bounds: Bounds::Between(0.2, 5.0),
            short: None,
            widened: None,
            why: "the same path in the kernel. Both are some tens of microseconds, which a busy machine scatters",
        },
        Expectation {
            id: "threads-hold",
            what: "connections that the server with threads holds",
            figure: "listentop:threads:connections.open@held",
            unit: "connections",
            bounds: Bounds::Between(30.0, 44.0),
            short: None,
            widened: None,
            why: "48 descriptors, less those of the server itself: stdin, stdout, stderr, the listener, an epoll \
                  instance per thread",
        },
        Expectation {
            id: "processes-hold",
            what: "connections that the four processes hold",
            figure: "listentop:processes:connections.open@held",
            unit: "connections",
            bounds: Bounds::Exactly(120.0),
            short: None,
            widened: None,
            why: "each process has 48 descriptors of its own",
        },
        Expectation {
            id: "rest-waits",
            what: "connections that wait in the accept queue of the threads",
            figure: "listentop:threads:accept_queue.depth@held",
            unit: "connections",
            bounds: Bounds::Between(76.0, 90.0),
            short: None,
            widened: None,
            why: "120 less those that are held: the kernel accepted them, the process cannot",
        },
        Expectation {
            id: "says-so",
            what: "listentop names the cause: accept_errors",
            figure: "count(listentop:threads:findings[accept_errors])",
            unit: "",
            bounds: Bounds::Exactly(1.0),
            short: None,
            widened: None,
            why: "accept returns EMFILE again and again",
        },
    ],
    findings: &["descriptors_low"],
    belief: "Threads are light, so a server with threads holds more connections.",
    mechanism: &[
        "Threads and processes are the same to the scheduler, to the wait queue of a listener and to accept(2). They \
         differ in what they share: memory, and the table of descriptors.",
        "A listener that is inherited by fork is one socket with one accept queue, however many processes hold it.",
        "When no descriptor is left, accept fails but the connection stays in the queue, and the listener stays \
         readable. A server that does not pause then spins.",
    ],
    try_next: &[
        "Select threads and press Enter: descriptors open and allowed.",
        "`cargo xtask demo out-of-descriptors`: what the clients see.",
    ],
    spoiler: Spoiler {
        what: "400 open files instead of 48 for the threads",
        change: Change::Server("threads", "--max-open-files 48", "--max-open-files 400"),
        fails: &["threads-hold", "rest-waits", "says-so"],
    },
};
