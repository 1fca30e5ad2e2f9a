//! Probes on functions and probes on tracepoints, held against each other: both watch the same load.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use listentop::source::live::{Kind, LiveSource, Options};
use listentop_model::{
    coverage::Measure,
    histogram::Histogram,
    model::{Counts, Distributions, ListenerModel},
};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    environment::{patience, slowness},
    lab::{PORT, loopback},
    skip, sleep_ms,
    sockets::{accept, attempt, attempt_with_late_ack, give_up_refused, kernel_drops, listen},
    watch::assert_counts,
};

/// Listed where functions can be watched: see `main`.
pub(crate) const TESTS: &[Test] =
    &[Test { name: "backends::agree_on_the_same_load", needs: &[Measure::SynRequests], run: agree }];

/// Connections of the load, on a machine that is not emulated.
const CONNECTIONS: u32 = 4000;
const BACKLOG: i32 = 31;

/// Numbers that look random and are the same each time (xorshift64, Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn watch(lab: &Lab, kind: Kind) -> Watch {
    let options = Options { kind: Some(kind), ..Options::default() };
    match LiveSource::start(&options) {
        Ok(source) => Watch::by(lab, source),
        Err(error) => skip(format!("{} probes do not run here: {error}", kind.name())),
    }
}

/// Accepts and answers until `connections` have ended.
fn serve(listener: &Socket, connections: u32, numbers: &mut Numbers) {
    let mut buffer = [0; 4096];
    for done in 0..connections {
        // Now and then it looks for a connection that is not there, or is slow to look.
        if numbers.below(8) == 0 {
            thread::sleep(Duration::from_micros(numbers.below(3000)));
        }
        let since = Instant::now();
        let server = loop {
            match accept(listener) {
                Some(server) => break server,
                None => thread::sleep(Duration::from_micros(200)),
            }
            assert!(since.elapsed() < patience(), "no connection came after {done}");
        };
        let mut server = TcpStream::from(server);
        loop {
            match server.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => server.write_all(&buffer[..n]).expect("the client reads"),
                Err(error) => panic!("connection {done}: {error}"),
            }
        }
    }
}

/// Connects, sends requests of many sizes, reads the answers.
fn demand(connections: u32, numbers: &mut Numbers) {
    let mut answer = [0; 4096];
    for _ in 0..connections {
        let mut client = TcpStream::connect(loopback(PORT)).expect("it connects");
        client.set_nodelay(true).expect("TCP_NODELAY");
        for _ in 0..numbers.below(4) {
            let size = 1 + numbers.below(4000) as usize;
            client.write_all(&vec![7; size]).expect("the server reads");
            client.read_exact(&mut answer[..size]).expect("the answer");
        }
        client.shutdown(std::net::Shutdown::Write).expect("the end");
        // Until the server has closed, which may be by a reset.
        match client.read(&mut answer) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("something else than the end: {other:?}"),
        }
    }
}

/// Fills the queue, so that it refuses SYNs and final ACKs. Nothing is repeated.
fn overflow() -> Vec<Socket> {
    let late: Vec<Socket> = (0..5).map(|_| attempt_with_late_ack(PORT)).collect();
    let waiting = give_up_refused((0..BACKLOG + 12).map(|_| attempt(PORT)).collect());
    // Their final ACKs come now, once.
    sleep_ms(400);
    drop(late);
    waiting
}

fn agree(lab: &Lab) {
    let mut functions = watch(lab, Kind::Fentry);
    let mut tracepoints = watch(lab, Kind::Tracepoint);
    let listener = listen(PORT, BACKLOG);
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    // A new namespace's counters have a baseline only after the first read.
    functions.sample();
    tracepoints.sample();
    let connections = CONNECTIONS / slowness();
    let before = lab.counters();
    thread::scope(|scope| {
        scope.spawn(|| serve(&listener, connections, &mut Numbers(0x5eed)));
        demand(connections, &mut Numbers(0xf00d));
    });
    let waiting = overflow();
    for _ in 0..2 {
        sleep_ms(100);
        functions.sample();
        tracepoints.sample();
    }
    let now = lab.counters();
    let refused = (now.since(&before, "ListenOverflows"), now.since(&before, "ListenDrops"));
    let (a, b) = (functions.listener(PORT), tracepoints.listener(PORT));
    assert!(refused.0 > 5 && kernel_drops(&listener) > 0, "the test's own load: {refused:?}");

    let enqueued = u64::from(connections) + waiting.len() as u64;
    let missed = functions.missed() + tracepoints.missed();
    if missed > 0 && slowness() > 1 {
        // A kernel that preempts programs skips others; in an emulated machine, where they run for long, always some.
        assert_counts_within_missed(missed, &a.total, &b.total, enqueued);
        return;
    }
    assert_eq!(a.total.enqueued, Some(enqueued), "against the load itself");
    assert_eq!(a.drops.total, Some(refused.1), "against the kernel's own counter");
    assert_same_counts(a, b);
    let causes =
        |l: &ListenerModel| (l.drops.total, l.drops.accept_queue_full_on_ack, l.drops.accept_queue_full_on_syn);
    if tracepoints.is_available(Measure::Drops) {
        assert_eq!((causes(a), a.drops.unexplained), (causes(b), b.drops.unexplained));
    } else {
        assert_eq!(causes(b), (None, None, None), "unknown before 6.15");
    }
    assert_same_distributions(&a.distributions, &b.distributions);
    drop(waiting);
}

