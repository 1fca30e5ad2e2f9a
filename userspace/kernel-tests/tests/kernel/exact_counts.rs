//! Over 100,000 connections: every count equals the program's own and the kernel's, exactly.

use std::{
    io,
    net::Shutdown,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use listentop_model::{coverage::Measure, histogram::Histogram, model::ListenerModel};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;
use test_support::{
    Ends, Lab, Test, Watch,
    environment::{older_than, slowness},
    lab::{Counters, PORT},
    sleep_ms,
    sockets::{
        accept, attempt, attempt_with_late_ack, connect, established, give_up_refused_and_count,
        handshakes_are_decided, kernel_drops, listen, queued, receive_all, retransmits, send_all, unacknowledged,
    },
    tid, wait_until,
    watch::{assert_counts, count, thread},
};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "exact_counts::over_100_000_connections",
    needs: &[
        Measure::Enqueued,
        Measure::Accepts,
        Measure::WouldBlock,
        Measure::Reads,
        Measure::Writes,
        Measure::OpenConnections,
        Measure::QueuedBytes,
    ],
    run: over_100_000_connections,
}];

/// The number of connections that are compared exactly, in rounds of at most [`ROUND`].
fn connections() -> u64 {
    match u64::from(slowness()) {
        1 => 100_000,
        slowness => 20_000 / slowness,
    }
}

/// Connections of a round that are accepted and served, without those that overflow the queue. A round is so short that
/// mostly no probe run is skipped in it, even where the kernel skips some each minute.
const ROUND: u64 = 10_000;
/// How many rounds may be incomplete, because the kernel hid events from the probes, before enough are complete.
const INCOMPLETE_ROUNDS: usize = 20;

/// Number of a round's connections between two overflows.
fn between_overflows(round: u64) -> u64 {
    1000.min(round / 4)
}

/// Number of attempts before any server accepts.
const BURST: usize = 200;
/// Attempts, in each overflow in between, that are made when the queue is full and nobody empties it, and when servers
/// do again.
const REFUSED: usize = 10;
const RACING: usize = 30;
/// Connections, in each, whose final ACK comes when the queue is full.
const LATE: usize = 3;
/// How often that is tried. A slow machine may be late itself.
const TRIES: usize = 20;
const BACKLOG: i32 = 64;
/// Threads that accept. Half of them hand connections over.
const ACCEPTORS: usize = 4;
const CLIENTS: u64 = 3;
/// Connections that a client has open at a time; all clients together stay below the backlog.
const BATCH: u64 = 16;
const REPLY: usize = 8;

/// Keeps all acceptors from accepting for a while.
#[derive(Default)]
struct Pause {
    asked: AtomicBool,
    /// How many acceptors heed it.
    idle: AtomicUsize,
}

/// A server thread's own counts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Own {
    tid: u32,
    accepts: u64,
    would_block: u64,
    first_reads: u64,
    reads: u64,
    read_bytes: u64,
    writes: u64,
    write_bytes: u64,
}

/// The clients' own counts.
#[derive(Debug, Default)]
struct Demand {
    /// Served connections.
    connections: u64,
    /// Refused SYNs, with repeated ones.
    refused: u64,
}

impl Demand {
    fn add(&mut self, connections: usize, refused: u64) {
        self.connections += connections as u64;
        self.refused += refused;
    }
}

/// The kernel skips a program that interrupts itself, and programs on system call tracepoints while a task changes a
/// map. On some machines it shows a few packets to no program. listentop counts and reports both. Counts of such a
/// round may be too low by as many, and another round replaces it.
fn over_100_000_connections(lab: &Lab) {
    let (mut exact, mut incomplete) = (0, 0);
    while exact < connections() {
        let round = ROUND.min(connections());
        if counts_are_exact(lab, round) {
            exact += round;
        } else {
            incomplete += 1;
            assert!(
                incomplete <= INCOMPLETE_ROUNDS,
                "no more than {exact} connections in rounds that the probes saw whole"
            );
        }
    }
    if incomplete > 0 {
        println!("{incomplete} more rounds, because the kernel hid events from the probes");
    }
}

