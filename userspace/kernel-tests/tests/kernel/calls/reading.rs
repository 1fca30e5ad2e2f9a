//! Every system call that reads: the bytes, the number of reads and their age are equal for all.

use std::{
    io::IoSliceMut,
    os::fd::{AsRawFd as _, OwnedFd},
    ptr,
};

use io_uring::{opcode, squeue, types};
use listentop_model::{coverage::Measure, histogram::Histogram};
use nix::{
    fcntl::SpliceFFlags,
    sys::socket::{MsgFlags, recv, recvmsg},
};
use socket2::Socket;

use super::{Message, pair_at};
use test_support::{
    Lab, Test, Watch,
    lab::PORT,
    ring::{complete, complete_if_known, push, ring},
    sleep_ms,
    sockets::{listen, receive, send_all},
    spans::{Spans, When},
    tid,
    watch::{assert_ms, count, thread},
};

const NEEDS: &[Measure] = &[Measure::Reads, Measure::Residency, Measure::QueuedBytes];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "calls::every_way_to_read", needs: NEEDS, run: |lab| every_way(lab, CALLS) },
    Test { name: "calls::every_way_to_read_by_io_uring", needs: NEEDS, run: |lab| every_way(lab, URING) },
    Test { name: "calls::peek_is_no_read", needs: NEEDS, run: peek },
];

const SIZE: usize = 250;
const ROUNDS: usize = 3;

/// Reads all [`SIZE`] bytes that wait. Returns how many each read took, or `None` if this kernel lacks the call.
type Way = fn(&Socket) -> Option<Vec<usize>>;

/// The thread that the reads are attributed to.
#[derive(PartialEq)]
enum By {
    /// The thread that makes the call.
    Caller,
    /// A worker thread of io_uring.
    Worker,
}

const CALLS: &[(&str, By, Way)] = &[
    ("read", By::Caller, |server| Some(vec![nix::unistd::read(server, &mut [0; SIZE]).ok()?])),
    ("recv", By::Caller, |server| Some(vec![recv(server.as_raw_fd(), &mut [0; SIZE], MsgFlags::empty()).ok()?])),
    ("readv", By::Caller, |server| {
        let (mut one, mut two) = ([0; 100], [0; SIZE]);
        Some(vec![nix::sys::uio::readv(server, &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)]).ok()?])
    }),
    ("recvmsg", By::Caller, |server| {
        let mut buffer = [0; SIZE];
        let parts = &mut [IoSliceMut::new(&mut buffer)];
        Some(vec![recvmsg::<()>(server.as_raw_fd(), parts, None, MsgFlags::empty()).ok()?.bytes])
    }),
    ("recvmmsg", By::Caller, recvmmsg),
    ("splice", By::Caller, |server| {
        let (_read_end, write_end) = pipe();
        let splice = |size| nix::fcntl::splice(server, None, &write_end, None, size, SpliceFFlags::empty()).ok();
        Some(vec![splice(100)?, splice(150)?])
    }),
];

const URING: &[(&str, By, Way)] = &[
    ("io_uring read", By::Caller, |server| by_uring(|buffer| read(server, buffer))),
    ("io_uring readv", By::Caller, |server| {
        let mut buffer = [0; SIZE];
        let vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: SIZE };
        by_uring(|_| opcode::Readv::new(types::Fd(server.as_raw_fd()), &raw const vector, 1).build())
    }),
    ("io_uring recv", By::Caller, |server| by_uring(|buffer| receive_into(server, buffer))),
    ("io_uring recvmsg", By::Caller, |server| {
        let mut buffer = [0; SIZE];
        let mut message = Message::new(&mut buffer);
        by_uring(|_| opcode::RecvMsg::new(types::Fd(server.as_raw_fd()), message.header()).build())
    }),
    ("io_uring multishot recv", By::Caller, multishot),
    ("io_uring recv, IOSQE_ASYNC", By::Worker, |server| {
        by_uring(|buffer| receive_into(server, buffer).flags(squeue::Flags::ASYNC))
    }),
    ("io_uring splice", By::Worker, |server| {
        let (_read_end, write_end) = pipe();
        let splice = |size| {
            let (from, to) = (types::Fd(server.as_raw_fd()), types::Fd(write_end.as_raw_fd()));
            by_uring(|_| opcode::Splice::new(from, -1, to, -1, size).build())
        };
        Some([splice(100)?, splice(150)?].concat())
    }),
];

fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe().expect("a pipe")
}

fn recvmmsg(server: &Socket) -> Option<Vec<usize>> {
    // On a stream socket each message counts as a read.
    let mut buffers = [[0_u8; 100]; 3];
    let mut vectors =
        buffers.each_mut().map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 100 });
    let mut messages = vectors.each_mut().map(|vector| {
        // SAFETY: zero is valid for all members.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (vector, 1);
        message
    });
    // SAFETY: three messages, whose buffers live on the stack until after the call.
    let received = unsafe { libc::recvmmsg(server.as_raw_fd(), messages.as_mut_ptr(), 3, 0, ptr::null_mut()) };
    (received == 3).then(|| messages.iter().map(|message| message.msg_len as usize).collect())
}

