//! Signals, stalls, delays and ends of `demo-server`.

use clap::ValueEnum;
use demo_servers::server::options::Pattern;
use demo_test_support::{Server, alive, eventually, run, stress};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

fn patterns() -> Vec<String> {
    Pattern::value_variants().iter().map(|pattern| pattern.name()).collect()
}

fn address(server: &Server) -> SocketAddr {
    SocketAddr::new(server.ready.address, server.ready.port)
}

#[test]
fn counters_are_printed_on_sigusr1_and_at_every_kind_of_end() {
    for (pattern, signal) in patterns().iter().zip([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].iter().cycle()) {
        let mut server = Server::start(&format!("--pattern {pattern}"));
        assert_eq!(server.report().total.counts.accepts, 0);
        let address = address(&server);
        // When it ends, a connection is open, which it closes.
        let client = TcpStream::connect(address).unwrap();
        eventually("the connection is accepted", || server.report().total.open == 1);
        let report = server.end(*signal);
        assert_eq!(report.total.counts.accepts, 1, "{pattern}");
        assert_eq!((report.total.closed, report.total.open), (1, 0), "{pattern}");
        drop(client);
        assert!(TcpStream::connect(address).is_err(), "{pattern} still listens");
        assert!(!alive(report.pid));
    }
}

#[test]
fn it_ends_after_a_number_of_connections() {
    for pattern in patterns() {
        let server = Server::start(&format!("--pattern {pattern} --max-connections-total 50"));
        let summary = stress(&server, "--rate 1000 --connections 50 --requests 2");
        let report = server.wait();
        assert_eq!(summary.completed, 50, "{pattern}");
        assert_eq!((report.total.counts.accepts, report.total.closed), (50, 50), "{pattern}");
        assert_eq!(report.total.counts.read_bytes, summary.sent_bytes, "{pattern}");
    }
}

#[test]
fn it_ends_after_a_time() {
    let began = Instant::now();
    let report = Server::start("--pattern sharded --for 0.3").wait();
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(report.uptime_ms >= 300);
}

#[test]
fn a_scheduled_stall_stops_accepting() {
    let more = ["single_thread --accept-call io_uring", "multi_acceptor --processes"].map(str::to_owned);
    for pattern in patterns().into_iter().chain(more) {
        let began = Instant::now();
        let mut server = Server::start(&format!("--pattern {pattern} --stall 0:400 --stall 300:400"));
        let address = address(&server);
        let client = thread::spawn(move || {
            use std::io::{Read, Write};
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(&[0; 64]).unwrap();
            client.read_exact(&mut [0; 64]).unwrap();
            began.elapsed()
        });
        // The schedule counts from the start of the server, which is a little after `began`.
        let accepted_early = server.report().total.counts.accepts > 0 && began.elapsed() < Duration::from_millis(700);
        assert!(!accepted_early, "{pattern}");
        let answered = client.join().unwrap();
        assert!(answered >= Duration::from_millis(700), "{pattern}: {answered:?}");
        assert_eq!(server.end(Signal::SIGTERM).total.counts.accepts, 1);
    }
}

#[test]
fn sigusr2_stalls_at_once() {
    // Not the patterns whose accept blocks already when the stall begins.
    for pattern in Pattern::value_variants().iter().filter(|pattern| !pattern.accept_blocks()) {
        let pattern = pattern.name();
        let server = Server::start(&format!("--pattern {pattern} --stall-for 1500"));
        let began = Instant::now();
        server.signal(Signal::SIGUSR2);
        thread::sleep(Duration::from_millis(200));
        let summary = stress(&server, "--burst 5:1 --connections 5");
        assert_eq!(summary.completed, 5);
        assert!(began.elapsed() >= Duration::from_millis(1500), "{pattern}");
        assert!(summary.first_response_us.max.unwrap() >= 200_000, "{pattern}: {summary:?}");
        server.end(Signal::SIGTERM);
    }
}

#[test]
fn an_accept_delay_holds_up_each_connection() {
    for pattern in
        ["single_thread", "acceptor_readers", "thread_per_connection", "single_thread --accept-call io_uring"]
    {
        let server = Server::start(&format!("--pattern {pattern} --accept-delay-us 50000"));
        let summary = stress(&server, "--burst 8:10 --connections 8");
        assert_eq!(summary.completed, 8);
        // The last of eight waits for at least seven delays; connecting itself does not wait.
        assert!(summary.first_response_us.max.unwrap() >= 349_000, "{pattern}: {summary:?}");
        assert!(summary.connect_us.max.unwrap() < 300_000, "{pattern}: {summary:?}");
        server.end(Signal::SIGTERM);
    }
}

#[test]
fn work_and_read_delays_take_their_time() {
    for (option, cpu) in [("--cpu-us 20000", true), ("--block-us 20000", false), ("--read-delay-us 20000", false)] {
        for pattern in patterns() {
            let server = Server::start(&format!("--pattern {pattern} {option}"));
            let summary = stress(&server, "--rate 100 --connections 5");
            assert_eq!(summary.completed, 5);
            assert!(summary.response_us.p50.unwrap() >= 19_900, "{pattern} {option}: {summary:?}");
            let spent = server.end(Signal::SIGTERM).total.cpu_us / 1000;
            assert!(if cpu { spent >= 100 } else { spent < 50 }, "{pattern} {option}: {spent} ms of CPU time");
        }
    }
}

