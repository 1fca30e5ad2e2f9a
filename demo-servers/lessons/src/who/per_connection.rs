//! A thread, a process, or one of a fixed number of processes for each connection.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// Each connection lives for some 20 ms.
const LOAD: &str = "--rate 100 --requests 2 --think-ms 20";
/// As many clients as there are prefork processes connect and say nothing for two seconds.
const SILENT: &str = "--burst 16:50 --connections 16 --silent 100 --timeout-ms 2000";

pub(crate) const LESSON: Lesson = Lesson {
    name: "per-connection",
    part: Part::WhoAccepts,
    title: "a thread, a process or a seat for each connection",
    question: "The simplest server gives each connection somebody of its own. What does that cost, and what happens \
               when the number of these is fixed?",
    prediction: Prediction {
        ask: "Three servers get 100 connections per second: a new thread for each, a new process for each, or 16 \
              processes that were forked before. Then 16 clients connect and send nothing for two seconds. What do the \
              other clients notice?",
        answers: &[
            "Nothing: silent connections cost nothing",
            "The server with processes becomes slow: so many processes are expensive",
            "The one with 16 processes accepts nobody for two seconds; the others go on",
        ],
        right: 2,
        because: "Each of the 16 processes sits in a read call for a client that says nothing. Nobody calls accept, so \
                  everybody else waits in the accept queue. The other two simply make one more thread or process.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo("threads", 7001, "--pattern thread_per_connection"),
            Server::demo("processes", 7002, "--pattern process_per_connection"),
            Server::demo("prefork", 7003, "--pattern prefork --threads 16 --backlog 1024"),
        ],
        loads: &[
            Load::stress("threads", LOAD).for_steps(2),
            Load::stress("processes", LOAD).for_steps(2),
            Load::stress("prefork", LOAD).for_steps(2),
            Load::stress("threads", SILENT).named("silent_threads").in_step(1),
            Load::stress("processes", SILENT).named("silent_processes").in_step(1),
            Load::stress("prefork", SILENT).named("silent_prefork").in_step(1),
        ],
    },
    steps: &[
        Step {
            name: "busy",
            length_ms: 6_000,
            short_ms: 3_000,
            watch: "The same load for all. Compare the threads of each (Enter, Tab) and their CPU: one after the \
                    other, or always the same 16.",
            acts: &[],
        },
        Step {
            name: "silent",
            length_ms: 6_000,
            short_ms: 4_000,
            watch: "16 clients connect and say nothing for 2 s. prefork: the accept queue grows, nobody accepts. The \
                    other two accept as before.",
            acts: &[],
        },
    ],
    expectations: &[
        Expectation {
            id: "process-price",
            what: "CPU time per connection with a process each, in units of a thread each",
            figure: "server:processes:total.cpu_us / server:processes:total.accepts \
                     / (server:threads:total.cpu_us / server:threads:total.accepts)",
            unit: "times",
            bounds: Bounds::AtLeast(1.5),
            short: None,
            widened: None,
            why: "fork copies the page tables, and the process must be taken apart again. A thread shares them",
        },
        Expectation {
            id: "prefork-price",
            what: "CPU time per connection with processes forked before, in units of a process each",
            figure: "server:prefork:total.cpu_us / server:prefork:total.accepts \
                     / (server:processes:total.cpu_us / server:processes:total.accepts)",
            unit: "times",
            bounds: Bounds::AtMost(0.7),
            short: None,
            widened: None,
            why: "nothing is made for a connection",
        },
        Expectation {
            id: "nobody-accepts",
            what: "longest accept wait of prefork",
            figure: "listentop:prefork:accept_queue.wait_us.max / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(1_000.0),
            short: None,
            widened: None,
            why: "the silent clients hold all 16 processes for 2 s. Who comes in the meantime waits",
        },
        Expectation {
            id: "others-go-on",
            what: "accept wait (p90) with a thread each",
            figure: "listentop:threads:accept_queue.wait_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(50.0),
            short: None,
            widened: Some("3 * run:late_us.p90 / 1000"),
            why: "its acceptor does nothing but start threads",
        },
        Expectation {
            id: "names",
            what: "patterns that listentop names: thread and process per connection",
            figure: "count(listentop:threads:pattern[thread_per_connection]) \
                     + count(listentop:processes:pattern[process_per_connection])",
            unit: "of 2",
            bounds: Bounds::Exactly(2.0),
            short: None,
            widened: None,
            why: "each connection is first read by somebody who reads no other",
        },
    ],
    findings: &["hung_acceptor", "slow_accept"],
    belief: "A fixed number of processes protects the server, and silent clients cost nothing.",
    mechanism: &[
        "accept(2) returns a connection to one thread, and that thread decides who reads. Nothing in the kernel ties a \
         connection to a thread.",
        "A thread costs a stack and an entry of the scheduler; a process also its own page tables and descriptors. Both \
         are made in tens to hundreds of microseconds.",
        "A pool of fixed size bounds memory and moves the waiting into the accept queue, where the kernel refuses what \
         is beyond the backlog. A client that says nothing holds a seat as long as the server lets it.",
    ],
    try_next: &[
        "Give prefork 32 processes (`--with 'server:prefork --threads 32'`): 16 silent clients harm nobody then, 32 do.",
        "`cargo xtask demo eager-acceptor`: a pool of workers behind a thread that accepts at once.",
    ],
    spoiler: Spoiler {
        what: "64 processes instead of 16 at prefork",
        change: Change::Server("prefork", "--threads 16", "--threads 64"),
        fails: &["nobody-accepts"],
    },
};
