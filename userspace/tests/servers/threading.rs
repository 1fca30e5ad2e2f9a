//! Python's ThreadingHTTPServer: a thread for each connection, and what it does when it runs out of descriptors.

use listentop_model::coverage::Measure;
use test_support::{Lab, Test, lab::PORT, sleep_ms};

use crate::support::{
    exchange::http,
    load::{Load, idle},
    report::{Fault, Watching, number},
    server::{Folder, Server, User, installed},
    side_by_side,
};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::Writes];
const QUEUES: &[Measure] = &[Measure::Accepts, Measure::OldestWaiting];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "threading::five_hundred_connections", needs: NEEDS, run: five_hundred },
    Test { name: "threading::out_of_descriptors", needs: QUEUES, run: out_of_descriptors },
];

fn start(folder: &Folder, descriptors: usize) -> Server {
    let program = installed("/usr/bin", "python3", "python3-minimal");
    let script = folder.write("server.py", include_str!("programs/threading_server.py"));
    let (port, log) = (PORT.to_string(), folder.path("log"));
    let arguments = [script, port, log, descriptors.to_string()];
    let server = Server::start(folder, User::Root, &program, &arguments);
    server.listens(PORT, 1);
    server
}

fn five_hundred(lab: &Lab) {
    let _machine = side_by_side();
    let folder = Folder::new();
    let server = start(&folder, 0);
    let watching = Watching::start(lab);
    let tally = Load { port: PORT, connections: 500, at_once: 4, requests: 2, exchange: http }.run();
    let report = watching.report();
    let lines = folder.lines("log");
    let count = |what: &str| lines.iter().filter(|line| *line == what).count() as u64;
    assert_eq!((count("connection"), count("request")), (tally.connections, tally.requests), "the test's own load");
    report.counts(PORT, &tally);
    report.is_healthy(PORT, &tally);
    report.has_pattern(PORT, &["thread_per_connection"]);
    let acceptors = report.with_role(PORT, "acceptor");
    assert_eq!((acceptors.len(), &acceptors[0]["tid"]), (1, &server.pid().into()));
    assert_eq!(acceptors[0]["roles"], serde_json::json!(["acceptor"]));
}

/// Idle clients take all of its descriptors. It tries again at once, hundreds of thousands of times.
fn out_of_descriptors(lab: &Lab) {
    let _machine = side_by_side();
    let folder = Folder::new();
    let _server = start(&folder, 40);
    let watching = Watching::start(lab);
    let _clients = idle(PORT, 60);
    sleep_ms(3500);
    let report = watching.report_now();
    assert!(number(report.listener(PORT), "accepts.failed") > 10_000, "the test's own load");
    let fault = Fault { root: "accept_errors", severity: &["critical"], follows: &["slow_accept"] };
    report.has_fault(PORT, &fault);
}
