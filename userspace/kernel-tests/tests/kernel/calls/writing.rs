//! Every system call that writes: each counts once, with the bytes that the kernel took.

use std::{
    io::IoSlice,
    os::fd::{AsRawFd as _, OwnedFd},
};

use io_uring::{opcode, squeue, types};
use listentop_model::coverage::Measure;
use nix::{
    fcntl::SpliceFFlags,
    sys::socket::{MsgFlags, send, sendmsg},
};
use socket2::Socket;

use super::{Message, pair_at};
use test_support::{
    Lab, Test, Watch,
    lab::PORT,
    ring::{complete, push, ring},
    sockets::{listen, receive_all},
    tid,
    watch::thread,
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "calls::every_way_to_write", needs: &[Measure::Writes], run: |lab| every_way(lab, CALLS) },
    Test { name: "calls::every_way_to_write_by_io_uring", needs: &[Measure::Writes], run: |lab| every_way(lab, URING) },
];

const BYTES: &[u8] = &[7; 300];
const ROUNDS: usize = 3;

/// Writes; returns how many bytes each write took.
type Way = fn(&Socket) -> Vec<usize>;

/// The thread that the writes are attributed to.
#[derive(PartialEq)]
enum By {
    /// The thread that makes the call.
    Caller,
    /// A worker thread of io_uring.
    Worker,
}

const CALLS: &[(&str, By, Way)] = &[
    ("write", By::Caller, |server| vec![nix::unistd::write(server, BYTES).expect("room")]),
    ("send", By::Caller, |server| vec![send(server.as_raw_fd(), BYTES, MsgFlags::empty()).expect("room")]),
    ("writev", By::Caller, |server| {
        vec![nix::sys::uio::writev(server, &[IoSlice::new(&BYTES[..100]), IoSlice::new(BYTES)]).expect("room")]
    }),
    ("sendmsg", By::Caller, |server| {
        let parts = &[IoSlice::new(BYTES)];
        vec![sendmsg::<()>(server.as_raw_fd(), parts, &[], MsgFlags::empty(), None).expect("room")]
    }),
    ("sendmmsg", By::Caller, sendmmsg),
    ("sendfile", By::Caller, |server| {
        let file = std::fs::File::open("/proc/self/exe").expect("this program");
        vec![nix::sys::sendfile::sendfile(server, &file, None, 4000).expect("room")]
    }),
    ("splice", By::Caller, |server| {
        let (read_end, _write_end) = full_pipe();
        let size = BYTES.len();
        vec![nix::fcntl::splice(&read_end, None, server, None, size, SpliceFFlags::empty()).expect("room")]
    }),
];

const URING: &[(&str, By, Way)] = &[
    ("io_uring write", By::Caller, |server| {
        by_uring(&opcode::Write::new(types::Fd(server.as_raw_fd()), BYTES.as_ptr(), BYTES.len() as u32).build())
    }),
    ("io_uring writev", By::Caller, |server| {
        let vector = libc::iovec { iov_base: BYTES.as_ptr().cast_mut().cast(), iov_len: BYTES.len() };
        by_uring(&opcode::Writev::new(types::Fd(server.as_raw_fd()), &raw const vector, 1).build())
    }),
    ("io_uring send", By::Caller, |server| by_uring(&send_entry(server))),
    ("io_uring sendmsg", By::Caller, |server| {
        let mut bytes = [7; 300];
        let mut message = Message::new(&mut bytes);
        by_uring(&opcode::SendMsg::new(types::Fd(server.as_raw_fd()), message.header()).build())
    }),
    ("io_uring send, IOSQE_ASYNC", By::Worker, |server| by_uring(&send_entry(server).flags(squeue::Flags::ASYNC))),
    ("io_uring splice", By::Worker, |server| {
        let (read_end, _write_end) = full_pipe();
        let (from, to) = (types::Fd(read_end.as_raw_fd()), types::Fd(server.as_raw_fd()));
        by_uring(&opcode::Splice::new(from, -1, to, -1, BYTES.len() as u32).build())
    }),
];

fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (read_end, write_end) = nix::unistd::pipe().expect("a pipe");
    assert_eq!(nix::unistd::write(&write_end, BYTES), Ok(BYTES.len()));
    (read_end, write_end)
}

fn sendmmsg(server: &Socket) -> Vec<usize> {
    let mut vectors =
        [100, BYTES.len()].map(|size| libc::iovec { iov_base: BYTES.as_ptr().cast_mut().cast(), iov_len: size });
    let mut messages = vectors.each_mut().map(|vector| {
        // SAFETY: zero is valid for all members.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (vector, 1);
        message
    });
    // SAFETY: two messages, whose buffers live until after the call, which reads them.
    let sent = unsafe { libc::sendmmsg(server.as_raw_fd(), messages.as_mut_ptr(), 2, 0) };
    assert_eq!(sent, 2, "{}", std::io::Error::last_os_error());
    messages.iter().map(|message| message.msg_len as usize).collect()
}

fn send_entry(server: &Socket) -> squeue::Entry {
    opcode::Send::new(types::Fd(server.as_raw_fd()), BYTES.as_ptr(), BYTES.len() as u32).build()
}

fn by_uring(entry: &squeue::Entry) -> Vec<usize> {
    let mut ring = ring();
    push(&mut ring, entry);
    vec![complete(&mut ring).result() as usize]
}

fn every_way(lab: &Lab, ways: &[(&str, By, Way)]) {
    let mut watch = Watch::start(lab);
    for ((name, by, write), port) in ways.iter().zip(PORT..) {
        let listener = listen(port, 16);
        let (client, server) = pair_at(&listener, port);
        let parts: Vec<usize> = (0..ROUNDS).flat_map(|_| write(&server)).collect();
        let bytes = parts.iter().sum::<usize>();
        receive_all(&client, bytes);
        watch.sample();
        let seen = watch.listener(port);
        let (writes, bytes) = (parts.len() as u64, bytes as u64);
        assert_eq!((seen.total.writes, seen.total.write_bytes), (Some(writes), Some(bytes)), "{name}");
        let mine = thread(seen, tid()).map_or((0, 0), |this| (this.writes, this.write_bytes));
        let all = seen.threads.iter().fold((0, 0), |sum, one| (sum.0 + one.writes, sum.1 + one.write_bytes));
        assert_eq!(all, (writes, bytes), "{name}: by all threads");
        assert_eq!(mine, if *by == By::Caller { all } else { (0, 0) }, "{name}: by this thread");
    }
}
