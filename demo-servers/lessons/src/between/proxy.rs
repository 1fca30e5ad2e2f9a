//! A proxy in front of a slow server: where does the queue move?

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};
use crate::programs::PROXY;

const BACKEND: &str = "--pattern single_thread --backlog 8 --block-us 8000";
/// 40 at once: more than the backlog of 8 holds.
const LOAD: &str = "--burst 40:1000 --timeout-ms 20000";

pub(crate) const LESSON: Lesson = Lesson {
    name: "proxy",
    part: Part::InBetween,
    title: "where a queue goes when a proxy comes in between",
    question: "A server's accept queue overflows. Somebody puts a proxy in front of it. Is the overflow gone?",
    prediction: Prediction {
        ask: "40 clients come at once, and the server's backlog is 8. What becomes of its overflow behind a proxy that \
              copies bytes (L4), and behind one that reads requests and keeps 4 connections to the server (L7)?",
        answers: &[
            "Gone behind both: the proxy accepts for the server",
            "It stays behind L4, and is gone behind L7",
            "It stays behind both: the server is as slow as before",
        ],
        right: 1,
        because: "An L4 proxy opens a connection to the server for each client, so the same 40 come at once. An L7 proxy \
                  has four, and the requests wait in its memory.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo("direct", 7001, BACKEND),
            Server::demo("behind_l4", 7002, BACKEND),
            Server::demo("behind_l7", 7003, BACKEND),
            Server::of(PROXY, "l4", 7012, "--level l4 --backlog 512 --upstream 127.0.0.1:{port:behind_l4}"),
            Server::of(PROXY, "l7", 7013, "--level l7 --pool 4 --backlog 512 --upstream 127.0.0.1:{port:behind_l7}"),
        ],
        loads: &[Load::stress("direct", LOAD), Load::stress("l4", LOAD), Load::stress("l7", LOAD)],
    },
    steps: &[Step {
        name: "bursts",
        length_ms: 10_000,
        short_ms: 5_000,
        watch: "direct and behind_l4 drop what does not fit into a backlog of 8. l4 and l7 accept everybody at once. \
                behind_l7 has 4 connections and no queue.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "direct-drops",
            what: "attempts that the server without a proxy refused",
            figure: "listentop:direct:drops.total",
            unit: "attempts",
            bounds: Bounds::AtLeast(20.0),
            short: None,
            widened: None,
            why: "of each 40 some ten fit, and those that were refused come back after 1 s, together with the next \
                  burst",
        },
        Expectation {
            id: "l4-drops",
            what: "attempts that the server behind L4 refused",
            figure: "listentop:behind_l4:drops.total",
            unit: "attempts",
            bounds: Bounds::AtLeast(20.0),
            short: None,
            widened: None,
            why: "the same burst, one step further in. Now it is the proxy that sends its SYN again",
        },
        Expectation {
            id: "l7-drops",
            what: "attempts that the server behind L7 refused",
            figure: "listentop:behind_l7:drops.total",
            unit: "attempts",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "four connections fit into its backlog, and they stay open",
        },
        Expectation {
            id: "proxy-accepts",
            what: "accept wait (p90) of the L4 proxy",
            figure: "listentop:l4:accept_queue.wait_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(30.0),
            short: None,
            widened: Some("3 * run:late_us.p90 / 1000"),
            why: "it does nothing but accept and copy. To its clients everything looks well",
        },
        Expectation {
            id: "inside-the-proxy",
            what: "requests that waited inside the L7 proxy at most",
            figure: "server:l7:more.peak_waiting",
            unit: "requests",
            bounds: Bounds::Between(25.0, 80.0),
            short: None,
            widened: None,
            why: "40 less the four that are on their way; and what is left of the last burst",
        },
        Expectation {
            id: "l7-connections",
            what: "connections that the server behind L7 accepted",
            figure: "server:behind_l7:total.accepts",
            unit: "connections",
            bounds: Bounds::Between(1.0, 4.0),
            short: None,
            widened: None,
            why: "they are kept open",
        },
        Expectation {
            id: "no-second-syn",
            what: "clients of the L7 proxy that had to send their SYN again",
            figure: "load:l7:syn_retries.one + load:l7:syn_retries.two + load:l7:syn_retries.three_or_more",
            unit: "clients",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "its backlog holds all of them. Those of direct wait for a second and try again",
        },
    ],
    findings: &[
        "accept_queue_overflow",
        "backlog_small",
        "refused_unexplained",
        "slow_accept",
        "slow_reader",
        "syn_queue_overflow",
    ],
    belief: "A proxy protects the server behind it.",
    mechanism: &[
        "A proxy ends one TCP connection and begins another one. The kernel of the proxy completes the handshake with the \
         client, whether the server behind is there or not.",
        "At level 4 connections are passed on one by one: bursts, backlog and SYN retries too, only that the client does \
         not see them as such.",
        "At level 7 the proxy can hold requests back and share connections. The queue is then in its memory, and it must \
         be bounded there (maxconn, maxqueue), or the delay grows without an overflow anywhere.",
    ],
    try_next: &[
        "A pool of 40 (`--with 'server:l7 --pool 40'`): the L7 proxy makes the same burst as L4, once.",
        "`cargo xtask demo pool`: how large a pool should be.",
    ],
    spoiler: Spoiler {
        what: "an L7 proxy that copies bytes too",
        change: Change::Server("l7", "--level l7", "--level l4"),
        fails: &["l7-drops", "inside-the-proxy", "l7-connections"],
    },
};
