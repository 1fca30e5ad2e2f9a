//! Many listeners and many connections: all are seen and counted exactly, at a bounded cost.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use listentop::source::live::Options;
use listentop_model::coverage::Measure;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use socket2::{Domain, Socket, Type};
use test_support::{
    Lab, Test, Watch, environment,
    lab::PORT,
    process::{Forked, Gate, fork, wait_for_ever},
    skip,
    sockets::{connect, listen, listen_on},
    watch::count,
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::AcceptQueueDepth, Measure::OpenConnections];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "scale::ten_thousand_listeners", needs: NEEDS, run: ten_thousand_listeners },
    Test { name: "scale::two_hundred_thousand_connections", needs: NEEDS, run: many_connections },
    Test { name: "scale::more_connections_than_room", needs: NEEDS, run: more_connections_than_room },
];

/// Raises the limit of open files to `wanted`, or without CAP_SYS_RESOURCE to the hard limit. Returns the new limit.
fn allow_descriptors(wanted: u64) -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every Linux has it");
    if hard >= wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("any user may raise it to the hard limit");
        return hard;
    }
    wanted
}

/// The CPU time of this process so far.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("every Linux has it");
    let of = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
    };
    of(usage.user_time()) + of(usage.system_time())
}

fn ten_thousand_listeners(lab: &Lab) {
    const MANY: u16 = 10_000;
    const SAMPLES: u32 = 8;
    // Several times the figures in docs/benchmarks.md, because the tests are built without optimisation.
    const BOUND: Duration = Duration::from_millis(500);
    let allowed = allow_descriptors(12_000);
    if allowed < 12_000 {
        skip(format!("a process may only have {allowed} descriptors: raise its hard limit (ulimit -Hn)"));
    }
    lab.sysctl("ipv4/ip_local_port_range", "30000 65535");
    let all: Vec<Socket> = (0..MANY).map(|n| listen(PORT + n, 8)).collect();
    let mut watch = Watch::start(lab);
    // Every hundredth listener has 1 to 7 waiting connections.
    let busy = |n: u16| if n.is_multiple_of(100) { u32::from(n / 100 % 7) + 1 } else { 0 };
    let waiting: Vec<Socket> = (0..MANY).flat_map(|n| (0..busy(n)).map(move |_| connect(PORT + n))).collect();
    watch.sample();
    assert_eq!(watch.lost(), 0, "{:?}", watch.model().losses);
    let mut seen = vec![false; usize::from(MANY)];
    for listener in watch.model().listeners.iter().filter(|listener| listener.netns == lab.netns) {
        let n = listener.port - PORT;
        assert!(!std::mem::replace(&mut seen[usize::from(n)], true), "port {} is there twice", listener.port);
        let expected = (busy(n), 8, 9, Some(u64::from(busy(n))));
        let now = &listener.now;
        assert_eq!((now.accept_depth, now.backlog, now.limit, listener.total.enqueued), expected, "{}", listener.port);
    }
    assert_eq!(seen.iter().filter(|seen| **seen).count(), usize::from(MANY));
    let (start, cpu) = (Instant::now(), cpu_time());
    for _ in 0..SAMPLES {
        watch.sample();
    }
    let (took, cpu) = (start.elapsed() / SAMPLES, cpu_time().checked_sub(cpu).unwrap() / SAMPLES);
    eprintln!("10,000 listeners: a sample and its model take {took:?}, {cpu:?} of it CPU time");
    assert!(cpu < BOUND, "a sample takes {cpu:?} on CPUs");
    drop((all, waiting));
}

/// Processes that together hold both ends of many connections. A single one may not have that many descriptors.
struct Crowd(Vec<Forked>);

