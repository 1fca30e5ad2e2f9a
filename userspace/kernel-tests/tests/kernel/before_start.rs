//! Listeners and connections from before the start are in the first sample, and are counted from then on.

use std::{
    collections::VecDeque,
    net::Shutdown,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use listentop::source::live::LiveSource;
use listentop_model::{coverage::Measure, model::ListenerModel};
use test_support::{
    Ends, Lab, Test, Watch,
    environment::options,
    lab::{PORT, loopback},
    now_ns, sleep_ms,
    sockets::{accept, connect, cookie, listen, listen_on, receive, send_all},
    tid, wait_until,
    watch::{assert_ms, count, thread as record},
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::AcceptWait, Measure::Reads];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "before_start::listener_with_connections", needs: NEEDS, run: listener_with_connections },
    Test { name: "before_start::a_long_queue", needs: NEEDS, run: a_long_queue },
    Test { name: "before_start::load_at_the_start", needs: NEEDS, run: load_at_the_start },
    Test { name: "before_start::accepted_during_the_start", needs: NEEDS, run: accepted_during_the_start },
    Test { name: "before_start::half_closed", needs: NEEDS, run: half_closed },
    Test { name: "before_start::connections_of_a_group", needs: NEEDS, run: connections_of_a_group },
    Test { name: "before_start::accept_that_was_already_waiting", needs: NEEDS, run: waiting_accept },
];

fn listener_with_connections(lab: &Lab) {
    let listener = listen(PORT, 16);
    let clients: Vec<_> = (0..2).map(|_| connect(PORT)).collect();
    let servers: Vec<_> = (0..2).map(|_| accept(&listener).expect("a connection")).collect();
    send_all(&clients[0], &[1; 100]);
    let from = now_ns();
    let waiting: Vec<_> = (0..3).map(|_| connect(PORT)).collect();
    let to = now_ns();
    send_all(&waiting[0], &[1; 30]);
    sleep_ms(200);

    let mut watch = Watch::fresh(lab);
    let sampled = watch.sampled_ns();
    let seen = watch.listener(PORT);
    assert_eq!(seen.id, cookie(&listener));
    let process = seen.process.as_ref().expect("the owner is known at once");
    assert_eq!(process.pid, std::process::id());
    let comm = std::fs::read_to_string("/proc/self/comm").expect("our name");
    assert_eq!(process.comm, comm.trim_end());
    assert_eq!((seen.now.accept_depth, seen.now.backlog, seen.now.open), (3, 16, Some(2)));
    assert_eq!(seen.now.queued_bytes, Some(130));
    assert_eq!((seen.total.enqueued, seen.total.accepts, seen.total.reads), (Some(0), Some(0), Some(0)));
    assert!(!seen.opened_in_interval);
    let age = seen.now.oldest_waiting_us.expect("it is known");
    let (low, high) = ((sampled - to) / 1000 - 50_000, (sampled - from) / 1000 + 50_000);
    assert!((low..=high).contains(&age), "{age} µs, while the program measured from {low} to {high} µs");

    // The wait of a connection that waited before the start begins before the start.
    let begin = now_ns();
    let late: Vec<_> = waiting.iter().map(|_| accept(&listener).expect("a connection")).collect();
    let end = now_ns();
    // Reads of a connection that was open before the start count like others.
    assert_eq!(receive(&servers[0], 40), 40);
    assert_eq!(receive(&servers[0], 100), 60);
    assert_eq!(receive(&late[0], 100), 30);
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.accepts, seen.total.enqueued), (Some(3), Some(0)));
    assert_eq!((seen.now.open, seen.now.accept_depth, seen.now.queued_bytes), (Some(5), 0, Some(0)));
    let waits = seen.distributions.accept_wait.as_ref();
    assert_eq!(count(waits), 3);
    // The kernel keeps the time of the handshake in milliseconds or better.
    assert_ms("accept wait from before the start", waits, 0.5, begin - to - 2_000_000, end - from + 2_000_000);
    assert_eq!((seen.total.reads, seen.total.read_bytes), (Some(3), Some(130)));
    let reader = record(seen, tid()).expect("this thread works");
    assert_eq!((reader.accepts, reader.reads, reader.read_bytes), (3, 3, 130));
    let comm = std::fs::read_to_string("/proc/thread-self/comm").expect("our name");
    assert_eq!(reader.comm, comm.trim_end());
    // It is unknown when the connections from before the start were accepted.
    assert_eq!((count(seen.distributions.first_byte.as_ref()), count(seen.distributions.first_read.as_ref())), (1, 1));

    drop((servers, late));
    watch.sample_until("the connections are gone", |watch| watch.listener(PORT).now.open == Some(0));
    drop((clients, waiting));
}

