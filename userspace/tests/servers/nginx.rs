//! nginx: one worker and many, one socket and a socket for each, and what can go wrong with them.

use std::{collections::BTreeMap, fs, time::Duration};

use listentop_model::coverage::Measure;
use nix::sys::signal::Signal;
use test_support::{Lab, Test, lab::PORT, process, process::stop, sleep_ms, wait_until};

use crate::support::{
    alone,
    exchange::{http, http_once, page},
    flood::flood,
    load::{Arrivals, Load, PAUSE_MS, Persistent, Tally, idle},
    report::{Fault, Report, Watching, number},
    server::{Folder, Server, User, installed, own_pid, signal},
    side_by_side,
};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::Writes];
const QUEUES: &[Measure] = &[Measure::Accepts, Measure::OldestWaiting];
const UNREAD: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::OldestUnread];
const DROPS: &[Measure] = &[Measure::Accepts, Measure::Drops, Measure::DropCause];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "nginx::one_worker", needs: NEEDS, run: one_worker },
    Test { name: "nginx::four_workers", needs: NEEDS, run: four_workers },
    Test { name: "nginx::thirty_two_workers", needs: NEEDS, run: thirty_two_workers },
    Test { name: "nginx::a_socket_for_each_of_thirty_two_workers", needs: NEEDS, run: sockets_for_each },
    Test { name: "nginx::reload", needs: NEEDS, run: reload },
    Test { name: "nginx::stopped", needs: QUEUES, run: stopped },
    Test { name: "nginx::stopped_before_the_start", needs: QUEUES, run: stopped_before },
    Test { name: "nginx::one_of_four_workers_stopped", needs: UNREAD, run: one_worker_stopped },
    Test { name: "nginx::one_of_four_shards_stopped", needs: QUEUES, run: one_shard_stopped },
    Test { name: "nginx::out_of_descriptors", needs: QUEUES, run: out_of_descriptors },
    Test { name: "nginx::without_a_cpu", needs: QUEUES, run: without_a_cpu },
    Test { name: "nginx::flood_without_cookies", needs: DROPS, run: flood_without_cookies },
    Test { name: "nginx::flood_with_cookies_when_needed", needs: DROPS, run: flood_with_cookies_when_needed },
    Test { name: "nginx::flood_with_cookies_always", needs: DROPS, run: flood_with_cookies_always },
];

/// The port of nginx's page with its own counts.
const STATUS: u16 = PORT + 1;

/// A running nginx.
struct Nginx {
    server: Server,
    folder: Folder,
}

/// What differs from test to test.
struct Setup {
    workers: usize,
    /// After the address in `listen`.
    listen: &'static str,
    /// Outside of all blocks.
    main: &'static str,
}

impl Nginx {
    fn start(setup: &Setup) -> Self {
        let program = installed("/usr/sbin", "nginx", "nginx");
        let folder = Folder::new();
        let at = folder.path("");
        let Setup { workers, listen, main } = setup;
        let text = format!(
            "daemon off; user root; worker_processes {workers}; pid {at}pid; error_log {at}errors; {main}
            events {{ worker_connections 256; }}
            http {{
                log_format worker '$pid $connection $connection_requests'; access_log off;
                client_body_temp_path {at}1; proxy_temp_path {at}2; fastcgi_temp_path {at}3;
                uwsgi_temp_path {at}4; scgi_temp_path {at}5;
                server {{
                    listen 127.0.0.1:{PORT} {listen};
                    location / {{ access_log {at}access worker; return 200 'ok'; }}
                }}
                server {{ listen 127.0.0.1:{STATUS}; location / {{ stub_status; }} }}
            }}"
        );
        let configuration = folder.write("nginx.conf", &text);
        let server = Server::start(&folder, User::Root, &program, &["-p", &at, "-c", &configuration]);
        let shards = if listen.contains("reuseport") { *workers } else { 1 };
        server.listens(PORT, shards);
        server.has_workers(*workers);
        // A worker counts as one as soon as it can be stopped and asked.
        page(STATUS, "/");
        Self { server, folder }
    }

