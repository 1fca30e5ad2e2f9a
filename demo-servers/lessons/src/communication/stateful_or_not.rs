//! A session in the memory of one shard, and a user who comes back to another one.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};
use crate::programs::{SESSIONS, SESSIONS_LOAD};

/// Each of 100 users comes once a second, with two requests on one connection: by then the visit before is over, also
/// on a busy machine.
const LOAD: &str = "--rate 100 --users 100 --requests 2";

pub(crate) const LESSON: Lesson = Lesson {
    name: "stateful-or-not",
    part: Part::Communication,
    title: "a session in a shard that you do not meet again",
    question: "A server keeps what it knows of a user in memory. It gets a second shard, then four. What becomes of the \
               users?",
    prediction: Prediction {
        ask: "Four shards listen with SO_REUSEPORT, each with sessions of its own. Users come back on new connections. \
              How many of them find their session?",
        answers: &["All: the kernel sends a client to the same shard", "One in four", "Half of them"],
        right: 1,
        because: "The hash that chooses the shard contains the client's port, and each connection has a new one. So \
                  the shard is as good as drawn by lot: one time in four it is that of the last visit.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::of(SESSIONS, "stateful", 7001, "--shards 4 --store shard"),
            Server::of(SESSIONS, "stateless", 7002, "--shards 4 --store shared"),
        ],
        loads: &[Load::of(SESSIONS_LOAD, "stateful", LOAD), Load::of(SESSIONS_LOAD, "stateless", LOAD)],
    },
    steps: &[Step {
        name: "visits",
        length_ms: 8_000,
        short_ms: 4_000,
        watch: "Two groups of four shards, with equal shares of the connections. On the screen they are the same: whether \
                a session is found is inside the program.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "lost",
            what: "visits whose session was lost, with sessions in the shards",
            figure: "100 * load:stateful:lost_sessions / (load:stateful:completed - 100)",
            unit: "%",
            bounds: Bounds::Between(65.0, 85.0),
            short: Some(Bounds::Between(60.0, 90.0)),
            widened: None,
            why: "three of the four shards are not the one of the last visit. The share of some hundred random choices \
                  scatters by 2 to 3 %",
        },
        Expectation {
            id: "kept",
            what: "visits whose session was lost, with sessions in one store",
            figure: "load:stateless:lost_sessions",
            unit: "visits",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "any shard finds it",
        },
        Expectation {
            id: "even",
            what: "accepts of the busiest shard of the stateful server, in units of the mean",
            figure: "max(listentop:stateful:shards[*].accepts.total) / mean(listentop:stateful:shards[*].accepts.total)",
            unit: "times",
            bounds: Bounds::AtMost(1.5),
            short: None,
            widened: None,
            why: "the hash spreads the load well, and that is just why it does not keep users together",
        },
    ],
    findings: &[],
    belief: "With SO_REUSEPORT a client always gets the same worker.",
    mechanism: &[
        "The kernel chooses a listener of the group by a hash of both addresses and both ports. All segments of one \
         connection go to one shard; the next connection of the same client has another port.",
        "A server that keeps state must see to it that a user comes to where the state is: by a proxy with sticky \
         sessions, a BPF program that chooses by address (SO_ATTACH_REUSEPORT_EBPF), or a shared store.",
        "State in one process is also lost when this process ends, and when a shard is added or removed many users move.",
    ],
    try_next: &[
        "Two shards (`--with 'server:stateful --shards 2'`): every other visit is lost.",
        "`cargo xtask demo cold-shard`: what else the hash does not know.",
    ],
    spoiler: Spoiler {
        what: "one shard instead of four",
        change: Change::Server("stateful", "--shards 4", "--shards 1"),
        fails: &["lost"],
    },
};
