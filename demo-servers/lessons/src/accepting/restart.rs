//! A listener that is closed with connections queued, with and without migration.

use crate::format::{Act, Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// With SO_REUSEPORT, so that the next process can listen before the last one ends.
const SERVER: &str = "--pattern sharded --threads 1 --backlog 128";
const LOAD: &str = "--rate 60 --connections 20 --timeout-ms 60000";

pub(crate) const LESSON: Lesson = Lesson {
    name: "restart",
    part: Part::Accepting,
    title: "a restart resets the clients that wait, unless they move",
    question: "The new process listens on the same port before the old one ends. Is any client lost?",
    prediction: Prediction {
        ask: "20 clients wait in the accept queue of the old process. A new one listens on the same port \
              (SO_REUSEPORT). Then the old one ends. What becomes of the 20?",
        answers: &[
            "The kernel hands them to the new process, always",
            "They are reset, unless net.ipv4.tcp_migrate_req is set",
            "They are served by the old process until they are done",
        ],
        right: 1,
        because: "An accept queue belongs to its socket. Closing the socket resets all that nobody has accepted. With \
                  tcp_migrate_req=1 they move to another socket of the group: here all 20 are served.",
    },
    setup: Setup {
        sysctls: &[("net/ipv4/tcp_migrate_req", "0")],
        servers: &[
            Server::demo("old_plain", 7001, SERVER),
            Server::demo("old_migrates", 7002, SERVER),
            Server::demo("new_plain", 7001, SERVER).in_step(1),
            Server::demo("new_migrates", 7002, SERVER).in_step(1),
        ],
        loads: &[
            Load::stress("old_plain", LOAD).named("plain").for_steps(0),
            Load::stress("old_migrates", LOAD).named("migrates").for_steps(0),
        ],
    },
    steps: &[
        Step {
            name: "queued",
            length_ms: 4_000,
            short_ms: 1_500,
            watch: "Both old servers hang. 20 clients of each are connected and wait in its accept queue.",
            acts: &[Act::Stall("old_plain"), Act::Stall("old_migrates")],
        },
        Step {
            name: "overlap",
            length_ms: 3_000,
            short_ms: 1_200,
            watch: "The new servers listen on the same ports. New clients would come to either; those that wait stay where \
                    they are.",
            acts: &[],
        },
        Step {
            name: "closed",
            length_ms: 4_000,
            short_ms: 1_500,
            watch: "The old servers have ended. The 20 of old_plain are reset: aborted. Those of old_migrates have moved \
                    (tcp_migrate_req=1) and are served.",
            acts: &[Act::End("old_plain"), Act::Sysctl("net/ipv4/tcp_migrate_req", "1"), Act::End("old_migrates")],
        },
    ],
    expectations: &[
        Expectation {
            id: "waiting",
            what: "connections that wait in each old queue",
            figure: "listentop:old_plain:accept_queue.depth@queued",
            unit: "connections",
            bounds: Bounds::Exactly(20.0),
            short: None,
            widened: None,
            why: "20 clients connect, and nobody accepts",
        },
        Expectation {
            id: "reset",
            what: "clients that are reset without migration",
            figure: "load:plain:failures.response.reset",
            unit: "clients",
            bounds: Bounds::Exactly(20.0),
            short: None,
            widened: None,
            why: "closing a listener resets each connection that nobody has accepted",
        },
        Expectation {
            id: "aborted",
            what: "connections that listentop saw leave that queue without being accepted",
            figure: "listentop:old_plain:accept_queue.aborted",
            unit: "connections",
            bounds: Bounds::Exactly(20.0),
            short: None,
            widened: None,
            why: "these 20 clients, seen from the server's kernel",
        },
        Expectation {
            id: "served",
            what: "clients that are served with migration",
            figure: "load:migrates:completed",
            unit: "clients",
            bounds: Bounds::Exactly(20.0),
            short: None,
            widened: None,
            why: "the queue moves to the other listener of the group, where a thread accepts",
        },
        Expectation {
            id: "moved",
            what: "connections that the new process accepted although they came to the old one",
            figure: "server:new_migrates:total.accepts",
            unit: "connections",
            bounds: Bounds::Exactly(20.0),
            short: None,
            widened: None,
            why: "no client connected after the new one listened",
        },
    ],
    findings: &["connections_lost_on_close", "hung_acceptor", "slow_accept"],
    belief: "With SO_REUSEPORT a restart loses no connection.",
    mechanism: &[
        "Each listening socket has its own accept queue, also in a group of SO_REUSEPORT. Closing it resets what is in \
         there (inet_csk_listen_stop).",
        "Since Linux 5.14 tcp_migrate_req=1 moves queued connections and requests to another socket of the group instead.",
        "Passing the listening descriptor on (systemd socket activation, nginx's reload) avoids the question: the socket \
         is never closed.",
        "A server that stops accepting before it stops listening loses every client that finishes its handshake in \
         between.",
    ],
    try_next: &[
        "The finding connections_lost_on_close names the closed listener.",
        "Restart a server of your own under load while `sudo listentop` watches it: does the finding come?",
    ],
    spoiler: Spoiler {
        what: "tcp_migrate_req is 1 from the start",
        change: Change::Sysctl("net/ipv4/tcp_migrate_req", "1"),
        fails: &["reset", "aborted"],
    },
};
