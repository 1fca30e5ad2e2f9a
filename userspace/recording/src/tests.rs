//! Recordings from writing to reading.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
};

use listentop_model::{
    fixtures,
    sample::{MarkSample, Sample},
    tracker::Tracker,
};
use proptest::prelude::*;

use crate::{Recording, Ring, Start, Writer, frame::Kind};

fn start() -> Start {
    Start { interval_ms: 250, ..Start::new("a test".to_owned(), 7) }
}

/// Samples in which listeners change, come, go, change places and listen again.
fn eventful() -> Vec<Sample> {
    let mut all = Vec::new();
    for mut samples in [fixtures::quiet(), fixtures::per_connection(), fixtures::overflow(), fixtures::dead_shard()] {
        all.append(&mut samples);
    }
    let distinct = fixtures::distinct();
    all.extend(distinct.iter().cloned());
    if let Some(mut sample) = distinct.last().cloned() {
        let first = sample.listeners.remove(0);
        all.push(sample.clone());
        sample.listeners.push(first.clone());
        all.push(sample.clone());
        let mut again = (*first).clone();
        again.opened_ns = Some(77);
        again.closed = true;
        sample.listeners.push(again);
        all.push(sample);
    }
    // Some in which something was done, twice in a row, and not in the next.
    for (at, port) in [(3, None), (4, Some(7001)), (4, None)] {
        let mark = |what: &str| MarkSample { monotonic_ns: at as u64, what: what.to_owned(), netns: 7, port };
        all[at].marks.push(mark("stall"));
    }
    all
}

fn write(path: &Path, samples: &[Sample]) {
    let mut writer = Writer::file(path, start(), None).expect("it can be made");
    samples.iter().for_each(|sample| writer.write(sample).expect("there is room"));
    writer.finish().expect("it is written");
}

fn read(recording: &Recording) -> Vec<Sample> {
    recording.samples(0..recording.len()).map(|(_, sample)| sample).collect()
}

fn open(path: &Path) -> Recording {
    Recording::open(path, |_, _| ()).expect("it is a recording")
}

#[test]
fn what_is_read_is_what_was_written() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("one");
    let samples = eventful();
    write(&path, &samples);
    let recording = open(&path);
    assert!(recording.damage().is_none());
    assert_eq!(recording.runs().len(), 1);
    assert_eq!(recording.runs()[0].start, start());
    assert_eq!(read(&recording), samples);
    for (at, sample) in samples.iter().enumerate() {
        let stamp = recording.stamp(at).expect("it is there");
        assert_eq!((stamp.unix_ms, stamp.monotonic_ns, stamp.serial), (sample.unix_ms, sample.monotonic_ns, at as u64));
        let (place, found) = recording.samples(at..at + 1).next().expect("it can be read");
        assert_eq!((place, &found), (at, sample));
    }
}

#[test]
fn idle_listeners_are_shared_as_the_source_shares_them() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("one");
    let samples = fixtures::many(200);
    write(&path, &samples);
    let found = read(&open(&path));
    let shared = |one: &Sample, other: &Sample| {
        let pairs = one.listeners.handles().iter().zip(other.listeners.handles());
        pairs.filter(|(one, other)| std::sync::Arc::ptr_eq(one, other)).count()
    };
    for (written, read) in samples.windows(2).zip(found.windows(2)) {
        let equal = written[0].listeners.iter().zip(&written[1].listeners).filter(|(one, other)| one == other).count();
        assert_eq!(shared(&read[0], &read[1]), equal);
    }
    let track = |samples: &[Sample]| {
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        tracker.model().clone()
    };
    assert_eq!(track(&found), track(&samples));
}

#[test]
fn a_reader_of_a_growing_file_sees_what_is_whole() {
    let place = tempfile::tempdir().expect("a folder");
    let (whole, part) = (place.path().join("whole"), place.path().join("part"));
    let samples = fixtures::overflow();
    write(&whole, &samples);
    let bytes = fs::read(&whole).expect("it is there");
    let mut seen = 0;
    for length in (0..=bytes.len()).step_by(7).chain([bytes.len()]) {
        fs::write(&part, &bytes[..length]).expect("it is written");
        let Ok(recording) = Recording::open(&part, |_, _| ()) else {
            assert_eq!(seen, 0, "at {length}");
            continue;
        };
        let found = read(&recording);
        assert!(found.len() >= seen && found == samples[..found.len()]);
        assert!(recording.damage().is_none());
        seen = found.len();
    }
    assert_eq!(seen, samples.len());
}

