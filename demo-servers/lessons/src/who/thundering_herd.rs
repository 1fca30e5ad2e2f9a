//! One connection, and everybody wakes up: epoll without EPOLLEXCLUSIVE, with it, and blocking accepts.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// Far below what one thread can serve: between two connections all acceptors sleep. Each does 0.2 ms of something else
/// before it accepts, as real servers do: time enough for the others to wake up too.
const LOAD: &str = "--rate 200 --arrivals poisson";

pub(crate) const LESSON: Lesson = Lesson {
    name: "thundering-herd",
    part: Part::WhoAccepts,
    title: "one connection wakes one acceptor, or all eight",
    question: "Eight acceptors sleep in front of one listener, and a connection comes. How many of them wake up, and \
               what do the others do with it?",
    prediction: Prediction {
        ask: "Three servers have eight acceptors each: epoll, epoll with EPOLLEXCLUSIVE, and a blocking accept call in \
              eight processes. In which of them does each connection wake more than one or two acceptors?",
        answers: &[
            "In none: Linux solved the thundering herd long ago",
            "Only with epoll without EPOLLEXCLUSIVE",
            "With epoll in both forms; only a blocking accept wakes one",
            "In all three",
        ],
        right: 1,
        because: "A blocking accept has been exclusive since Linux 2.4. An epoll instance watches the listener as any \
                  other file, so each of eight instances gets the news, unless it asks for an exclusive wake-up.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo("all_wake", 7001, "--pattern multi_acceptor --threads 8 --accept-delay-us 200 --no-exclusive"),
            Server::demo("exclusive", 7002, "--pattern multi_acceptor --threads 8 --accept-delay-us 200"),
            Server::demo("blocking", 7003, "--pattern prefork --threads 8 --accept-delay-us 200"),
        ],
        loads: &[Load::stress("all_wake", LOAD), Load::stress("exclusive", LOAD), Load::stress("blocking", LOAD)],
    },
    steps: &[Step {
        name: "load",
        length_ms: 10_000,
        short_ms: 4_000,
        watch: "The same 200 connections a second for all. all_wake (Enter): accepts that find nothing (EAGAIN), and \
                every thread works a little. The others: one acceptor per connection.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "herd",
            what: "how often a thread of all_wake goes to sleep per connection, in units of exclusive's",
            figure: "server:all_wake:total.switches / server:all_wake:total.accepts \
                     / (server:exclusive:total.switches / server:exclusive:total.accepts)",
            unit: "times",
            bounds: Bounds::AtLeast(1.5),
            short: None,
            widened: None,
            why: "who wakes goes to sleep again, and eight threads wake instead of one. On busy CPUs some wake so late \
                  that the queue is empty again: then epoll_wait does not even return",
        },
        Expectation {
            id: "in-vain",
            what: "accept calls of all_wake that found nothing, per connection",
            figure: "server:all_wake:total.would_block / server:all_wake:total.accepts",
            unit: "calls",
            bounds: Bounds::Between(1.0, 7.0),
            short: None,
            widened: None,
            why: "each thread that sees the listener readable calls accept, and only one gets the connection. Seven would \
                  be all others; a busy machine wakes fewer in time",
        },
        Expectation {
            id: "says-so",
            what: "listentop names it: would_block_storm",
            figure: "count(listentop:all_wake:findings[would_block_storm])",
            unit: "",
            bounds: Bounds::Exactly(1.0),
            short: None,
            widened: None,
            why: "at least two calls in vain per accept, and 100 per second",
        },
        Expectation {
            id: "one-each",
            what: "accept calls of blocking that found nothing",
            figure: "server:blocking:total.would_block",
            unit: "calls",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "accept waits in an exclusive queue: the kernel wakes the first process in it, and gives it the \
                  connection",
        },
        Expectation {
            id: "counts",
            what: "accept calls of all_wake that found nothing: listentop's count beyond the server's own",
            figure: "listentop:all_wake:accepts.would_block - server:all_wake:total.would_block",
            unit: "calls",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "both see every call",
        },
    ],
    findings: &[],
    belief: "Several acceptors share the work, so more of them are always better.",
    mechanism: &[
        "A connection that is put on the accept queue wakes the wait queue of the listener. Who waits there exclusively \
         is woken alone; who does not is woken in any case.",
        "accept(2) waits exclusively. An epoll instance does so only with EPOLLEXCLUSIVE (Linux 4.5), which must be \
         asked for when the listener is added.",
        "A thread that wakes in vain has cost two context switches and at least one system call, and it has pushed \
         somebody else off a CPU.",
    ],
    try_next: &[
        "Select all_wake and press Enter: the waiters of the listener, with and without `exclusive`.",
        "`cargo xtask demo cold-shard`: a listener for each acceptor, so that nobody shares and nobody helps.",
    ],
    spoiler: Spoiler {
        what: "EPOLLEXCLUSIVE at all_wake too",
        change: Change::Server("all_wake", " --no-exclusive", ""),
        fails: &["herd", "in-vain", "says-so"],
    },
};
