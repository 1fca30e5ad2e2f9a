//! What clients get: answers, and when; and how many were gone when they were accepted.

use std::os::fd::{AsRawFd as _, FromRawFd as _};

use io_uring::{opcode, types};
use listentop_model::coverage::Measure;
use nix::sys::socket::{MsgFlags, send};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    environment::slowness,
    lab::PORT,
    now_ns,
    ring::{complete, complete_if_known, push, ring},
    skip, sleep_ms,
    sockets::{accept, connect, listen, receive, send_all},
    spans::{Spans, When},
    watch::{assert_ms, assert_within, count},
};

const ANSWER: &[Measure] = &[Measure::Answer];
const GONE: &[Measure] = &[Measure::ClientGone, Measure::Accepts];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "clients::answer_time", needs: ANSWER, run: answer_time },
    Test { name: "clients::short_answers", needs: ANSWER, run: |lab| short_answers(lab, MsgFlags::empty()) },
    Test {
        name: "clients::answers_that_are_not_sent_yet",
        needs: ANSWER,
        run: |lab| short_answers(lab, MsgFlags::from_bits_retain(libc::MSG_MORE)),
    },
    Test { name: "clients::what_counts_as_an_answer", needs: ANSWER, run: what_is_an_answer },
    Test { name: "clients::gone_before_the_accept", needs: GONE, run: gone },
    Test { name: "clients::gone_before_an_accept_by_io_uring", needs: GONE, run: gone_by_io_uring },
    Test { name: "clients::gone_before_the_start", needs: GONE, run: gone_before_the_start },
];

const ROUNDS: usize = 12;

fn pair(listener: &Socket) -> (Socket, Socket) {
    let client = connect(PORT);
    (client, accept(listener).expect("a connection"))
}

/// A server that waits before it reads, and before it answers. The request comes in two parts: the first counts.
fn answer_time(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    let mut answers = Spans::default();
    for _ in 0..ROUNDS {
        let (asked, ()) = When::doing(|| send_all(&client, &[1; 100]));
        sleep_ms(15);
        assert_eq!(receive(&server, 200), 100);
        send_all(&client, &[2; 50]);
        sleep_ms(10);
        assert_eq!(receive(&server, 200), 50);
        sleep_ms(20);
        let (answered, ()) = When::doing(|| send_all(&server, &[3; 10]));
        answers.add(asked, answered);
        // The rest of the answer is not another one.
        send_all(&server, &[4; 1000]);
        assert_eq!(receive(&client, 10), 10);
        assert_eq!(receive(&client, 1000), 1000);
    }
    watch.sample();
    let seen = watch.listener(PORT).distributions.answer.as_ref();
    assert_eq!(count(seen), ROUNDS as u64);
    for p in [0.1, 0.5, 1.0] {
        let (low, high) = answers.quantile(p);
        assert!(low >= 45_000_000);
        assert_ms("answer", seen, p, low, high);
    }
}

/// Answers as short as those of a fast server. With MSG_MORE the kernel keeps them: the write ends the time all the
/// same.
fn short_answers(lab: &Lab, flags: MsgFlags) {
    // Allowed for the kernel's work at the begin and the end of a call, which is in the program's time but not in the
    // measure.
    const AROUND_NS: u64 = 4_000;
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    let mut answers = Spans::default();
    let rounds = 1000 / u64::from(slowness());
    for round in 0..rounds {
        let pause_ns = 20_000 + 1_000 * (round % 41);
        let (asked, ()) = When::doing(|| send_all(&client, &[1; 100]));
        assert_eq!(receive(&server, 200), 100);
        let end = now_ns() + pause_ns;
        while now_ns() < end {
            std::hint::spin_loop();
        }
        let (answered, sent) = When::doing(|| send(server.as_raw_fd(), &[2; 10], MsgFlags::MSG_NOSIGNAL | flags));
        assert_eq!(sent, Ok(10));
        answers.add(asked, answered);
        if flags.is_empty() {
            assert_eq!(receive(&client, 10), 10);
        }
    }
    watch.sample();
    let seen = watch.listener(PORT).distributions.answer.as_ref();
    assert_eq!(count(seen), rounds);
    for p in [0.25, 0.5] {
        let (low, high) = answers.quantile(p);
        assert!(high < 500_000 * u64::from(slowness()), "the test's own load: {high} ns");
        assert_within("answer", seen, p, low, high, AROUND_NS * u64::from(slowness()));
    }
}