#[test]
fn damage_costs_no_more_than_until_the_next_whole_sample() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("one");
    let samples: Vec<Sample> = steady(200);
    write(&path, &samples);
    let recording = open(&path);
    let keys = recording.kinds().filter(|kind| *kind == Kind::Key).count();
    assert!((2..20).contains(&keys), "{keys}");
    // In the middle.
    let size = fs::metadata(&path).expect("it is there").len();
    let file = OpenOptions::new().write(true).open(&path).expect("it can be written");
    file.write_all_at(b"damaged", size / 2).expect("it is written");
    let recording = open(&path);
    let mut reading = recording.samples(0..recording.len());
    let found: Vec<Sample> = reading.by_ref().map(|(_, sample)| sample).collect();
    let lost = reading.unreadable() + recording.damage().samples;
    assert_eq!(found.len() as u64 + lost, 200);
    assert!((1..=120).contains(&lost), "{lost}");
    assert!(found.iter().all(|sample| samples.contains(sample)));
    assert_eq!(found.last(), samples.last());
}

/// Samples a second apart, of a listener that works.
fn steady(count: u64) -> Vec<Sample> {
    let first = fixtures::overflow().remove(3);
    let next = |n: u64| {
        let mut sample = first.clone();
        sample.monotonic_ns += n * 1_000_000_000;
        sample.unix_ms += n * 1_000;
        for listener in &mut sample.listeners {
            listener.counts.accepts = listener.counts.accepts.map(|accepts| accepts + 13 * n);
        }
        sample
    };
    (0..count).map(next).collect()
}

#[test]
fn a_ring_holds_what_it_is_to_hold_and_keeps_what_it_is_told() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("ring");
    let bounds = Ring { span_ms: 60_000, segment_ms: 5_000 };
    let samples = steady(400);
    let mut writer = Writer::ring(&path, start(), bounds, None).expect("it can be made");
    for (at, sample) in samples.iter().enumerate() {
        if at == 100 {
            writer.keep(sample.unix_ms - 3_000, sample.unix_ms + 3_000);
        }
        writer.write(sample).expect("there is room");
    }
    assert_eq!(writer.take_notices(), []);
    writer.finish().expect("it is written");
    let found = read(&open(&path));
    let seconds: Vec<u64> = found.iter().map(|sample| (sample.unix_ms - samples[0].unix_ms) / 1_000).collect();
    let (kept, last): (Vec<u64>, Vec<u64>) = seconds.iter().partition(|second| **second < 200);
    assert!(kept.contains(&97) && kept.contains(&103) && kept.len() <= 15, "{kept:?}");
    assert!((60..=70).contains(&last.len()) && last.last() == Some(&399), "{last:?}");
    assert!(found.iter().all(|sample| samples.contains(sample)));

    // Another measurement continues it.
    let other = Start { run: 8, ..start() };
    let mut writer = Writer::ring(&path, other, bounds, None).expect("it is there");
    let again = Writer::ring(&path, start(), bounds, None).expect_err("one at a time").to_string();
    assert!(again.contains("another listentop"), "{again}");
    samples[390..].iter().for_each(|sample| writer.write(sample).expect("there is room"));
    writer.finish().expect("it is written");
    let recording = open(&path);
    let runs: Vec<(u64, usize)> = recording.runs().iter().map(|run| (run.start.run, run.samples.len())).collect();
    assert_eq!((runs.len(), runs[1]), (2, (8, 10)), "{runs:?}");
    assert!(recording.damage().is_none());
}

#[test]
fn a_size_that_is_given_is_not_exceeded() {
    let place = tempfile::tempdir().expect("a folder");
    let samples = steady(500);
    let (file, ring) = (place.path().join("file"), place.path().join("ring"));
    let most = 40_000;
    let mut writer = Writer::file(&file, start(), Some(most)).expect("it can be made");
    let error = samples.iter().find_map(|sample| writer.write(sample).err()).expect("it becomes too large");
    assert!(matches!(error, crate::WriteError::Limit), "{error}");
    let written = writer.size();
    writer.finish().expect("it is written");
    assert_eq!(fs::metadata(&file).expect("it is there").len(), written);
    assert!((most - 5_000..=most).contains(&written), "{written}");
    let found = read(&open(&file));
    assert_eq!(found, samples[..found.len()]);

    let bounds = Ring { span_ms: u64::MAX / 2, segment_ms: u64::MAX / 2 };
    let mut writer = Writer::ring(&ring, start(), bounds, Some(most)).expect("it can be made");
    for sample in &samples {
        writer.write(sample).expect("it goes round");
        assert!(writer.size() <= most + 5_000, "{}", writer.size());
    }
    writer.finish().expect("it is written");
    assert_eq!(read(&open(&ring)).last(), samples.last());
}