    /// Its own counts of connections and requests, without those of the pages with the counts.
    fn counts(pages: u64) -> (u64, u64) {
        // "Active connections: 1", a heading, "ACCEPTS HANDLED REQUESTS", …
        let text = page(STATUS, "/");
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        (numbers[1] - pages - 1, numbers[3] - pages - 1)
    }

    /// How many connections each worker served, by its own log.
    fn connections_of(&self) -> BTreeMap<u32, u64> {
        let workers = self.server.workers().into_iter().map(|pid| (own_pid(pid), pid));
        let pids: BTreeMap<u32, u32> = workers.collect();
        let mut counts: BTreeMap<u32, u64> = pids.values().map(|pid| (*pid, 0)).collect();
        for line in self.folder.lines("access") {
            let numbers: Vec<u32> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
            if numbers[2] == 1 {
                *counts.get_mut(&pids[&numbers[0]]).expect("a worker") += 1;
            }
        }
        counts
    }
}

/// 400 connections of three requests each.
fn load(at_once: usize) -> Load {
    Load { port: PORT, connections: 400, at_once, requests: 3, exchange: http }
}

/// Lets nginx serve a load; checks all counts against nginx's own, and that nothing is wrong.
fn serve(lab: &Lab, setup: &Setup, at_once: usize) -> (Report, Nginx, Tally) {
    let nginx = Nginx::start(setup);
    let watching = Watching::start(lab);
    let tally = load(at_once).run();
    let report = watching.report();
    assert_eq!(Nginx::counts(1), (tally.connections, tally.requests), "the test's own load");
    report.counts(PORT, &tally);
    // nginx reads each of these requests at once.
    assert_eq!(report.sum(PORT, "reads.count"), tally.requests);
    for (worker, connections) in nginx.connections_of() {
        assert_eq!(report.accepts_of(PORT, worker), connections, "worker {worker}, by its own log");
    }
    report.is_healthy(PORT, &tally);
    (report, nginx, tally)
}

fn one_worker(lab: &Lab) {
    let _machine = side_by_side();
    let (report, nginx, _) = serve(lab, &Setup { workers: 1, listen: "", main: "" }, 8);
    report.has_pattern(PORT, &["single_thread"]);
    let threads = report.threads(PORT);
    assert_eq!(threads.len(), 1);
    assert_eq!(threads[0]["roles"], serde_json::json!(["acceptor", "reader", "writer"]));
    assert_eq!((&threads[0]["pid"], &threads[0]["comm"]), (&nginx.server.workers()[0].into(), &"nginx".into()));
    assert_eq!(report.listener(PORT)["process"]["pid"], nginx.server.pid());
    assert_eq!(report.listener(PORT)["holders"], 2, "master and worker");
}

/// Checks that those workers are acceptors that accepted, and that there is more than one.
fn accept_from_one_socket(report: &Report, nginx: &Nginx, tally: &Tally) {
    let counts = nginx.connections_of();
    let busiest = counts.values().max().expect("workers");
    assert!(busiest * 10 < tally.connections * 9, "the test's own load: one worker accepted nearly all: {counts:?}");
    report.has_pattern(PORT, &["multi_acceptor"]);
    let accepting = counts.values().filter(|count| **count > 0).count();
    let acceptors = report.with_role(PORT, "acceptor");
    assert!(acceptors.len() >= accepting, "{} of {counts:?}", acceptors.len());
}

fn four_workers(lab: &Lab) {
    let _machine = side_by_side();
    let (report, nginx, tally) = serve(lab, &Setup { workers: 4, listen: "", main: "" }, 32);
    accept_from_one_socket(&report, &nginx, &tally);
}

