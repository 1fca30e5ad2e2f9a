//! Every pattern serves what the load generator sends: the totals of both are equal, and each thread does what its role
//! says.

use clap::ValueEnum;
use demo_servers::counters::{Report, ThreadReport};
use demo_servers::server::options::Pattern;
use demo_test_support::{Server, eventually, run, stress};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const CONNECTIONS: u64 = 2000;
const REQUESTS: u64 = 3;

/// Loads a server with these options, and compares all totals.
fn serve(options: &str) -> Report {
    serve_at(options, "--request-bytes 100 --response-bytes 300", "--request-bytes 100 --response-bytes 300")
}

fn serve_at(options: &str, server_sizes: &str, load_sizes: &str) -> Report {
    let server = Server::start(&format!("{options} --backlog 4096 {server_sizes}"));
    let load = format!("--rate 2000 --arrivals poisson --connections {CONNECTIONS} --requests {REQUESTS} {load_sizes}");
    let summary = stress(&server, &load);
    assert_eq!(summary.started, CONNECTIONS);
    assert_eq!(summary.completed, CONNECTIONS, "{summary:?}");
    assert_eq!((summary.requests, summary.responses), (CONNECTIONS * REQUESTS, CONNECTIONS * REQUESTS));
    assert_eq!(summary.first_response_us.count, CONNECTIONS);
    assert_eq!(summary.response_us.count, CONNECTIONS * REQUESTS);

    // The clients have closed. The server notices the last closes a little later.
    let mut server = server;
    eventually("all connections are closed", || server.report().total.closed == CONNECTIONS);
    let report = server.end(Signal::SIGTERM);
    let total = report.total.counts;
    assert_eq!(total.accepts, summary.established);
    assert_eq!(total.requests, summary.requests);
    assert_eq!(total.read_bytes, summary.sent_bytes);
    assert_eq!(total.write_bytes, summary.received_bytes);
    assert_eq!(total.accept_failures, 0);
    assert_eq!((report.total.closed, report.total.open), (CONNECTIONS, 0));
    assert!(options.contains(&report.pattern));
    report
}

/// The threads whose names begin with this; at least one.
fn role<'a>(report: &'a Report, name: &str) -> Vec<&'a ThreadReport> {
    let threads: Vec<_> = report.threads.iter().filter(|thread| thread.role.starts_with(name)).collect();
    assert!(!threads.is_empty(), "no {name} in {:?}", report.threads);
    threads
}

fn assert_only_accepts(thread: &ThreadReport) {
    assert_eq!((thread.counts.accepts, thread.counts.reads, thread.counts.writes), (CONNECTIONS, 0, 0));
}

#[test]
fn single_thread_does_everything() {
    let report = serve("--pattern single_thread --threads 4");
    assert_eq!(report.threads.len(), 1);
    assert_eq!(report.threads[0].role, "single");
    assert_eq!(report.threads[0].pid, report.pid);
}

#[test]
fn acceptor_readers_get_connections_in_turn() {
    let report = serve("--pattern acceptor_readers --threads 4");
    assert_eq!(report.threads.len(), 5);
    assert_only_accepts(role(&report, "acceptor")[0]);
    for reader in role(&report, "reader-") {
        assert_eq!(reader.counts.accepts, 0);
        assert_eq!(reader.counts.requests, CONNECTIONS * REQUESTS / 4);
        assert_eq!(reader.counts.read_bytes, 100 * reader.counts.requests);
        assert_eq!(reader.counts.write_bytes, 300 * reader.counts.requests);
    }
}

#[test]
fn message_balancing_reads_in_one_thread_and_writes_in_others() {
    let report = serve("--pattern message_balancing --threads 3");
    assert_eq!(report.threads.len(), 4);
    let dispatch = role(&report, "dispatch")[0].counts;
    assert_eq!((dispatch.accepts, dispatch.requests, dispatch.writes), (CONNECTIONS, CONNECTIONS * REQUESTS, 0));
    let workers = role(&report, "worker-");
    assert!(workers.iter().all(|worker| worker.counts.accepts + worker.counts.reads == 0));
    assert!(workers.iter().filter(|worker| worker.counts.writes > 0).count() > 1, "{workers:?}");
}

