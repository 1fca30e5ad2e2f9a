//! `stress` counts what happened to its connections by kind, and does not wait for slow servers.

use demo_servers::stress::summary::Summary;
use demo_test_support::{Server, eventually, program, run, stress};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{Backlog, listen};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use socket2::SockRef;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn arrivals_do_not_wait_for_a_slow_server() {
    // One connection after the other would take 100 × 100 ms.
    let server = Server::start("--pattern single_thread --block-us 100000");
    let began = Instant::now();
    let summary = stress(&server, "--rate 200 --connections 100 --timeout-ms 400");
    assert!(began.elapsed() < Duration::from_secs(8));
    assert_eq!(summary.due, 100);
    assert_eq!(summary.completed + summary.failures.response.timeout, 100);
    assert!(summary.completed > 0 && summary.failures.response.timeout > 50, "{summary:?}");
}

#[test]
fn connections_above_the_limit_are_skipped_and_counted() {
    let server = Server::start("--pattern single_thread --stall 0:3000");
    let summary = stress(&server, "--rate 100 --connections 50 --max-open 20");
    assert_eq!((summary.skipped.max_open, summary.started, summary.peak_open), (30, 20, 20));
    assert_eq!(summary.completed, 20);
}

#[test]
fn latency_counts_what_waits_for_the_server() {
    // 50 requests at 20 ms each come due within 100 ms: the last one waits for all others, a second in total.
    let server = Server::start("--pattern single_thread --block-us 20000");
    let summary = stress(&server, "--rate 500 --connections 50");
    assert_eq!(summary.completed, 50);
    assert!(summary.first_response_us.max.unwrap() >= 880_000, "{summary:?}");
    assert!(summary.first_response_us.p50.unwrap() >= 400_000, "{summary:?}");
}

/// Runs `stress` against this target to its end.
fn load(target: SocketAddr, options: &str) -> Summary {
    let (code, stdout, stderr) = run("stress", &format!("--quiet --target {target} {options}"));
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// A generator that is stopped is late itself: it reports that, and the latencies contain it.
#[test]
fn latency_counts_from_the_intended_start() {
    let server = Server::start("--pattern single_thread");
    let target = format!("127.0.0.1:{}", server.ready.port);
    let child = Command::new(program("stress"))
        .args(["--quiet", "--target", &target, "--rate", "100", "--connections", "100"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let signal = |signal| kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(500));
    signal(Signal::SIGCONT);
    let output = child.wait_with_output().unwrap();
    let summary: Summary = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((summary.completed, summary.start_delay_us.count), (100, 100), "{summary:?}");
    for late in [summary.start_delay_us, summary.connect_us, summary.first_response_us] {
        assert!(late.max >= Some(400_000), "{summary:?}");
    }
    // Half of the connections were due before or after the stop.
    assert!(summary.start_delay_us.p50 < Some(200_000), "{summary:?}");
}

#[test]
fn failures_are_counted_by_kind() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let summary = load(nobody, "--rate 500 --connections 20");
    let failures = summary.failures;
    assert_eq!((failures.connect.refused, failures.connect.total(), summary.established), (20, 20, 0));
    assert_eq!(summary.connect_us.p50, None, "no value, not 0");

    let server = Server::start("--pattern single_thread --response-bytes 100");
    let failures = stress(&server, "--rate 500 --connections 20 --response-bytes 64").failures;
    assert_eq!((failures.response.other, failures.response.total()), (20, 20), "a response that is too long");
}

/// A server that accepts this many connections and calls `with` for each.
fn serve(connections: usize, with: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().take(connections).for_each(|client| with(client.unwrap())));
    address
}

#[test]
fn a_close_and_a_reset_are_different_failures() {
    // The server reads the whole request first: a close with unread bytes would send a reset.
    let close = |mut client: TcpStream| client.read_exact(&mut [0; 64]).unwrap();
    let failures = load(serve(20, close), "--rate 500 --connections 20").failures;
    assert_eq!((failures.response.closed, failures.response.total(), failures.connect.total()), (20, 20, 0));

    let reset = |mut client: TcpStream| {
        client.read_exact(&mut [0; 64]).unwrap();
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    };
    let failures = load(serve(20, reset), "--rate 500 --connections 20").failures;
    assert_eq!((failures.response.reset, failures.response.total(), failures.connect.total()), (20, 20, 0));
}