#[test]
fn the_cpu_time_of_children_that_run_counts() {
    let mut server = Server::start("--pattern prefork --threads 2 --cpu-us 20000");
    let summary = stress(&server, "--rate 100 --connections 10");
    assert_eq!(summary.completed, 10);
    let running = server.report().total.cpu_us;
    assert!(running >= 200_000, "{running}");
    let ended = server.end(Signal::SIGTERM).total.cpu_us;
    assert!(ended >= running, "{ended} {running}: they were reaped");
}

#[test]
fn one_request_in_so_many_is_slow() {
    let server = Server::start("--pattern single_thread --slow-request 10:200");
    let summary = stress(&server, "--rate 1000 --connections 1 --requests 40");
    // Four of forty: more than 1 in 20, so not the median.
    assert!(summary.response_us.p50 < Some(100_000), "{summary:?}");
    assert!(summary.response_us.p99 >= Some(200_000) && summary.seconds >= 0.8, "{summary:?}");
    server.end(Signal::SIGTERM);
}

#[test]
fn unequal_work_has_the_same_mean() {
    let cpu = |options: &str| {
        let server = Server::start(&format!("--pattern single_thread --cpu-us 1000 {options}"));
        let summary = stress(&server, "--rate 1000 --connections 1 --requests 300");
        (server.end(Signal::SIGTERM).total.cpu_us, summary.response_us)
    };
    let (fixed, even) = cpu("");
    let (heavy, uneven) = cpu("--work heavy_tailed --work-seed 2");
    assert!(heavy > fixed / 2 && heavy < fixed * 2, "{heavy} {fixed}");
    assert!(uneven.p50 < even.p50 && uneven.max > even.p50.map(|even| 5 * even), "{uneven:?} {even:?}");
}

#[test]
fn a_small_receive_buffer_stops_the_client() {
    let server =
        Server::start("--pattern single_thread --receive-buffer 4096 --read-delay-us 20000 --request-bytes 200000");
    let summary = stress(&server, "--rate 100 --connections 2 --request-bytes 200000");
    assert_eq!(summary.completed, 2);
    // The kernel's own words for it: most of the time the window was full.
    assert!(summary.receiver_limited_us > 500_000, "{summary:?}");
    server.end(Signal::SIGTERM);
}

#[test]
fn an_idle_acceptor_beside_hogs_is_late() {
    let late = |options: &str| {
        let server = Server::start(&format!("--pattern single_thread --pin 0 {options}"));
        let summary = stress(&server, "--rate 50 --connections 25 --timeout-ms 60000");
        assert_eq!(summary.completed, 25);
        (summary.first_response_us.max.unwrap(), server)
    };
    let hogs = |server: &Server| thread_names(server.pid()).iter().filter(|name| name.starts_with("hog-")).count();
    let (alone, server) = late("");
    assert_eq!(hogs(&server), 0);
    server.end(Signal::SIGTERM);
    let (starved, server) = late("--hogs 2 --idle-priority");
    // A hog names itself when it first runs, which other hogs may delay.
    eventually("two hogs run", || hogs(&server) == 2);
    server.end(Signal::SIGTERM);
    assert!(starved > 2 * alone, "{starved} {alone}");
}

/// Names of the threads of a process.
fn thread_names(pid: i32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap()).collect()
}

/// CPU time of a process in milliseconds, to the kernel's ticks.
fn cpu_ms(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks * 10
}

#[test]
fn without_descriptors_it_pauses_instead_of_spinning() {
    for pattern in patterns() {
        let mut server = Server::start(&format!("--pattern {pattern} --max-open-files 24 --threads 1"));
        let address = address(&server);
        let clients: Vec<_> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
        // Those that serve one connection per process never run out.
        if !["process_per_connection", "prefork"].contains(&&*pattern) {
            eventually("descriptors run out", || server.report().total.counts.accept_failures > 0);
            let before = (cpu_ms(server.pid()), server.report().total.counts.accept_failures);
            thread::sleep(Duration::from_millis(600));
            let after = (cpu_ms(server.pid()), server.report().total.counts.accept_failures);
            assert!(after.0 - before.0 < 300, "{pattern}: {} ms of CPU time", after.0 - before.0);
            assert!(after.1 - before.1 < 20, "{pattern}: {} failures", after.1 - before.1);
        }
        drop(clients);
        eventually("all clients are served in the end", || server.report().total.closed == 40);
        server.end(Signal::SIGTERM);
    }
}

