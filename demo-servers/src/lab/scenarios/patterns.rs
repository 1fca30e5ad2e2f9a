//! The five patterns side by side, under the same load.

use super::{Cookies, Options, Scenario, Server, arguments};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "patterns",
    summary: "five acceptor/reader patterns side by side under the same load",
    look_for: &[
        "Five servers get the same connections at the same times, and each request costs each of them the same.",
        "single_thread (7001): accept wait and residency are long, because one thread does everything in turn.",
        "acceptor_readers (7002): accepts at once; residency shows where a reader has several connections at a time.",
        "message_balancing (7003): reads at once, so residency is short; requests wait in the server's own queue.",
        "multi_acceptor (7004): four threads share one accept queue; see who accepts how much.",
        "sharded (7005): four accept queues, filled by a hash; one shard can be busy while another is idle.",
    ],
    cookies: Cookies::On,
    servers,
};

fn servers(options: &Options) -> Vec<Server> {
    let patterns = ["single_thread", "acceptor_readers", "message_balancing", "multi_acceptor", "sharded"];
    // Of the process names the kernel keeps 15 bytes.
    let names = ["single_thread", "accept_readers", "msg_balancing", "multi_acceptor", "sharded"];
    let mut servers = Vec::new();
    for ((port, pattern), name) in (7001..).zip(patterns).zip(names) {
        // 120 connections/s of four requests at about 1.5 ms: one thread is busy for 72 % of the time and queues
        // visibly, four are busy for a fifth of it. CPU time is 5 % of a core per server, so that two cores do
        // for everything.
        let server = format!("--pattern {pattern} --threads 4 --backlog 128 --cpu-us 100 --block-us 1300");
        let load = format!("--rate 120 --arrivals poisson --requests 4 --think-ms 20 --seed {}", options.seed);
        servers.push(Server { name, port, arguments: arguments(&server), load: arguments(&load) });
    }
    servers
}
