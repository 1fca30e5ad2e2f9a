//! Changes of the whole machine: its clock is set, its CPUs go offline and online. Only for virtual machines of our own
//! (LISTENTOP_TEST_VM); not listed elsewhere.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use listentop_model::coverage::Measure;
use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime, clock_settime},
};
use serde_json::Value;
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    command::Measuring,
    lab::PORT,
    now_ns, skip, sleep_ms,
    sockets::{accept, connect, listen, receive, send_all},
    watch::{assert_counts, assert_ms, count},
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::AcceptWait, Measure::Reads];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "machine::clock_steps", needs: NEEDS, run: clock_steps },
    Test { name: "machine::clock_steps_under_a_report", needs: NEEDS, run: clock_steps_under_a_report },
    Test { name: "machine::cpu_goes_and_comes_back_under_load", needs: NEEDS, run: cpu_hotplug },
    Test { name: "machine::started_while_a_cpu_is_away", needs: NEEDS, run: started_with_a_cpu_away },
    Test { name: "machine::many_possible_cpus", needs: NEEDS, run: many_possible_cpus },
];

/// Undoes a step of the wall clock when dropped, also if the test fails.
struct Stepped(i64);

impl Stepped {
    fn by(seconds: i64) -> Self {
        step(seconds);
        Self(seconds)
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        step(-self.0);
    }
}

fn step(seconds: i64) {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("every Linux has it");
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(now.tv_sec() + seconds, now.tv_nsec())).expect("our clock");
}

/// Steps in seconds: an hour and a day, forwards and backwards.
const STEPS: [i64; 4] = [3600, -3600, 86_400, -86_400];

/// Waits are measured by CLOCK_MONOTONIC, which cannot be set.
fn clock_steps(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (mut shortest, mut longest) = (u64::MAX, 0);
    for seconds in STEPS {
        let before = now_ns();
        let client = connect(PORT);
        let connected = now_ns();
        send_all(&client, b"hello");
        let stepped = Stepped::by(seconds);
        sleep_ms(50);
        watch.sample();
        let accepting = now_ns();
        let server = accept(&listener).expect("a connection");
        let accepted = now_ns();
        assert_eq!(receive(&server, 10), 5);
        (shortest, longest) = (shortest.min(accepting - connected), longest.max(accepted - before));
        watch.sample();
        drop(stepped);
    }
    watch.sample();
    let seen = watch.listener(PORT);
    let n = STEPS.len() as u64;
    assert_eq!((seen.total.enqueued, seen.total.accepts, seen.total.reads), (Some(n), Some(n), Some(n)));
    assert_eq!((count(seen.distributions.accept_wait.as_ref()), count(seen.distributions.residency.as_ref())), (n, n));
    for p in [0.01, 0.99] {
        assert_ms("accept wait over a step", seen.distributions.accept_wait.as_ref(), p, shortest, longest);
    }
}

/// A report lasts for the time of `--for`, and reports that time.
fn clock_steps_under_a_report(lab: &Lab) {
    let listener = listen(PORT, 16);
    let start = now_ns();
    let measuring = Measuring::start(&format!("report --for 2s --format json --netns {}", lab.netns));
    for seconds in STEPS {
        let _stepped = Stepped::by(seconds);
        let client = connect(PORT);
        drop((accept(&listener), client));
        sleep_ms(50);
    }
    let ended = measuring.end();
    let took = (now_ns() - start) as f64 / 1e9;
    assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&ended.stdout).expect("a whole report");
    let seconds = report["interval"]["seconds"].as_f64().expect("a number");
    assert!((1.9..=took).contains(&seconds), "{seconds} s reported, {took} s passed");
    assert_eq!(report["listeners"][0]["accepts"]["total"], STEPS.len());
}

/// A CPU that can go offline. Dropping this brings it online, also if the test fails.
struct Cpu(String);

impl Cpu {
    /// The last CPU that can go offline.
    fn last() -> Self {
        let last = thread::available_parallelism().map_or(1, usize::from) - 1;
        let path = format!("/sys/devices/system/cpu/cpu{last}/online");
        if last == 0 || !fs::exists(&path).unwrap_or(false) {
            skip("no CPU of this machine can go offline".to_owned());
        }
        Self(path)
    }

