//! Over 100,000 connections: every count equals the program's own and the kernel's, exactly.

use std::{
    io,
    net::Shutdown,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use listentop_model::coverage::Measure;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

use crate::support::{
    Ends, Lab, Test, Watch,
    environment::{older_than, slowness},
    lab::PORT,
    sockets::{accept, attempt, connect, give_up_refused_and_count, kernel_drops, listen, receive_all, send_all},
    tid,
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

/// Connections that are accepted and served, but for the first, which overflow the queue.
fn connections() -> u64 {
    match u64::from(slowness()) {
        1 => 100_000,
        slowness => 20_000 / slowness,
    }
}

/// Attempts that meet a queue nobody empties.
const BURST: usize = 200;
const BACKLOG: i32 = 64;
const CLIENTS: u64 = 3;
/// Connections that a client has open at a time; all clients together stay below the backlog.
const BATCH: u64 = 16;
const REPLY: usize = 8;

/// What one server thread knows that it did.
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

/// While a task changes a map, the kernel skips the programs of system call tracepoints on that CPU, also for other tasks that preempt
/// it. It counts them, and listentop shows that counts are not whole: then they are not compared, but taken again.
fn over_100_000_connections(lab: &Lab) {
    assert!((0..3).any(|_| counts_are_exact(lab)), "the kernel skipped runs of the probes, three times");
}

/// Loads and compares; false, and nothing compared, if the kernel skipped a run.
fn counts_are_exact(lab: &Lab) -> bool {
    let mut watch = Watch::start(lab);
    let before = lab.counters();
    let listener = listen(PORT, BACKLOG);
    listener.set_nonblocking(true).expect("O_NONBLOCK");

    // Nobody accepts yet: the queue takes one more than the backlog, and no more.
    let (early, refused) = give_up_refused_and_count((0..BURST).map(|_| attempt(PORT)).collect());
    let limit = BACKLOG as usize + 1;
    assert_eq!(early.len(), limit);
    let owns = watch.during(|| serve_and_load(&listener, early));
    watch.sample_until("all connections are gone", |watch| {
        watch.listener(PORT).now.open.is_some_and(|open| open <= watch.missed())
    });

    let connections = connections() + limit as u64;
    let seen = watch.listener(PORT);
    let sum = |part: fn(&Own) -> u64| owns.iter().map(part).sum::<u64>();
    let missed = watch.missed();
    if missed > 0 && slowness() == 1 {
        return false;
    }
    if missed > 0 {
        // A program that runs for long is interrupted often.
        assert_counts(
            missed,
            &[
                ("enqueued", seen.total.enqueued, connections),
                ("accepts", seen.total.accepts, connections),
                ("would-block accepts", seen.total.would_block, sum(|own| own.would_block)),
                ("reads", seen.total.reads, sum(|own| own.reads)),
                ("writes", seen.total.writes, sum(|own| own.writes)),
            ],
        );
        return true;
    }
    assert_eq!(sum(|own| own.accepts), connections, "the test's own count");
    assert_eq!(seen.total.enqueued, Some(connections));
    assert_eq!(seen.total.accepts, Some(connections));
    assert_eq!(seen.total.would_block, Some(sum(|own| own.would_block)));
    assert_eq!(seen.total.accept_failed, (!older_than(5, 15)).then_some(0));
    assert_eq!(seen.total.reads, Some(sum(|own| own.reads)));
    assert_eq!(seen.total.read_bytes, Some(sum(|own| own.read_bytes)));
    assert_eq!(seen.total.writes, Some(sum(|own| own.writes)));
    assert_eq!(seen.total.write_bytes, Some(sum(|own| own.write_bytes)));
    for own in &owns {
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
        assert_eq!(theirs, *own, "what listentop says (left) and what the thread counted");
    }
    assert_eq!(seen.threads.len(), owns.len(), "threads that did nothing for it: {:?}", seen.threads);

    assert_eq!(count(&seen.distributions.accept_wait), connections);
    assert_eq!(count(&seen.distributions.first_byte), connections);
    assert_eq!(count(&seen.distributions.first_read), connections);
    assert_eq!(count(&seen.distributions.residency), sum(|own| own.reads));
    assert_eq!(count(&seen.distributions.bytes_per_read), sum(|own| own.reads));

    assert_eq!(seen.now.accept_depth, 0);
    assert_eq!(seen.now.accept_peak, Some(limit as u32));
    assert_eq!(seen.now.oldest_waiting_us, Some(0));
    assert_eq!(seen.now.queued_bytes, Some(0));
    let drops = |n| watch.tells(Measure::Drops).then_some(n);
    assert_eq!(seen.drops.accept_queue_full_on_syn, drops(refused));
    assert_eq!(seen.drops.accept_queue_full_on_ack, drops(0));
    // The socket may count more: a client's last reset that comes when the connection has gone.
    assert!(kernel_drops(&listener) >= refused, "the test's own load");
    assert_eq!((seen.drops.total, seen.drops.unexplained), (drops(refused), drops(0)));
    let after = lab.counters();
    assert_eq!(after.since(&before, "ListenOverflows"), refused);
    assert_eq!(after.since(&before, "ListenDrops"), refused);
    assert_eq!(watch.namespace().unexplained_drops, drops(0).map(|_| 0));
    assert_eq!(watch.lost(), 0, "{:?}", watch.model().losses);
    true
}

/// Two threads accept and serve, two only accept, two only serve, while clients load them; what each counted.
fn serve_and_load(listener: &Socket, early: Vec<Socket>) -> Vec<Own> {
    let done = &AtomicBool::new(false);
    let (sender, receiver) = sync_channel::<Socket>(64);
    let receiver = &Mutex::new(receiver);
    thread::scope(|scope| {
        let mut servers: Vec<_> = (0..2).map(|_| scope.spawn(|| accept_until(listener, done, None))).collect();
        servers.extend((0..2).map(|_| {
            let sender = sender.clone();
            scope.spawn(move || accept_until(listener, done, Some(sender)))
        }));
        drop(sender);
        servers.extend((0..2).map(|_| scope.spawn(|| serve_handed_over(receiver))));

        // Also if a client fails: the servers would wait for more, and the test with them.
        let ends = Ends(done);
        ask_all(early, 0);
        let next = AtomicU64::new(0);
        thread::scope(|clients| {
            for _ in 0..CLIENTS {
                clients.spawn(|| load(&next));
            }
        });
        drop(ends);
        servers.into_iter().map(|server| server.join().expect("a server thread")).collect()
    })
}

fn load(next: &AtomicU64) {
    let all = connections();
    loop {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        if first >= all {
            return;
        }
        let size = BATCH.min(all - first);
        ask_all((0..size).map(|_| connect(PORT)).collect(), first);
    }
}

/// Sends requests of all sizes, some in two parts, and an end, then reads all answers.
fn ask_all(connections: Vec<Socket>, first: u64) {
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
    for connection in connections {
        receive_all(&connection, REPLY);
    }
}

fn accept_until(listener: &Socket, done: &AtomicBool, hand_over: Option<SyncSender<Socket>>) -> Own {
    let mut own = Own { tid: tid(), ..Own::default() };
    let mut served = Served::default();
    loop {
        let last = done.load(Ordering::Relaxed);
        match accept(listener) {
            Some(connection) => {
                own.accepts += 1;
                match &hand_over {
                    Some(readers) => readers.send(connection).expect("readers wait"),
                    None => served.keep(serve(connection, &mut own)),
                }
            }
            None => {
                own.would_block += 1;
                if last {
                    return own;
                }
                let mut entries = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
                poll(&mut entries, PollTimeout::from(20_u8)).expect("poll");
            }
        }
    }
}

fn serve_handed_over(connections: &Mutex<Receiver<Socket>>) -> Own {
    let mut own = Own { tid: tid(), ..Own::default() };
    let mut served = Served::default();
    loop {
        let next = connections.lock().expect("no thread fails").recv();
        let Ok(connection) = next else { return own };
        served.keep(serve(connection, &mut own));
    }
}

/// Connections whose client may not have read the answer yet.
///
/// Closing resets a connection, and a reset can overtake the answer: before 6.5, packets wait while their CPU's ksoftirqd runs, and the
/// thread that sends may move to another CPU meanwhile. So the client closes first. It resets too, and the connection hangs up.
#[derive(Default)]
struct Served(Vec<Socket>);

impl Served {
    fn keep(&mut self, connection: Socket) {
        let mut entries: Vec<_> = self.0.iter().map(|kept| PollFd::new(kept.as_fd(), PollFlags::empty())).collect();
        poll(&mut entries, PollTimeout::ZERO).expect("poll");
        let open: Vec<_> = entries.iter().map(|entry| entry.any() == Some(false)).collect();
        let mut open = open.into_iter();
        self.0.retain(|_| open.next() == Some(true));
        self.0.push(connection);
    }
}

/// Reads a request in small parts and answers, by every call in turn.
fn serve(connection: Socket, own: &mut Own) -> Socket {
    own.first_reads += 1;
    let mut buffer = [0_u8; 80];
    let (mut missing, mut size) = (usize::MAX, 0);
    while missing > 0 {
        let part = buffer.len().min(missing);
        let count = read_by(own.reads, &connection, &mut buffer[..part]).expect("a request");
        assert!(count > 0, "the client closed early");
        own.reads += 1;
        own.read_bytes += count as u64;
        if size == 0 {
            size = usize::from(buffer[0]);
            missing = size;
        }
        missing -= count;
    }
    // Not a read: nothing comes but the end.
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