/// More than the walk over the queues reads at a time.
fn a_long_queue(lab: &Lab) {
    const WAITING: usize = 1000;
    lab.sysctl("core/somaxconn", "4096");
    let listener = listen(PORT, 2000);
    let clients: Vec<_> = (0..WAITING).map(|_| connect(PORT)).collect();
    let mut watch = Watch::fresh(lab);
    assert_eq!(watch.listener(PORT).now.accept_depth, WAITING as u32);
    let servers: Vec<_> = clients.iter().map(|_| accept(&listener)).collect();
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.accepts, seen.now.open), (Some(WAITING as u64), Some(WAITING as u64)));
    assert_eq!(count(seen.distributions.accept_wait.as_ref()), WAITING as u64);
    drop(servers);
}

/// Connections come and go during the start. One from before may be accepted before its queue is walked, and a new one
/// may make the listener known before the walk does. None is lost, and none counts twice.
fn load_at_the_start(lab: &Lab) {
    const WAITING: u32 = 3;
    /// This many stay open for some time.
    const OPEN: usize = 32;
    let listener = listen(PORT, 16);
    let mut waiting: VecDeque<_> = (0..WAITING).map(|_| connect(PORT)).collect();
    let mut open = VecDeque::new();
    let mut unseen = 0;
    let ended = AtomicBool::new(false);
    let accepted = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                waiting.push_back(connect(PORT));
                open.push_back(accept(&listener).expect("a connection"));
                open.drain(..open.len().saturating_sub(OPEN));
                accepted.fetch_add(1, Ordering::Relaxed);
                waiting.pop_front();
            }
        });
        let _ends = Ends(&ended);
        // A start under load takes 40 s in a virtual machine, and each of several machines makes some.
        for _ in 0..if test_harness::own_machine() { 2 } else { 5 } {
            let mut watch = Watch::fresh(lab);
            assert!(!watch.listener(PORT).opened_in_interval);
            let before = accepted.load(Ordering::Relaxed);
            wait_until("connections were accepted", || accepted.load(Ordering::Relaxed) > before + 20);
            watch.sample();
            let seen = watch.listener(PORT);
            let (enqueued, accepts) = (seen.total.enqueued.expect("measured"), seen.total.accepts.expect("measured"));
            // 21 turns have ended. The first may have begun before the start, the other 20 began after it.
            let missed = watch.missed();
            assert!(enqueued + missed >= 20 && accepts + missed >= 20, "{enqueued}, {accepts}, {missed} missed");
            unseen += watch.model().losses.unseen;
        }
    });
    // On some machines the kernel hides a few packets from the probes.
    assert!(unseen <= u64::from(!test_harness::own_machine()), "{unseen} connections were enqueued or ended unseen");
}

/// A long queue gets shorter all through the start. Every connection is known afterwards, whether it was still waiting
/// or already open when the start looked for it.
fn accepted_during_the_start(lab: &Lab) {
    const WAITING: u32 = 1000;
    lab.sysctl("core/somaxconn", "4096");
    // The time that a start takes on this machine.
    let begin = now_ns();
    drop(Watch::fresh(lab));
    let pause = Duration::from_nanos((now_ns() - begin) * 3 / 2) / WAITING;

    let listener = listen(PORT, WAITING as i32);
    let clients: Vec<_> = (0..WAITING).map(|_| connect(PORT)).collect();
    let started = AtomicBool::new(false);
    let (source, mut servers) = thread::scope(|scope| {
        let acceptor = scope.spawn(|| {
            let mut servers = Vec::new();
            while !started.load(Ordering::Relaxed) && servers.len() < WAITING as usize {
                servers.push(accept(&listener).expect("a connection"));
                thread::sleep(pause);
            }
            servers
        });
        let _ends = Ends(&started);
        let source = LiveSource::start(&options()).expect("the probes can be attached: they were before");
        started.store(true, Ordering::Relaxed);
        (source, acceptor.join().expect("it accepts"))
    });
    let mut watch = Watch::by(lab, source);
    let opened = servers.len() as u64;
    let waiting = u64::from(WAITING) - opened;
    assert!(opened > 0 && waiting > 0, "the test's own load: {opened} accepted, {waiting} waiting");
    let seen = watch.listener(PORT);
    assert_eq!((seen.now.open, u64::from(seen.now.accept_depth)), (Some(opened), waiting));

    clients.iter().for_each(|client| send_all(client, b"hello"));
    servers.extend((0..waiting).map(|_| accept(&listener).expect("a connection")));
    for server in &servers {
        assert_eq!(receive(server, 10), 5);
    }
    watch.sample();
    let seen = watch.listener(PORT);
    let all = u64::from(WAITING);
    assert_eq!((seen.total.reads, seen.total.read_bytes), (Some(all), Some(5 * all)));
    assert_eq!((seen.now.open, seen.now.queued_bytes), (Some(all), Some(0)));
    assert_eq!((seen.total.accepts, count(seen.distributions.accept_wait.as_ref())), (Some(waiting), waiting));
    assert_eq!((seen.total.enqueued, watch.lost()), (Some(0), 0));
    drop(servers);
    watch.sample_until("the connections are gone", |watch| watch.listener(PORT).now.open == Some(0));
}