/// As with tcp_abort_on_overflow: the reset arrives before the generator has noticed that it is connected. Its SYNs are
/// dropped at first, so that it can be stopped before the kernel connects it.
#[test]
fn a_reset_before_the_connect_was_noticed_is_a_connect_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let filler = TcpStream::connect(target).unwrap();
    let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut waiting, PollTimeout::from(10_000_u16)), Ok(1), "the accept queue is full");
    let child = Command::new(program("stress"))
        .args(["--quiet", "--target", &target.to_string(), "--rate", "1000", "--connections", "20"])
        .args(["--connect-timeout-ms", "60000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    eventually("all SYNs are sent", || connecting(target) == 20);
    kill(pid, Signal::SIGSTOP).unwrap();
    waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();

    listen(&listener, Backlog::new(64).unwrap()).unwrap();
    drop((listener.accept().unwrap(), filler));
    // Their SYNs are sent again after a second, by the kernel alone.
    for client in listener.incoming().take(20) {
        SockRef::from(&client.unwrap()).set_linger(Some(Duration::ZERO)).unwrap();
    }
    kill(pid, Signal::SIGCONT).unwrap();
    let output = child.wait_with_output().unwrap();
    let summary: Summary = serde_json::from_slice(&output.stdout).unwrap();
    let failures = &summary.failures;
    assert_eq!((failures.connect.reset, failures.connect.total()), (20, 20), "{summary:?}");
    assert_eq!((failures.response.total(), summary.established), (0, 0), "{summary:?}");
}

/// Sockets of this network namespace whose SYN to `target` has no answer yet, by /proc/net/tcp.
fn connecting(target: SocketAddr) -> usize {
    let (remote, syn_sent) = (format!(":{:04X}", target.port()), "02");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    table.lines().map(fields).filter(|fields| fields[2].ends_with(&remote) && fields[3] == syn_sent).count()
}

#[test]
fn think_time_and_resets_leave_totals_exact() {
    let server = Server::start("--pattern acceptor_readers --max-connections-total 100");
    // All are started within 20 ms; the rest of the time is think time.
    let options = "--rate 5000 --connections 100 --requests 4 --think-ms 150 --rst-close --source-addresses 5";
    let summary = stress(&server, options);
    let total = server.wait().total.counts;
    assert_eq!((summary.completed, summary.responses), (100, 400));
    assert_eq!((total.accepts, total.read_bytes, total.write_bytes), (100, summary.sent_bytes, summary.received_bytes));
    assert!(summary.seconds >= 0.45, "three pauses of 150 ms: {}", summary.seconds);
    assert!(summary.response_us.p50 < Some(150_000), "a request is due after the pause: {summary:?}");
}

#[test]
fn a_closed_loop_waits_for_the_server() {
    // 20 ms each, one at a time: 50 per second, whatever the number of users.
    let server = Server::start("--pattern single_thread --block-us 20000");
    let summary = stress(&server, "--closed 4 --for 1");
    assert!((40..=58).contains(&summary.completed), "{summary:?}");
    assert_eq!((summary.peak_open, summary.due, summary.completed), (4, summary.started, summary.started));
    // Four users wait for each other and for nobody else.
    assert!(summary.first_response_us.max < Some(200_000), "{summary:?}");
    let bounded = stress(&server, "--closed 3 --connections 10");
    assert_eq!((bounded.due, bounded.completed), (10, 10));
}

#[test]
fn failed_attempts_are_tried_again() {
    let server = Server::start("--pattern single_thread --stall 0:1000");
    let options = "--burst 5:10 --connections 5 --timeout-ms 300 --retry-after-ms 100 --rst-close";
    let summary = stress(&server, &format!("{options} --retries 9"));
    assert_eq!((summary.due, summary.completed, summary.gave_up), (5, 5, 0), "{summary:?}");
    assert_eq!(summary.started, 5 + summary.retries);
    assert_eq!(summary.failures.response.timeout, summary.retries);
    assert!((10..=20).contains(&summary.retries), "{summary:?}");
    assert!(summary.first_response_us.max >= Some(600_000), "it counts from the first attempt: {summary:?}");

    let server = Server::start("--pattern single_thread --stall 0:60000");
    let summary = stress(&server, &format!("{options} --retries 2 --backoff"));
    assert_eq!((summary.completed, summary.gave_up, summary.retries), (0, 5, 10), "{summary:?}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let summary = load(nobody, "--rate 500 --connections 3 --retries 4");
    assert_eq!((summary.failures.connect.refused, summary.retries, summary.gave_up), (15, 12, 3), "{summary:?}");
}

/// A server of another protocol: it answers only what it expects.
#[test]
fn requests_have_the_text_that_is_given() {
    const TEXT: &str = "GET/index";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = [0; TEXT.len()];
        let mut answered = 0;
        while connection.read_exact(&mut request).is_ok() {
            assert_eq!(request, TEXT.as_bytes());
            connection.write_all(b"200\r\n").unwrap();
            answered += 1;
        }
        answered
    });
    let options = "--rate 200 --connections 20 --pool 1 --pieces 2 --nodelay --response-bytes 5";
    let summary = load(target, &format!("{options} --request-text {TEXT}"));
    assert_eq!((summary.completed, summary.sent_bytes), (20, 20 * TEXT.len() as u64), "{summary:?}");
    assert_eq!(server.join().unwrap(), 20);
}