#[test]
fn other_files_are_no_recordings() {
    let place = tempfile::tempdir().expect("a folder");
    for (name, content) in [("empty", String::new()), ("text", "hello".to_owned()), ("long", "x".repeat(100_000))] {
        let path = place.path().join(name);
        fs::write(&path, content).expect("it is written");
        let error = Recording::open(&path, |_, _| ()).expect_err(name).to_string();
        assert!(error.ends_with("this is not a recording of listentop"), "{error}");
    }
    let error = Recording::open(place.path(), |_, _| ()).expect_err("no segments").to_string();
    assert!(error.contains("not a recording"), "{error}");
    let error = Recording::open(&place.path().join("none"), |_, _| ()).expect_err("not there").to_string();
    assert!(error.contains("No such file"), "{error}");
    // A recording that ended before its first sample.
    let (whole, begun, newer) = (place.path().join("whole"), place.path().join("begun"), place.path().join("newer"));
    write(&whole, &steady(1));
    let bytes = fs::read(&whole).expect("it is there");
    let second = bytes.windows(4).rposition(|bytes| bytes == crate::frame::SYNC).expect("two frames");
    fs::write(&begun, &bytes[..second]).expect("it is written");
    let error = Recording::open(&begun, |_, _| ()).expect_err("no sample").to_string();
    assert!(error.contains("holds no sample"), "{error}");
    let start = Start { format: crate::VERSION + 1, program: "listentop 99".to_owned(), ..start() };
    let mut writer = Writer::file(&newer, start, None).expect("it can be made");
    writer.write(&steady(1)[0]).expect("there is room");
    writer.finish().expect("it is written");
    let error = Recording::open(&newer, |_, _| ()).expect_err("too new").to_string();
    assert!(error.contains("a newer version (listentop 99, format 2)"), "{error}");
}

/// A recording of each version of the format, made from samples that are there as JSON, too.
///
/// One of a new version is made by `UPDATE_DOCS=1 cargo test -p listentop-recording versions`. Those of older versions
/// are never made again: that they can be read is what this is about.
#[test]
fn recordings_of_all_versions_open() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/recorded");
    let samples: Vec<Sample> = fs::read_to_string(folder.join("overflow.jsonl"))
        .expect("it is there")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a sample"))
        .collect();
    for version in 1..=crate::VERSION {
        let path = folder.join(format!("overflow_format_{version}.rec"));
        if version == crate::VERSION && !path.exists() && std::env::var_os("UPDATE_DOCS").is_some() {
            write(&path, &samples);
        }
        let recording = open(&path);
        assert!(recording.damage().is_none() && recording.runs().len() == 1);
        assert_eq!(recording.runs()[0].start.format, version);
        assert!(recording.runs()[0].start.figures.iter().any(|figure| figure.id == "accept_wait"));
        assert_eq!(read(&recording), samples, "format {version}");
    }
}

/// Where a recording of the eventful samples is changed, and how.
fn injury() -> impl Strategy<Value = (f64, Vec<u8>, bool)> {
    (0.0..1.0, prop::collection::vec(any::<u8>(), 1..80), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_is_damaged_what_is_read_was_written(injuries in prop::collection::vec(injury(), 1..4)) {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("one");
        let samples = eventful();
        write(&path, &samples);
        let mut bytes = fs::read(&path).expect("it is there");
        for (at, garbage, cut) in injuries {
            let at = (at * bytes.len() as f64) as usize;
            if cut {
                bytes.drain(at..(at + garbage.len()).min(bytes.len()));
            } else {
                bytes.iter_mut().skip(at).zip(garbage).for_each(|(byte, garbage)| *byte = garbage);
            }
        }
        fs::write(&path, &bytes).expect("it is written");
        if let Ok(recording) = Recording::open(&path, |_, _| ()) {
            let mut after = 0;
            for (at, sample) in recording.samples(0..recording.len()) {
                let serial = recording.stamp(at).expect("it is there").serial as usize;
                prop_assert!(serial >= after);
                prop_assert_eq!(&sample, &samples[serial]);
                after = serial + 1;
            }
        }
    }
}