#[test]
fn multi_acceptor_reads_what_it_accepts() {
    for options in ["", "--processes", "--no-exclusive", "--accept-batch 0"] {
        let report = serve(&format!("--pattern multi_acceptor --threads 4 {options}"));
        let acceptors = role(&report, "acceptor-");
        assert_eq!(acceptors.len(), 4);
        assert!(acceptors.iter().all(|thread| thread.counts.requests == REQUESTS * thread.counts.accepts), "{options}");
        let processes = options == "--processes";
        assert!(acceptors.iter().all(|thread| (thread.pid != report.pid) == processes));
        if options == "--accept-batch 0" {
            assert!(report.total.counts.would_block > 0, "{options}: {report:?}");
        }
    }
}

#[test]
fn without_exclusive_wakeups_all_acceptors_wake() {
    let would_block = |options: &str| {
        // The delay gives all woken threads the time to try, before one of them takes the connection.
        let server = Server::start(&format!("--pattern multi_acceptor --threads 4 --accept-delay-us 30000 {options}"));
        let summary = stress(&server, "--rate 8 --connections 8");
        let counts = server.end(Signal::SIGTERM).total.counts;
        assert_eq!((summary.completed, counts.accepts), (8, 8));
        counts.would_block
    };
    let (all, exclusive) = (would_block("--no-exclusive"), would_block(""));
    assert!(all >= 8 && all > 2 * exclusive, "{all} without EPOLLEXCLUSIVE, {exclusive} with it");
}

#[test]
fn sharded_spreads_by_hash() {
    let report = serve("--pattern sharded --threads 4");
    let shards = role(&report, "shard-");
    assert_eq!(shards.len(), 4);
    assert!(shards.iter().all(|shard| shard.counts.accepts > 0));
    assert!(shards.iter().all(|shard| shard.counts.requests == REQUESTS * shard.counts.accepts));
}

#[test]
fn a_dead_shard_never_accepts() {
    let server = Server::start("--pattern sharded --threads 2 --dead-shard 2 --backlog 4096");
    let summary = stress(&server, "--rate 1000 --connections 200 --timeout-ms 2000");
    let report = server.end(Signal::SIGTERM);
    assert_eq!(role(&report, "shard-2")[0].counts.accepts, 0);
    assert_eq!(role(&report, "shard-1")[0].counts.accepts, summary.completed);
    // Clients of the dead shard are connected, as far as they know, but get no answer.
    assert_eq!(summary.established, 200);
    assert_eq!(summary.failures.response.timeout, 200 - summary.completed);
    assert!(summary.failures.response.timeout > 0);
}

#[test]
fn thread_per_connection_starts_a_thread_for_each() {
    let report = serve("--pattern thread_per_connection");
    assert_only_accepts(role(&report, "acceptor")[0]);
    let threads = role(&report, "conn-");
    assert_eq!(threads.len() as u64, CONNECTIONS);
    assert!(threads.iter().all(|thread| thread.counts.requests == REQUESTS && thread.pid == report.pid));
}

#[test]
fn process_per_connection_starts_a_process_for_each() {
    let report = serve("--pattern process_per_connection");
    assert_only_accepts(role(&report, "acceptor")[0]);
    let processes = role(&report, "conn-");
    assert_eq!(processes.len() as u64, CONNECTIONS);
    assert!(processes.iter().all(|process| process.counts.requests == REQUESTS && process.pid == process.tid));
}

#[test]
fn a_thread_pool_accepts_at_once_and_serves_whole_connections() {
    let report = serve("--pattern thread_pool --threads 3");
    assert_eq!(report.threads.len(), 4);
    assert_only_accepts(role(&report, "acceptor")[0]);
    let workers = role(&report, "worker-");
    assert!(workers.iter().all(|worker| worker.counts.accepts == 0 && worker.counts.requests % REQUESTS == 0));
}