#[test]
fn requests_share_a_pool() {
    // 10 ms each, in two workers: two connections are busy all the time, a hundred would be no faster.
    let server = Server::start("--pattern acceptor_readers --threads 2 --block-us 10000");
    let summary = stress(&server, "--rate 100 --connections 50 --pool 1");
    let pool = summary.pool.unwrap();
    assert_eq!((summary.due, summary.completed, summary.established, pool.opened), (50, 50, 1, 1), "{summary:?}");
    assert_eq!(pool.wait_us.count, 50);
    let summary = stress(&server, "--burst 20:10 --connections 20 --pool 2");
    let pool = summary.pool.unwrap();
    assert_eq!((summary.completed, summary.peak_open, pool.opened), (20, 2, 2), "{summary:?}");
    assert!((17..=20).contains(&pool.peak_waiting) && pool.wait_us.max >= Some(80_000), "{summary:?}");
    assert!(summary.response_us.max >= pool.wait_us.max, "the wait is part of the response: {summary:?}");
    assert_eq!(server.end(Signal::SIGTERM).total.counts.accepts, 3);
}

#[test]
fn a_pool_replaces_connections_that_fail() {
    // It closes each connection after one request.
    let answer = |mut client: TcpStream| {
        client.read_exact(&mut [0; 64]).unwrap();
        Write::write_all(&mut client, &[0; 64]).unwrap();
    };
    let summary = load(serve(10, answer), "--rate 50 --connections 10 --pool 2");
    assert_eq!((summary.completed, summary.established), (10, 10), "{summary:?}");
}

#[test]
fn clients_that_do_not_behave_are_counted_apart() {
    let sizes = "--request-bytes 1000 --response-bytes 1000";
    let server = Server::start(&format!("--pattern acceptor_readers {sizes}"));
    let options = format!("--rate 200 --connections 200 {sizes} --slow-ms 30 --timeout-ms 500");
    let kinds = "--slow-senders 10 --slow-readers 10 --silent 10 --reset-queued 10";
    let summary = stress(&server, &format!("{options} {kinds}"));
    let kinds = summary.misbehaving;
    for fate in [kinds.slow_senders, kinds.slow_readers, kinds.silent, kinds.reset_queued] {
        assert!((8..40).contains(&fate.started) && fate.completed == fate.started, "{kinds:?}");
    }
    let apart = [kinds.slow_senders, kinds.slow_readers, kinds.silent, kinds.reset_queued].map(|fate| fate.started);
    assert_eq!(summary.completed + apart.iter().sum::<u64>(), 200);
    assert_eq!(summary.response_us.count, summary.completed);
    // Ten pieces with a pause before each.
    assert!(summary.response_us.max < Some(200_000) && summary.seconds > 0.5, "{summary:?}");
    let total = server.end(Signal::SIGTERM).total.counts;
    assert_eq!(total.requests, 200 - apart[2] - apart[3]);
    // A slow sender's request takes up to ten reads.
    assert!(total.reads > total.requests + 5 * apart[0], "{total:?}");

    let failed = load(serve(20, drop), "--rate 500 --connections 20 --silent 100").misbehaving.silent;
    assert_eq!((failed.started, failed.failed), (20, 20), "the server closes them");
}

#[test]
fn small_pieces_wait_for_an_ack() {
    let slowest = |options: &str| {
        let server = Server::start("--pattern single_thread --max-connections-total 1");
        let summary = stress(&server, &format!("--rate 10 --connections 1 --requests 40 --pieces 2 {options}"));
        let reads = server.wait().total.counts.reads;
        assert_eq!(summary.completed, 1);
        (summary.response_us.p90.unwrap(), reads)
    };
    // Nagle's algorithm holds the second piece back until the first one's ACK, which the server delays by 40 ms.
    let (nagle, nodelay) = (slowest(""), slowest("--nodelay"));
    assert!(nagle.0 >= 38_000 && nodelay.0 < 38_000, "{nagle:?} {nodelay:?}");
    assert!(nagle.1 > 60, "two reads per request: {nagle:?}");
}

#[test]
fn a_signal_ends_it_with_a_summary() {
    let server = Server::start("--pattern single_thread --stall 0:60000");
    let target = format!("127.0.0.1:{}", server.ready.port);
    let mut child = Command::new(program("stress"))
        .args(["--target", &target, "--rate", "100"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut progress).unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let summary: Summary = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary.unfinished, summary.started);
    assert!(summary.started > 50);
    assert!(progress.contains("started") && progress.contains("open"), "{progress}");
}
