//! One slow acceptor behind a small backlog, under more load than it can take.

use super::{Cookies, Options, Scenario, Server, arguments};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "overflow",
    summary: "an accept queue that overflows: --cookies[=off|on|always] and --abort-on-overflow change how",
    look_for: &[
        "slow_acceptor (7001) accepts 50 connections per second at most, and 80 per second arrive.",
        "Its accept queue (backlog 8, so 9 fit) stays full, and each connection waits about 9 × 20 ms in it.",
        "SYNs that find it full are dropped: clients try again after 1 s, so attempts are more than clients.",
        "Final ACKs find it full too: such clients believe they are connected, stay in the SYN queue, and fill it as well.",
        "--cookies answers a full SYN queue with cookies, which does not help: the accept queue is the narrow place.",
        "--abort-on-overflow resets clients whose final ACK is refused, so that they fail at once instead of waiting.",
        "The server itself looks idle: its thread sleeps.",
    ],
    cookies: Cookies::Off,
    servers,
};

fn servers(options: &Options) -> Vec<Server> {
    let server = "--pattern single_thread --backlog 8 --accept-delay-us 20000";
    let load =
        format!("--rate 80 --arrivals constant --max-open 4000 --connect-timeout-ms 8000 --seed {}", options.seed);
    vec![Server { name: "slow_acceptor", port: 7001, arguments: arguments(server), load: arguments(&load) }]
}
