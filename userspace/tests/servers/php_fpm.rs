//! php-fpm: thirty processes that accept from one socket, and two that are too few.

use listentop_model::coverage::Measure;
use test_support::{Lab, Test, lab::PORT, sleep_ms};

use crate::support::{
    exchange::{Client, fastcgi, fastcgi_to},
    load::{Arrivals, Load},
    report::{Fault, Watching, number},
    server::{Folder, Server, User, installed},
    side_by_side,
};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::Writes];
const DROPS: &[Measure] = &[Measure::Accepts, Measure::Drops, Measure::OldestWaiting];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "php_fpm::thirty_processes", needs: NEEDS, run: thirty },
    Test { name: "php_fpm::more_requests_than_it_can_serve", needs: DROPS, run: overload },
    Test { name: "php_fpm::all_busy_before_the_start", needs: DROPS, run: all_busy },
    Test { name: "php_fpm::more_requests_than_fit_into_its_queue", needs: DROPS, run: short_queue },
];

/// The port of its page with its own counts.
const STATUS: u16 = PORT + 1;

fn start(folder: &Folder, processes: usize, backlog: usize, pause_ms: u32) -> Server {
    let program = installed("/usr/sbin", "php-fpm*", "php-fpm");
    folder.write("index.php", &format!("<?php usleep({pause_ms} * 1000); echo 'ok';"));
    let at = folder.path("");
    let text = format!(
        "[global]\nerror_log = {at}errors\ndaemonize = no\n[pool]\nuser = nobody\ngroup = nogroup\nchroot = {at}\n\
         listen = 127.0.0.1:{PORT}\nlisten.backlog = {backlog}\npm = static\npm.max_children = {processes}\n\
         pm.status_path = /status\npm.status_listen = 127.0.0.1:{STATUS}\n"
    );
    let configuration = folder.write("fpm.conf", &text);
    let server = Server::start(folder, User::Root, &program, &["-n", "-F", "-y", &configuration]);
    server.listens(PORT, 1);
    server.listens(STATUS, 1);
    server
}

/// Its own count of connections.
fn accepted() -> u64 {
    let page = Client::connect(STATUS).and_then(|mut client| fastcgi_to(&mut client, "/status")).expect("the page");
    let (_, rest) = page.split_once("\"accepted conn\":").expect("the count");
    rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Each sleeps while it serves, so the next connection is another's: all have an equal share.
fn thirty(lab: &Lab) {
    let _machine = side_by_side();
    let folder = Folder::new();
    let server = start(&folder, 30, 511, 20);
    let before = accepted();
    let watching = Watching::start(lab);
    let tally = Load { port: PORT, connections: 600, at_once: 28, requests: 1, exchange: fastcgi }.run();
    let report = watching.report();
    assert_eq!(accepted() - before, tally.connections, "the test's own load");
    report.counts(PORT, &tally);
    report.is_healthy(PORT, &tally);
    report.has_pattern(PORT, &["multi_acceptor"]);
    let workers = server.workers();
    let accepting: Vec<u64> = workers.iter().map(|pid| report.accepts_of(PORT, *pid)).collect();
    assert!(accepting.iter().filter(|count| **count > 8).count() > 20, "the test's own load: {accepting:?}");
    assert!(report.with_role(PORT, "acceptor").len() > 20, "{accepting:?}");
}

/// What follows where connections are refused. Those that wait for room in the accept queue fill the SYN queue too. And
/// PHP reads the end of a request's input only after the script.
const REFUSED: &[&str] = &["accept_queue_overflow", "syn_queue_overflow", "slow_accept", "slow_reader"];

/// Two processes serve ten requests a second, and sixty come. Those who are admitted wait for 1.7 s.
fn overload(lab: &Lab) {
    overloaded(lab, 200, &Fault { root: "busy_acceptor", severity: &["critical"], follows: REFUSED });
}

/// Two processes serve forty requests a second, and sixty come. Those who are admitted wait for 0.4 s.
fn short_queue(lab: &Lab) {
    overloaded(lab, 50, &Fault { root: "accept_queue_overflow", severity: &["critical"], follows: REFUSED });
}

/// Both processes sleep in a script already when listentop comes, longer than it stays. The master holds the socket,
/// and does not accept.
fn all_busy(lab: &Lab) {
    let _machine = side_by_side();
    let folder = Folder::new();
    let server = start(&folder, 2, 511, 30_000);
    let clients = Arrivals::begin(PORT, 10, fastcgi);
    sleep_ms(1500);
    let watching = Watching::start(lab);
    sleep_ms(3500);
    let report = watching.report_now();
    drop(clients);
    let follows = &["slow_accept", "slow_reader", "hung_reader"];
    let finding = report.has_fault(PORT, &Fault { root: "hung_acceptor", severity: &["critical"], follows });
    let mut workers: Vec<(u32, u32)> = server.workers().into_iter().map(|pid| (pid, pid)).collect();
    workers.sort_unstable();
    assert_eq!(report.likely_acceptors(PORT), workers);
    let text = finding.to_string();
    assert!(text.contains("One of 2 threads probably should accept them: 2 asleep"), "{text}");
}

fn overloaded(lab: &Lab, pause_ms: u32, fault: &Fault) {
    let _machine = side_by_side();
    let folder = Folder::new();
    let _server = start(&folder, 2, 16, pause_ms);
    let watching = Watching::start(lab);
    let before = lab.counters();
    let clients = Arrivals::begin(PORT, 60, fastcgi);
    sleep_ms(4500);
    let report = watching.report_now();
    let refused = lab.counters().since(&before, "ListenOverflows");
    drop(clients);
    assert!(refused > 20, "the test's own load: {refused} refused");
    let accepted = number(report.listener(PORT), "accepts.total");
    assert!(accepted > 30, "the test's own load: it serves what it can");
    report.has_fault(PORT, fault);
}
