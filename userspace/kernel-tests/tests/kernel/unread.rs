//! What waits unread: since when, and whether it waits at all.

use std::os::fd::AsRawFd as _;

use listentop::source::live::Options;
use listentop_model::coverage::Measure;
use nix::sys::socket::{MsgFlags, send};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    environment::options,
    kernel_readers,
    lab::PORT,
    now_ns, sleep_ms,
    sockets::{accept, connect, listen, receive, send_all},
    sockmap::Discarding,
    spans::When,
    watch::{assert_ms, count},
};

const NEEDS: &[Measure] = &[Measure::OldestUnread, Measure::QueuedBytes, Measure::Reads];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "unread::oldest_byte", needs: NEEDS, run: oldest_byte },
    Test { name: "unread::from_the_accept", needs: NEEDS, run: from_the_accept },
    Test { name: "unread::of_any_connection", needs: NEEDS, run: of_any_connection },
    Test { name: "unread::more_arrivals_than_are_remembered", needs: NEEDS, run: many_arrivals },
    Test { name: "unread::before_the_start", needs: NEEDS, run: before_the_start },
    Test { name: "unread::an_urgent_byte", needs: NEEDS, run: urgent_byte },
    Test { name: "unread::an_urgent_byte_in_line", needs: NEEDS, run: urgent_byte_in_line },
    Test { name: "unread::taken_by_the_kernel", needs: NEEDS, run: taken_by_the_kernel },
    Test { name: "unread::taken_by_zero_copy", needs: NEEDS, run: taken_by_zero_copy },
    Test { name: "unread::taken_by_tls", needs: NEEDS, run: taken_by_tls },
    Test { name: "unread::of_a_disconnected_socket", needs: NEEDS, run: disconnected },
    Test { name: "unread::a_disconnected_socket_that_writes", needs: NEEDS, run: disconnected_writes },
];

fn pair(listener: &Socket) -> (Socket, Socket) {
    let client = connect(PORT);
    (client, accept(listener).expect("a connection"))
}

/// Samples, and compares the age of the oldest unread byte with the test's own: it waits since `since`.
fn assert_oldest(watch: &mut Watch, since: When) {
    let (sampled, ()) = When::doing(|| watch.sample());
    let age = watch.listener(PORT).now.oldest_unread_us.expect("it is known");
    // The model rounds down to microseconds. A packet's time is that when the kernel began to process it.
    let (low, high) = ((sampled.from.saturating_sub(since.to)) / 1000, (sampled.to - since.from) / 1000);
    assert!((low..=high).contains(&age), "{age} µs, while the program measured from {low} to {high} µs");
}

/// Samples, and compares: (bytes that wait, age of the oldest).
fn assert_unread(watch: &mut Watch, expected: (u64, u64)) {
    watch.sample();
    let now = watch.listener(PORT).now;
    assert_eq!((now.queued_bytes, now.oldest_unread_us), (Some(expected.0), Some(expected.1)));
}

/// Two connections; what is read waits no more, and what is read in part waits on.
fn oldest_byte(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let ((one, first), (two, second)) = (pair(&listener), pair(&listener));
    assert_unread(&mut watch, (0, 0));
    let (earliest, ()) = When::doing(|| send_all(&one, &[1; 100]));
    sleep_ms(30);
    let (later, ()) = When::doing(|| send_all(&two, &[2; 100]));
    sleep_ms(30);
    let (latest, ()) = When::doing(|| send_all(&one, &[3; 100]));
    assert_oldest(&mut watch, earliest);
    // Time goes on without any event.
    sleep_ms(40);
    assert_oldest(&mut watch, earliest);
    assert_eq!(receive(&first, 99), 99);
    assert_oldest(&mut watch, earliest);
    assert_eq!(receive(&first, 1), 1);
    assert_oldest(&mut watch, later);
    assert_eq!(receive(&second, 200), 100);
    assert_oldest(&mut watch, latest);
    assert_eq!(watch.listener(PORT).now.queued_bytes, Some(100));
    assert_eq!(receive(&first, 200), 100);
    assert_unread(&mut watch, (0, 0));
}

