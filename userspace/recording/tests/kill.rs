//! What SIGKILL leaves: a recorder is killed at 200 random moments. Everything that it had written is there, and at
//! most the sample that it was writing is not.
//!
//! The recorder is this program itself, with a made-up source that changes, grows and rests. It says in a pipe which
//! sample it is about to write, and which it has written.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use listentop_model::{fixtures, sample::Sample};
use listentop_recording::{Recording, Ring, Start, Writer};
use test_harness::Test;

/// Has this program record into a folder.
const RECORD: &str = "LISTENTOP_TEST_RECORD_INTO";
const KILLS: u32 = 200;

fn main() -> ExitCode {
    if let Some(path) = env::var_os(RECORD) {
        record(Path::new(&path));
    }
    const TESTS: &[Test] = &[
        Test { name: "kill::a_file_loses_at_most_the_last_sample", run: || killed("file") },
        Test { name: "kill::a_ring_loses_at_most_the_last_sample", run: || killed("ring") },
    ];
    test_harness::run(&[TESTS], || None)
}

/// The `n`th sample of the made-up source: a number in it says which it is.
fn sample(machine: &Sample, n: u64) -> Sample {
    let mut sample = machine.clone();
    sample.unix_ms += n * 1_000;
    sample.monotonic_ns += n * 1_000_000_000;
    sample.cost.cpu_ns = n;
    for listener in sample.listeners.iter_mut().filter(|listener| (listener.id + n).is_multiple_of(7)) {
        listener.counts.accepts = Some(n * 1_234_567);
        listener.counts.reads = Some(n);
    }
    sample
}

fn machine() -> Sample {
    fixtures::many(60).pop().expect("there is one")
}

/// Records until it is killed.
fn record(path: &Path) -> ! {
    let start = Start::new("a test".to_owned(), 1);
    // So short that the ring goes round all the time.
    let ring = Ring { span_ms: 40_000, segment_ms: 3_000 };
    let writer =
        if path.ends_with("ring") { Writer::ring(path, start, ring, None) } else { Writer::file(path, start, None) };
    let mut writer = writer.expect("it can be made");
    let machine = machine();
    let mut n = 0;
    loop {
        println!("begin {n}");
        writer.write(&sample(&machine, n)).expect("there is room");
        println!("done {n}");
        n += 1;
    }
}

fn killed(name: &str) {
    let machine = machine();
    let mut moments = Moments(0x9e37_79b9_7f4a_7c15);
    let mut between = 0;
    for kill in 0..KILLS / 2 {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join(name);
        let program = env::current_exe().expect("it is known");
        let mut recorder =
            Command::new(program).env(RECORD, &path).stdout(Stdio::piped()).spawn().expect("it can be started");
        let mut lines = BufReader::new(recorder.stdout.take().expect("a pipe")).lines();
        let first = lines.next().expect("it begins").expect("text");
        assert_eq!(first, "begin 0");
        let end = Instant::now() + Duration::from_micros(moments.next() % 60_000);
        let mut said: Vec<String> = Vec::new();
        while Instant::now() < end {
            said.push(lines.next().expect("it goes on").expect("text"));
        }
        recorder.kill().expect("it lives");
        recorder.wait().expect("it is ours");
        said.extend(lines.map_while(Result::ok));
        let last = |what: &str| {
            let numbers =
                said.iter().filter_map(|line| line.strip_prefix(what)?.strip_prefix(' ')?.parse::<u64>().ok());
            numbers.max()
        };
        let Some(done) = last("done") else { continue };
        let begun = last("begin").unwrap_or(0).max(done);
        between += u32::from(begun > done);
        let recording = Recording::open(&path, |_, _| ()).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        assert!(recording.damage().is_none(), "kill {kill}: {:?}", recording.damage());
        let found: Vec<Sample> = recording.samples(0..recording.len()).map(|(_, sample)| sample).collect();
        let newest = found.last().expect("it has samples").cost.cpu_ns;
        assert!((done..=begun).contains(&newest), "kill {kill}: {newest}, but {done} were written, {begun} begun");
        for (at, found) in found.iter().rev().enumerate() {
            assert_eq!(*found, sample(&machine, newest - at as u64), "kill {kill}");
        }
        let least = if name == "ring" { 38.min(newest + 1) } else { newest + 1 };
        assert!(found.len() as u64 >= least, "kill {kill}: {} of {newest}", found.len());
    }
    // Otherwise it was never killed at work. Most of its time goes to the pipe: encoding only what changed is quick.
    assert!(between > 2, "{between} of them while it was writing");
    let _ = std::io::stdout().flush();
}

/// Random numbers (xorshift): the same in each run, and when it is killed is random all the same.
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
