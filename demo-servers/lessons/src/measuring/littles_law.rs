//! Depth = rate × wait, at three degrees of use.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// One connection every 10 ms, or a little more: sleeping takes its time.
const SERVER: &str = "--pattern single_thread --backlog 512 --accept-delay-us 10000";

/// How near rate × wait must be to the depth.
const NEAR: Bounds = Bounds::Between(0.85, 1.15);
const WHY_NEAR: &str = "waits are known to 1/16; depths are read every 2 ms, later on a busy machine";

pub(crate) const LESSON: Lesson = Lesson {
    name: "littles-law",
    part: Part::Measuring,
    title: "depth = rate × wait, and why 85 % use is not 85 % fine",
    question: "The queue holds 3 connections on average and 80 arrive per second. How long does one wait? And how much \
               longer at a little more load?",
    prediction: Prediction {
        ask: "A server takes 10 ms per connection, which stays in the queue meanwhile. Clients arrive at random, 40 \
              per second: each is in the queue for some 13 ms, 3 of them before its turn. How long does it wait at 85 \
              per second, a bit more than twice the load?",
        answers: &[
            "About twice as long",
            "About three times as long",
            "As long: the server is still faster than the clients",
        ],
        right: 1,
        because: "At 40 % use a client seldom finds another one before it; at 85 % it finds several. The wait grows as \
                  1 ÷ (1 − use), not as the use.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo("at_40", 7001, SERVER),
            Server::demo("at_70", 7002, SERVER),
            Server::demo("at_85", 7003, SERVER),
        ],
        loads: &[
            Load::stress("at_40", "--rate 40 --arrivals poisson"),
            Load::stress("at_70", "--rate 70 --arrivals poisson"),
            Load::stress("at_85", "--rate 85 --arrivals poisson"),
        ],
    },
    steps: &[Step {
        name: "load",
        length_ms: 15_000,
        short_ms: 5_000,
        watch: "Three equal servers at 40, 70 and 85 connections per second. Multiply accepts per second by the mean wait: \
                it is the mean depth.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "law-40",
            what: "at 40 per second: rate × wait ÷ depth",
            figure: "listentop:at_40:accept_queue.wait_us.count * listentop:at_40:accept_queue.wait_us.mean / 1000000 \
                     / queue:at_40:integral",
            unit: "",
            bounds: NEAR,
            short: None,
            widened: None,
            why: WHY_NEAR,
        },
        Expectation {
            id: "law-70",
            what: "at 70 per second: rate × wait ÷ depth",
            figure: "listentop:at_70:accept_queue.wait_us.count * listentop:at_70:accept_queue.wait_us.mean / 1000000 \
                     / queue:at_70:integral",
            unit: "",
            bounds: NEAR,
            short: None,
            widened: None,
            why: WHY_NEAR,
        },
        Expectation {
            id: "law-85",
            what: "at 85 per second: rate × wait ÷ depth",
            figure: "listentop:at_85:accept_queue.wait_us.count * listentop:at_85:accept_queue.wait_us.mean / 1000000 \
                     / queue:at_85:integral",
            unit: "",
            bounds: NEAR,
            short: None,
            widened: None,
            why: WHY_NEAR,
        },
        Expectation {
            id: "steeper",
            what: "mean wait at 85 per second, in units of that at 40",
            figure: "listentop:at_85:accept_queue.wait_us.mean / listentop:at_40:accept_queue.wait_us.mean",
            unit: "times",
            bounds: Bounds::AtLeast(1.8),
            short: Some(Bounds::AtLeast(1.3)),
            widened: None,
            why: "about 3 in the long run; how the random arrivals fall widens it, and more so in a short time",
        },
    ],
    findings: &["slow_accept"],
    belief: "Twice the load means twice the wait.",
    mechanism: &[
        "Little's law: mean number in a system = rate of arrivals × mean time in it. It needs no assumption about \
         distributions, only that what comes in goes out. So where the queue holds 3 connections on average and 80 \
         arrive per second, one waits for 3 ÷ 80 s, some 37 ms.",
        "For random arrivals and equal work the wait before service is use ÷ (2 × (1 − use)) services: 0.3 at 40 %, \
         1.2 at 70 %, 2.8 at 85 %. A service is 10 ms here and is spent in the queue, too: 13, 22 and 38 ms.",
        "Two of the three can be had easily; the third follows, and a tool that shows all three can be checked.",
    ],
    try_next: &[
        "Let more clients come (`--with 'load:at_85 --rate 94'`): by the formula above, 7.8 services before one's own \
         instead of 2.8. Watch how long it takes until the depth is steady.",
        "Every lesson prints the law for its servers at its end.",
    ],
    spoiler: Spoiler {
        what: "40 instead of 85 connections per second",
        change: Change::Load("at_85", "--rate 85", "--rate 40"),
        fails: &["steeper"],
    },
};