/// What the server says first answers nothing; what waits before the accept is waiting for an answer already; and of
/// requests that come together the first write answers all.
fn what_is_an_answer(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let mut expect = |n: u64| {
        watch.sample();
        assert_eq!(count(watch.listener(PORT).distributions.answer.as_ref()), n);
    };
    let (client, server) = pair(&listener);
    send_all(&server, b"220 welcome\r\n");
    expect(0);
    // Two requests, read at once, and two answers.
    send_all(&client, b"one");
    send_all(&client, b"two");
    sleep_ms(5);
    assert_eq!(receive(&server, 10), 6);
    send_all(&server, b"1");
    send_all(&server, b"2");
    expect(1);
    // A byte that is only looked at is not answered.
    send_all(&client, b"three");
    assert_eq!(nix::sys::socket::recv(server.as_raw_fd(), &mut [0; 10], MsgFlags::MSG_PEEK), Ok(5));
    send_all(&server, b"-");
    expect(1);
    assert_eq!(receive(&server, 10), 5);
    send_all(&server, b"3");
    expect(2);
    // On another connection, the request waits 60 ms to be accepted.
    let client = connect(PORT);
    send_all(&client, b"four");
    sleep_ms(60);
    let server = accept(&listener).expect("a connection");
    assert_eq!(receive(&server, 10), 4);
    send_all(&server, b"4");
    expect(3);
    let seen = watch.listener(PORT).distributions.answer.as_ref();
    assert_ms("the longest answer", seen, 1.0, 60_000_000, 80_000_000 * u64::from(slowness()));
}

/// What clients do while they wait to be accepted.
struct Clients {
    /// When the first of those that leave came.
    since: When,
    /// Those that stay.
    staying: Vec<Socket>,
}

/// Four clients that stay, three that close, one that asks and closes its side, two that reset.
fn come_and_go() -> Clients {
    let mut staying: Vec<Socket> = (0..4).map(|_| connect(PORT)).collect();
    let (since, closing) = When::doing(|| [connect(PORT), connect(PORT), connect(PORT)]);
    for client in closing {
        client.set_linger(None).expect("SO_LINGER");
    }
    let asking = connect(PORT);
    send_all(&asking, b"GET / HTTP/1.0\r\n\r\n");
    asking.shutdown(std::net::Shutdown::Write).expect("connected");
    staying.push(asking);
    drop([connect(PORT), connect(PORT)]);
    sleep_ms(50);
    Clients { since, staying }
}

const ALL: u64 = 10;

/// Compares with what [`come_and_go`] did; `waited` are the bounds of what they had waited.
fn assert_gone(watch: &mut Watch, (low, high): (u64, u64)) {
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!(seen.total.accepts, Some(ALL));
    assert_eq!((seen.total.client_closed, seen.total.client_reset), (Some(4), Some(2)));
    let waited = seen.distributions.client_gone_wait.as_ref();
    assert_eq!(count(waited), 6);
    for p in [0.1, 1.0] {
        assert_ms("the wait of those that are gone", waited, p, low, high);
    }
}

fn gone(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let clients = come_and_go();
    let (accepted, servers) = When::doing(|| (0..ALL).map(|_| accept(&listener)).collect::<Vec<_>>());
    assert_gone(&mut watch, (accepted.from - clients.since.to - 30_000_000, accepted.to - clients.since.from));
    // Who leaves later was there when it was accepted.
    drop(clients.staying);
    sleep_ms(10);
    watch.sample();
    let total = watch.listener(PORT).total;
    assert_eq!((total.client_closed, total.client_reset), (Some(4), Some(2)));
    drop(servers);
}

/// Accepts by io_uring, one by one and many by one request.
fn gone_by_io_uring(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let clients = come_and_go();
    let mut ring = ring();
    let mut servers = Vec::new();
    let fd = types::Fd(listener.as_raw_fd());
    let (accepted, ()) = When::doing(|| {
        for _ in 0..ALL / 2 {
            push(&mut ring, &opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).build());
            servers.push(complete(&mut ring).result());
        }
        push(&mut ring, &opcode::AcceptMulti::new(fd).build());
        for _ in 0..ALL / 2 {
            let Some(entry) = complete_if_known(&mut ring) else {
                skip("io_uring has no multishot accept (since 5.19) on this kernel".to_owned())
            };
            servers.push(entry.result());
        }
    });
    assert_gone(&mut watch, (accepted.from - clients.since.to - 30_000_000, accepted.to - clients.since.from));
    // SAFETY: the kernel made these descriptors for us.
    servers.into_iter().for_each(|server| drop(unsafe { Socket::from_raw_fd(server) }));
}

/// Those that waited already when listentop started.
fn gone_before_the_start(lab: &Lab) {
    let listener = listen(PORT, 16);
    let clients = come_and_go();
    let mut watch = Watch::fresh(lab);
    let servers: Vec<_> = (0..ALL).map(|_| accept(&listener)).collect();
    watch.sample();
    let total = watch.listener(PORT).total;
    assert_eq!((total.client_closed, total.client_reset), (Some(4), Some(2)));
    drop((clients.staying, servers));
}
