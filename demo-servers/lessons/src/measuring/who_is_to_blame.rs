//! Whom the wait is charged to: not to whom a profiler shows.

use crate::format::{Act, Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

/// One order is served, some wait: the depth stays the same, so that shares of the time are shares of the wait.
const LOAD: &str = "--closed 8 --timeout-ms 60000";
/// In points.
const NEAR: Bounds = Bounds::Between(-2.0, 2.0);
/// The same, where few orders are served on a busy machine.
const NEAR_BUSY: Bounds = Bounds::Between(-4.0, 4.0);
/// The same, where samples decide.
const NEAR_SAMPLED: Bounds = Bounds::Between(-4.0, 4.0);

pub(crate) const LESSON: Lesson = Lesson {
    name: "who-is-to-blame",
    part: Part::Measuring,
    title: "what clients waited for, and what a profiler shows",
    question: "A profiler finds one function in two slow servers: price_order. Is it what their clients wait for?",
    prediction: Prediction {
        ask: "A shop serves orders on one thread. It computes the price (price_order, 5 ms), waits for the lock of the stock, \
              which another thread holds for 40 ms at a time (reserve_stock), and writes a line to a slow disk (write_journal, \
              10 ms). What did it do during most of the time that clients waited?",
        answers: &[
            "It computed in price_order: a profiler shows nothing else",
            "It waited for the disk in write_journal",
            "It waited for the lock in reserve_stock",
            "It had nothing to do, and waited for clients",
        ],
        right: 2,
        because: "A profiler looks at threads on a CPU. This one sleeps nearly all the time: some 28 ms of 43 for the lock, 10 \
                  ms for the disk. price_order is an eighth of the wait.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo("shop", 7001, "--pattern single_thread --shop 5:40:10"),
            Server::demo("starved", 7002, "--pattern single_thread --shop 5:0:0 --pin 0 --hogs 2"),
        ],
        loads: &[Load::stress("shop", LOAD), Load::stress("starved", LOAD)],
    },
    steps: &[Step {
        name: "orders",
        length_ms: 12_000,
        short_ms: 5_000,
        watch: "Clients wait all the time. Blame (key 8) on shop: asleep in reserve_stock. On starved: runnable, other \
                threads have its CPU. Below, the figures of listentop blame come when the step ends.",
        acts: &[Act::Blame],
    }],
    expectations: &[
        Expectation {
            id: "lock-first",
            what: "of shop's wait while it slept, the share in reserve_stock",
            figure: "100 * sum(blame:shop:functions[reserve_stock].share) / blame:shop:states.asleep.share",
            unit: "%",
            bounds: Bounds::Between(45.0, 90.0),
            short: None,
            widened: None,
            why: "28 of 38 ms. It wants the lock again 15 ms after it had it. By then the other thread has had it for \
                  11 of its 40 ms. On a busy machine that is shorter",
        },
        Expectation {
            id: "lock-known",
            what: "share of shop's whole wait asleep in reserve_stock, less what the server measured",
            figure: "100 * (sum(blame:shop:functions[reserve_stock].share) \
                     - server:shop:shop.stock_asleep_us / server:shop:shop.total_us)",
            unit: "points",
            bounds: NEAR,
            short: None,
            widened: None,
            why: "as many clients wait at any time, so a share of the time is a share of the wait. A state is known exactly",
        },
        Expectation {
            id: "journal-known",
            what: "share of shop's wait in write_journal, less what the server measured",
            figure: "100 * (sum(blame:shop:functions[write_journal].share) \
                     - server:shop:shop.journal_asleep_us / server:shop:shop.total_us)",
            unit: "points",
            bounds: NEAR,
            short: None,
            widened: None,
            why: "some 23 % both",
        },
        Expectation {
            id: "running-known",
            what: "share of shop's wait on a CPU, less what the server measured",
            figure: "100 * (blame:shop:states.running.share - server:shop:shop.running_us / server:shop:shop.total_us)",
            unit: "points",
            bounds: NEAR,
            short: None,
            widened: None,
            why: "5 of 43 ms: what a profiler shows is an eighth of the wait",
        },
        Expectation {
            id: "profile",
            what: "of shop's wait on a CPU, the share in price_order: what a profiler shows",
            figure: "100 * sum(blame:shop:functions[price_order].share) / blame:shop:states.running.share",
            unit: "%",
            bounds: Bounds::AtLeast(75.0),
            short: Some(Bounds::AtLeast(60.0)),
            widened: None,
            why: "the rest is accepting, reading and writing. By samples: some 125 in the long form, 50 in the short one",
        },
        Expectation {
            id: "starved",
            what: "share of starved's wait in the run queue",
            figure: "100 * blame:starved:states.runnable.share",
            unit: "%",
            bounds: Bounds::AtLeast(45.0),
            short: None,
            widened: None,
            why: "two threads that compute have the same right to its CPU: it waits for two thirds of the time",
        },
        Expectation {
            id: "starved-known",
            what: "share of starved's wait in the run queue, less what the server read (schedstat)",
            figure: "100 * (blame:starved:states.runnable.share \
                     - server:starved:shop.runnable_us / server:starved:shop.total_us)",
            unit: "points",
            bounds: NEAR_BUSY,
            short: None,
            widened: None,
            why: "two ways to the same time: the scheduler's tracepoints, and its own account. On a busy machine an order takes \
                  a second, and the last one is counted whole or not at all",
        },
        Expectation {
            id: "innocent",
            what: "share of starved's wait in price_order, less its share of a CPU that the server measured",
            figure: "100 * (sum(blame:starved:functions[price_order].share) \
                     - server:starved:shop.running_us / server:starved:shop.total_us)",
            unit: "points",
            bounds: NEAR_SAMPLED,
            short: Some(Bounds::Between(-8.0, 8.0)),
            widened: None,
            why: "it is the only function that a profiler shows, and two thirds of the wait are not its fault. Which function \
                  ran is sampled",
        },
        Expectation {
            id: "all-of-it",
            what: "all that blame charges for shop, of the wait in its accept queue that the kernel shows",
            figure: "100 * blame:shop:total_wait_us / 1000000 / queue:shop:integral",
            unit: "%",
            bounds: Bounds::Between(95.0, 105.0),
            short: None,
            widened: None,
            why: "depth × time is the wait. Depths are read every 2 ms, later on a busy machine",
        },
    ],
    findings: &["cpu_starved_acceptor", "slow_accept", "slow_reader"],
    belief: "The function that takes the most CPU time is the one to make faster.",
    mechanism: &[
        "A connection waits in the accept queue, whatever the acceptor does. Blame takes each moment as often as connections \
         wait in it, and charges it to what the acceptor does then. The charges add up to the whole wait.",
        "The scheduler tells when a thread leaves the CPU, and whether it sleeps or was put aside (sched_switch), and when it \
         is ready again (sched_wakeup). Asleep, runnable and running are therefore exact.",
        "A sleeping thread has a stack, too: it says which lock, which file, which function of the program. A profiler of CPU \
         time never sees it.",
        "A thread that is runnable is innocent: look for who has the CPU, or for a quota.",
    ],
    try_next: &[
        "`--spoil`: the other thread holds the lock for 2 ms only. Who is to blame then, and what became of the wait?",
        "`sudo listentop blame --port PORT --for 10s` with a server of your own.",
        "`cargo xtask demo cpu-starved`: the same starvation, by its accept wait.",
    ],
    spoiler: Spoiler {
        what: "a lock that is held for 2 ms instead of 40 ms",
        change: Change::Server("shop", "5:40:10", "5:2:10"),
        fails: &["lock-first"],
    },
};
