//! Tables that are too small: losses are counted, and everything else stays exact.

use std::os::fd::{AsRawFd as _, FromRawFd as _};

use io_uring::{opcode, types};
use listentop::source::live::Options;
use listentop_model::{
    coverage::{Measure, Status},
    model::{ListenerModel, ThreadModel},
};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    environment::options,
    lab::PORT,
    ring::{complete, push, ring},
    sleep_ms,
    sockets::{accept, attempt_with_late_ack, connect, listen, receive, send_all},
    tid,
    watch::{count, thread},
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::Reads];

const CLIENTS: &[Measure] = &[Measure::Drops, Measure::DropClients];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "tables_full::listeners", needs: NEEDS, run: listeners },
    Test { name: "tables_full::more_listeners_than_usual", needs: NEEDS, run: more_listeners_than_usual },
    Test { name: "tables_full::connections", needs: NEEDS, run: connections },
    Test { name: "tables_full::connections_before_the_start", needs: NEEDS, run: connections_before_the_start },
    Test { name: "tables_full::room_when_accepted", needs: NEEDS, run: room_when_accepted },
    Test { name: "tables_full::accepted_by_io_uring", needs: NEEDS, run: accepted_by_io_uring },
    Test { name: "tables_full::threads", needs: NEEDS, run: threads },
    Test { name: "tables_full::refused_clients", needs: CLIENTS, run: refused_clients },
];

fn listeners(lab: &Lab) {
    let before: Vec<Socket> = (0..6).map(|n| listen(PORT + n, 4)).collect();
    let options = Options { max_listeners: Some(4), ..options() };
    let mut watch = Watch::with(lab, &options);
    assert!(watch.model().losses.listeners >= 2, "{:?}", watch.model().losses);
    let lost = watch.model().losses.listeners;
    let after: Vec<Socket> = (10..15).map(|n| listen(PORT + n, 4)).collect();
    watch.sample();
    // Other programs on this machine may open and close listeners at the same time, but no slot becomes ours.
    assert!(watch.model().losses.listeners >= lost + after.len() as u64 - 1, "{:?}", watch.model().losses);
    assert!(watch.model().listeners.iter().filter(|listener| !listener.closed).count() <= 4);
    drop(before);
}

/// Without `--max-listeners` there is room for all existing listeners.
fn more_listeners_than_usual(lab: &Lab) {
    const MANY: u16 = 1500;
    let all: Vec<Socket> = (0..MANY).map(|n| listen(PORT + n, 4)).collect();
    let watch = Watch::fresh(lab);
    assert_eq!(watch.model().losses.listeners, 0);
    assert_eq!(watch.model().listeners.iter().filter(|l| l.netns == lab.netns).count(), usize::from(MANY));
    drop(all);
}

fn connections(lab: &Lab) {
    const ALL: u64 = 200;
    const ROOM: u32 = 64;
    let mut watch = Watch::with(lab, &Options { max_connections: ROOM, ..options() });
    let listener = listen(PORT, 256);
    let clients: Vec<Socket> = (0..ALL).map(|_| connect(PORT)).collect();
    clients.iter().for_each(|client| send_all(client, b"hello"));
    let servers: Vec<Socket> = clients.iter().map(|_| accept(&listener).expect("a connection")).collect();
    for server in &servers {
        assert_eq!(receive(server, 10), 5);
    }
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.enqueued, seen.total.accepts), (Some(ALL), Some(ALL)), "counted all the same");
    let lost = watch.model().losses.connections;
    let known = count(seen.distributions.accept_wait.as_ref());
    // Room for at least this many, because the table is rounded up.
    assert!(known >= u64::from(ROOM) && known < u64::from(2 * ROOM), "{known} of {ALL} timed");
    // Connections of other programs on this machine may find it full too.
    assert!(known + lost >= ALL, "{known} of {ALL} timed, {lost} lost");
    assert_eq!(seen.total.reads, Some(known), "reads are seen of connections that are tracked");

    // Slots are returned.
    drop((servers, clients));
    watch.sample_until("they are gone", |watch| watch.listener(PORT).now.open == Some(0));
    let client = connect(PORT);
    send_all(&client, b"hello");
    assert_eq!(receive(&accept(&listener).expect("a connection"), 10), 5);
    watch.sample();
    assert_eq!(watch.listener(PORT).total.reads, Some(known + 1));
}