/// Connections are open while only one side has shut down its half.
fn half_closed(lab: &Lab) {
    let listener = listen(PORT, 16);
    let clients: Vec<_> = (0..3).map(|_| connect(PORT)).collect();
    let servers: Vec<_> = (0..3).map(|_| accept(&listener).expect("a connection")).collect();
    send_all(&clients[1], &[1; 30]);
    servers[0].shutdown(Shutdown::Write).expect("SHUT_WR");
    clients[1].shutdown(Shutdown::Write).expect("SHUT_WR");
    sleep_ms(50);

    let mut watch = Watch::fresh(lab);
    let seen = watch.listener(PORT);
    assert_eq!((seen.now.open, seen.now.queued_bytes), (Some(3), Some(30)));
    send_all(&clients[0], &[1; 40]);
    assert_eq!((receive(&servers[0], 100), receive(&servers[1], 100)), (40, 30));
    send_all(&servers[1], &[1; 50]);
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.reads, seen.total.read_bytes, seen.now.queued_bytes), (Some(2), Some(70), Some(0)));
    assert_eq!((seen.total.writes, seen.total.write_bytes), (Some(1), Some(50)));
    drop(servers);
    watch.sample_until("the connections are gone", |watch| watch.listener(PORT).now.open == Some(0));
}

/// At the start it is unknown through which shard an open connection came. The sum over the group is right, and the
/// coverage says so.
fn connections_of_a_group(lab: &Lab) {
    const OPEN: u64 = 5;
    let shard = || listen_on(loopback(PORT), 16, |socket| socket.set_reuse_port(true).expect("SO_REUSEPORT"));
    let shards = [shard(), shard()];
    shards.iter().for_each(|shard| shard.set_nonblocking(true).expect("O_NONBLOCK"));
    let clients: Vec<_> = (0..OPEN).map(|_| connect(PORT)).collect();
    let servers: Vec<_> = clients.iter().map(|_| shards.iter().find_map(accept).expect("a connection")).collect();

    let mut watch = Watch::fresh(lab);
    let open = |watch: &Watch| watch.listeners(PORT).iter().map(|shard| shard.now.open.expect("measured")).sum::<u64>();
    assert_eq!((open(&watch), watch.model().losses.ambiguous), (OPEN, OPEN));
    // All send first, because it is unknown which server belongs to which client.
    clients.iter().for_each(|client| send_all(client, b"hello"));
    servers.iter().for_each(|server| assert_eq!(receive(server, 10), 5));
    // A connection from now on belongs to its shard.
    let client = connect(PORT);
    let (of, late) = shards.iter().find_map(|shard| Some((cookie(shard), accept(shard)?))).expect("a connection");
    watch.sample();
    let reads = |shard: &&ListenerModel| shard.total.reads.expect("measured");
    assert_eq!(watch.listeners(PORT).iter().map(reads).sum::<u64>(), OPEN);
    assert_eq!(watch.by_id(of).total.accepts, Some(1));
    assert_eq!((open(&watch), watch.model().losses.ambiguous), (OPEN + 1, OPEN));
    drop((servers, late, client));
    watch.sample_until("the connections are gone", |watch| open(watch) == 0);
}

/// An accept that began before its end could be observed.
fn waiting_accept(lab: &Lab) {
    let listener = &listen(PORT, 16);
    thread::scope(|scope| {
        let (sender, ids) = std::sync::mpsc::channel();
        let acceptor = scope.spawn(move || {
            sender.send(tid()).expect("the test waits");
            let connection = accept(listener).expect("a connection");
            receive(&connection, 10)
        });
        let acceptor_tid = ids.recv().expect("the thread runs");
        // Time to fall asleep in accept.
        sleep_ms(100);
        let mut watch = Watch::fresh(lab);
        let client = connect(PORT);
        send_all(&client, b"hello");
        assert_eq!(acceptor.join().expect("it does not fail"), 5);
        watch.sample();
        let seen = watch.listener(PORT);
        assert_eq!((seen.total.enqueued, seen.total.accepts), (Some(1), Some(1)));
        assert_eq!(count(seen.distributions.accept_wait.as_ref()), 1);
        let thread = record(seen, acceptor_tid).expect("the acceptor is seen");
        assert_eq!((thread.pid, thread.accepts, thread.reads), (std::process::id(), 1, 1));
    });
}
