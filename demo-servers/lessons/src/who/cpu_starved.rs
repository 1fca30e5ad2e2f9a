//! An acceptor that has work but no CPU.

use crate::format::{Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Server, Setup, Spoiler, Step};

const LOAD: &str = "--rate 25 --arrivals poisson --timeout-ms 30000";

pub(crate) const LESSON: Lesson = Lesson {
    name: "cpu-starved",
    part: Part::WhoAccepts,
    title: "an acceptor that is ready to run but gets no CPU",
    question: "A server uses nearly no CPU, and still its clients wait. It is not asleep. What is it doing?",
    prediction: Prediction {
        ask: "Two servers get 25 connections per second, which cost next to nothing. One of them runs with the lowest \
              priority on a CPU where two threads compute. What tells them apart?",
        answers: &[
            "Nothing: 25 connections per second are too few to notice",
            "The starved one shows high CPU usage",
            "The starved one shows low CPU usage and long accept waits; its thread waits for a CPU",
        ],
        right: 2,
        because: "The kernel puts each connection on the queue and wakes the thread at once. Awake is not running: the \
                  thread stands in the run queue behind those that compute. Its own CPU time stays small.",
    },
    setup: Setup {
        sysctls: &[],
        servers: &[
            Server::demo("alone", 7001, "--pattern single_thread"),
            Server::demo("starved", 7002, "--pattern single_thread --pin 0 --hogs 2 --idle-priority --backlog 1024"),
        ],
        loads: &[Load::stress("alone", LOAD), Load::stress("starved", LOAD)],
    },
    steps: &[Step {
        name: "load",
        length_ms: 12_000,
        short_ms: 6_000,
        watch: "The same load for both. starved: long accept wait, and in its threads (Enter, Tab) the time in the run \
                queue: ready, but without a CPU. alone: microseconds.",
        acts: &[],
    }],
    expectations: &[
        Expectation {
            id: "late",
            what: "accept wait (p90) of the starved server",
            figure: "listentop:starved:accept_queue.wait_us.p90 / 1000",
            unit: "ms",
            bounds: Bounds::AtLeast(20.0),
            short: None,
            widened: None,
            why: "the two that compute get nearly all of the CPU, in slices of milliseconds",
        },
        Expectation {
            id: "slower",
            what: "accept wait (p90) of the starved server, in units of the other's",
            figure: "listentop:starved:accept_queue.wait_us.p90 / listentop:alone:accept_queue.wait_us.p90",
            unit: "times",
            bounds: Bounds::AtLeast(5.0),
            short: None,
            widened: None,
            why: "the other one is woken and runs. On a busy machine it waits for a CPU too, by a fair share",
        },
        Expectation {
            id: "says-so",
            what: "listentop names the cause: cpu_starved_acceptor",
            figure: "count(listentop:starved:findings[cpu_starved_acceptor])",
            unit: "",
            bounds: Bounds::Exactly(1.0),
            short: None,
            widened: None,
            why: "the kernel keeps the time that each thread was ready to run but did not (schedstat)",
        },
        Expectation {
            id: "served-nearly-nothing",
            what: "of the time in which starved's thread was ready to run, the share in which it ran",
            figure: "100 * max(listentop:starved:threads[single].on_cpu_us) \
                     / (max(listentop:starved:threads[single].on_cpu_us) \
                     + max(listentop:starved:threads[single].run_queue_us) \
                     + 1)",
            unit: "%",
            bounds: Bounds::AtMost(40.0),
            short: None,
            widened: None,
            why: "during the rest of it the thread stood in the run queue, without a CPU",
        },
    ],
    findings: &["busy_acceptor", "slow_accept", "slow_reader"],
    belief: "A server with low CPU usage has nothing to do, so the network must be slow.",
    mechanism: &[
        "A wake-up makes a thread ready; the scheduler decides when it runs. /proc/PID/task/TID/schedstat has both: time \
         on a CPU, and time in the run queue.",
        "The scheduler shares a CPU by weight. A thread of SCHED_IDLE has weight 3 against 1024 of an ordinary one.",
        "The same happens with a cgroup whose CPU quota is used up, with a noisy neighbour, or with more busy threads \
         than CPUs in the server itself.",
    ],
    try_next: &[
        "Select starved and press Enter: the thread's time on a CPU, in the run queue and asleep.",
        "Without the two that compute (`--with 'server:starved --hogs 0'`): the low priority alone harms nobody.",
    ],
    spoiler: Spoiler {
        what: "no busy threads beside the server",
        change: Change::Server("starved", "--hogs 2 --idle-priority", "--hogs 0"),
        fails: &["late", "says-so"],
    },
};
