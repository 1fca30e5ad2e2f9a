//! HAProxy: threads on one socket, a socket for each thread, and both ways to replace a running process.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use listentop_model::coverage::Measure;
use nix::sys::signal::Signal;
use test_support::{Lab, Test, lab::PORT, sleep_ms, wait_until};

use crate::support::{
    exchange::{Client, http},
    load::{Load, PAUSE_MS, Tally, idle},
    report::{Fault, Report, Watching, number},
    server::{Folder, Server, User, installed, listening, signal},
    side_by_side,
};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::Writes];
const QUEUES: &[Measure] = &[Measure::Accepts, Measure::OldestWaiting];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "haproxy::four_threads", needs: NEEDS, run: four_threads },
    Test { name: "haproxy::a_socket_for_each_thread", needs: NEEDS, run: socket_for_each },
    Test { name: "haproxy::at_its_maxconn", needs: QUEUES, run: at_its_maxconn },
    Test { name: "haproxy::at_its_maxconn_before_the_start", needs: QUEUES, run: at_its_maxconn_before },
    Test { name: "haproxy::replaced_by_its_master", needs: NEEDS, run: replaced_by_master },
    Test { name: "haproxy::replaced_with_a_new_socket", needs: NEEDS, run: replaced_with_new_socket },
];

const LOAD: Load = Load { port: PORT, connections: 300, at_once: 16, requests: 3, exchange: http };

fn program() -> PathBuf {
    installed("/usr/sbin", "haproxy", "haproxy")
}

/// A configuration: a frontend that answers by itself. Its statistics are on a socket with this name in the folder.
fn configure(folder: &Folder, threads: usize, bind: &str, socket: &str) -> String {
    let text = format!(
        "global\n nbthread {threads}\n stats socket {} mode 600\n\
         defaults\n mode http\n timeout client 60s\n timeout http-request 60s\n timeout connect 1s\n timeout server 1s\n\
         frontend front\n bind 127.0.0.1:{PORT} {bind}\n \
         http-request return status 200 content-type text/plain string ok\n",
        folder.path(socket)
    );
    folder.write(&format!("{socket}.cfg"), &text)
}

/// HAProxy's own counts of connections and requests.
fn counts(folder: &Folder, socket: &str) -> (u64, u64) {
    let mut stream = UnixStream::connect(folder.path(socket)).expect("its statistics");
    stream.write_all(b"show stat\n").expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    let mut lines = text.lines().map(|line| line.trim_start_matches("# ").split(',').collect::<Vec<_>>());
    let (names, values) = (lines.next().expect("names"), lines.next().expect("the frontend is the first"));
    let value = |name: &str| {
        let place = names.iter().position(|other| *other == name).expect("a column");
        values[place].parse().expect("a number")
    };
    (value("conn_tot"), value("req_tot"))
}

fn serve(lab: &Lab, bind: &str, sockets: usize) -> (Report, Server) {
    let program = program();
    let folder = Folder::new();
    let configuration = configure(&folder, 4, bind, "stats");
    let server = Server::start(&folder, User::Root, &program, &["-db", "-f", &configuration]);
    server.listens(PORT, sockets);
    let watching = Watching::start(lab);
    let tally = LOAD.run();
    let report = watching.report();
    assert_eq!(counts(&folder, "stats"), (tally.connections, tally.requests), "the test's own load");
    report.counts(PORT, &tally);
    report.is_healthy(PORT, &tally);
    let tids = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs").flatten();
    let tids: Vec<String> = tids.map(|task| task.file_name().to_string_lossy().into_owned()).collect();
    for thread in report.threads(PORT) {
        assert_eq!(thread["pid"], server.pid());
        assert!(tids.contains(&thread["tid"].to_string()), "{thread:#}");
    }
    (report, server)
}

fn four_threads(lab: &Lab) {
    let _machine = side_by_side();
    let (report, _server) = serve(lab, "", 1);
    report.has_pattern(PORT, &["multi_acceptor"]);
    assert!(report.with_role(PORT, "acceptor").len() > 1);
}

fn socket_for_each(lab: &Lab) {
    let _machine = side_by_side();
    let (report, _server) = serve(lab, "shards by-thread", 4);
    assert_eq!(report.listeners(PORT).len(), 4);
    report.has_pattern(PORT, &["sharded"]);
}

/// It has as many clients as it may have, and takes its socket out of its epoll: it neither hangs nor is busy.
fn at_its_maxconn(lab: &Lab) {
    full(|clients| {
        let watching = Watching::start(lab);
        let clients = clients();
        sleep_ms(4500);
        (watching.report_now(), clients)
    });
}

