//! memcached: one thread accepts, four others read and write.

use std::fs;

use listentop_model::coverage::Measure;
use test_support::{Lab, Test, lab::PORT};

use crate::support::{
    exchange::{Client, memcached_get},
    load::Load,
    report::Watching,
    server::{Folder, Server, User, installed},
    side_by_side,
};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::Writes];

pub(crate) const TESTS: &[Test] = &[Test { name: "memcached::four_threads", needs: NEEDS, run: four_threads }];

/// The port on which the test asks for memcached's own counts.
const STATISTICS: u16 = PORT + 1;

/// Its own counts of connections and `get`s. Each call makes a connection.
fn counts() -> (u64, u64) {
    let mut client = Client::connect(STATISTICS).expect("it listens");
    client.send(b"stats\r\n").expect("it reads");
    let answer = client.receive(|answer| answer.ends_with(b"END\r\n")).expect("an answer");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
        line.and_then(|value| value.trim().parse().ok()).expect("a number")
    };
    (value("total_connections"), value("cmd_get"))
}

fn four_threads(lab: &Lab) {
    let _machine = side_by_side();
    let program = installed("/usr/bin", "memcached", "memcached");
    let folder = Folder::new();
    let addresses = format!("127.0.0.1:{PORT},127.0.0.1:{STATISTICS}");
    let server = Server::start(&folder, User::Root, &program, &["-u", "root", "-t", "4", "-U", "0", "-l", &addresses]);
    server.listens(PORT, 1);
    server.listens(STATISTICS, 1);
    let watching = Watching::start(lab);
    let before = counts();
    let tally = Load { port: PORT, connections: 400, at_once: 16, requests: 10, exchange: memcached_get }.run();
    let now = counts();
    let report = watching.report();
    assert_eq!((now.0 - before.0 - 1, now.1 - before.1), (tally.connections, tally.requests), "the test's own load");
    report.counts(PORT, &tally);
    report.is_healthy(PORT, &tally);
    report.has_pattern(PORT, &["acceptor_readers"]);
    let acceptors = report.with_role(PORT, "acceptor");
    assert_eq!((acceptors.len(), &acceptors[0]["tid"]), (1, &server.pid().into()), "the main thread accepts");
    let readers = report.with_role(PORT, "reader");
    assert_eq!(readers.len(), 4);
    for reader in readers {
        let name = fs::read_to_string(format!("/proc/{}/task/{}/comm", server.pid(), reader["tid"])).expect("it lives");
        assert_eq!(reader["comm"], name.trim_end());
        assert_eq!(reader["roles"], serde_json::json!(["reader", "writer"]));
    }
}