/// Bytes of a connection that waits to be accepted are no reader's.
fn from_the_accept(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let client = connect(PORT);
    send_all(&client, &[1; 100]);
    sleep_ms(50);
    assert_unread(&mut watch, (100, 0));
    assert_eq!(watch.listener(PORT).now.accepted_unread_bytes, Some(0));
    let (accepted, server) = When::doing(|| accept(&listener).expect("a connection"));
    sleep_ms(20);
    assert_oldest(&mut watch, accepted);
    assert_eq!(watch.listener(PORT).now.accepted_unread_bytes, Some(100));
    // Another one waits: its bytes are none of those that the program could read.
    let next = connect(PORT);
    send_all(&next, &[1; 70]);
    assert_eq!(receive(&server, 40), 40);
    assert_oldest(&mut watch, accepted);
    let now = watch.listener(PORT).now;
    assert_eq!((now.accept_depth, now.queued_bytes, now.accepted_unread_bytes), (1, Some(130), Some(60)));
    let second = accept(&listener).expect("a connection");
    assert_eq!(receive(&second, 200), 70);
    assert_eq!(receive(&server, 200), 60);
    assert_unread(&mut watch, (0, 0));
}

/// Each of many connections in turn, those that find no room in their set of the table among them.
fn of_any_connection(lab: &Lab) {
    const CONNECTIONS: usize = 90;
    // 16 sets of six places: with 90 connections some sets are full.
    let mut watch = Watch::with(lab, &Options { max_connections: 96, ..options() });
    let listener = listen(PORT, CONNECTIONS as i32);
    let pairs: Vec<(Socket, Socket)> = (0..CONNECTIONS).map(|_| pair(&listener)).collect();
    for (client, server) in &pairs {
        let (sent, ()) = When::doing(|| send_all(client, b"x"));
        assert_oldest(&mut watch, sent);
        assert_eq!(receive(server, 10), 1);
    }
    assert_unread(&mut watch, (0, 0));
    // All at once: the first is the oldest, until it is read.
    let sent: Vec<When> = pairs.iter().map(|(client, _)| When::doing(|| send_all(client, b"x")).0).collect();
    assert_oldest(&mut watch, sent[0]);
    assert_eq!(watch.listener(PORT).now.accepted_unread_bytes, Some(CONNECTIONS as u64));
    for ((_, server), sent) in pairs.iter().zip(sent) {
        assert_oldest(&mut watch, sent);
        assert_eq!(receive(server, 10), 1);
    }
    assert_unread(&mut watch, (0, 0));
    assert_eq!(watch.lost(), 0, "{:?}", watch.model().losses);
}

/// Four arrivals are remembered each, further ones with the newest of them: then the age is an upper bound.
fn many_arrivals(lab: &Lab) {
    const REMEMBERED: usize = 4;
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    let sent: Vec<When> = (0..8)
        .map(|_| {
            sleep_ms(10);
            When::doing(|| send_all(&client, &[1; 100])).0
        })
        .collect();
    for (n, sent_at) in sent.iter().enumerate() {
        let oldest = sent[n.min(REMEMBERED - 1)];
        let (sampled, ()) = When::doing(|| watch.sample());
        let age = watch.listener(PORT).now.oldest_unread_us.expect("it is known");
        let (low, high) = ((sampled.from - sent_at.to) / 1000, (sampled.to - oldest.from) / 1000);
        assert!((low..=high).contains(&age), "byte {n}: {age} µs, not from {low} to {high} µs");
        assert_eq!(receive(&server, 100), 100);
    }
    assert_unread(&mut watch, (0, 0));
}

/// What waited before listentop started: at least since then.
fn before_the_start(lab: &Lab) {
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    send_all(&client, &[1; 100]);
    let (started, mut watch) = When::doing(|| Watch::fresh(lab));
    sleep_ms(20);
    assert_oldest(&mut watch, started);
    assert_eq!(watch.listener(PORT).now.queued_bytes, Some(100));
    assert_eq!(receive(&server, 200), 100);
    assert_unread(&mut watch, (0, 0));
}