fn thirty_two_workers(lab: &Lab) {
    let _machine = side_by_side();
    let (report, nginx, tally) = serve(lab, &Setup { workers: 32, listen: "", main: "" }, 64);
    accept_from_one_socket(&report, &nginx, &tally);
}

fn sockets_for_each(lab: &Lab) {
    let _machine = side_by_side();
    let (report, nginx, _) = serve(lab, &Setup { workers: 32, listen: "reuseport", main: "" }, 32);
    report.has_pattern(PORT, &["sharded"]);
    assert_eq!(report.listeners(PORT).len(), 32);
    assert_eq!(report.group(PORT).expect("a group")["shards"].as_array().map(Vec::len), Some(32));
    let accepting = nginx.connections_of().into_values().filter(|count| *count > 0).count();
    assert_eq!(report.with_role(PORT, "acceptor").len(), accepting);
}

/// The worker is replaced by another: one after the other is not several at a time.
fn reload(lab: &Lab) {
    let _machine = side_by_side();
    let nginx = Nginx::start(&Setup { workers: 1, listen: "", main: "" });
    let old = nginx.server.workers();
    let watching = Watching::start(lab);
    let mut tally = load(8).run();
    sleep_ms(PAUSE_MS);
    signal(nginx.server.pid(), Signal::SIGHUP);
    wait_until("another worker alone", || {
        let now = nginx.server.workers();
        now.len() == 1 && now != old
    });
    tally.add(load(8).run());
    // Long enough that the old worker is seen to have ended.
    sleep_ms(1100);
    let report = watching.report();
    assert_eq!(Nginx::counts(1).1, tally.requests, "the test's own load");
    report.counts(PORT, &tally);
    report.has_pattern(PORT, &["single_thread"]);
    let threads = report.threads(PORT);
    let ended: Vec<bool> = threads.iter().map(|thread| thread["ended"] == true).collect();
    assert_eq!(ended.iter().filter(|ended| **ended).count(), 1, "{threads:#?}");
    assert_eq!(threads.len(), 2);
    report.is_healthy(PORT, &tally);
}

/// The worker is stopped while clients come.
fn stopped(lab: &Lab) {
    let _machine = side_by_side();
    let nginx = Nginx::start(&Setup { workers: 1, listen: "", main: "" });
    let watching = Watching::start(lab);
    let clients = Arrivals::begin(PORT, 20, http_once);
    clients.are_answered(20);
    let worker = nginx.server.workers()[0];
    stop(worker);
    sleep_ms(3500);
    let report = watching.report_now();
    signal(worker, Signal::SIGCONT);
    let fault = Fault { root: "hung_acceptor", severity: &["critical"], follows: &["slow_accept"] };
    let finding = report.has_fault(PORT, &fault);
    assert!(number(report.listener(PORT), "accept_queue.depth") > 40, "the test's own load");
    let text = finding.to_string();
    assert!(text.contains(&worker.to_string()), "the thread is named: {text}");
    assert!(text.to_lowercase().contains("stopped"), "the thread's state is named: {text}");
}

/// The same, but listentop comes later: it has seen nobody accept. The master holds the socket, and does not accept.
fn stopped_before(lab: &Lab) {
    let _machine = side_by_side();
    let nginx = Nginx::start(&Setup { workers: 1, listen: "", main: "" });
    let clients = Arrivals::begin(PORT, 20, http_once);
    clients.are_answered(20);
    let worker = nginx.server.workers()[0];
    stop(worker);
    sleep_ms(1500);
    let watching = Watching::start(lab);
    sleep_ms(3500);
    let report = watching.report_now();
    signal(worker, Signal::SIGCONT);
    let fault = Fault { root: "hung_acceptor", severity: &["critical"], follows: &["slow_accept"] };
    let finding = report.has_fault(PORT, &fault);
    assert_eq!(report.likely_acceptors(PORT), [(worker, worker)]);
    let advice = finding["advice"].as_str().expect("a text");
    assert!(advice.contains("probably should accept") && advice.contains(&format!("kill -CONT {worker}.")), "{advice}");
    let summary = finding["summary"].as_str().expect("a text");
    assert!(summary.contains("is stopped by a signal"), "{summary}");
}