/// Loads and compares. Returns false if the kernel hid events, so that counts were only compared within as many.
fn counts_are_exact(lab: &Lab, round: u64) -> bool {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, BACKLOG);
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    // A new namespace's counters have a baseline only after the first read.
    watch.sample();
    let before = lab.counters();

    // No thread accepts yet: the queue takes exactly one more than the backlog.
    let (early, refused) = give_up_refused_and_count((0..BURST).map(|_| attempt(PORT)).collect());
    let limit = BACKLOG as usize + 1;
    assert_eq!(early.len(), limit);
    let (owns, sizes, mut demand) = watch.during(|| serve_and_load(lab, &listener, early, round));
    demand.add(limit, refused);
    watch.sample_until("all connections are gone", |watch| {
        watch.listener(PORT).now.open.is_some_and(|open| open <= watch.hidden())
    });

    // The second sample finds causes for drops that the first could not explain.
    sleep_ms(50);
    watch.sample();
    let Demand { connections, refused } = demand;
    if watch.hidden() > 0 {
        assert_counts_within_hidden(&watch, &owns, connections);
        // On an emulated machine a program runs so long that it is often interrupted.
        return slowness() > 1;
    }
    assert_exact_counts(watch.listener(PORT), &owns, connections, sizes);
    assert_exact_drops(&watch, lab, &before, refused, round);
    // The socket may count more: a client's last reset that arrives when the connection has gone.
    let on_ack = lab.counters().since(&before, "ListenOverflows") - refused;
    assert!(kernel_drops(&listener) >= refused + 2 * on_ack, "the test's own load");
    true
}

fn sum(owns: &[Own], part: fn(&Own) -> u64) -> u64 {
    owns.iter().map(part).sum()
}

/// Where the kernel hid events from the probes: counts may be too low by as many.
fn assert_counts_within_hidden(watch: &Watch, owns: &[Own], connections: u64) {
    let total = &watch.listener(PORT).total;
    assert_counts(
        watch.hidden(),
        &[
            ("enqueued", total.enqueued, connections),
            ("accepts", total.accepts, connections),
            ("would-block accepts", total.would_block, sum(owns, |own| own.would_block)),
            ("reads", total.reads, sum(owns, |own| own.reads)),
            ("writes", total.writes, sum(owns, |own| own.writes)),
        ],
    );
}

/// Compares the listener's counters, its threads' and its distributions with the threads' own counts.
fn assert_exact_counts(seen: &ListenerModel, owns: &[Own], connections: u64, sizes: Histogram) {
    assert_eq!(sum(owns, |own| own.accepts), connections, "the test's own count");
    assert_eq!(seen.total.enqueued, Some(connections));
    assert_eq!(seen.total.accepts, Some(connections));
    assert_eq!(seen.total.would_block, Some(sum(owns, |own| own.would_block)));
    assert_eq!(seen.total.accept_failed, (!older_than(5, 15)).then_some(0));
    assert_eq!(seen.total.reads, Some(sum(owns, |own| own.reads)));
    assert_eq!(seen.total.read_bytes, Some(sum(owns, |own| own.read_bytes)));
    assert_eq!(seen.total.writes, Some(sum(owns, |own| own.writes)));
    assert_eq!(seen.total.write_bytes, Some(sum(owns, |own| own.write_bytes)));
    for own in owns {
        let theirs = thread(seen, own.tid).map_or_else(Own::default, |thread| Own {
            tid: thread.tid,
            accepts: thread.accepts,
            would_block: thread.would_block,
            first_reads: thread.first_reads,
            reads: thread.reads,
            read_bytes: thread.read_bytes,
            writes: thread.writes,
            write_bytes: thread.write_bytes,
        });
        assert_eq!(theirs, *own, "what listentop reports (left) and what the thread counted");
    }
    assert_eq!(seen.threads.len(), owns.len(), "threads that did nothing for it: {:?}", seen.threads);

    assert_eq!(count(seen.distributions.accept_wait.as_ref()), connections);
    assert_eq!(count(seen.distributions.first_byte.as_ref()), connections);
    assert_eq!(count(seen.distributions.first_read.as_ref()), connections);
    assert_eq!(count(seen.distributions.residency.as_ref()), sum(owns, |own| own.reads));
    // A request is read in parts, and answered by two writes.
    assert_eq!(count(seen.distributions.answer.as_ref()), connections);
    assert_eq!(seen.distributions.bytes_per_read, Some(sizes));

    assert_eq!(seen.now.accept_depth, 0);
    assert_eq!(seen.now.accept_peak, Some(BACKLOG as u32 + 1));
    assert_eq!(seen.now.oldest_waiting_us, Some(0));
    assert_eq!(seen.now.queued_bytes, Some(0));
}

