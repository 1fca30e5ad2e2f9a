//! The five patterns side by side, under the same load.

use super::{Cookies, Options, Scenario, Server, arguments};
use crate::server::options::Pattern;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "patterns",
    summary: "five acceptor/reader patterns side by side under the same load",
    look_for: &[
        "Five servers get the same connections at the same times. Each request costs every server the same work.",
        "single_thread (7001): one thread does everything in turn, so accept wait and residency are long.",
        "acceptor_readers (7002): one thread accepts at once; residency grows when a reader has several connections.",
        "message_balancing (7003): one thread reads at once, so residency is short; requests wait inside the server.",
        "multi_acceptor (7004): four threads share one accept queue; compare how many connections each accepts.",
        "sharded (7005): a hash fills four accept queues, so one shard can be busy while another is idle.",
        "Linux cuts process names after 15 bytes: to acceptor_reader and message_balanci.",
    ],
    cookies: Cookies::On,
    servers,
};

const PATTERNS: [Pattern; 5] = [
    Pattern::SingleThread,
    Pattern::AcceptorReaders,
    Pattern::MessageBalancing,
    Pattern::MultiAcceptor,
    Pattern::Sharded,
];

fn servers(options: &Options) -> Vec<Server> {
    let server = |(port, pattern): (u16, Pattern)| {
        let name = pattern.name();
        // 120 connections per second, with four requests of about 1.5 ms each, keep one thread busy for 72 % of the
        // time: requests queue visibly. They keep four threads busy for 18 %. Each server takes 5 % of a core: two
        // cores are enough for all of them.
        let server = format!("--pattern {name} --threads 4 --backlog 128 --cpu-us 100 --block-us 1300");
        let load = format!("--rate 120 --arrivals poisson --requests 4 --think-ms 20 --seed {}", options.seed);
        Server { name, port, arguments: arguments(&server), load: arguments(&load) }
    };
    (7001..).zip(PATTERNS).map(server).collect()
}