fn read(server: &Socket, buffer: &mut [u8]) -> squeue::Entry {
    opcode::Read::new(types::Fd(server.as_raw_fd()), buffer.as_mut_ptr(), buffer.len() as u32).build()
}

fn receive_into(server: &Socket, buffer: &mut [u8]) -> squeue::Entry {
    opcode::Recv::new(types::Fd(server.as_raw_fd()), buffer.as_mut_ptr(), buffer.len() as u32).build()
}

fn by_uring(entry: impl FnOnce(&mut [u8]) -> squeue::Entry) -> Option<Vec<usize>> {
    let mut buffer = [0; SIZE];
    let mut ring = ring();
    push(&mut ring, &entry(&mut buffer));
    Some(vec![complete_if_known(&mut ring)?.result() as usize])
}

/// One multishot request: it reads the waiting bytes into its first buffer, then into the next.
fn multishot(server: &Socket) -> Option<Vec<usize>> {
    const GROUP: u16 = 1;
    let mut buffers = [[0_u8; 130]; 2];
    let mut ring = ring();
    push(&mut ring, &opcode::ProvideBuffers::new(buffers.as_mut_ptr().cast(), 130, 2, GROUP, 0).build());
    complete(&mut ring);
    push(&mut ring, &opcode::RecvMulti::new(types::Fd(server.as_raw_fd()), GROUP).build());
    let first = complete_if_known(&mut ring)?.result() as usize;
    Some(vec![first, complete(&mut ring).result() as usize])
}

/// For each call, a connection of a listener of its own, with bytes that are 30 ms old.
fn every_way(lab: &Lab, ways: &[(&str, By, Way)]) {
    let mut watch = Watch::start(lab);
    for ((name, by, read), port) in ways.iter().zip(PORT..) {
        let listener = listen(port, 16);
        let mut ages = Spans::default();
        let (mut sizes, mut known) = (Vec::new(), true);
        for _ in 0..ROUNDS {
            let (client, server) = pair_at(&listener, port);
            let (sent, ()) = When::doing(|| send_all(&client, &[1; SIZE]));
            sleep_ms(30);
            let (taken, parts) = When::doing(|| read(&server));
            known = parts.is_some();
            let Some(parts) = parts else { break };
            assert_eq!(parts.iter().sum::<usize>(), SIZE, "{name}: the test's own load");
            parts.iter().for_each(|_| ages.add(sent, taken));
            sizes.extend(parts.iter().map(|part| *part as u64));
        }
        if !known {
            println!("{name}: not known to this kernel");
            continue;
        }
        watch.sample();
        let seen = watch.listener(port);
        let (reads, bytes) = (sizes.len() as u64, (ROUNDS * SIZE) as u64);
        assert_eq!((seen.total.reads, seen.total.read_bytes), (Some(reads), Some(bytes)), "{name}");
        assert_eq!(seen.now.queued_bytes, Some(0), "{name}");
        let mine = thread(seen, tid()).map_or((0, 0), |this| (this.reads, this.read_bytes));
        let all = seen.threads.iter().fold((0, 0), |sum, one| (sum.0 + one.reads, sum.1 + one.read_bytes));
        assert_eq!(all, (reads, bytes), "{name}: by all threads");
        assert_eq!(mine, if *by == By::Caller { all } else { (0, 0) }, "{name}: by this thread");
        assert_eq!(count(seen.distributions.residency.as_ref()), reads, "{name}");
        for p in [0.1, 1.0] {
            let (low, high) = ages.quantile(p);
            assert_ms(name, seen.distributions.residency.as_ref(), p, low, high);
        }
        assert_sizes(name, seen.distributions.bytes_per_read.as_ref(), &sizes);
    }
}

/// Each size counts in its bucket. The median and the largest value of the buckets are near the true ones.
fn assert_sizes(name: &str, seen: Option<&Histogram>, own: &[u64]) {
    let seen = seen.expect("it is measured");
    let mut sorted = own.to_vec();
    sorted.sort_unstable();
    let middle = sorted[(sorted.len() - 1) / 2];
    let largest = *sorted.last().expect("some");
    let (p50, max) = (seen.quantile_units(0.5).unwrap_or(0), seen.max_units().unwrap_or(0));
    assert!(p50.abs_diff(middle) <= middle / 16, "{name}: half of the reads took {middle} bytes, not {p50}");
    assert!((largest..=largest * 9 / 8).contains(&max), "{name}: at most {largest} bytes, not {max}");
    assert_eq!(*seen, Histogram::of_units(own.iter().copied()), "{name}");
}

fn peek(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (client, server) = pair_at(&listener, PORT);
    send_all(&client, &[1; 100]);
    for _ in 0..3 {
        assert_eq!(recv(server.as_raw_fd(), &mut [0; 60], MsgFlags::MSG_PEEK), Ok(60));
    }
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.reads, seen.total.read_bytes, seen.now.queued_bytes), (Some(0), Some(0), Some(100)));
    assert_eq!((count(seen.distributions.residency.as_ref()), count(seen.distributions.first_read.as_ref())), (0, 0));
    assert_eq!(receive(&server, 100), 100);
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.reads, seen.total.read_bytes, seen.now.queued_bytes), (Some(1), Some(100), Some(0)));
}