/// One of four workers on one socket is stopped. Its clients wait, those of the others are served.
fn one_worker_stopped(lab: &Lab) {
    let _machine = side_by_side();
    let nginx = Nginx::start(&Setup { workers: 4, listen: "", main: "" });
    let watching = Watching::start(lab);
    let _its = Persistent::connect(PORT, 12, http);
    let busiest = nginx.connections_of().into_iter().max_by_key(|(_, connections)| *connections);
    let (worker, connections) = busiest.expect("workers");
    assert!(connections > 0, "the test's own load");
    stop(worker);
    // The others serve these.
    let _others = Persistent::connect(PORT, 12, http);
    sleep_ms(3500);
    let report = watching.report_now();
    signal(worker, Signal::SIGCONT);
    let fault = Fault { root: "hung_reader", severity: &["warning", "critical"], follows: &["slow_reader"] };
    let finding = report.has_fault(PORT, &fault);
    let summary = finding["summary"].as_str().expect("text");
    let named = format!("nginx (thread {worker}) is stopped by a signal");
    assert!(summary.starts_with("1 of ") && summary.contains(&named), "{summary}");
    assert!(finding["advice"].as_str().expect("text").contains(&format!("kill -CONT {worker}")), "{finding:#}");
    // What its clients sent, and nothing else.
    let request = report.sum(PORT, "reads.accepted_unread_bytes") / connections;
    assert!((10..200).contains(&request), "{request} bytes for each of its {connections} connections");
}

/// One of four workers, each with a socket of its own, is stopped while clients come.
fn one_shard_stopped(lab: &Lab) {
    let _machine = side_by_side();
    let nginx = Nginx::start(&Setup { workers: 4, listen: "reuseport", main: "" });
    let watching = Watching::start(lab);
    let clients = Arrivals::begin(PORT, 60, http_once);
    clients.are_answered(120);
    let worker = nginx.server.workers()[2];
    stop(worker);
    sleep_ms(3500);
    let report = watching.report_now();
    signal(worker, Signal::SIGCONT);
    let fault = Fault { root: "dead_shard", severity: &["critical"], follows: &["slow_accept"] };
    fault.check(report.group(PORT).expect("a group"));
    let (waiting, others): (Vec<_>, Vec<_>) =
        report.listeners(PORT).into_iter().partition(|shard| number(shard, "accept_queue.depth") > 5);
    assert_eq!((waiting.len(), others.len()), (1, 3), "the test's own load");
    fault.check(waiting[0]);
    let threads = waiting[0]["threads"].as_array().expect("a list");
    assert_eq!(threads[0]["pid"], worker, "it is the stopped worker's shard");
    for shard in others {
        assert_eq!(shard["findings"], serde_json::json!([]), "the others serve their clients");
    }
}

/// Idle clients take all descriptors that a worker may have.
fn out_of_descriptors(lab: &Lab) {
    let _machine = side_by_side();
    let nginx = Nginx::start(&Setup { workers: 1, listen: "", main: "worker_rlimit_nofile 40;" });
    let watching = Watching::start(lab);
    let _clients = idle(PORT, 60);
    sleep_ms(3500);
    let report = watching.report_now();
    let failures =
        nginx.folder.lines("errors").iter().filter(|line| line.contains("(24: Too many open files)")).count();
    assert!(failures > 2, "the test's own load");
    let failed = report.sum(PORT, "accepts.failed");
    // One more may come between nginx's log and the report.
    assert!(failed.abs_diff(failures as u64) <= 1, "{failed} failed, {failures} by nginx's own log");
    let fault = Fault { root: "accept_errors", severity: &["critical"], follows: &["slow_accept"] };
    report.has_fault(PORT, &fault);
}