/// A connection for which the start finds no room counts as lost once, though the start looks for connections twice.
fn connections_before_the_start(lab: &Lab) {
    const OPEN: u64 = 150;
    const WAITING: u64 = 50;
    let listener = listen(PORT, 256);
    let clients: Vec<Socket> = (0..OPEN + WAITING).map(|_| connect(PORT)).collect();
    let mut servers: Vec<Socket> = (0..OPEN).map(|_| accept(&listener).expect("a connection")).collect();
    let mut watch = Watch::with(lab, &Options { max_connections: 64, ..options() });
    let lost = watch.model().losses.connections;
    let open = watch.listener(PORT).now.open.expect("measured");

    servers.extend((0..WAITING).map(|_| accept(&listener).expect("a connection")));
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!(seen.total.accepts, Some(WAITING), "counted all the same");
    let without = OPEN + WAITING - open - count(seen.distributions.accept_wait.as_ref());
    assert!(without > 0, "all found room");
    // Connections of other programs on this machine may find it full too.
    assert!(lost >= without && lost < without * 3 / 2, "{lost} lost of {without}");
    drop((servers, clients));
    watch.sample_until("they are gone", |watch| watch.listener(PORT).now.open == Some(0));
}

/// A connection that did not fit the table is tracked from its accept on, if there is room by then: its waiting bytes,
/// its reads and its end.
fn room_when_accepted(lab: &Lab) {
    // The table has room for about 100 of them: 16 sets of six, which fill unevenly, and 16 that spill.
    const ALL: u64 = 140;
    const KEPT: u64 = 60;
    let mut watch = Watch::with(lab, &Options { max_connections: 64, ..options() });
    let listener = listen(PORT, 256);
    let clients: Vec<Socket> = (0..ALL).map(|_| connect(PORT)).collect();
    clients.iter().for_each(|client| send_all(client, b"hello"));
    watch.sample();
    let lost = watch.model().losses.connections;
    assert!(lost > 0, "all found room");

    let accept_next = |_| accept(&listener).expect("a connection");
    let (gone, kept) = clients.split_at((ALL - KEPT) as usize);
    drop(gone.iter().map(accept_next).collect::<Vec<Socket>>());
    let servers: Vec<Socket> = kept.iter().map(accept_next).collect();
    watch.sample();
    let seen = watch.listener(PORT);
    let late = ALL - count(seen.distributions.accept_wait.as_ref());
    assert!((1..KEPT).contains(&late), "{late} were in no table when they were accepted");
    assert_eq!((seen.total.enqueued, seen.total.accepts, seen.now.open), (Some(ALL), Some(ALL), Some(KEPT)));
    assert_eq!(seen.now.queued_bytes, Some(5 * KEPT));
    assert_eq!(watch.model().losses.connections, lost, "each is lost once");

    for (client, server) in kept.iter().zip(&servers) {
        send_all(client, b", world");
        assert_eq!(receive(server, 12), 12);
    }
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.reads, seen.total.read_bytes), (Some(KEPT), Some(12 * KEPT)));
    assert_eq!((seen.now.queued_bytes, count(seen.distributions.first_read.as_ref())), (Some(0), KEPT));
    drop(servers);
    watch.sample_until("they are gone", |watch| watch.listener(PORT).now.open == Some(0));
}

/// The same with io_uring.
fn accepted_by_io_uring(lab: &Lab) {
    const ALL: u64 = 160;
    let mut watch = Watch::with(lab, &Options { max_connections: 64, ..options() });
    let listener = listen(PORT, 256);
    let clients: Vec<Socket> = (0..ALL).map(|_| connect(PORT)).collect();
    clients.iter().for_each(|client| send_all(client, b"hello"));
    let mut ring = ring();
    let mut accept_next = || {
        let fd = types::Fd(listener.as_raw_fd());
        push(&mut ring, &opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).build());
        // SAFETY: the kernel just made this descriptor for us.
        unsafe { Socket::from_raw_fd(complete(&mut ring).result()) }
    };
    let servers: Vec<Socket> = clients.iter().map(|_| accept_next()).collect();
    watch.sample();
    let seen = watch.listener(PORT);
    let timed = count(seen.distributions.accept_wait.as_ref());
    assert!((1..ALL).contains(&timed), "the test's own load: {timed} of {ALL} found room");
    assert_eq!((seen.total.enqueued, seen.total.accepts), (Some(ALL), Some(ALL)));
    assert_eq!(thread(seen, tid()).map(|this| this.accepts), Some(ALL), "by this thread");
    drop(servers);
}