/// Compares the listener's drops with the namespace's counters since `before`. The clients counted `refused` SYNs.
fn assert_exact_drops(watch: &Watch, lab: &Lab, before: &Counters, refused: u64, round: u64) {
    let drops = |n| watch.is_available(Measure::Drops).then_some(n);
    let after = lab.counters();
    let (overflows, dropped) = (after.since(before, "ListenOverflows"), after.since(before, "ListenDrops"));
    let on_ack = overflows - refused;
    let overflows_made = round.div_ceil(between_overflows(round));
    let refused_at_least = (BURST - (BACKLOG as usize + 1) + REFUSED * overflows_made as usize) as u64;
    assert!(refused >= refused_at_least, "the test's own load: {refused} SYNs refused");
    assert!(on_ack >= LATE as u64 * overflows_made, "the test's own load: {on_ack} of {overflows} were final ACKs");
    assert_eq!(overflows, dropped, "the test's own load");
    let seen = &watch.listener(PORT).drops;
    assert_eq!(seen.accept_queue_full_on_syn, drops(refused));
    assert_eq!(seen.accept_queue_full_on_ack, drops(on_ack));
    assert_eq!((seen.total, seen.unexplained), (drops(dropped), drops(0)));
    assert_eq!(watch.namespace().unexplained_drops, drops(0).map(|_| 0));
    assert_eq!(watch.lost(), 0, "{:?}", watch.model().losses);
}

/// Two threads accept and serve, two only accept, two only serve, while clients load them. Returns what each thread
/// counted, the distribution of bytes per read, and what the clients counted.
fn serve_and_load(lab: &Lab, listener: &Socket, early: Vec<Socket>, round: u64) -> (Vec<Own>, Histogram, Demand) {
    let (done, pause) = (&AtomicBool::new(false), &Pause::default());
    let (sender, receiver) = sync_channel::<Socket>(64);
    let receiver = &Mutex::new(receiver);
    thread::scope(|scope| {
        let mut servers: Vec<_> =
            (0..ACCEPTORS / 2).map(|_| scope.spawn(|| accept_until(listener, done, pause, None))).collect();
        servers.extend((0..ACCEPTORS / 2).map(|_| {
            let sender = sender.clone();
            scope.spawn(move || accept_until(listener, done, pause, Some(sender)))
        }));
        drop(sender);
        servers.extend((0..2).map(|_| scope.spawn(|| serve_handed_over(receiver))));

        // Also if a client fails: otherwise the servers, and the test, would wait without end.
        let ends = Ends(done);
        ask_all(early, 0);
        let mut demand = Demand::default();
        let mut late = Vec::new();
        for first in (0..round).step_by(between_overflows(round) as usize) {
            let last = round.min(first + between_overflows(round));
            let next = AtomicU64::new(first);
            thread::scope(|clients| {
                for _ in 0..CLIENTS {
                    clients.spawn(|| load(&next, last));
                }
            });
            demand.add((last - first) as usize, 0);
            // Meanwhile their final ACKs were sent again, with their requests.
            answers(late);
            late = (0..TRIES)
                .find_map(|_| overflow(lab, listener, pause, &mut demand))
                .expect("final ACKs that come when the queue is full");
        }
        answers(late);
        drop(ends);
        let served = servers.into_iter().map(|server| server.join().expect("a server thread"));
        let (owns, sizes): (Vec<Own>, Vec<Vec<u64>>) = served.unzip();
        (owns, Histogram::of_units(sizes.into_iter().flatten()), demand)
    })
}

fn load(next: &AtomicU64, end: u64) {
    loop {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        if first >= end {
            return;
        }
        let size = BATCH.min(end - first);
        ask_all((0..size).map(|_| connect(PORT)).collect(), first);
    }
}

