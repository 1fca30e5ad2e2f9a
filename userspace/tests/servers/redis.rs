//! Redis: one thread, and one with helpers. What its clients see while it hangs, stalls, is killed, or meets a burst.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use listentop_model::coverage::Measure;
use test_support::{
    Lab, Test,
    lab::PORT,
    sleep_ms,
    sockets::{attempt, give_up_refused},
    wait_until,
};

use crate::support::{
    alone,
    exchange::redis_ping,
    load::{Arrivals, Load, Persistent, Tally, idle},
    report::{Fault, Report, Watching, number, under_pressure},
    server::{Folder, Server, User, installed},
    side_by_side,
};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::Writes];
const QUEUES: &[Measure] = &[Measure::Accepts, Measure::OldestWaiting, Measure::QueuedBytes];
const DROPS: &[Measure] = &[Measure::Accepts, Measure::AcceptQueuePeak, Measure::Drops];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "redis::one_thread", needs: NEEDS, run: one_thread },
    Test { name: "redis::four_io_threads", needs: NEEDS, run: four_io_threads },
    Test { name: "redis::hangs_with_persistent_clients", needs: QUEUES, run: hangs },
    Test { name: "redis::hangs_before_the_start", needs: QUEUES, run: hangs_before },
    Test { name: "redis::stalls_and_goes_on", needs: QUEUES, run: stalls },
    Test { name: "redis::killed_while_clients_wait", needs: QUEUES, run: killed },
    Test { name: "redis::burst", needs: DROPS, run: burst },
];

struct Redis {
    server: Server,
    /// Its Unix socket.
    socket: String,
    folder: Folder,
}

impl Redis {
    fn start(options: &[&str]) -> Self {
        let folder = Folder::new();
        let socket = folder.path("socket");
        let server = Self::server(&folder, &socket, options);
        Self { server, socket, folder }
    }

    fn server(folder: &Folder, socket: &str, options: &[&str]) -> Server {
        let program = installed("/usr/bin", "redis-server", "redis-server");
        let (port, at) = (PORT.to_string(), folder.path(""));
        let mut arguments = vec!["--port", &port, "--bind", "127.0.0.1", "--unixsocket", socket, "--dir", &at];
        arguments.extend(["--save", "", "--enable-debug-command", "yes"]);
        arguments.extend(options);
        let server = Server::start(folder, User::Root, &program, &arguments);
        server.listens(PORT, 1);
        wait_until("redis has a Unix socket", || UnixStream::connect(socket).is_ok());
        server
    }

    /// Its answer to a command, through the Unix socket.
    fn ask(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).expect("it listens");
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("text");
        text
    }

    /// Keeps it from doing anything for this time, from now on.
    fn sleep(&self, span: Duration) {
        let mut stream = UnixStream::connect(&self.socket).expect("it listens");
        stream.write_all(format!("DEBUG SLEEP {}\r\n", span.as_secs_f64()).as_bytes()).expect("it reads");
        // It takes the command at its next turn.
        sleep_ms(50);
    }

    /// Its own counts of connections and PINGs.
    fn counts(&self) -> (u64, u64) {
        let (connections, pings) = (self.ask("INFO stats"), self.ask("INFO commandstats"));
        let number = |text: &str, before: &str| -> u64 {
            let rest = text.split_once(before).map_or("0", |(_, rest)| rest);
            rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        (number(&connections, "total_connections_received:"), number(&pings, "cmdstat_ping:calls="))
    }
}

fn serve(lab: &Lab, options: &[&str]) -> (Report, Redis, Tally) {
    let redis = Redis::start(options);
    let watching = Watching::start(lab);
    let before = redis.counts();
    let load = Load { port: PORT, connections: 320, at_once: 32, requests: 10, exchange: redis_ping };
    let tally = load.run();
    let now = redis.counts();
    let report = watching.report();
    // Asking for the counts took two connections.
    let own = (now.0 - before.0 - 2, now.1 - before.1);
    assert_eq!(own, (tally.connections, tally.requests), "the test's own load");
    report.counts(PORT, &tally);
    assert_eq!(report.sum(PORT, "reads.count"), tally.requests);
    (report, redis, tally)
}

