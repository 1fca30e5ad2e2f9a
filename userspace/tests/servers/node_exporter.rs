//! A server in Go: Prometheus' node exporter. Go runs its functions on whichever thread is free.

use std::io;

use listentop_model::coverage::Measure;
use test_support::{Lab, Test, lab::PORT};

use crate::support::{
    exchange::{Client, http_get, page},
    load::Load,
    report::Watching,
    server::{Folder, Server, User, installed},
    side_by_side,
};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::Writes];

pub(crate) const TESTS: &[Test] = &[Test { name: "node_exporter::in_go", needs: NEEDS, run: in_go }];

fn metrics(client: &mut Client) -> io::Result<()> {
    http_get(client, "/metrics").map(drop)
}

fn in_go(lab: &Lab) {
    let _machine = side_by_side();
    let program = installed("/usr/bin", "prometheus-node-exporter", "prometheus-node-exporter");
    let folder = Folder::new();
    let address = format!("--web.listen-address=127.0.0.1:{PORT}");
    let arguments = [address.as_str(), "--collector.disable-defaults", "--collector.time"];
    let server = Server::start(&folder, User::Root, &program, &arguments);
    server.listens(PORT, 1);
    let watching = Watching::start(lab);
    let tally = Load { port: PORT, connections: 300, at_once: 8, requests: 2, exchange: metrics }.run();
    let report = watching.report();
    let text = page(PORT, "/metrics");
    let own = text.lines().find_map(|line| line.strip_prefix("promhttp_metric_handler_requests_total{code=\"200\"} "));
    assert_eq!(own.and_then(|count| count.parse().ok()), Some(tally.requests), "the test's own load");
    report.counts(PORT, &tally);
    report.is_healthy(PORT, &tally);
    // Mostly one thread may have been free.
    report.has_pattern(PORT, &["multi_acceptor", "single_thread"]);
    for thread in report.threads(PORT) {
        assert_eq!(thread["pid"], server.pid());
    }
}
