//! SYNs from addresses that do not answer, and what cookies change.

use crate::format::{
    Act, Bounds, Change, Expectation, FLOOD, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step,
};

/// Real clients, who give up before the next step is over.
const CLIENTS: &str = "--rate 40 --connect-timeout-ms 1200";

pub(crate) const LESSON: Lesson = Lesson {
    name: "syn-flood",
    part: Part::Accepting,
    title: "a flood of SYNs, with cookies 0, 1 and 2",
    question: "Thousands of SYNs come from addresses that never answer. What do real clients notice, and what do SYN cookies \
               change?",
    prediction: Prediction {
        ask: "1,000 SYNs per second come from addresses that do not answer the SYN-ACK, and 40 real clients per \
              second. The backlog is 64. What happens to the real clients without SYN cookies, and with them?",
        answers: &[
            "They get through either way: the accept queue is empty",
            "Without cookies most are refused, because the SYN queue is full. With cookies all get through",
            "Most are refused either way: only a firewall helps",
        ],
        right: 1,
        because: "Each request waits in the SYN queue for its final ACK, up to 65 of them. With cookies the kernel keeps \
                  nothing for a SYN when the queue is full: the cookie that comes back is the memory.",
    },
    setup: Setup {
        sysctls: &[
            ("net/ipv4/tcp_syncookies", "0"),
            // Requests that nobody follows up are given up after 3 s instead of a minute.
            ("net/ipv4/tcp_synack_retries", "1"),
        ],
        servers: &[Server::demo("flooded", 7001, "--pattern single_thread --backlog 64")],
        loads: &[
            Load::of(FLOOD, "flooded", "--rate 1000").named("flood").for_steps(3),
            Load::stress("flooded", CLIENTS).named("without"),
            Load::stress("flooded", CLIENTS).named("with").in_step(1),
            Load::stress("flooded", CLIENTS).named("always").in_step(2),
        ],
    },
    steps: &[
        Step {
            name: "off",
            length_ms: 7_000,
            short_ms: 2_500,
            watch: "tcp_syncookies is 0. The SYN queue is full; SYNs of real clients are dropped with the others. The accept \
                    queue is empty, the server idle.",
            acts: &[],
        },
        Step {
            name: "on",
            length_ms: 7_000,
            short_ms: 2_500,
            watch: "tcp_syncookies is 1. The SYN queue is as full as before, but SYNs that find it full are answered with a \
                    cookie. Real clients get through.",
            acts: &[Act::Sysctl("net/ipv4/tcp_syncookies", "1")],
        },
        Step {
            name: "always",
            length_ms: 7_000,
            short_ms: 2_500,
            watch: "tcp_syncookies is 2. Every SYN is answered with a cookie: the SYN queue empties, and handshakes leave no \
                    trace until the last ACK.",
            acts: &[Act::Sysctl("net/ipv4/tcp_syncookies", "2")],
        },
    ],
    expectations: &[
        Expectation {
            id: "without",
            what: "share of real clients that connect at once without cookies",
            figure: "100 * (load:without:due - load:without:slow_connects.s1) / load:without:due",
            unit: "%",
            bounds: Bounds::AtMost(60.0),
            short: None,
            widened: None,
            why: "when the queue is full, a place becomes free only when a request is given up. Clients at the very \
                  beginning get through",
        },
        Expectation {
            id: "full",
            what: "SYNs that were dropped because the SYN queue was full, of those that the flood sent",
            figure: "100 * kernel:TcpExtTCPReqQFullDrop@off / load:flood:sent@off",
            unit: "%",
            bounds: Bounds::AtLeast(80.0),
            short: None,
            widened: None,
            why: "nearly all: a place is free only when a request is given up",
        },
        Expectation {
            id: "no-cookies",
            what: "cookies sent while tcp_syncookies was 0",
            figure: "kernel:TcpExtSyncookiesSent@off",
            unit: "cookies",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "they are off",
        },
        Expectation {
            id: "with",
            what: "share of real clients that connect while tcp_syncookies is 1",
            figure: "100 * load:with:established / load:with:due",
            unit: "%",
            bounds: Bounds::AtLeast(98.0),
            short: None,
            widened: None,
            why: "a cookie needs no place in the queue. One client may still be on its way",
        },
        Expectation {
            id: "cookies",
            what: "cookies sent in step on, of the SYNs that the flood sent in it",
            figure: "100 * kernel:TcpExtSyncookiesSent@on / (load:flood:sent@on - load:flood:sent@off)",
            unit: "%",
            bounds: Bounds::AtLeast(80.0),
            short: None,
            widened: None,
            why: "one for each SYN that finds it full",
        },
        Expectation {
            id: "came-back",
            what: "cookies that came back valid, less the real clients of the last step",
            figure: "kernel:TcpExtSyncookiesRecv@always - kernel:TcpExtSyncookiesRecv@on - load:always:established@always",
            unit: "cookies",
            bounds: Bounds::Between(-1.0, 1.0),
            short: None,
            widened: None,
            why: "with 2 every real client is let in by its cookie. One may connect while the kernel's counters are read",
        },
        Expectation {
            id: "young",
            what: "young requests in the SYN queue while every SYN gets a cookie",
            figure: "listentop:flooded:syn_queue.young@always",
            unit: "requests",
            bounds: Bounds::AtMost(5.0),
            short: None,
            widened: None,
            why: "young are those whose SYN-ACK was not sent again yet. Nothing is queued for a SYN any more, and what \
                  is left from before is older",
        },
    ],
    findings: &["syn_queue_overflow"],
    belief: "A flood fills the accept queue, so a larger backlog helps.",
    mechanism: &[
        "A SYN makes a request socket in the SYN queue; its limit is the backlog, too. It stays until the final ACK, \
         or until the SYN-ACK was sent again tcp_synack_retries times in vain: about a minute by default, some 3 s \
         here.",
        "With tcp_syncookies=1 a SYN that finds the queue full is answered with a SYN-ACK whose sequence number is a \
         keyed hash of the addresses, ports and time. Only who received it can return it. With 2 every SYN is answered \
         so.",
        "A cookie has room for four sizes of segments only; window scaling and selective ACK need the client's \
         timestamps. And it does not help a full accept queue.",
    ],
    try_next: &[
        "Cookies on and off by key, while the flood goes on.",
        "Watch the listener's SYN queue: depth, requests given up, cookies sent and validated.",
    ],
    spoiler: Spoiler {
        what: "cookies are on from the start",
        change: Change::Sysctl("net/ipv4/tcp_syncookies", "1"),
        fails: &["without", "no-cookies"],
    },
};
