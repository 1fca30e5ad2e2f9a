//! SO_REUSEPORT shards: one that is dead, one that is hot.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

pub(crate) const LESSON: Lesson = Lesson {
    name: "cold-shard",
    part: Part::WhoAccepts,
    title: "one shard is dead, one is hot, the rest is idle",
    question: "A quarter of the clients get no answer, at random, while three of four threads have nothing to do. Why does \
               nobody help?",
    prediction: Prediction {
        ask: "Four shards listen on one port (SO_REUSEPORT). One of them listens but does not accept. What becomes of the \
              clients?",
        answers: &[
            "The kernel notices and gives its share to the other three",
            "About a quarter of them wait until they give up; the others are served as if nothing were wrong",
            "All clients become slower",
        ],
        right: 1,
        because: "A hash of addresses and ports chooses the shard before anybody looks at its queue. A full or dead shard \
                  passes nothing on.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo("one_dead", 7001, "--pattern sharded --threads 4 --backlog 1024 --dead-shard 2"),
            Server::demo("one_hot", 7002, "--pattern sharded --threads 4 --backlog 128 --block-us 1000"),
        ],
        loads: &[
            Load::stress("one_dead", "--rate 100 --timeout-ms 1000").for_steps(2),
            Load::stress("one_hot", "--burst 6:50 --connections 6 --requests 100000 --think-ms 2 --timeout-ms 60000")
                .for_steps(0),
        ],
    },
    steps: &[
        Step {
            name: "load",
            length_ms: 8_000,
            short_ms: 3_000,
            watch: "one_dead: one shard's queue only grows. Expand the group (Space): the other three are idle. \
                    one_hot: six busy connections over four shards are uneven.",
            acts: &[],
        },
        Step {
            name: "more",
            length_ms: 4_000,
            short_ms: 1_000,
            watch: "Clients of the dead shard have given up; nobody has told its queue. Shares of one_hot's reads have not \
                    evened out.",
            acts: &[],
        },
    ],
    expectations: &[
        Expectation {
            id: "unanswered",
            what: "share of one_dead's clients that get no answer",
            figure: "100 * load:one_dead:failures.response.timeout / load:one_dead:due",
            unit: "%",
            bounds: Bounds::Between(10.0, 40.0),
            short: Some(Bounds::Between(8.0, 40.0)),
            widened: None,
            why: "a quarter by the hash, give or take; the last ones have not given up yet",
        },
        Expectation {
            id: "dead-queue",
            what: "one_dead: connections in the longest of its four queues, of all that wait",
            figure: "100 * max(listentop:one_dead:shards[*].accept_queue.depth) / listentop:one_dead:accept_queue.depth",
            unit: "%",
            bounds: Bounds::AtLeast(90.0),
            short: None,
            widened: None,
            why: "the others are empty but for a connection that came just now",
        },
        Expectation {
            id: "others",
            what: "one_dead: accept wait (p90) of the connections that are accepted",
            figure: "listentop:one_dead:accept_queue.wait_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(20.0),
            short: None,
            widened: Some("3 * run:late_us.p90 / 1000"),
            why: "three idle threads accept at once",
        },
        Expectation {
            id: "finding",
            what: "listentop names the cause: dead_shard",
            figure: "count(listentop:one_dead:findings[dead_shard]@load)",
            unit: "",
            bounds: Bounds::Exactly(1.0),
            short: None,
            widened: None,
            why: "a shard has connections and accepts none, while its siblings accept",
        },
        Expectation {
            id: "hot",
            what: "largest share of one_hot's reads that one shard has",
            figure: "100 * max(listentop:one_hot:threads[*].read_share)",
            unit: "%",
            bounds: Bounds::AtLeast(30.0),
            short: None,
            widened: None,
            why: "six connections cannot be spread evenly over four shards: one has two at least, a third of the work",
        },
    ],
    findings: &["hung_acceptor", "slow_accept"],
    belief: "SO_REUSEPORT balances the load.",
    mechanism: &[
        "With SO_REUSEPORT each socket has its own SYN and accept queue. reuseport_select_sock picks one by a hash of the \
         four-tuple, at the SYN. Depth and idleness do not count.",
        "A shard whose process hangs keeps its share of the clients. It must be closed, or its clients must be steered away \
         (SO_ATTACH_REUSEPORT_EBPF).",
        "A hash is fair to many connections, not to few busy ones: the largest share decides.",
    ],
    try_next: &[
        "Select the group and expand it: each shard's depth, accepts and pattern.",
        "Add a shard while it runs: new connections are spread anew, those in the dead shard's queue stay.",
        "`cargo xtask demo patterns`: multi_acceptor shares one queue, and nobody waits behind a dead thread.",
    ],
    spoiler: Spoiler {
        what: "no shard is dead",
        change: Change::Server("one_dead", "--dead-shard 2", ""),
        fails: &["unanswered", "finding"],
    },
};
