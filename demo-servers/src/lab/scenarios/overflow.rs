//! One slow acceptor with a small backlog, under more load than it can accept.

use super::{Cookies, Options, Scenario, Server, arguments};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "overflow",
    summary: "an accept queue that overflows; --cookies[=off|on|always] and --abort-on-overflow change how",
    look_for: &[
        "slow_acceptor (7001) accepts at most 50 connections per second, but 80 per second arrive.",
        "Its accept queue (backlog 8, so 9 fit) stays full: each connection waits about 9 × 20 ms in it.",
        "The kernel drops SYNs that find it full. Clients try again after 1 s: there are more attempts than clients.",
        "It also drops final ACKs. Their clients believe that they are connected, and they fill the SYN queue.",
        "--cookies answers a full SYN queue with cookies. That does not help: the accept queue is the bottleneck.",
        "--abort-on-overflow resets clients whose final ACK is dropped: they fail at once instead of waiting.",
        "The server itself looks idle: its thread sleeps most of the time.",
    ],
    cookies: Cookies::Off,
    servers,
};

fn servers(options: &Options) -> Vec<Server> {
    let server = "--pattern single_thread --backlog 8 --accept-delay-us 20000";
    let load =
        format!("--rate 80 --arrivals constant --max-open 4000 --connect-timeout-ms 8000 --seed {}", options.seed);
    vec![Server { name: "slow_acceptor".to_owned(), port: 7001, arguments: arguments(server), load: arguments(&load) }]
}