fn one_thread(lab: &Lab) {
    let _machine = side_by_side();
    let (report, redis, tally) = serve(lab, &[]);
    report.is_healthy(PORT, &tally);
    report.has_pattern(PORT, &["single_thread"]);
    let threads = report.threads(PORT);
    assert_eq!((threads.len(), &threads[0]["tid"]), (1, &redis.server.pid().into()));
}

/// The thread that accepts is also one of four that read and write.
fn four_io_threads(lab: &Lab) {
    const THREADS: usize = 4;
    let _machine = alone();
    let (report, redis, tally) = serve(lab, &["--io-threads", "4", "--io-threads-do-reads", "yes"]);
    let acceptors = report.with_role(PORT, "acceptor");
    assert_eq!((acceptors.len(), &acceptors[0]["tid"]), (1, &redis.server.pid().into()));
    let readers = report.with_role(PORT, "reader");
    assert!(readers.len() > 1, "the test's own load: {} threads read", readers.len());
    assert_eq!(acceptors[0]["roles"], serde_json::json!(["acceptor", "reader", "writer"]));
    report.has_pattern(PORT, &["acceptor_in_pool"]);
    // Its threads never sleep while there is work. With fewer CPUs they keep each other waiting for one.
    if thread::available_parallelism().is_ok_and(|cpus| cpus.get() > THREADS) {
        report.is_healthy(PORT, &tally);
    } else if !report.listener(PORT)["findings"].as_array().expect("a list").is_empty() {
        let fault =
            Fault { root: "cpu_starved_acceptor", severity: &["warning"], follows: &["slow_accept", "slow_reader"] };
        report.has_fault(PORT, &fault);
    }
}

/// Fifty clients with open connections, none new, and no answer for three and a half seconds.
fn hangs(lab: &Lab) {
    let _machine = side_by_side();
    let redis = Redis::start(&[]);
    let _clients = Persistent::connect(PORT, 50, redis_ping);
    let watching = Watching::start(lab);
    sleep_ms(1500);
    redis.sleep(Duration::from_secs(6));
    sleep_ms(3500);
    let report = watching.report_now();
    let seen = report.listener(PORT);
    assert_eq!(number(seen, "reads.queued_bytes"), 50 * 6, "the test's own load: each client asks once");
    assert_eq!(number(seen, "accept_queue.depth"), 0);
    let oldest = number(seen, "reads.oldest_unread_us");
    assert!((3_000_000..=5_000_000).contains(&oldest), "{oldest} us");
    report
        .has_fault(PORT, &Fault { root: "hung_reader", severity: &["warning", "critical"], follows: &["slow_reader"] });
}

/// It sleeps already when listentop comes. Of its threads all others are parked.
fn hangs_before(lab: &Lab) {
    let _machine = side_by_side();
    let redis = Redis::start(&[]);
    redis.sleep(Duration::from_secs(12));
    let clients = Arrivals::begin(PORT, 10, redis_ping);
    sleep_ms(1500);
    let watching = Watching::start(lab);
    sleep_ms(3500);
    let report = watching.report_now();
    drop(clients);
    let pid = redis.server.pid();
    let fault = Fault { root: "hung_acceptor", severity: &["critical"], follows: &["slow_accept"] };
    let finding = report.has_fault(PORT, &fault);
    assert_eq!(report.likely_acceptors(PORT), [(pid, pid)]);
    let text = finding.to_string();
    assert!(text.contains("nanosleep") && text.contains(&format!("strace -p {pid},")), "{text}");
}

