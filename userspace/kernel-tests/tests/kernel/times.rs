//! Durations, compared with programs that wait for known times and read the same clock.

use listentop_model::coverage::Measure;
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    environment::slowness,
    lab::PORT,
    now_ns, sleep_ms,
    sockets::{accept, connect, listen, queued, readable, receive, send_all},
    spans::{Spans, When},
    wait_until,
    watch::{assert_ms, assert_within, count},
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "times::accept_wait", needs: &[Measure::AcceptWait], run: accept_wait },
    Test { name: "times::residency", needs: &[Measure::Residency], run: residency },
    Test {
        name: "times::residency_of_partial_reads",
        needs: &[Measure::Residency, Measure::QueuedBytes],
        run: partial_reads,
    },
    Test { name: "times::residency_of_segments", needs: &[Measure::Residency], run: segments },
    Test { name: "times::residency_of_many_segments", needs: &[Measure::Residency], run: many_segments },
    Test {
        name: "times::first_byte_and_first_read",
        needs: &[Measure::FirstByte, Measure::FirstRead],
        run: first_byte_and_first_read,
    },
    Test { name: "times::short_waits", needs: &[Measure::AcceptWait, Measure::Residency], run: short_waits },
    Test { name: "times::oldest_waiting", needs: &[Measure::OldestWaiting], run: oldest_waiting },
    Test { name: "times::hung_acceptor", needs: &[Measure::OldestWaiting], run: hung_acceptor },
];

const ROUNDS: usize = 12;

fn pair(listener: &Socket) -> (Socket, Socket) {
    let client = connect(PORT);
    (client, accept(listener).expect("a connection"))
}

/// A server that accepts each connection 50 ms late.
fn accept_wait(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let mut waits = Spans::default();
    for _ in 0..ROUNDS {
        let (enqueued, _client) = When::doing(|| connect(PORT));
        readable(&listener);
        sleep_ms(50);
        let (accepted, _) = When::doing(|| accept(&listener));
        waits.add(enqueued, accepted);
    }
    watch.sample();
    let seen = watch.listener(PORT).distributions.accept_wait.as_ref();
    assert_eq!(count(seen), ROUNDS as u64);
    for p in [0.1, 0.5, 1.0] {
        let (low, high) = waits.quantile(p);
        assert!(low >= 50_000_000);
        assert_ms("accept wait", seen, p, low, high);
    }
}

/// A server that reads 30 ms after the bytes arrived.
fn residency(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    let mut residencies = Spans::default();
    for _ in 0..ROUNDS {
        let (sent, ()) = When::doing(|| send_all(&client, &[1; 100]));
        sleep_ms(30);
        let (read, bytes) = When::doing(|| receive(&server, 200));
        assert_eq!(bytes, 100);
        residencies.add(sent, read);
    }
    watch.sample();
    let seen = watch.listener(PORT).distributions.residency.as_ref();
    assert_eq!(count(seen), ROUNDS as u64);
    for p in [0.1, 0.5, 1.0] {
        let (low, high) = residencies.quantile(p);
        assert_ms("residency", seen, p, low, high);
    }
}

/// The oldest unread byte counts, also if younger ones arrive after it.
fn partial_reads(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    let mut late = Spans::default();
    for round in 0..ROUNDS {
        let (sent, ()) = When::doing(|| send_all(&client, &[1; 100]));
        assert_eq!(receive(&server, 50), 50);
        sleep_ms(20);
        send_all(&client, &[2; 50]);
        if round == 0 {
            watch.sample();
            assert_eq!(watch.listener(PORT).now.queued_bytes, Some(100));
        }
        sleep_ms(40);
        let (read, bytes) = When::doing(|| receive(&server, 200));
        assert_eq!(bytes, 100);
        late.add(sent, read);
    }
    watch.sample();
    let listener = watch.listener(PORT);
    let seen = listener.distributions.residency.as_ref();
    // Every other read took its bytes at once, so the late reads are the upper half.
    assert_eq!(count(seen), 2 * ROUNDS as u64);
    for p in [0.2, 0.5, 1.0] {
        let (low, high) = late.quantile(p);
        assert_ms("residency of the rest", seen, f64::midpoint(1.0, p), low, high);
    }
    assert!(seen.as_ref().and_then(|seen| seen.quantile_ns(0.25)) < Some(20_000_000), "{seen:?}");
    assert_eq!(listener.now.queued_bytes, Some(0));
}