#[test]
fn closing_on_accept_serves_a_storm() {
    for pattern in patterns() {
        let server = Server::start(&format!("--pattern {pattern} --close-on-accept --backlog 1024"));
        let (code, stdout, stderr) =
            run("storm", &format!("--mode connect --connections 8 --for 0.3 --target {}", address(&server)));
        assert_eq!(code, Some(0), "{pattern}: {stderr}");
        let result: demo_servers::storm::Result = serde_json::from_str(&stdout).unwrap();
        let total = server.end(Signal::SIGTERM).total;
        assert_eq!(result.failures, 0, "{pattern}");
        // Connections under way at the end are accepted but not counted as operations.
        let beyond = total.counts.accepts - result.operations;
        assert!(result.operations > 0 && beyond <= 8, "{pattern}: {} beyond {}", beyond, result.operations);
    }
}

#[test]
fn keepalive_requests_are_counted_one_by_one() {
    let server = Server::start("--pattern acceptor_readers");
    let storm = format!("--mode keepalive --connections 8 --threads 2 --for 0.3 --target {}", address(&server));
    let (code, stdout, stderr) = run("storm", &storm);
    assert_eq!(code, Some(0), "{stderr}");
    let result: demo_servers::storm::Result = serde_json::from_str(&stdout).unwrap();
    let counts = server.end(Signal::SIGTERM).total.counts;
    assert_eq!(counts.accepts, 8);
    assert!(result.operations > 0 && (result.operations..=result.operations + 8).contains(&counts.requests));
}

#[test]
fn processes_do_not_outlive_their_server() {
    for options in ["multi_acceptor --processes", "process_per_connection"] {
        let mut server = Server::start(&format!("--pattern {options}"));
        let _client = TcpStream::connect(address(&server)).unwrap();
        eventually("the connection is accepted", || server.report().total.open == 1);
        let pids: Vec<_> = server.report().threads.iter().map(|thread| thread.pid).collect();
        let children: Vec<_> = pids.into_iter().filter(|&pid| pid != server.pid()).collect();
        assert_ne!(children, [] as [i32; 0]);
        server.signal(Signal::SIGKILL);
        eventually("the children are gone", || !children.iter().any(|&pid| alive(pid)));
    }
}

#[test]
fn a_killed_acceptor_process_ends_the_server() {
    let mut server = Server::start("--pattern multi_acceptor --processes");
    // The id is 0 until the process has begun. Killing "process 0" would kill the tests themselves.
    let mut child = 0;
    eventually("the process has begun", || {
        child = server.report().threads[0].pid;
        child > 0
    });
    kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
    let (status, _, stderr) = server.wait_for_failure();
    assert_eq!(status.code(), Some(1));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(&child.to_string()) && stderr.contains("SIGKILL"), "{stderr}");
}

#[test]
fn bad_input_is_one_line_and_an_exit_status() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (program, options, code) in [
        ("demo-server", format!("--pattern single_thread --port {port}"), 1),
        ("demo-server", "--pattern single_thread --address 192.0.2.1".to_owned(), 1),
        ("demo-server", "--pattern single_thread --max-open-files 99999999999".to_owned(), 1),
        ("demo-server", "--pattern single_thread --max-open-files 6".to_owned(), 1),
        ("demo-server", "--pattern single_thread --pin 8191".to_owned(), 2),
        ("demo-server", "--pattern nginx".to_owned(), 2),
        ("demo-server", "--bogus".to_owned(), 2),
        ("demo-server", String::new(), 2),
        ("stress", "--target 192.0.2.1:80 --rate 1".to_owned(), 2),
        ("storm", "--target 192.0.2.1:80 --mode connect".to_owned(), 2),
        ("storm", "--target 127.0.0.1:1 --mode keepalive --for 0.2".to_owned(), 1),
        ("storm", "--target 127.0.0.1:1 --mode connect --for 0.2".to_owned(), 1),
    ] {
        let (status, stdout, stderr) = run(program, &options);
        assert_eq!(status, Some(code), "{program} {options}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{program} {options}: {stderr}");
        assert!(stderr.starts_with(&format!("{program}: ")), "{stderr}");
        // A server that failed after its start prints its counters.
        assert!(stdout.is_empty() || stdout.contains("\"accepts\":0"), "{stdout}");
    }
}

#[test]
fn a_bad_command_line_of_the_lab_is_one_line() {
    let missing = "--headless --listentop /nonexistent/listentop";
    for (options, code, part) in [
        ("nonsense", 2, lessons::DEFAULT),
        ("--bogus", 2, "--bogus"),
        ("--headless --format xml", 2, "xml"),
        ("--headless --for abc", 2, "2m"),
        (missing, 2, "/nonexistent/listentop"),
        ("patterns --listentop /bin/true", 2, "--headless"),
        ("patterns --format json --listentop /bin/true", 2, "--format"),
        ("patterns --short", 2, "--check"),
    ] {
        let (status, stdout, stderr) = run("lab", options);
        assert_eq!((status, stdout.as_str()), (Some(code), ""), "{stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(part), "{options}: {stderr}");
    }
    let (status, stdout, _) = run("lab", "--list");
    assert_eq!((status, stdout), (Some(0), lessons::list_text()));
    let (status, stdout, _) = run("lab", "--list --format json");
    assert_eq!((status, stdout), (Some(0), format!("{:#}\n", lessons::list_json())));
}
