//! What an epoll or an io_uring waits for, as its fdinfo shows.

use std::collections::HashMap;

/// EPOLLEXCLUSIVE and EPOLLET (linux/eventpoll.h).
const EXCLUSIVE: u32 = 1 << 28;
const EDGE: u32 = 1 << 31;
/// EPOLLIN, EPOLLRDNORM: without one of them it does not wait for connections.
const READABLE: u32 = 0x001 | 0x040;

/// A file in an epoll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Polled {
    /// Its descriptor when it was added.
    pub descriptor: u32,
    /// Files that were added at the same descriptor and are listed before it.
    pub offset: u32,
    /// Inode of the file. Descriptor numbers may be reused, and the file may have several, so they are no identity.
    pub inode: u64,
    /// Device of the inode, as the kernel numbers devices.
    pub device: u64,
    pub exclusive: bool,
    pub edge: bool,
}

/// The files that an epoll polls for reading: lines such as
/// `tfd:        5 events: 80000019 data:  5  pos:0 ino:4a1f sdev:9`.
pub(super) fn of_epoll(fdinfo: &str) -> impl Iterator<Item = Polled> {
    let mut seen: HashMap<u32, u32> = HashMap::new();
    fdinfo.lines().filter_map(move |line| {
        let rest = line.strip_prefix("tfd:")?;
        let descriptor = rest.split_ascii_whitespace().next()?.parse().ok()?;
        let next = seen.entry(descriptor).or_default();
        let offset = *next;
        *next += 1;
        let value = |name: &str| rest.split_once(name)?.1.split_ascii_whitespace().next();
        let events = u32::from_str_radix(value("events:")?, 16).ok()?;
        let number = |name| u64::from_str_radix(value(name)?, 16).ok();
        // A file that waited once (EPOLLONESHOT) and was not armed again has no events left.
        (events & READABLE != 0).then_some(Polled {
            descriptor,
            offset,
            inode: number(" ino:")?,
            device: number(" sdev:")?,
            exclusive: events & EXCLUSIVE != 0,
            edge: events & EDGE != 0,
        })
    })
}

/// IORING_OP_ACCEPT and IORING_OP_POLL_ADD (linux/io_uring.h).
const ACCEPT: u32 = 13;

/// Whether an accept waits in an io_uring: a line such as `  op=13, task_works=0` below `PollList`.
pub(super) fn accepts(fdinfo: &str) -> bool {
    let list = fdinfo.lines().skip_while(|line| !line.starts_with("PollList:")).skip(1);
    list.take_while(|line| line.starts_with(' ')).any(|line| {
        line.trim().strip_prefix("op=").and_then(|rest| rest.split(',').next()?.parse().ok()) == Some(ACCEPT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_an_epoll() {
        let fdinfo = "pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t1057\n\
            tfd:        5 events: 90000001 data:                5  pos:0 ino:4a1f sdev:9\n\
            tfd:        6 events:       19 data: ffff00000000aa07  pos:0 ino:4a20 sdev:9\n\
            tfd:        7 events:        4 data:                7  pos:0 ino:4a21 sdev:9\n\
            tfd:        8 events: 40000000 data:                8  pos:0 ino:4a22 sdev:9\n\
            tfd:        8 events:       19 data:                9  pos:0 ino:4a23 sdev:9\n\
            tfd: broken\n";
        let polled = |(descriptor, offset), inode, exclusive, edge| Polled {
            descriptor,
            offset,
            inode,
            device: 9,
            exclusive,
            edge,
        };
        let found: Vec<Polled> = of_epoll(fdinfo).collect();
        let expected = [((5, 0), 0x4a1f, true, true), ((6, 0), 0x4a20, false, false), ((8, 1), 0x4a23, false, false)];
        assert_eq!(found, expected.map(|(place, inode, exclusive, edge)| polled(place, inode, exclusive, edge)));
    }

    #[test]
    fn accepts_of_a_ring() {
        let ring = |list: &str| {
            format!("SqMask:\t0x3\nUserFiles:\t1\n    0: op=13,\nPollList:\n{list}CqOverflowList:\n  op=13, x\n")
        };
        assert!(accepts(&ring("  op=6, task_works=0\n  op=13, task_works=0\n")));
        assert!(!accepts(&ring("  op=6, task_works=0\n")));
        assert!(!accepts(&ring("")));
        assert!(!accepts(""));
    }
}
