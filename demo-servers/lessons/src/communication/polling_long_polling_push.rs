//! Five ways to bring news to clients, and what each costs per message.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};
use crate::programs::{PUSH, PUSH_LOAD};

pub(crate) const LESSON: Lesson = Lesson {
    name: "polling-long-polling-push",
    part: Part::Communication,
    title: "news by polling, long polling, events, push, topics",
    question: "20 clients want to know when something happens, which it does five times in two seconds. How do they get \
               the news soon, without asking all the time?",
    prediction: Prediction {
        ask: "A message comes every 400 ms. Short polling asks every 500 ms, long polling asks and waits, events and \
              WebSocket are pushed. How late is the news (median), and how many requests does the server read per \
              message that a client gets?",
        answers: &[
            "All within milliseconds; polling needs a few more requests",
            "Polling: some 250 ms late, about one request per message; long polling: at once, one request per message; \
             push: at once, none",
            "Push is late, because the server has to reach 20 clients one after the other",
        ],
        right: 1,
        because: "Who polls is late by half of the interval on average, and asks whether there is news or not. Who waits \
                  in the request or is pushed to gets it as soon as it is there.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::of(PUSH, "poll", 7001, "--method poll --every-ms 400"),
            Server::of(PUSH, "long_poll", 7002, "--method long-poll --every-ms 400"),
            Server::of(PUSH, "events", 7003, "--method events --every-ms 400"),
            Server::of(PUSH, "websocket", 7004, "--method websocket --every-ms 400"),
            Server::of(PUSH, "pubsub", 7005, "--method pubsub"),
        ],
        loads: &[
            Load::of(PUSH_LOAD, "poll", "--method poll --subscribers 20 --poll-every-ms 500"),
            Load::of(PUSH_LOAD, "long_poll", "--method long-poll --subscribers 20"),
            Load::of(PUSH_LOAD, "events", "--method events --subscribers 20"),
            Load::of(PUSH_LOAD, "websocket", "--method websocket --subscribers 20"),
            Load::of(PUSH_LOAD, "pubsub", "--method pubsub --subscribers 20 --every-ms 400"),
        ],
    },
    steps: &[Step {
        name: "news",
        length_ms: 10_000,
        short_ms: 5_000,
        watch: "20 connections each, accepted once. Compare reads and writes per second: poll and long_poll read a request \
                for each answer, the others only write.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "poll-late",
            what: "delay of a message (p50) by short polling",
            figure: "load:poll:delay_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::Between(150.0, 350.0),
            short: None,
            widened: Some("2 * run:late_us.p90 / 1000"),
            why: "half of the 500 ms between two polls",
        },
        Expectation {
            id: "long-poll-prompt",
            what: "delay of a message (p50) by long polling",
            figure: "load:long_poll:delay_us.p50 / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(20.0),
            short: None,
            widened: Some("4 * run:late_us.p90 / 1000"),
            why: "the request is there already. 20 answers take the server's thread about a millisecond",
        },
        Expectation {
            id: "push-prompt",
            what: "delays (p50) by events, WebSocket and publish/subscribe, added up",
            figure: "(load:events:delay_us.p50 + load:websocket:delay_us.p50 + load:pubsub:delay_us.p50) / 1000",
            unit: "ms",
            bounds: Bounds::AtMost(60.0),
            short: None,
            widened: Some("9 * run:late_us.p90 / 1000"),
            why: "each takes the server's thread about a millisecond, as long polling does",
        },
        Expectation {
            id: "long-poll-requests",
            what: "reads per message of long polling",
            figure: "server:long_poll:total.reads / server:long_poll:more.messages",
            unit: "reads",
            bounds: Bounds::Between(0.9, 1.3),
            short: None,
            widened: None,
            why: "each message needs a new request",
        },
        Expectation {
            id: "push-requests",
            what: "reads per message of server-sent events",
            figure: "server:events:total.reads / server:events:more.messages",
            unit: "reads",
            bounds: Bounds::AtMost(0.3),
            short: None,
            widened: None,
            why: "one request at the beginning, and then only writes",
        },
        Expectation {
            id: "fan-out",
            what: "messages that publish/subscribe delivered per message that was published",
            figure: "server:pubsub:more.messages / (server:pubsub:total.requests - 20)",
            unit: "messages",
            bounds: Bounds::Between(19.0, 20.0),
            short: None,
            widened: None,
            why: "one for each of the 20 subscribers",
        },
        Expectation {
            id: "nothing-missed",
            what: "messages that clients missed",
            figure: "load:poll:missed + load:long_poll:missed + load:events:missed + load:websocket:missed \
                     + load:pubsub:missed",
            unit: "messages",
            bounds: Bounds::Exactly(0.0),
            short: None,
            widened: None,
            why: "each client names the last message that it has, or stays connected",
        },
    ],
    findings: &[],
    belief: "Polling is simple and nearly as good; push is for experts.",
    mechanism: &[
        "Short polling trades delay against requests: half the interval late, and most answers may be empty.",
        "Long polling, events and WebSocket keep a connection open that is silent most of the time. It costs the kernel \
         some kilobytes, the server a descriptor and a task, and nobody any CPU.",
        "A message to N clients is N writes and N wake-ups of clients at the same moment. For 20 that is a millisecond; \
         for 100,000 it is a herd, and what they ask afterwards is another one.",
    ],
    try_next: &[
        "Look at the answer time of long_poll: the server keeps the request, so it is as long as the pause between \
         messages. That is no fault.",
        "Poll ten times as often (`--with 'load:poll --poll-every-ms 50'`): less delay, ten times the reads.",
    ],
    spoiler: Spoiler {
        what: "a poll every 20 ms",
        change: Change::Load("poll", "--poll-every-ms 500", "--poll-every-ms 20"),
        fails: &["poll-late"],
    },
};
