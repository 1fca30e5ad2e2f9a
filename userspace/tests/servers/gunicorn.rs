//! gunicorn: pre-forked Python processes, one that is replaced after so many requests, and a handler that is slow.

use std::{collections::BTreeMap, io};

use listentop_model::coverage::Measure;
use test_support::{Lab, Test, lab::PORT, sleep_ms};

use crate::support::{
    exchange::{Client, http_get, http_once},
    load::{Arrivals, Load},
    report::{Fault, Watching, number},
    server::{Folder, Server, User, installed, own_pid},
    side_by_side,
};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::Writes];
const QUEUES: &[Measure] = &[Measure::Accepts, Measure::OldestWaiting];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "gunicorn::four_processes", needs: NEEDS, run: four },
    Test { name: "gunicorn::replaced_after_forty_requests", needs: NEEDS, run: replaced },
    Test { name: "gunicorn::slow_handler", needs: QUEUES, run: slow },
    Test { name: "gunicorn::all_in_a_handler_before_the_start", needs: QUEUES, run: all_in_a_handler },
];

fn start(folder: &Folder, workers: usize, options: &[&str]) -> Server {
    let program = installed("/usr/bin", "gunicorn", "gunicorn");
    folder.write("application.py", include_str!("programs/application.py"));
    let (workers_text, at, address) = (workers.to_string(), folder.path(""), format!("127.0.0.1:{PORT}"));
    let access = folder.path("access");
    let mut arguments = vec!["--bind", &address, "--workers", &workers_text, "--chdir", &at, "--backlog", "511"];
    arguments.extend(["--access-logfile", &access, "--access-logformat", "%(p)s", "application:application"]);
    arguments.extend(options);
    let server = Server::start(folder, User::Root, &program, &arguments);
    server.listens(PORT, 1);
    server.has_workers(workers);
    // A worker serves only when it has read the application.
    Load { port: PORT, connections: 1, at_once: 1, requests: 1, exchange: http_once }.run();
    server
}

fn four(lab: &Lab) {
    let _machine = side_by_side();
    let folder = Folder::new();
    let server = start(&folder, 4, &[]);
    // Each has read the application.
    sleep_ms(1000);
    let before = folder.lines("access").len();
    let watching = Watching::start(lab);
    let tally = Load { port: PORT, connections: 300, at_once: 4, requests: 1, exchange: http_once }.run();
    let report = watching.report();
    let lines = folder.lines("access").split_off(before);
    assert_eq!(lines.len() as u64, tally.requests, "the test's own load");
    report.counts(PORT, &tally);
    let mut own: BTreeMap<String, u64> = BTreeMap::new();
    lines.into_iter().for_each(|line| *own.entry(line.trim_matches(['<', '>']).to_owned()).or_default() += 1);
    for worker in server.workers() {
        let served = own.get(&own_pid(worker).to_string()).copied().unwrap_or(0);
        assert_eq!(report.accepts_of(PORT, worker), served, "worker {worker}, by its own log");
    }
    report.has_pattern(PORT, &["multi_acceptor"]);
    report.is_healthy(PORT, &tally);
}

/// Each process serves forty requests and is then replaced: one after the other is not several at a time.
fn replaced(lab: &Lab) {
    let _machine = side_by_side();
    let folder = Folder::new();
    let _server = start(&folder, 1, &["--max-requests", "40", "--env", "PAUSE=0.02"]);
    let watching = Watching::start(lab);
    let tally = Load { port: PORT, connections: 150, at_once: 1, requests: 1, exchange: http_once }.run();
    sleep_ms(1100);
    let report = watching.report();
    report.counts(PORT, &tally);
    let threads = report.threads(PORT);
    assert!(threads.len() >= 4, "the test's own load: {} processes", threads.len());
    report.has_pattern(PORT, &["single_thread"]);
}

/// Two processes take 200 ms for each request, so ten a second, and twenty come.
fn slow(lab: &Lab) {
    let _machine = side_by_side();
    let folder = Folder::new();
    let _server = start(&folder, 2, &["--env", "PAUSE=0.2"]);
    let watching = Watching::start(lab);
    let clients = Arrivals::begin(PORT, 25, http_once);
    sleep_ms(5000);
    let report = watching.report_now();
    drop(clients);
    let seen = report.listener(PORT);
    assert!(number(seen, "accept_queue.depth") > 40, "the test's own load");
    assert!(number(seen, "writes.count") > 20, "the test's own load: it answers all the time");
    let fault = Fault { root: "busy_acceptor", severity: &["warning", "critical"], follows: &["slow_accept"] };
    report.has_fault(PORT, &fault);
}

fn hanging_page(client: &mut Client) -> io::Result<()> {
    http_get(client, "/hang").map(drop)
}

/// Both processes are in a handler that does not return when listentop comes. The master holds the socket, and does not
/// accept.
fn all_in_a_handler(lab: &Lab) {
    let _machine = side_by_side();
    let folder = Folder::new();
    let server = start(&folder, 2, &[]);
    let clients = Arrivals::begin(PORT, 10, hanging_page);
    sleep_ms(2000);
    let watching = Watching::start(lab);
    sleep_ms(3500);
    let report = watching.report_now();
    drop(clients);
    let fault = Fault { root: "hung_acceptor", severity: &["critical"], follows: &["slow_accept"] };
    let finding = report.has_fault(PORT, &fault);
    let mut workers: Vec<(u32, u32)> = server.workers().into_iter().map(|pid| (pid, pid)).collect();
    workers.sort_unstable();
    assert_eq!(report.likely_acceptors(PORT), workers);
    let text = finding.to_string();
    assert!(text.contains("One of 2 threads probably should accept them: 2 asleep"), "{text}");
    assert!(text.contains(&format!("strace -p {} -p {},", workers[0].0, workers[1].0)), "{text}");
}