impl Crowd {
    /// Opens and accepts `n` connections in at least two processes. Each accepts as many as it opens.
    fn open(listener: &Socket, n: usize) -> Self {
        let descriptors = allow_descriptors(100_000) as usize;
        // A process also has inherited descriptors.
        let most = (descriptors - 200) / 2;
        let processes = n.div_ceil(most).max(2);
        let ready = Gate::new();
        let shares = (0..processes).map(|index| n / processes + usize::from(index < n % processes));
        let crowd = shares.enumerate().map(|(index, share)| {
            // The processes that use an address need 25,000 of its 55,000 local ports.
            let server = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, (index % 250) as u8, 1)), PORT);
            fork(|| {
                let _open: Vec<[Socket; 2]> = (0..share).map(|_| [open(server), accept_any(listener)]).collect();
                ready.open(1);
                wait_for_ever();
            })
        });
        let crowd = Self(crowd.collect());
        (0..processes).for_each(|_| ready.pass());
        crowd
    }

    /// Ends one half of the processes. Returns how many accepted connections the others still hold.
    fn halve(&mut self, n: usize) -> u64 {
        let processes = self.0.len();
        let rest = processes / 2;
        self.0.truncate(rest);
        (0..rest).map(|index| (n / processes + usize::from(index < n % processes)) as u64).sum()
    }
}

/// A connection that is reset when its process ends, so that it holds no port.
fn open(server: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    socket.connect(&server.into()).expect("the queue is long enough");
    socket
}

/// Accepts a connection of any process: as many are accepted as are opened.
fn accept_any(listener: &Socket) -> Socket {
    let (socket, _) = listener.accept().expect("a connection");
    socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    socket
}

fn listen_everywhere(lab: &Lab) -> Socket {
    lab.sysctl("core/somaxconn", "65535");
    listen_on(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT), 65_535, |_| ())
}

fn many_connections(lab: &Lab) {
    const MANY: usize = 200_000;
    let listener = listen_everywhere(lab);
    let mut watch = Watch::with(lab, &Options { max_connections: 1 << 18, ..environment::options() });
    let start = Instant::now();
    let mut crowd = Crowd::open(&listener, MANY);
    let opened = start.elapsed();
    watch.sample();
    let seen = watch.listener(PORT);
    let many = Some(MANY as u64);
    assert_eq!((seen.total.enqueued, seen.total.accepts, seen.now.open), (many, many, many));
    assert_eq!((count(seen.distributions.accept_wait.as_ref()), seen.now.accept_depth), (MANY as u64, 0));
    assert_eq!(watch.lost(), 0, "{:?}", watch.model().losses);
    let start = Instant::now();
    watch.sample();
    let sampled = start.elapsed();

    // Every end of a connection is counted.
    let left = crowd.halve(MANY);
    watch.sample_until("half of them are gone", |watch| watch.listener(PORT).now.open == Some(left));
    drop(crowd);
    watch.sample_until("all are gone", |watch| watch.listener(PORT).now.open == Some(0));
    eprintln!("200,000 connections: opened and accepted in {opened:?}; a sample while they are open takes {sampled:?}");
}

/// Connections that do not fit the table are counted exactly. All other counts stay exact.
fn more_connections_than_room(lab: &Lab) {
    const MANY: usize = 30_000;
    const ROOM: u32 = 10_000;
    let listener = listen_everywhere(lab);
    let mut watch = Watch::with(lab, &Options { max_connections: ROOM, ..environment::options() });
    let crowd = Crowd::open(&listener, MANY);
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.enqueued, seen.total.accepts), (Some(MANY as u64), Some(MANY as u64)));
    let (timed, lost) = (count(seen.distributions.accept_wait.as_ref()), watch.lost());
    // Connections of other listeners on this machine use the table too.
    let theirs = watch.model().listeners.iter().filter(|listener| listener.netns != lab.netns);
    let others: u64 = theirs.filter_map(|listener| Some(listener.total.enqueued? + listener.now.open?)).sum();
    eprintln!("{MANY} connections, room for {ROOM}: {timed} timed, {lost} lost, {others} of others");
    // At least this many, because the table is rounded up.
    assert!(timed <= u64::from(2 * ROOM) && timed + others >= u64::from(ROOM), "{timed} timed, {others} of others");
    assert!((MANY as u64..=MANY as u64 + others).contains(&(timed + lost)), "{timed} + {lost}, {others} of others");
    drop(crowd);
}
