//! Node.js: one event loop, one that accepts for others, and one that a handler keeps busy.

use listentop_model::coverage::Measure;
use test_support::{Lab, Test, lab::PORT, sleep_ms, wait_until};

use crate::support::{
    exchange::http,
    load::{Arrivals, Load},
    report::{Fault, Report, Watching, number},
    server::{Folder, Server, User, installed},
    side_by_side,
};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::Writes];
const QUEUES: &[Measure] = &[Measure::Accepts, Measure::OldestWaiting];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "node::alone", needs: NEEDS, run: alone },
    Test { name: "node::cluster", needs: NEEDS, run: cluster },
    Test { name: "node::blocked_event_loop", needs: QUEUES, run: blocked },
];

fn start(folder: &Folder, workers: usize, busy_ms: u32) -> Server {
    let program = installed("/usr/bin", "node", "nodejs");
    let script = folder.write("server.js", include_str!("programs/server.js"));
    let (log, port) = (folder.path("log"), PORT.to_string());
    let arguments = [script, port, log, workers.to_string(), busy_ms.to_string()];
    let server = Server::start(folder, User::Root, &program, &arguments);
    server.listens(PORT, 1);
    server.has_workers(workers);
    server
}

fn serve(lab: &Lab, workers: usize) -> (Report, Server) {
    let folder = Folder::new();
    let server = start(&folder, workers, 0);
    // All workers of a cluster take their turn.
    sleep_ms(500 * u64::from(workers > 0));
    let watching = Watching::start(lab);
    let tally = Load { port: PORT, connections: 300, at_once: 8, requests: 3, exchange: http }.run();
    let report = watching.report();
    let lines = folder.lines("log");
    let count = |what: &str| lines.iter().filter(|line| *line == what).count() as u64;
    assert_eq!((count("connection"), count("request")), (tally.connections, tally.requests), "the test's own load");
    report.counts(PORT, &tally);
    assert_eq!(report.sum(PORT, "reads.count"), tally.requests);
    report.is_healthy(PORT, &tally);
    (report, server)
}

fn alone(lab: &Lab) {
    let _machine = side_by_side();
    let (report, server) = serve(lab, 0);
    report.has_pattern(PORT, &["single_thread"]);
    let threads = report.threads(PORT);
    assert_eq!((threads.len(), &threads[0]["tid"]), (1, &server.pid().into()));
}

/// The primary process accepts, and hands each connection to the next of three others.
fn cluster(lab: &Lab) {
    let _machine = side_by_side();
    let (report, server) = serve(lab, 3);
    report.has_pattern(PORT, &["acceptor_readers"]);
    let acceptors = report.with_role(PORT, "acceptor");
    assert_eq!((acceptors.len(), &acceptors[0]["pid"]), (1, &server.pid().into()));
    let readers: Vec<_> = report.with_role(PORT, "reader").iter().map(|thread| thread["pid"].clone()).collect();
    assert!(readers.len() == 3 && server.workers().iter().all(|pid| readers.contains(&(*pid).into())), "{readers:?}");
    let evidence = report.listener(PORT)["pattern"]["evidence"].to_string();
    assert!(evidence.contains("process"), "they are processes: {evidence}");
}

/// Each request keeps the loop busy for 100 ms, and thirty a second come. It goes on answering.
/// Beside another test that computes it would want for a CPU, and that would be the cause.
fn blocked(lab: &Lab) {
    let _machine = crate::support::alone();
    let folder = Folder::new();
    let _server = start(&folder, 0, 100);
    let watching = Watching::start(lab);
    let clients = Arrivals::begin(PORT, 30, http);
    // A turn of the loop accepts all that wait, and then answers each. So each turn takes three times as long as the
    // one before. More than a second into one:
    wait_until("fifty clients wait", || {
        let accepted = folder.lines("log").iter().filter(|line| *line == "connection").count();
        clients.counts().0.saturating_sub(accepted) > 50
    });
    let report = watching.report_now();
    drop(clients);
    assert!(number(report.listener(PORT), "writes.count") > 20, "the test's own load: it answers all the time");
    let fault = Fault {
        root: "busy_acceptor",
        severity: &["warning", "critical"],
        follows: &["slow_accept", "slow_reader", "hung_reader"],
    };
    report.has_fault(PORT, &fault);
}
