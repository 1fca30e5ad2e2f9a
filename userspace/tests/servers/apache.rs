//! Apache: a process for each connection at a time (prefork), and a thread that accepts for others (event).

use std::collections::BTreeMap;

use listentop_model::coverage::Measure;
use test_support::{Lab, Test, lab::PORT};

use crate::support::{
    exchange::{http, page},
    load::{Load, Tally},
    report::{Report, Watching},
    server::{Folder, Server, User, installed, own_pid},
    side_by_side,
};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::Writes];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "apache::prefork", needs: NEEDS, run: prefork },
    Test { name: "apache::event", needs: NEEDS, run: event },
];

/// The port of Apache's page with its own counts.
const STATUS: u16 = PORT + 1;

/// Apache's own count of requests, its pages with the count included.
fn requests() -> u64 {
    let text = page(STATUS, "/?auto");
    let line = text.lines().find_map(|line| line.strip_prefix("Total Accesses: "));
    line.and_then(|count| count.trim().parse().ok()).expect("a number")
}

fn serve(lab: &Lab, kind: &str, settings: &str) -> (Report, Server, Tally) {
    let program = installed("/usr/sbin", "apache2", "apache2-bin");
    let folder = Folder::new();
    let at = folder.path("");
    let page = folder.write("index.html", "ok");
    let text = format!(
        "ServerRoot {at}\nServerName server\nPidFile {at}pid\nErrorLog {at}errors\nUser nobody\nGroup nogroup\n\
         LoadModule mpm_{kind}_module /usr/lib/apache2/modules/mod_mpm_{kind}.so\n\
         LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n\
         LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so\n\
         LoadModule status_module /usr/lib/apache2/modules/mod_status.so\n\
         {settings}\nDocumentRoot {at}\nKeepAliveTimeout 60\nLogFormat \"%P %k\" worker\n\
         Listen 127.0.0.1:{PORT}\nListen 127.0.0.1:{STATUS}\n\
         <VirtualHost *:{PORT}>\nAliasMatch .* {page}\nCustomLog {at}access worker\n</VirtualHost>\n\
         <VirtualHost *:{STATUS}>\n<Location />\nSetHandler server-status\n</Location>\n</VirtualHost>\n"
    );
    let configuration = folder.write("apache.conf", &text);
    let server = Server::start(&folder, User::Root, &program, &["-DFOREGROUND", "-f", &configuration]);
    server.listens(PORT, 1);
    let before = requests();
    let watching = Watching::start(lab);
    let tally = Load { port: PORT, connections: 300, at_once: 8, requests: 3, exchange: http }.run();
    let report = watching.report();
    assert_eq!(requests() - before - 1, tally.requests, "the test's own load");
    report.counts(PORT, &tally);
    report.is_healthy(PORT, &tally);
    for (worker, connections) in connections_of(&folder, &server) {
        assert_eq!(report.accepts_of(PORT, worker), connections, "process {worker}, by its own log");
    }
    (report, server, tally)
}

/// How many connections each process served, by its own log: it has the process and the number of the request.
fn connections_of(folder: &Folder, server: &Server) -> BTreeMap<u32, u64> {
    let pids: BTreeMap<u32, u32> = server.workers().into_iter().map(|pid| (own_pid(pid), pid)).collect();
    let mut counts = BTreeMap::new();
    for line in folder.lines("access") {
        let (process, number) = line.split_once(' ').expect("two numbers");
        if number == "0" {
            *counts.entry(pids[&process.parse().expect("a process id")]).or_default() += 1;
        }
    }
    counts
}

fn prefork(lab: &Lab) {
    let _machine = side_by_side();
    // More threads than connections: otherwise Apache closes those that it could keep.
    let settings = "StartServers 10\nMinSpareServers 10\nMaxSpareServers 10\nMaxRequestWorkers 10";
    let (report, server, _) = serve(lab, "prefork", settings);
    report.has_pattern(PORT, &["multi_acceptor"]);
    let workers = server.workers();
    for thread in report.threads(PORT) {
        assert!(workers.iter().any(|pid| thread["pid"] == *pid), "{thread:#}");
    }
}

fn event(lab: &Lab) {
    let _machine = side_by_side();
    // More threads than connections: otherwise Apache closes those that it could keep.
    let settings = "StartServers 1\nServerLimit 1\nThreadsPerChild 25\nMaxRequestWorkers 25";
    let (report, server, _) = serve(lab, "event", settings);
    report.has_pattern(PORT, &["acceptor_readers"]);
    let acceptors = report.with_role(PORT, "acceptor");
    assert_eq!((acceptors.len(), &acceptors[0]["pid"]), (1, &server.workers()[0].into()));
}