fn send_urgent(client: &Socket) {
    assert_eq!(send(client.as_raw_fd(), b"!", MsgFlags::MSG_OOB), Ok(1));
}

/// A byte that is not read with the others (MSG_OOB): nothing that waits for it is a request, and later ones are
/// measured as if it had not come.
fn urgent_byte(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    send_all(&client, b"hi");
    send_urgent(&client);
    assert_eq!(receive(&server, 10), 2);
    // It alone is left. The socket is asked twice before it is believed.
    watch.sample();
    sleep_ms(10);
    assert_unread(&mut watch, (0, 0));
    let (sent, ()) = When::doing(|| send_all(&client, b"go"));
    sleep_ms(20);
    assert_oldest(&mut watch, sent);
    assert_eq!(receive(&server, 10), 2);
    assert_unread(&mut watch, (0, 0));
    for _ in 0..20 {
        sleep_ms(30);
        send_all(&client, b"request");
        assert_eq!(receive(&server, 10), 7);
    }
    assert_unread(&mut watch, (0, 0));
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.reads, seen.total.read_bytes), (Some(22), Some(144)));
    let residency = seen.distributions.residency.as_ref();
    assert_eq!(count(residency), 22);
    assert_ms("residency", residency, 0.9, 0, 5_000_000);
}

/// With SO_OOBINLINE it is a byte like any other.
fn urgent_byte_in_line(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    server.set_out_of_band_inline(true).expect("SO_OOBINLINE");
    let (sent, ()) = When::doing(|| send_urgent(&client));
    sleep_ms(20);
    watch.sample();
    assert_oldest(&mut watch, sent);
    assert_eq!(watch.listener(PORT).now.queued_bytes, Some(1));
    assert_eq!(receive(&server, 10), 1);
    assert_unread(&mut watch, (0, 0));
}

/// Whatever the kernel took of one connection, the 100 bytes of the other one wait since `sent`. The last argument is
/// the number of reads of both, and their bytes.
fn assert_the_other_waits(watch: &mut Watch, sent: When, (reads, bytes): (u64, u64)) {
    assert_oldest(watch, sent);
    assert_eq!(watch.listener(PORT).now.queued_bytes, Some(100));
    let total = watch.listener(PORT).total;
    assert_eq!((total.reads, total.read_bytes), (Some(reads), Some(bytes)));
}

/// No read(2) ever comes: a program in the kernel takes the bytes (sockmap). None waits, but those of another
/// connection do.
fn taken_by_the_kernel(lab: &Lab) {
    let discarding = Discarding::new();
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let ((client, server), (other, _waiting)) = (pair(&listener), pair(&listener));
    discarding.add(0, &server);
    for _ in 0..5 {
        send_all(&client, &[1; 10_000]);
        sleep_ms(5);
        watch.sample();
    }
    assert_unread(&mut watch, (0, 0));
    let (sent, ()) = When::doing(|| send_all(&other, &[2; 100]));
    send_all(&client, &[1; 10_000]);
    sleep_ms(20);
    assert_the_other_waits(&mut watch, sent, (0, 0));
}

/// No read(2) ever comes: the program maps the pages that arrived into its memory (TCP_ZEROCOPY_RECEIVE). None waits
/// after that; before it they do.
fn taken_by_zero_copy(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let ((client, server), (other, _waiting)) = (pair(&listener), pair(&listener));
    let mut window = kernel_readers::Window::new(&server);
    for _ in 0..5 {
        let (sent, ()) = When::doing(|| kernel_readers::send_pages(&client));
        sleep_ms(5);
        assert_oldest(&mut watch, sent);
        assert_eq!(watch.listener(PORT).now.queued_bytes, Some(kernel_readers::Window::LENGTH as u64));
        assert_eq!(window.map(), kernel_readers::Window::LENGTH);
        watch.sample();
        sleep_ms(5);
        assert_unread(&mut watch, (0, 0));
    }
    let (sent, ()) = When::doing(|| send_all(&other, &[2; 100]));
    kernel_readers::send_pages(&client);
    assert_eq!(window.map(), kernel_readers::Window::LENGTH);
    sleep_ms(20);
    watch.sample();
    assert_the_other_waits(&mut watch, sent, (0, 0));
}

