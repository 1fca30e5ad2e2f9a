//! Walks over the probes' tables where the kernel refuses iterators over their elements: test runs do the same.

use listentop::source::live::{Level, Options};
use listentop_model::coverage::Measure;
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    environment::options,
    lab::PORT,
    now_ns, sleep_ms,
    sockets::{accept, connect, listen, receive, send_all, wait_queued},
    spans::When,
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::Reads];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "walks::by_test_runs", needs: NEEDS, run: by_test_runs },
    Test { name: "walks::by_test_runs_when_the_level_is_raised", needs: NEEDS, run: raised },
    Test { name: "walks::by_test_runs_over_many_listeners", needs: &[Measure::Enqueued], run: many_listeners },
];

/// As on a kernel that refuses programs which could write to the values of maps.
fn refused() -> Options {
    Options { refuse: vec!["iter/bpf_map_elem".to_owned()], ..options() }
}

fn pair(listener: &Socket) -> (Socket, Socket) {
    let client = connect(PORT);
    (client, accept(listener).expect("a connection"))
}

/// What was there at the start, what waits, since when, and what is listed.
fn by_test_runs(lab: &Lab) {
    const BEFORE: u32 = 9;
    const LATER: u32 = 4;
    let listener = listen(PORT, 64);
    let open = pair(&listener);
    let mut waiting: Vec<Socket> = (0..BEFORE).map(|_| connect(PORT)).collect();
    wait_queued(&listener, BEFORE);
    let mut watch = Watch::with(lab, &refused());
    assert_eq!(watch.via(Measure::AcceptQueueDepth), "test runs over a map: sk_ack_backlog");
    let seen = watch.listener(PORT);
    assert_eq!((seen.now.accept_depth, seen.now.limit, seen.now.open), (BEFORE, 65, Some(1)), "{:?}", seen.now);

    watch.list_connections(20);
    waiting.extend((0..LATER).map(|_| connect(PORT)));
    wait_queued(&listener, BEFORE + LATER);
    let (sent, ()) = When::doing(|| send_all(&open.0, &[1; 300]));
    sleep_ms(50);
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.now.accept_depth, seen.total.enqueued), (BEFORE + LATER, Some(LATER.into())));
    let lists = seen.connections.clone().expect("they are listed");
    assert_eq!((lists.waiting.total, lists.waiting.connections.len()), (13, 13));
    assert_eq!((lists.unread.total, lists.unread.connections.len()), (1, 1));
    let unread = &lists.unread.connections[0];
    let since = unread.since_ns.expect("it came after the start");
    assert!((sent.from..=sent.to).contains(&since) && unread.unread == 300, "{unread:?}");
    let oldest_us = seen.now.oldest_unread_us.expect("it is measured");
    let most_us = (now_ns() - sent.from) / 1000;
    assert!((50_000..=most_us).contains(&oldest_us), "{oldest_us} µs of at most {most_us}");

    // What is read and accepted is gone at the next walk.
    assert_eq!(receive(&open.1, 300), 300);
    let servers: Vec<Socket> = waiting.iter().map(|_| accept(&listener).expect("a connection")).collect();
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.now.accept_depth, seen.total.accepts, seen.now.open), (0, Some(13), Some(14)));
    assert_eq!((seen.now.queued_bytes, seen.now.oldest_unread_us), (Some(0), Some(0)));
    assert_eq!(seen.connections, None, "nothing waits any more");
    assert_eq!(watch.lost(), 0);
    drop(servers);
}

/// Bytes that came while no read was seen are known afterwards.
fn raised(lab: &Lab) {
    let listener = listen(PORT, 16);
    let mut watch = Watch::with(lab, &Options { level: Level::Accepts, adjustable: true, ..refused() });
    let pairs: Vec<_> = (0..3).map(|_| pair(&listener)).collect();
    send_all(&pairs[0].0, &[1; 700]);
    send_all(&pairs[1].0, &[2; 40]);
    assert_eq!(receive(&pairs[1].1, 40), 40);
    watch.set_level(Level::All);
    let seen = watch.listener(PORT);
    assert_eq!((seen.now.queued_bytes, seen.now.open), (Some(700), Some(3)));
    send_all(&pairs[1].0, &[3; 50]);
    assert_eq!((receive(&pairs[0].1, 700), receive(&pairs[1].1, 50)), (700, 50));
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.now.queued_bytes, seen.total.reads), (Some(0), Some(2)));
    assert_eq!(watch.lost(), 0);
}

/// More than are read with one call. Each has a limit of its own, and some have connections that wait.
fn many_listeners(lab: &Lab) {
    const LISTENERS: u16 = 1500;
    let backlog = |n: u16| i32::from(n % 97) + 1;
    let listeners: Vec<Socket> = (0..LISTENERS).map(|n| listen(PORT + n, backlog(n))).collect();
    let waiting: Vec<Socket> = (0..LISTENERS).step_by(100).map(|n| connect(PORT + n)).collect();
    let mut watch = Watch::with(lab, &refused());
    watch.sample();
    for n in 0..LISTENERS {
        let seen = watch.listener(PORT + n);
        let depth = u32::from(n % 100 == 0);
        assert_eq!((seen.now.accept_depth, seen.now.limit), (depth, backlog(n) as u32 + 1), "listener {n}");
    }
    drop((listeners, waiting));
}
