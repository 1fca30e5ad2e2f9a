//! A full disk: a small file system in a mount namespace of its own. It needs root, or user namespaces.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use listentop_model::{fixtures, sample::Sample};
use listentop_recording::{Notice, Recording, Ring, Start, WriteError, Writer};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::{getegid, geteuid},
};
use tempfile::TempDir;
use test_harness::Test;

fn main() -> ExitCode {
    const TESTS: &[Test] = &[
        Test { name: "full_disk::a_file_ends_and_is_whole", run: file },
        Test { name: "full_disk::a_ring_becomes_shorter_and_goes_on", run: ring },
        Test { name: "full_disk::a_ring_without_any_room_ends", run: no_room },
    ];
    test_harness::run(&[TESTS], || None)
}

/// A small file system that only this thread sees.
struct Disk(TempDir);

impl Disk {
    fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // So that the folder can be deleted.
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

/// A file system of this size.
fn small_disk(kilobytes: u32) -> Disk {
    let (user, group) = (geteuid(), getegid());
    let own = unshare(CloneFlags::CLONE_NEWNS).or_else(|_| {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
        let _ = fs::write("/proc/thread-self/uid_map", format!("0 {user} 1"));
        let _ = fs::write("/proc/thread-self/setgroups", "deny");
        let _ = fs::write("/proc/thread-self/gid_map", format!("0 {group} 1"));
        Ok::<(), nix::Error>(())
    });
    if let Err(error) = own {
        test_harness::skip(format!("no mount namespace can be made: {error}"));
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("nothing reaches the outside");
    let place = tempfile::tempdir().expect("a folder");
    let size = format!("size={kilobytes}k");
    mount(Some("tmpfs"), place.path(), Some("tmpfs"), MsFlags::empty(), Some(&*size)).expect("a file system");
    Disk(place)
}

/// Samples that do not repeat: each takes some room.
fn samples(count: u64) -> impl Iterator<Item = Sample> {
    let machine = fixtures::many(40).pop().expect("there is one");
    (0..count).map(move |n| {
        let mut sample = machine.clone();
        sample.unix_ms += n * 1_000;
        sample.monotonic_ns += n * 1_000_000_000;
        for listener in &mut sample.listeners {
            listener.counts.read_bytes = Some((n + listener.id).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16);
            listener.counts.write_bytes = Some((n + listener.id).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16);
        }
        sample
    })
}

fn read(path: &Path) -> Vec<Sample> {
    let recording = Recording::open(path, |_, _| ()).expect("it is one");
    assert!(recording.damage().is_none() && recording.damage().unfinished == 0, "{:?}", recording.damage());
    let mut reading = recording.samples(0..recording.len());
    let found = reading.by_ref().map(|(_, sample)| sample).collect();
    assert_eq!(reading.unreadable(), 0);
    found
}

fn start() -> Start {
    Start::new("a test".to_owned(), 1)
}

fn file() {
    let disk = small_disk(200);
    let path = disk.join("one.rec");
    let mut writer = Writer::file(&path, start(), None).expect("it can be made");
    let error = samples(5_000).find_map(|sample| writer.write(&sample).err()).expect("the disk is full");
    assert!(matches!(error, WriteError::Full), "{error}");
    assert!(writer.write(&samples(1).next().expect("one")).is_err(), "it stays full");
    writer.finish().expect("what is there is whole");
    let found = read(&path);
    assert!(found.len() > 20, "{}", found.len());
    assert_eq!(found, samples(found.len() as u64).collect::<Vec<_>>());
}

fn ring() {
    let disk = small_disk(300);
    let path = disk.join("ring");
    let bounds = Ring { span_ms: 3_600_000, segment_ms: 10_000 };
    let mut writer = Writer::ring(&path, start(), bounds, None).expect("it can be made");
    let mut shrunk = 0;
    for sample in samples(600) {
        writer.write(&sample).expect("it makes room");
        shrunk += writer.take_notices().iter().filter(|notice| matches!(notice, Notice::Shrunk(_))).count();
    }
    writer.finish().expect("it is whole");
    assert!(shrunk > 3, "{shrunk}");
    let (found, all) = (read(&path), samples(600).collect::<Vec<_>>());
    assert!(found.len() > 20 && found.len() < 600, "{}", found.len());
    assert_eq!(found, all[600 - found.len()..]);
}

fn no_room() {
    let disk = small_disk(64);
    fs::write(disk.join("other"), vec![7; 60 << 10]).expect("there is room for that");
    let bounds = Ring { span_ms: 3_600_000, segment_ms: 10_000 };
    let mut writer = Writer::ring(&disk.join("ring"), start(), bounds, None).expect("it can be made");
    let error = samples(100).find_map(|sample| writer.write(&sample).err()).expect("the disk is full");
    assert!(matches!(error, WriteError::Full), "{error}");
    writer.finish().expect("what is there is whole");
}