/// The kernel decrypts (kTLS): the program gets fewer bytes than came, and the rest waits for nobody. Such a read has a
/// function of its own, which is not hooked; the tracepoint is for all.
fn taken_by_tls(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let ((client, server), (other, _waiting)) = (pair(&listener), pair(&listener));
    kernel_readers::encrypt(&client, kernel_readers::Direction::Send);
    kernel_readers::encrypt(&server, kernel_readers::Direction::Receive);
    for _ in 0..5 {
        send_all(&client, &[3; 1000]);
        assert_eq!(receive(&server, 2000), 1000);
        watch.sample();
        sleep_ms(5);
        assert_unread(&mut watch, (0, 0));
    }
    let (sent, ()) = When::doing(|| send_all(&other, &[2; 100]));
    send_all(&client, &[3; 1000]);
    assert_eq!(receive(&server, 2000), 1000);
    watch.sample();
    sleep_ms(20);
    let reads = if watch.via(Measure::Reads).contains("sock_recv_length") { (6, 6000) } else { (0, 0) };
    assert_the_other_waits(&mut watch, sent, reads);
}

/// connect(2) with AF_UNSPEC: the socket is no connection of the listener's any more.
fn disconnect(socket: &Socket) {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    let size = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the address is whole and outlives the call.
    assert_eq!(unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, size) }, 0);
}

/// What its next connection reads and writes is not the listener's.
fn disconnected(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let (listener, elsewhere) = (listen(PORT, 16), listen(PORT + 1, 16));
    let (client, server) = pair(&listener);
    send_all(&client, b"hello");
    assert_eq!(receive(&server, 10), 5);
    send_all(&client, b"never read");
    sleep_ms(10);
    disconnect(&server);
    // Nothing waits in a socket that is not connected.
    watch.sample();
    sleep_ms(10);
    assert_unread(&mut watch, (0, 0));
    server.connect(&test_support::lab::loopback(PORT + 1).into()).expect("another connection");
    let peer = accept(&elsewhere).expect("the other end");
    send_all(&peer, &[1; 50]);
    sleep_ms(10);
    assert_eq!(receive(&server, 100), 50);
    send_all(&server, &[2; 20]);
    assert_unread(&mut watch, (0, 0));
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.accepts, seen.now.open), (Some(1), Some(0)));
    assert_eq!((seen.total.reads, seen.total.read_bytes, seen.total.writes), (Some(1), Some(5), Some(0)));
    // Of the other listener it is the client.
    watch.sample();
    let other = watch.listener(PORT + 1);
    assert_eq!((other.now.open, other.total.writes, other.now.queued_bytes), (Some(1), Some(1), Some(20)));
    let before = now_ns();
    drop((server, peer));
    watch.sample();
    assert_eq!(watch.listener(PORT).now.open, Some(0), "it ended once, before {before}");
    assert_eq!(watch.listener(PORT).total.aborted, Some(0));
}

/// The same, if its first act is to write.
fn disconnected_writes(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let (listener, elsewhere) = (listen(PORT, 16), listen(PORT + 1, 16));
    let (_client, server) = pair(&listener);
    disconnect(&server);
    server.connect(&test_support::lab::loopback(PORT + 1).into()).expect("another connection");
    let peer = accept(&elsewhere).expect("the other end");
    send_all(&server, &[2; 20]);
    assert_eq!(receive(&peer, 100), 20);
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.accepts, seen.now.open, seen.total.writes), (Some(1), Some(0), Some(0)));
    let other = watch.listener(PORT + 1);
    assert_eq!((other.total.reads, other.total.read_bytes), (Some(1), Some(20)));
}
