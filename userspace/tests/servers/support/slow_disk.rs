//! A file system with one file, each of whose reads takes long: a disk that is in trouble. The kernel's FUSE asks a
//! thread of the test for it. It is mounted in a namespace of the test's own, which ends with it.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::fd::AsRawFd as _,
    thread,
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use test_support::skip;

/// The only file's name and content.
pub(crate) const NAME: &str = "slow.html";
const CONTENT: &[u8] = b"<p>at last</p>\n";

/// Node ids of the root (which FUSE gives it) and of the file.
const ROOT: u64 = 1;
const FILE: u64 = 2;
/// The version of the protocol that is spoken: 7.31 of Linux 5.4.
const MAJOR: u32 = 7;
const MINOR: u32 = 31;
/// Bytes of a request's header, and of the longest request: FUSE asks for 8 KiB at least.
const HEADER: usize = 40;
const LONGEST: usize = 1 << 16;
/// The most that a request may write: nothing is written.
const MAX_WRITE: u32 = 4096;

/// Requests (linux/fuse.h).
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// It is mounted until this is dropped.
pub(crate) struct SlowDisk(String);

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // Whoever still reads gets an error when its thread ends.
        let _ = umount2(&*self.0, MntFlags::MNT_DETACH);
    }
}

/// Mounts it on a folder, for the calling thread, and for threads and processes that it starts from now on. The
/// calling thread moves into a mount namespace of its own.
pub(crate) fn mount_on(folder: &str, pause: Duration) -> SlowDisk {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let device = device.unwrap_or_else(|error| skip(format!("no slow disk can be made: /dev/fuse: {error}")));
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).expect("what is mounted stays here");
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    if let Err(error) = mount(Some("slow"), folder, Some("fuse"), MsFlags::MS_RDONLY, Some(options.as_str())) {
        skip(format!("no slow disk can be made: FUSE: {error}"));
    }
    thread::spawn(move || serve(device, pause));
    SlowDisk(folder.to_owned())
}

/// Answers until it is unmounted.
fn serve(mut device: File, pause: Duration) {
    let mut buffer = vec![0; LONGEST];
    while let Ok(length) = device.read(&mut buffer) {
        let request = &buffer[..length];
        let (Some(operation), Some(unique), Some(node)) = (number(request, 4), request.get(8..16), request.get(16..24))
        else {
            return;
        };
        let node = u64::from_ne_bytes(node.try_into().unwrap_or_default());
        let answer = match operation {
            FORGET | BATCH_FORGET | INTERRUPT => continue,
            INIT => Ok(init()),
            LOOKUP if request[HEADER..].starts_with(NAME.as_bytes()) => {
                Ok([words(&[FILE, 0]), valid(2), attributes(FILE)].concat())
            }
            LOOKUP => Err(libc::ENOENT),
            GETATTR => Ok([valid(1), attributes(node)].concat()),
            // Without FOPEN_KEEP_CACHE: what was read before is forgotten.
            OPEN => Ok(words(&[0, 0])),
            READ => {
                thread::sleep(pause);
                let offset = request
                    .get(HEADER + 8..HEADER + 16)
                    .map_or(0, |bytes| u64::from_ne_bytes(bytes.try_into().unwrap_or_default()));
                Ok(CONTENT.get(offset as usize..).unwrap_or_default().to_vec())
            }
            RELEASE | FLUSH => Ok(Vec::new()),
            _ => Err(libc::ENOSYS),
        };
        let (error, content) = match answer {
            Ok(content) => (0, content),
            Err(error) => (-error, Vec::new()),
        };
        let length = 16 + content.len() as u32;
        let answer = [&length.to_ne_bytes(), &error.to_ne_bytes(), unique, &content].concat();
        // Who asked may be gone.
        let _ = device.write(&answer);
    }
}

fn number(request: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(request.get(at..at + 4)?.try_into().ok()?))
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn halves(halves: &[u32]) -> Vec<u8> {
    halves.iter().flat_map(|half| half.to_ne_bytes()).collect()
}

/// `struct fuse_init_out`.
fn init() -> Vec<u8> {
    let (readahead, flags, background, time_granularity) = (0, 0, 0, 1);
    let mut answer = halves(&[MAJOR, MINOR, readahead, flags, background, MAX_WRITE, time_granularity]);
    answer.resize(64, 0);
    answer
}

/// For how long so many answers hold, and the fractions of it: an hour.
fn valid(answers: usize) -> Vec<u8> {
    [words(&vec![3600; answers]), halves(&vec![0; answers.next_multiple_of(2)])].concat()
}

/// `struct fuse_attr`.
fn attributes(node: u64) -> Vec<u8> {
    let (size, mode, links) = match node {
        ROOT => (0, libc::S_IFDIR | 0o755, 2),
        _ => (CONTENT.len() as u64, libc::S_IFREG | 0o644, 1),
    };
    let (blocks, time, owner, device, block) = (1, 1_700_000_000, 0, 0, 4096);
    [words(&[node, size, blocks, time, time, time]), halves(&[0, 0, 0, mode, links, owner, owner, device, block, 0])]
        .concat()
}