/// It does nothing for two seconds, and then goes on while others come: that is not forgotten.
fn stalls(lab: &Lab) {
    let _machine = side_by_side();
    let redis = Redis::start(&[]);
    let watching = Watching::start(lab);
    let clients = Arrivals::begin(PORT, 30, redis_ping);
    clients.are_answered(30);
    redis.sleep(Duration::from_secs(2));
    // What was critical is shown so for five seconds more.
    sleep_ms(8000);
    let report = watching.report_now();
    let wait = number(report.listener(PORT), "accept_queue.wait_us.max");
    assert!((1_700_000..2_500_000).contains(&wait), "the test's own load: {wait} us");
    let findings = report.listener(PORT)["findings"].as_array().expect("a list");
    assert!(!findings.is_empty(), "clients have waited for two seconds, and nothing is said");
    for finding in findings {
        assert_ne!(finding["severity"], "critical", "it is over: {finding:#}");
    }
    // It has nothing to do: no resource was short.
    let ids: Vec<&str> = findings.iter().filter_map(|finding| finding["id"].as_str()).collect();
    let named = ["hung_acceptor", "slow_accept", "busy_acceptor"].contains(&ids[0]);
    assert!(named, "{}{ids:?}", under_pressure());
}

/// It is killed while 28 clients wait for it, and started again.
fn killed(lab: &Lab) {
    let _machine = side_by_side();
    let mut redis = Redis::start(&[]);
    let watching = Watching::start(lab);
    redis.sleep(Duration::from_secs(30));
    let clients = idle(PORT, 28);
    sleep_ms(300);
    redis.server.kill();
    sleep_ms(300);
    redis.server = Redis::server(&redis.folder, &redis.socket, &[]);
    let load = Load { port: PORT, connections: 50, at_once: 4, requests: 5, exchange: redis_ping };
    let tally = load.run();
    let report = watching.report();
    drop(clients);
    let (closed, open): (Vec<_>, Vec<_>) =
        report.listeners(PORT).into_iter().partition(|listener| listener["closed"] == true);
    assert_eq!((closed.len(), open.len()), (1, 1));
    assert_eq!(number(closed[0], "accept_queue.aborted"), 28);
    let fault = Fault {
        root: "connections_lost_on_close",
        severity: &["warning", "critical"],
        follows: &["hung_acceptor", "slow_accept"],
    };
    let finding = fault.check(closed[0]);
    assert!(finding["summary"].as_str().expect("text").contains("28"), "{finding:#}");
    assert_eq!(number(open[0], "accepts.total"), tally.connections);
    assert_eq!(open[0]["findings"], serde_json::json!([]), "the new one is healthy");
}

/// A server that is fast enough, and whose queue is too short for sixty clients that come at the same moment.
fn burst(lab: &Lab) {
    let _machine = side_by_side();
    let redis = Redis::start(&["--tcp-backlog", "16"]);
    let watching = Watching::start(lab);
    let before = lab.counters();
    let calm = Load { port: PORT, connections: 200, at_once: 1, requests: 1, exchange: redis_ping };
    let mut stream = UnixStream::connect(&redis.socket).expect("it listens");
    for _ in 0..3 {
        calm.run();
        sleep_ms(400);
        // It is busy for a moment, as any server is at times, while they come.
        stream.write_all(b"DEBUG SLEEP 0.01\r\n").expect("it reads");
        sleep_ms(2);
        let begin = Instant::now();
        let clients: Vec<_> = (0..60).map(|_| attempt(PORT)).collect();
        let took = begin.elapsed();
        assert!(took < Duration::from_millis(6), "the test's own load: the burst took {took:?}");
        sleep_ms(300);
        // Refused clients give up.
        drop(give_up_refused(clients));
        sleep_ms(200);
    }
    let report = watching.report();
    let refused = lab.counters().since(&before, "ListenOverflows");
    assert!(refused > 20, "the test's own load: {refused} refused");
    assert_eq!(report.sum(PORT, "drops.total"), refused);
    let fault =
        Fault { root: "backlog_small", severity: &["warning", "critical"], follows: &["accept_queue_overflow"] };
    report.has_fault(PORT, &fault);
}