fn threads(lab: &Lab) {
    const THREADS: u64 = 12;
    let mut watch = Watch::with(lab, &Options { max_threads: 4, ..options() });
    let listener = &listen(PORT, 256);
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = &std::sync::Mutex::new(held);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(move || {
                for _ in 0..3 {
                    receive(&accept(listener).expect("a connection"), 10);
                }
                // All threads live until all have worked, so that none makes room for another.
                let _ = held.lock().expect("no thread fails").recv();
            });
        }
        for _ in 0..3 * THREADS {
            send_all(&connect(PORT), b"hello");
        }
        watch.sample_until("all have worked", |watch| watch.listener(PORT).total.reads == Some(3 * THREADS));
        drop(hold);
    });
    // Threads of other programs may find it full too. The sums are compared at a moment without their calls.
    watch.sample_until("every call is some thread's, or lost", |watch| {
        let model = watch.model();
        let calls = |listener: &ListenerModel| {
            let total = &listener.total;
            let counts = [total.accepts, total.would_block, total.accept_failed, total.reads, total.writes];
            counts.into_iter().flatten().sum::<u64>()
        };
        let of_threads = |thread: &ThreadModel| {
            thread.accepts + thread.would_block + thread.accept_failed + thread.reads + thread.writes
        };
        let charged = model.listeners.iter().flat_map(|listener| &listener.threads).map(of_threads).sum::<u64>();
        watch.lost() == model.losses.threads
            && model.listeners.iter().map(calls).sum::<u64>() == charged + model.losses.threads
    });
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.accepts, seen.total.reads), (Some(3 * THREADS), Some(3 * THREADS)));
    assert_eq!(seen.total.read_bytes, Some(15 * THREADS));
    let tracked = seen.threads.iter().map(|thread| thread.accepts + thread.reads).sum::<u64>();
    assert!(tracked <= 4 * 6, "{tracked} calls by {} threads", seen.threads.len());
    assert!(watch.model().losses.threads >= 6 * THREADS - tracked, "each call is counted");
}

/// When there are more refused clients than the table holds, some are forgotten and count again. From then on the
/// number is an upper bound.
fn refused_clients(lab: &Lab) {
    // Refused clients of other listeners on this machine count too, so once leaves room for some.
    const EACH: u32 = 40;
    let cpus = u32::from(aya::util::nr_cpus().expect("a number"));
    // The kernel reserves entries for each CPU: only 64 clients are certain to be remembered.
    let mut watch = Watch::with(lab, &Options { max_dropped_clients: 128 * cpus + 64, ..options() });
    let listener = listen(PORT, 70);
    let mut waiting: Vec<Socket> = (0..70).map(|_| connect(PORT)).collect();
    let mut refuse = |watch: &mut Watch| {
        let late: Vec<Socket> = (0..EACH).map(|_| attempt_with_late_ack(PORT)).collect();
        // The queue is full before their final ACKs come after 200 ms.
        waiting.push(connect(PORT));
        sleep_ms(500);
        drop(late);
        watch.sample();
        drop(accept(&listener));
        let coverage = watch.model().coverage.iter().find(|entry| entry.measure == Measure::DropClients);
        let bound = coverage.expect("every measure is in the coverage").reason.contains("an upper bound");
        (watch.listener(PORT).drops.clients, bound)
    };
    assert_eq!(refuse(&mut watch), (Some(EACH.into()), false));
    assert_eq!(refuse(&mut watch), (Some((2 * EACH).into()), true));
    watch.sample();
    let drop_clients = watch.model().coverage.iter().find(|entry| entry.measure == Measure::DropClients);
    let drop_clients = drop_clients.expect("every measure is in the coverage");
    assert_eq!((drop_clients.status, drop_clients.reason.matches("upper bound").count()), (Status::Sampled, 1));
}