/// The same, but listentop comes later, and has seen no accept.
fn at_its_maxconn_before(lab: &Lab) {
    full(|clients| {
        let clients = clients();
        sleep_ms(1500);
        let watching = Watching::start(lab);
        sleep_ms(3500);
        (watching.report_now(), clients)
    });
}

/// A process that serves ten connections at most, and what is reported of twenty clients.
fn full(watch: impl FnOnce(fn() -> Vec<Client>) -> (Report, Vec<Client>)) {
    let _machine = side_by_side();
    let program = program();
    let folder = Folder::new();
    let text = format!(
        "global\n nbthread 1\n maxconn 10\n\
         defaults\n mode http\n timeout client 60s\n timeout http-request 60s\n timeout connect 1s\n timeout server 1s\n\
         frontend front\n bind 127.0.0.1:{PORT}\n http-request return status 200 content-type text/plain string ok\n"
    );
    let configuration = folder.write("configuration", &text);
    let server = Server::start(&folder, User::Root, &program, &["-db", "-f", &configuration]);
    server.listens(PORT, 1);
    let (report, _clients) = watch(|| idle(PORT, 20));
    assert_eq!(number(report.listener(PORT), "accept_queue.depth"), 10, "the test's own load");
    let follows = &["slow_accept", "accept_queue_overflow"];
    let finding = report.has_fault(PORT, &Fault { root: "acceptor_paused", severity: &["critical"], follows });
    assert!(finding["advice"].as_str().expect("text").contains("maxconn"), "{finding:#}");
}

/// Checks what was seen of a process of one thread that another replaced: neither pattern of several at a time.
fn replaced(report: &Report, tally: &Tally) {
    report.counts(PORT, tally);
    report.has_pattern(PORT, &["single_thread"]);
    report.is_healthy(PORT, tally);
    let acceptors = report.with_role(PORT, "acceptor");
    let pids: Vec<_> = acceptors.iter().map(|thread| &thread["pid"]).collect();
    assert!(pids.len() == 2 && pids[0] != pids[1], "{acceptors:#?}");
}

/// The master starts another worker, which takes the socket over (`-W`, SIGUSR2).
fn replaced_by_master(lab: &Lab) {
    let _machine = side_by_side();
    let program = program();
    let folder = Folder::new();
    let configuration = configure(&folder, 1, "", "stats");
    let server = Server::start(&folder, User::Root, &program, &["-W", "-db", "-f", &configuration]);
    server.listens(PORT, 1);
    let old = server.has_workers(1);
    let watching = Watching::start(lab);
    let mut tally = LOAD.run();
    sleep_ms(PAUSE_MS);
    signal(server.pid(), Signal::SIGUSR2);
    wait_until("another worker alone", || {
        let now = server.workers();
        now.len() == 1 && now != old
    });
    tally.add(LOAD.run());
    // Long enough that the old worker is seen to have ended.
    sleep_ms(1100);
    replaced(&watching.report(), &tally);
}

/// A new process opens a socket of its own beside the old one's, and ends the old process (`-sf`).
fn replaced_with_new_socket(lab: &Lab) {
    let _machine = side_by_side();
    let program = program();
    let folder = Folder::new();
    let (old, new) = (configure(&folder, 1, "", "old"), configure(&folder, 1, "", "new"));
    let script = format!(
        "{program} -db -f {old} & old=$!\nwhile [ ! -e {go} ]; do sleep 0.05; done\n\
         {program} -db -f {new} -sf $old & wait $old; echo >{ended}; wait",
        program = program.display(),
        go = folder.path("go"),
        ended = folder.path("ended"),
    );
    let script = folder.write("script", &script);
    let server = Server::start(&folder, User::Root, "/bin/sh".as_ref(), &[&script]);
    server.listens(PORT, 1);
    let watching = Watching::start(lab);
    let mut tally = LOAD.run();
    sleep_ms(PAUSE_MS);
    folder.write("go", "");
    wait_until("the old process has ended", || !folder.lines("ended").is_empty() && listening(PORT) == 1);
    tally.add(LOAD.run());
    sleep_ms(1100);
    let report = watching.report();
    assert_eq!(counts(&folder, "new").0, LOAD.connections, "the test's own load");
    let closed: Vec<bool> = report.listeners(PORT).iter().map(|listener| listener["closed"] == true).collect();
    assert_eq!(closed.iter().filter(|closed| **closed).count(), 1, "one is closed: {closed:?}");
    assert_eq!(closed.len(), 2);
    replaced(&report, &tally);
}