/// Fills the queue while no server accepts, so that SYNs and final ACKs are refused. Goes on while servers accept
/// again: which attempts are refused then is a race. Returns connections that have sent requests and are not enqueued
/// yet.
///
/// A packet may wait while its CPU's ksoftirqd runs. So each step is done only when the kernel says so: requests made,
/// the queue full, final ACKs refused. A second after the SYN-ACK the kernel sends it again, and the client answers. If
/// that was before the queue was full, as happens on a slow machine, there is no refused final ACK, and no result.
fn overflow(lab: &Lab, listener: &Socket, pause: &Pause, demand: &mut Demand) -> Option<Vec<Socket>> {
    pause.asked.store(true, Ordering::SeqCst);
    wait_until("no acceptor accepts", || pause.idle.load(Ordering::SeqCst) == ACCEPTORS);
    let mut attempts: Vec<Socket> = (0..BACKLOG as usize - LATE).map(|_| attempt(PORT)).collect();
    wait_until("the queue is nearly full", || queued(listener) as usize == attempts.len());
    let late: Vec<Socket> = (0..LATE).map(|_| attempt_with_late_ack(PORT)).collect();
    wait_until("requests are in the SYN queue", || late.iter().all(established));
    attempts.extend((0..=LATE + REFUSED).map(|_| attempt(PORT)));
    wait_until("the queue is full", || queued(listener) as usize > BACKLOG as usize);
    handshakes_are_decided();
    let (before, drops_before) = (lab.counters(), kernel_drops(listener));
    ask(&late, 0);
    let enqueued = |late: &Socket| unacknowledged(late) == 0;
    wait_until("final ACKs are refused", || {
        // The socket counts a refused final ACK twice, and a refused SYN once; the namespace counts each once.
        let drops = kernel_drops(listener) - drops_before;
        drops >= lab.counters().since(&before, "ListenOverflows") + LATE as u64 || late.iter().any(enqueued)
    });
    let all_refused = !late.iter().any(enqueued);
    pause.asked.store(false, Ordering::SeqCst);
    attempts.extend((0..RACING).map(|_| attempt(PORT)));
    let (admitted, refused) = give_up_refused_and_count(attempts);
    // An attempt that was refused first may have been enqueued at its repetition.
    let repeated = admitted.iter().map(retransmits).sum::<u64>();
    demand.add(admitted.len() + LATE, refused + repeated);
    ask_all(admitted, 0);
    if all_refused {
        return Some(late);
    }
    answers(late);
    None
}

/// Sends requests, then reads all answers.
fn ask_all(connections: Vec<Socket>, first: u64) {
    ask(&connections, first);
    answers(connections);
}

fn answers(connections: Vec<Socket>) {
    for connection in connections {
        receive_all(&connection, REPLY);
    }
}