/// Two segments that wait at the same time and are read separately have different ages.
fn segments(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    let mut residencies = Spans::default();
    for _ in 0..ROUNDS {
        let (first, ()) = When::doing(|| send_all(&client, &[1; 100]));
        sleep_ms(20);
        let (second, ()) = When::doing(|| send_all(&client, &[2; 100]));
        sleep_ms(20);
        for sent in [first, second] {
            let (read, bytes) = When::doing(|| receive(&server, 100));
            assert_eq!(bytes, 100);
            residencies.add(sent, read);
            sleep_ms(25);
        }
    }
    watch.sample();
    let seen = watch.listener(PORT).distributions.residency.as_ref();
    assert_eq!(count(seen), 2 * ROUNDS as u64);
    for p in [0.1, 0.5, 0.75, 1.0] {
        let (low, high) = residencies.quantile(p);
        assert_ms("residency", seen, p, low, high);
    }
}

/// More segments than the probes record separately: the ages of the last ones are upper bounds.
fn many_segments(lab: &Lab) {
    const SEGMENTS: usize = 24;
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    let mut residencies = Spans::default();
    let sent: Vec<When> = (0..SEGMENTS)
        .map(|_| {
            sleep_ms(4);
            When::doing(|| send_all(&client, &[1; 100])).0
        })
        .collect();
    sleep_ms(20);
    for sent in &sent {
        let (read, bytes) = When::doing(|| receive(&server, 100));
        assert_eq!(bytes, 100);
        residencies.add(*sent, read);
    }
    watch.sample();
    let listener = watch.listener(PORT);
    let seen = listener.distributions.residency.as_ref();
    assert_eq!(count(seen), SEGMENTS as u64);
    let (low, oldest) = residencies.quantile(1.0);
    assert_ms("residency of the first", seen, 1.0, low, oldest);
    for p in [0.1, 0.25, 0.5, 0.75] {
        assert_ms("residency", seen, p, residencies.quantile(p).0, oldest);
    }
    assert_eq!((listener.total.reads, listener.now.queued_bytes), (Some(SEGMENTS as u64), Some(0)));
}

fn first_byte_and_first_read(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let (late, early) = (listen(PORT, 16), listen(PORT + 1, 16));
    let (mut first_byte, mut first_read) = (Spans::default(), Spans::default());
    for _ in 0..ROUNDS {
        let client = connect(PORT);
        let (accepted, server) = When::doing(|| accept(&late).expect("a connection"));
        sleep_ms(40);
        let (sent, ()) = When::doing(|| send_all(&client, b"x"));
        sleep_ms(30);
        let (read, _) = When::doing(|| receive(&server, 10));
        first_byte.add(accepted, sent);
        first_read.add(accepted, read);

        // Bytes that arrived before the accept have a time of 0.
        let client = connect(PORT + 1);
        send_all(&client, b"x");
        sleep_ms(10);
        let server = accept(&early).expect("a connection");
        sleep_ms(10);
        receive(&server, 10);
    }
    watch.sample();
    let seen = &watch.listener(PORT).distributions;
    assert_eq!((count(seen.first_byte.as_ref()), count(seen.first_read.as_ref())), (ROUNDS as u64, ROUNDS as u64));
    for p in [0.1, 0.5, 1.0] {
        let (low, high) = first_byte.quantile(p);
        assert_ms("first byte", seen.first_byte.as_ref(), p, low, high);
        let (low, high) = first_read.quantile(p);
        assert_ms("first read", seen.first_read.as_ref(), p, low, high);
    }
    let seen = &watch.listener(PORT + 1).distributions;
    assert_eq!(count(seen.first_byte.as_ref()), ROUNDS as u64);
    assert_eq!(
        seen.first_byte.as_ref().and_then(listentop_model::histogram::Histogram::max_us),
        Some(1),
        "only values of 0"
    );
    assert!(seen.first_read.as_ref().and_then(|seen| seen.quantile_ns(0.0)) > Some(9_000_000), "{:?}", seen.first_read);
}