/// The worker shares one CPU with busy processes that come before it: they have the tests' nice value of -15.
fn without_a_cpu(lab: &Lab) {
    let _machine = alone();
    let nginx = Nginx::start(&Setup { workers: 1, listen: "", main: "worker_priority -5; worker_cpu_affinity 1;" });
    let watching = Watching::start(lab);
    let _busy: Vec<_> = (0..6)
        .map(|_| {
            process::fork(|| {
                process::close_inherited();
                // As nginx: on the first CPU.
                process::stay_on_one_cpu();
                loop {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let _clients = Arrivals::begin(PORT, 200, http_once);
    sleep_ms(5000);
    let report = watching.report_now();
    let worker = nginx.server.workers()[0];
    let schedule = fs::read_to_string(format!("/proc/{worker}/schedstat")).expect("it runs");
    let times: Vec<u64> = schedule.split_whitespace().filter_map(|time| time.parse().ok()).collect();
    assert!(times[1] > 1_500_000_000, "the test's own load: {} ms without a CPU", times[1] / 1_000_000);
    let fault = Fault {
        root: "cpu_starved_acceptor",
        severity: &["warning", "critical"],
        follows: &["slow_accept", "slow_reader", "accept_queue_overflow", "busy_acceptor"],
    };
    report.has_fault(PORT, &fault);
}

/// A flood that fills a queue of 64, while clients come who do answer. Returns the report and the SYNs of the flood.
fn flooded(lab: &Lab, cookies: &str) -> (Report, u64, usize) {
    lab.sysctl("ipv4/tcp_syncookies", cookies);
    lab.sysctl("ipv4/tcp_max_syn_backlog", "4096");
    let _nginx = Nginx::start(&Setup { workers: 1, listen: "backlog=64", main: "" });
    let watching = Watching::start(lab);
    // A new namespace's counters have a baseline only after the first reading.
    sleep_ms(600);
    let before = lab.counters();
    let clients = Arrivals::begin(PORT, 20, http_once);
    let sent = flood(PORT, Duration::from_secs(3));
    let report = watching.report_now();
    let now = lab.counters();
    let (came, answered) = clients.counts();
    println!("{came} clients came, {answered} were answered; {sent} SYNs");
    let drops = now.since(&before, "ListenDrops");
    assert!(report.sum(PORT, "drops.total").abs_diff(drops) < 200, "about as many as the kernel counts: {drops}");
    (report, sent, came - answered)
}

fn flood_without_cookies(lab: &Lab) {
    let _machine = side_by_side();
    let (report, sent, refused) = flooded(lab, "0");
    assert!(report.sum(PORT, "drops.syn_queue_full") > sent / 2, "the test's own load");
    assert!(refused > 10, "the test's own load: {refused} clients refused");
    report.has_fault(PORT, &Fault { root: "syn_queue_overflow", severity: &["critical"], follows: &[] });
}

/// Cookies take the place of requests that the queue has no room for: nobody is refused.
fn flood_with_cookies_when_needed(lab: &Lab) {
    let _machine = side_by_side();
    let (report, _, refused) = flooded(lab, "1");
    assert!(refused <= 2, "the test's own load: {refused} clients refused");
    assert_eq!(report.sum(PORT, "drops.total"), 0);
    report.has_fault(PORT, &Fault { root: "syn_queue_overflow", severity: &["info"], follows: &[] });
}

/// The SYN queue is never used: there is nothing to say about it.
fn flood_with_cookies_always(lab: &Lab) {
    let _machine = side_by_side();
    let (report, _, refused) = flooded(lab, "2");
    assert!(refused <= 2, "the test's own load: {refused} clients refused");
    assert_eq!(report.sum(PORT, "drops.total"), 0);
    assert_eq!(report.listener(PORT)["findings"], serde_json::json!([]));
}