#[test]
fn a_thread_pool_serves_no_more_connections_than_it_has_workers() {
    let mut server = Server::start("--pattern thread_pool --threads 2");
    let target = (server.ready.address, server.ready.port);
    let clients: Vec<_> = (0..5).map(|_| TcpStream::connect(target).unwrap()).collect();
    eventually("all are accepted", || server.report().total.counts.accepts == 5);
    for mut client in &clients {
        client.write_all(&[0; 64]).unwrap();
    }
    eventually("two are served", || server.report().total.counts.requests == 2);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(server.report().total.counts.requests, 2, "the others wait inside the process");
    // Their workers are free when these clients are gone.
    drop(clients);
    eventually("all are closed", || server.report().total.closed == 5);
    assert_eq!(server.end(Signal::SIGTERM).total.counts.requests, 5);
}

#[test]
fn prefork_processes_serve_what_they_accept() {
    let report = serve("--pattern prefork --threads 3");
    let acceptors = role(&report, "acceptor-");
    assert_eq!(acceptors.len(), 3);
    assert!(acceptors.iter().all(|process| process.counts.requests == REQUESTS * process.counts.accepts));
    assert!(acceptors.iter().all(|process| process.pid == process.tid && process.pid != report.pid));
    // A blocking accept wakes one process, with a connection.
    assert_eq!(report.total.counts.would_block, 0);
}

#[test]
fn every_accept_call_counts_the_same() {
    for call in ["accept", "io_uring", "io_uring_multishot"] {
        serve(&format!("--pattern single_thread --accept-call {call}"));
        serve(&format!("--pattern multi_acceptor --accept-call {call}"));
    }
    serve("--pattern thread_per_connection --accept-call accept");
}

#[test]
fn requests_and_responses_of_any_size_arrive_whole() {
    let sizes = "--request-bytes 1000 --response-bytes 40000";
    for pattern in ["single_thread", "message_balancing", "thread_per_connection"] {
        let report = serve_at(&format!("--pattern {pattern}"), &format!("{sizes} --read-bytes 300"), sizes);
        // 300 bytes at most per read: at least four reads per request.
        assert!(report.total.counts.reads >= 4 * CONNECTIONS * REQUESTS);
    }
    let sizes = "--request-bytes 1 --response-bytes 0";
    assert_eq!(serve_at("--pattern acceptor_readers", sizes, sizes).total.counts.writes, 0);
}

#[test]
fn ipv6_is_served() {
    let server = Server::start("--pattern sharded --address ::1");
    assert!(server.ready.address.is_ipv6());
    let summary = stress(&server, "--rate 1000 --connections 100");
    assert_eq!((summary.completed, server.end(Signal::SIGTERM).total.counts.accepts), (100, 100));

    let server = Server::start("--pattern single_thread --address ::");
    let target = std::net::SocketAddr::from(([127, 0, 0, 1], server.ready.port));
    let (code, stdout, _) = run("stress", &format!("--quiet --target {target} --rate 1000 --connections 10"));
    assert_eq!(code, Some(0), "{stdout}");
    assert_eq!(server.end(Signal::SIGTERM).total.closed, 10, "a wildcard IPv6 listener serves IPv4 too");
}

#[test]
fn slow_and_half_closed_clients_get_every_response() {
    for pattern in Pattern::value_variants().iter().map(|pattern| pattern.name()) {
        let options = "--request-bytes 10 --response-bytes 2000000 --max-connections-total 1";
        let server = Server::start(&format!("--pattern {pattern} {options}"));
        let mut client = TcpStream::connect((server.ready.address, server.ready.port)).unwrap();
        // The last request is incomplete. The client reads nothing before it has sent all, so the server has to wait.
        client.write_all(&[0; 59]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let mut responses = Vec::new();
        client.read_to_end(&mut responses).unwrap();
        assert_eq!(responses.len(), 5 * 2_000_000, "{pattern}");
        let total = server.wait().total;
        assert_eq!((total.counts.requests, total.counts.read_bytes, total.closed), (5, 59, 1), "{pattern}");
        assert_eq!(total.counts.write_bytes, 5 * 2_000_000, "{pattern}");
        assert!(total.counts.writes > 5 * 30, "each write takes 65,536 bytes at most");
    }
}
