//! The five patterns side by side, under the same load.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// 120 connections per second, with four requests of about 1.5 ms each, keep one thread busy for 72 % of the time:
/// requests queue visibly. They keep four threads busy for 18 %. Each server takes 5 % of a core: two cores are enough
/// for all of them.
const LOAD: &str = "--rate 120 --arrivals poisson --requests 4 --think-ms 20";

pub(crate) const LESSON: Lesson = Lesson {
    name: "patterns",
    part: Part::WhoAccepts,
    title: "five acceptor/reader patterns, side by side",
    question: "Five servers do the same work for the same clients. They differ only in who accepts and who reads. \
               Which one keeps connections waiting, and where?",
    prediction: Prediction {
        ask: "Each server gets 120 connections per second with four requests of some 1.5 ms each. Which one makes \
              connections wait longest in the accept queue?",
        answers: &[
            "single_thread: one thread accepts, reads and writes",
            "acceptor_readers: one thread accepts, four read",
            "message_balancing: one thread accepts and reads, four work",
            "sharded: four threads, each with a listener of its own",
        ],
        right: 0,
        because: "Its only thread is busy with requests for 72 % of the time, and a connection waits until it comes \
                  back to accept. A thread that only accepts is always back at once.",
    },
    setup: Setup {
        sysctls: &[("net/ipv4/tcp_syncookies", "1")],
        servers: &[
            Server::demo(
                "single_thread",
                7001,
                "--pattern single_thread --threads 4 --backlog 1024 --cpu-us 100 --block-us 1300",
            ),
            Server::demo(
                "acceptor_readers",
                7002,
                "--pattern acceptor_readers --threads 4 --backlog 1024 --cpu-us 100 --block-us 1300",
            ),
            Server::demo(
                "message_balancing",
                7003,
                "--pattern message_balancing --threads 4 --backlog 1024 --cpu-us 100 --block-us 1300",
            ),
            Server::demo(
                "multi_acceptor",
                7004,
                "--pattern multi_acceptor --threads 4 --backlog 1024 --cpu-us 100 --block-us 1300",
            ),
            Server::demo("sharded", 7005, "--pattern sharded --threads 4 --backlog 1024 --cpu-us 100 --block-us 1300"),
        ],
        loads: &[
            Load::stress("single_thread", LOAD),
            Load::stress("acceptor_readers", LOAD),
            Load::stress("message_balancing", LOAD),
            Load::stress("multi_acceptor", LOAD),
            Load::stress("sharded", LOAD),
        ],
    },
    steps: &[Step {
        name: "load",
        length_ms: 10_000,
        short_ms: 4_000,
        watch: "The same connections for all, at the same times. single_thread: long accept wait. acceptor_readers: \
                next to none. sharded: one shard busy, one idle.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "single-waits",
            what: "accept wait (p90) of single_thread, in units of acceptor_readers'",
            figure: "listentop:single_thread:accept_queue.wait_us.p90 / listentop:acceptor_readers:accept_queue.wait_us.p90",
            unit: "times",
            bounds: Bounds::AtLeast(3.0),
            short: None,
            widened: None,
            why: "a busy thread comes back after some requests of 1.5 ms, an idle one within some tens of \
                  microseconds. On a busy machine the idle one must wait for a CPU too",
        },
        Expectation {
            id: "balanced-reads",
            what: "residency (p90) at single_thread, in units of message_balancing's",
            figure: "listentop:single_thread:reads.residency_us.p90 / listentop:message_balancing:reads.residency_us.p90",
            unit: "times",
            bounds: Bounds::AtLeast(3.0),
            short: None,
            widened: None,
            why: "residency is the time that a request waits for a read. One thread of message_balancing does nothing \
                  but accept and read: its requests wait inside the server, where the kernel does not see them",
        },
        Expectation {
            id: "names",
            what: "patterns that listentop names as they are",
            figure: "count(listentop:single_thread:pattern[single_thread]) \
                     + count(listentop:acceptor_readers:pattern[acceptor_readers]) \
                     + count(listentop:message_balancing:pattern[message_balancing]) \
                     + count(listentop:multi_acceptor:pattern[multi_acceptor]) \
                     + count(listentop:sharded:pattern[sharded])",
            unit: "of 5",
            bounds: Bounds::Exactly(5.0),
            short: None,
            widened: None,
            why: "listentop sees which threads accept, read and write",
        },
        Expectation {
            id: "one-acceptor",
            what: "largest share of the accepts that one thread of multi_acceptor has",
            figure: "100 * max(listentop:multi_acceptor:threads[*].accept_share)",
            unit: "%",
            bounds: Bounds::AtLeast(26.0),
            short: None,
            widened: None,
            why: "25 % each would be even. The kernel wakes a thread by its place in the queue of those that wait, and \
                  does not count who had how many",
        },
        Expectation {
            id: "nothing-refused",
            what: "refused attempts of all five",
            figure: "listentop:single_thread:drops.total + listentop:acceptor_readers:drops.total \
                     + listentop:message_balancing:drops.total + listentop:multi_acceptor:drops.total \
                     + listentop:sharded:drops.total",
            unit: "attempts",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "a backlog of 1024 holds the connections of eight seconds",
        },
    ],
    findings: &[],
    belief: "The pattern of a server is a matter of taste: the same work takes the same time.",
    mechanism: &[
        "A connection waits in the accept queue until a thread calls accept(2). How long that takes depends on what \
         else this thread does.",
        "A request waits in the connection's receive queue until a thread reads it. Where one thread serves several \
         connections, it waits for the requests before it.",
        "With SO_REUSEPORT each shard has a queue of its own. A hash of addresses and ports chooses the shard, and a \
         busy shard passes nothing on to an idle one.",
        "Linux cuts process names after 15 bytes: to acceptor_reader and message_balanci.",
    ],
    try_next: &[
        "Select a server and press Enter: its threads, what each accepts and reads.",
        "`cargo xtask demo acceptor-readers-unequal`: requests of unequal length behind the same patterns.",
    ],
    spoiler: Spoiler {
        what: "acceptor_readers is started as single_thread",
        change: Change::Server("acceptor_readers", "--pattern acceptor_readers", "--pattern single_thread"),
        fails: &["single-waits", "names"],
    },
};