    fn set(&self, online: bool) {
        fs::write(&self.0, if online { "1" } else { "0" }).unwrap_or_else(|error| panic!("{}: {error}", self.0));
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        let _ = fs::write(&self.0, "1");
    }
}

/// A connection, a request and the end.
fn exchange(listener: &Socket) {
    let client = connect(PORT);
    let server = accept(listener).expect("a connection");
    send_all(&client, b"hello");
    assert_eq!(receive(&server, 10), 5);
}

/// Makes exchanges on two threads until `done`. Returns how many.
fn exchange_until(listener: &Socket, done: &AtomicBool) -> u64 {
    let exchanges = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    exchange(listener);
                    exchanges.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    exchanges.into_inner()
}

fn assert_all_counted(watch: &mut Watch, n: u64) {
    watch.sample_until("all connections are gone", |watch| {
        watch.listener(PORT).now.open.is_some_and(|open| open <= watch.missed())
    });
    let (seen, missed) = (watch.listener(PORT), watch.missed());
    assert_counts(
        missed,
        &[
            ("enqueued", seen.total.enqueued, n),
            ("accepts", seen.total.accepts, n),
            ("reads", seen.total.reads, n),
            ("accept waits", Some(count(seen.distributions.accept_wait.as_ref())), n),
            ("residencies", Some(count(seen.distributions.residency.as_ref())), n),
        ],
    );
    assert_eq!(seen.total.read_bytes, seen.total.reads.map(|reads| 5 * reads));
    assert_eq!(watch.lost(), 0, "{:?}", watch.model().losses);
}

/// The counts of a CPU that goes offline are kept. When it is online again it goes on counting.
fn cpu_hotplug(lab: &Lab) {
    let cpu = &Cpu::last();
    let listener = listen(PORT, 64);
    let mut watch = Watch::start(lab);
    let exchanges = watch.during(|| {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let load = scope.spawn(|| exchange_until(&listener, &done));
            for online in [false, true, false, true] {
                sleep_ms(300);
                cpu.set(online);
            }
            sleep_ms(300);
            done.store(true, Ordering::Relaxed);
            load.join().expect("no exchange fails")
        })
    });
    assert!(exchanges > 10, "{exchanges} exchanges");
    assert_all_counted(&mut watch, exchanges);
}

/// Maps have room for CPUs that are offline at the start.
fn started_with_a_cpu_away(lab: &Lab) {
    let cpu = &Cpu::last();
    let listener = listen(PORT, 64);
    cpu.set(false);
    let mut watch = Watch::fresh(lab);
    (0..20).for_each(|_| exchange(&listener));
    watch.sample();
    cpu.set(true);
    let exchanges = watch.during(|| {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let load = scope.spawn(|| exchange_until(&listener, &done));
            sleep_ms(500);
            done.store(true, Ordering::Relaxed);
            load.join().expect("no exchange fails")
        })
    });
    assert_all_counted(&mut watch, 20 + exchanges);
}

/// The number of possible CPUs.
fn possible_cpus() -> usize {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible").expect("every Linux has it");
    let last = text.trim_end().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok());
    last.expect("a range of numbers") + 1
}

/// With far more possible CPUs than online ones, peaks and counts are right, and memory is bounded.
fn many_possible_cpus(lab: &Lab) {
    let (possible, online) = (possible_cpus(), thread::available_parallelism().map_or(1, usize::from));
    if possible < 8 * online {
        skip(format!(
            "{possible} CPUs are possible and {online} online: start the machine with many more possible CPUs"
        ));
    }
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let waiting: Vec<Socket> = (0..7).map(|_| connect(PORT)).collect();
    watch.sample();
    assert_eq!((watch.listener(PORT).now.accept_depth, watch.listener(PORT).now.accept_peak), (7, Some(7)));
    waiting.iter().for_each(|client| send_all(client, b"hello"));
    for _ in &waiting {
        assert_eq!(receive(&accept(&listener).expect("a connection"), 10), 5);
    }
    drop(waiting);
    assert_all_counted(&mut watch, 7);
    let resident = watch.model().cost.rss_bytes;
    assert!(resident < 256 << 20, "{resident} bytes resident with {possible} possible CPUs");
}