/// Waits as short as those of a fast server. The median is compared, because a single disturbed exchange hardly moves
/// it.
fn short_waits(lab: &Lab) {
    // Allowed for the kernel's work at the begin and the end of a call, which is in the program's time but not in the
    // measure.
    const AROUND_NS: u64 = 4_000;
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (mut waits, mut residencies) = (Spans::default(), Spans::default());
    let exchanges = 2000 / u64::from(slowness());
    for round in 0..exchanges {
        let pause_ns = 20_000 + 1_000 * (round % 41);
        let (enqueued, client) = When::doing(|| connect(PORT));
        spin(pause_ns);
        let (accepted, server) = When::doing(|| accept(&listener).expect("a connection"));
        waits.add(enqueued, accepted);
        let (sent, ()) = When::doing(|| send_all(&client, &[1; 100]));
        spin(pause_ns);
        let (read, bytes) = When::doing(|| receive(&server, 200));
        assert_eq!(bytes, 100);
        residencies.add(sent, read);
    }
    watch.sample();
    let seen = &watch.listener(PORT).distributions;
    let (waited, resided) = (seen.accept_wait.as_ref(), seen.residency.as_ref());
    for (what, own, seen) in [("accept wait", &waits, waited), ("residency", &residencies, resided)] {
        assert_eq!(count(seen), exchanges, "{what}");
        let (low, high) = own.quantile(0.5);
        // A probe that was wrong by a millisecond would be far outside.
        assert!(high < 500_000 * u64::from(slowness()), "the test's own load: {high} ns");
        assert_within(what, seen, 0.5, low, high, AROUND_NS * u64::from(slowness()));
    }
}

/// Uses the CPU for this long. A sleep cannot be as short.
fn spin(ns: u64) {
    let end = now_ns() + ns;
    while now_ns() < end {
        std::hint::spin_loop();
    }
}

fn oldest_waiting(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (first, _client) = When::doing(|| connect(PORT));
    sleep_ms(60);
    let (second, _other) = When::doing(|| connect(PORT));
    sleep_ms(40);
    let mut check = |enqueued: When| {
        let (sampled, ()) = When::doing(|| watch.sample());
        let age = watch.listener(PORT).now.oldest_waiting_us.expect("it is known");
        // The model rounds down to microseconds.
        let (low, high) = ((sampled.from - enqueued.to) / 1000, (sampled.to - enqueued.from) / 1000);
        assert!((low..=high).contains(&age), "{age} µs, while the program measured from {low} to {high} µs");
    };
    check(first);
    sleep_ms(30);
    check(first);
    drop(accept(&listener));
    check(second);
    drop(accept(&listener));
    watch.sample();
    assert_eq!(watch.listener(PORT).now.oldest_waiting_us, Some(0));
}

/// A server that has stopped accepting is visible although no events happen any more.
fn hung_acceptor(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let first = connect(PORT);
    // A thread that does nothing else: this one takes samples, which is work.
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let accepting = listener.try_clone().expect("a descriptor");
    let acceptor = std::thread::spawn(move || {
        drop(accept(&accepting).expect("the first connection"));
        let _ = wait.recv();
    });
    wait_until("the first is accepted", || queued(&listener) == 0);
    let (enqueued, clients) = When::doing(|| [connect(PORT), connect(PORT)]);
    watch.during(|| sleep_ms(2500));
    let (sampled, ()) = When::doing(|| watch.sample());
    let seen = watch.listener(PORT);
    assert!(seen.now.oldest_waiting_us >= Some((sampled.from - enqueued.to) / 1000), "{:?}", seen.now);
    assert_eq!(seen.now.accept_depth, 2);
    let findings: Vec<&str> = seen.findings.iter().map(|finding| finding.id).collect();
    assert!(findings.contains(&"hung_acceptor"), "{findings:?}");
    drop((first, clients, release));
    acceptor.join().expect("it has accepted");
}