/// Sends requests of all sizes, some in two parts, and shuts down the sending side.
fn ask(connections: &[Socket], first: u64) {
    for (connection, n) in connections.iter().zip(first..) {
        connection.set_nonblocking(false).expect("O_NONBLOCK");
        let size = 1 + (n % 200) as usize;
        let request = vec![size as u8; size];
        let cut = if n % 3 == 0 { size / 2 } else { size };
        for part in [&request[..cut], &request[cut..]] {
            if !part.is_empty() {
                send_all(connection, part);
            }
        }
        connection.shutdown(Shutdown::Write).expect("it is connected");
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the last acceptor's end drops the sender, which ends the readers")]
fn accept_until(
    listener: &Socket,
    done: &AtomicBool,
    pause: &Pause,
    hand_over: Option<SyncSender<Socket>>,
) -> (Own, Vec<u64>) {
    let mut own = Own { tid: tid(), ..Own::default() };
    let mut served = Served::default();
    loop {
        let last = done.load(Ordering::Relaxed);
        if pause.asked.load(Ordering::SeqCst) && !last {
            pause.idle.fetch_add(1, Ordering::SeqCst);
            while pause.asked.load(Ordering::SeqCst) && !done.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            pause.idle.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        if let Some(connection) = accept(listener) {
            own.accepts += 1;
            match &hand_over {
                Some(readers) => readers.send(connection).expect("readers wait"),
                None => served.serve(connection, &mut own),
            }
        } else {
            own.would_block += 1;
            if last {
                return (own, served.sizes);
            }
            let mut entries = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            poll(&mut entries, PollTimeout::from(20_u8)).expect("poll");
        }
    }
}

fn serve_handed_over(connections: &Mutex<Receiver<Socket>>) -> (Own, Vec<u64>) {
    let mut own = Own { tid: tid(), ..Own::default() };
    let mut served = Served::default();
    loop {
        let next = connections.lock().expect("no thread fails").recv();
        let Ok(connection) = next else { return (own, served.sizes) };
        served.serve(connection, &mut own);
    }
}

/// The served connections of a thread, whose clients may not have read the answer yet, and the size of each read.
///
/// Closing a connection resets it, and the reset can overtake the answer. (Before 6.5 packets wait while their CPU's
/// ksoftirqd runs, and the sending thread may move to another CPU.) So the client closes first, by a reset too.
#[derive(Default)]
struct Served {
    open: Vec<Socket>,
    sizes: Vec<u64>,
}

impl Served {
    fn serve(&mut self, connection: Socket, own: &mut Own) {
        let connection = serve(connection, own, &mut self.sizes);
        self.keep(connection);
    }

    fn keep(&mut self, connection: Socket) {
        let mut entries: Vec<_> = self.open.iter().map(|kept| PollFd::new(kept.as_fd(), PollFlags::empty())).collect();
        poll(&mut entries, PollTimeout::ZERO).expect("poll");
        let open: Vec<_> = entries.iter().map(|entry| entry.any() == Some(false)).collect();
        let mut open = open.into_iter();
        self.open.retain(|_| open.next() == Some(true));
        self.open.push(connection);
    }
}

/// Reads a request in small parts and answers, with each system call in turn.
fn serve(connection: Socket, own: &mut Own, sizes: &mut Vec<u64>) -> Socket {
    own.first_reads += 1;
    let mut buffer = [0_u8; 80];
    let (mut missing, mut size) = (usize::MAX, 0);
    while missing > 0 {
        let part = buffer.len().min(missing);
        let count = read_by(own.reads, &connection, &mut buffer[..part]).expect("a request");
        assert!(count > 0, "the client closed early");
        own.reads += 1;
        own.read_bytes += count as u64;
        sizes.push(count as u64);
        if size == 0 {
            size = usize::from(buffer[0]);
            missing = size;
        }
        missing -= count;
    }
    // Not a read of data: only the end of the stream arrives.
    assert_eq!(read_by(own.reads, &connection, &mut buffer), Ok(0));
    for _ in 0..2 {
        let part = REPLY / 2;
        assert_eq!(write_by(own.writes, &connection, &buffer[..part]), Ok(part));
        own.writes += 1;
        own.write_bytes += part as u64;
    }
    connection
}

fn read_by(turn: u64, connection: &Socket, buffer: &mut [u8]) -> nix::Result<usize> {
    use nix::sys::socket::{MsgFlags, recv, recvmsg};
    let fd = connection.as_raw_fd();
    match turn % 4 {
        0 => nix::unistd::read(connection, buffer),
        1 => recv(fd, buffer, MsgFlags::empty()),
        2 => {
            let (first, second) = buffer.split_at_mut(buffer.len() / 2);
            nix::sys::uio::readv(connection, &mut [io::IoSliceMut::new(first), io::IoSliceMut::new(second)])
        }
        _ => recvmsg::<()>(fd, &mut [io::IoSliceMut::new(buffer)], None, MsgFlags::empty()).map(|got| got.bytes),
    }
}

fn write_by(turn: u64, connection: &Socket, bytes: &[u8]) -> nix::Result<usize> {
    use nix::sys::socket::{MsgFlags, send, sendmsg};
    let fd = connection.as_raw_fd();
    match turn % 4 {
        0 => nix::unistd::write(connection, bytes),
        1 => send(fd, bytes, MsgFlags::MSG_NOSIGNAL),
        2 => nix::sys::uio::writev(connection, &[io::IoSlice::new(bytes)]),
        _ => sendmsg::<()>(fd, &[io::IoSlice::new(bytes)], &[], MsgFlags::MSG_NOSIGNAL, None),
    }
}