/// `functions` and `tracepoints` may each differ from the truth by the number of probe runs that the kernel skipped.
fn assert_counts_within_missed(missed: u64, functions: &Counts, tracepoints: &Counts, enqueued: u64) {
    let own = |n: Option<u64>| n.expect("it is measured");
    assert_counts(
        missed,
        &[
            ("enqueued by functions", functions.enqueued, enqueued),
            ("enqueued by tracepoints", tracepoints.enqueued, enqueued),
            ("accepts", tracepoints.accepts, own(functions.accepts)),
            ("would-block accepts", tracepoints.would_block, own(functions.would_block)),
            ("reads", tracepoints.reads, own(functions.reads)),
            ("writes", tracepoints.writes, own(functions.writes)),
        ],
    );
}

fn assert_same_counts(a: &ListenerModel, b: &ListenerModel) {
    let counts = |l: &ListenerModel| {
        let t = &l.total;
        let calls = [t.enqueued, t.accepts, t.would_block, t.accept_failed];
        (calls, [t.reads, t.read_bytes, t.writes, t.write_bytes])
    };
    assert_eq!(counts(a), counts(b), "enqueued, accepts, would-block, failed; reads, bytes, writes, bytes");
    // Some clients leave while they are accepted. A tracepoint looks whether they have a moment later than a function.
    assert!(a.total.client_closed <= b.total.client_closed, "{:?} {:?}", a.total, b.total);
    assert_eq!((a.total.client_reset, b.total.client_reset), (Some(0), Some(0)), "no client resets");
    assert_eq!(a.total.synack_retransmits, b.total.synack_retransmits);
    let now = |l: &ListenerModel| (l.now.open, l.now.queued_bytes, l.now.accept_depth, l.now.accept_peak);
    assert_eq!(now(a), now(b), "open, queued bytes, depth, peak");
    let work = |l: &ListenerModel| {
        let mut work: Vec<_> = l.threads.iter().map(|t| (t.tid, t.accepts, t.would_block, t.reads, t.writes)).collect();
        work.sort_unstable();
        work
    };
    assert_eq!(work(a), work(b), "by thread");
}

fn assert_same_distributions(a: &Distributions, b: &Distributions) {
    for (what, a, b) in [
        ("accept wait", &a.accept_wait, &b.accept_wait),
        ("first byte", &a.first_byte, &b.first_byte),
        ("first read", &a.first_read, &b.first_read),
        ("residency", &a.residency, &b.residency),
        ("answer", &a.answer, &b.answer),
    ] {
        compare(what, a.as_ref(), b.as_ref());
    }
    assert_eq!(a.bytes_per_read, b.bytes_per_read);
}

/// Compares two distributions: equal counts, and quantiles within the resolution of both (1/16 each) plus the time
/// between the end of a function and the end of its system call.
fn compare(what: &str, a: Option<&Histogram>, b: Option<&Histogram>) {
    let (a, b) = (a.expect("it is measured"), b.expect("it is measured"));
    assert_eq!(a.count(), b.count(), "{what}");
    // Where probes take twenty times as long, one time in ten something else runs between the two ends.
    let quantiles = if slowness() > 1 { &[0.5][..] } else { &[0.5, 0.9] };
    for &p in quantiles {
        let (x, y) = (a.quantile_ns(p).unwrap_or(0) as f64, b.quantile_ns(p).unwrap_or(0) as f64);
        let between = 50_000.0 * f64::from(slowness());
        assert!((x - y).abs() <= x.max(y) / 8.0 + between, "{what}: {x} ns and {y} ns at p{p}");
    }
}
