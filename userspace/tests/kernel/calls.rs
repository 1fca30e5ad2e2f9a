//! Every way to accept, read and write.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _},
};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use listentop_model::coverage::Measure;
use nix::sys::socket::{MsgFlags, recv};
use socket2::Socket;

use crate::support::{
    Lab, Test, Watch,
    environment::older_than,
    lab::PORT,
    skip,
    sockets::{accept, connect, listen, receive, send_all},
    tid,
    watch::{count, thread},
};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::AcceptWait, Measure::Reads, Measure::Writes];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "calls::io_uring_accept", needs: NEEDS, run: io_uring_accept },
    Test { name: "calls::io_uring_multishot_accept", needs: NEEDS, run: io_uring_multishot_accept },
    Test { name: "calls::io_uring_accept_into_a_fixed_file", needs: NEEDS, run: io_uring_fixed_file },
    Test { name: "calls::io_uring_receive_and_send", needs: NEEDS, run: io_uring_receive_and_send },
    Test { name: "calls::would_block_and_failed_accepts", needs: NEEDS, run: would_block_and_failed },
    Test { name: "calls::splice", needs: NEEDS, run: splice },
    Test { name: "calls::peek_is_no_read", needs: NEEDS, run: peek },
    Test { name: "calls::recvmmsg_and_readv", needs: NEEDS, run: recvmmsg_and_readv },
    Test { name: "calls::sendfile", needs: NEEDS, run: sendfile },
];

const ROUNDS: usize = 20;

fn ring() -> IoUring {
    match IoUring::new(8) {
        Ok(ring) => ring,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            skip(format!("io_uring is not to be had (sysctl kernel.io_uring_disabled): {error}"))
        }
        Err(error) => panic!("io_uring: {error}"),
    }
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) {
    // SAFETY: the descriptors and buffers that the entries name outlive their completion, which each test waits for.
    unsafe { ring.submission().push(entry) }.expect("room in the queue");
}

/// Waits for the completion of something that not every kernel's io_uring can do.
fn complete_if_known(ring: &mut IoUring, what: &str) -> cqueue::Entry {
    ring.submit_and_wait(1).expect("a completion");
    let entry = ring.completion().next().expect("a completion");
    if -entry.result() == libc::EINVAL {
        skip(format!("io_uring does not know {what} here"));
    }
    succeeded(entry)
}

/// Waits for a completion that must succeed.
fn complete(ring: &mut IoUring) -> cqueue::Entry {
    ring.submit_and_wait(1).expect("a completion");
    succeeded(ring.completion().next().expect("a completion"))
}

fn succeeded(entry: cqueue::Entry) -> cqueue::Entry {
    assert!(entry.result() >= 0, "{}", io::Error::from_raw_os_error(-entry.result()));
    entry
}

fn socket(entry: &cqueue::Entry) -> Socket {
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { Socket::from_raw_fd(entry.result()) }
}

fn assert_accepts(watch: &mut Watch, n: u64) {
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.enqueued, seen.total.accepts), (Some(n), Some(n)));
    assert_eq!(count(&seen.distributions.accept_wait), n);
    assert_eq!(thread(seen, tid()).map(|thread| thread.accepts), Some(n), "by this thread");
    assert_eq!(seen.now.open, Some(n));
}

/// Half of the connections wait already, half come while the accept waits.
fn io_uring_accept(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let mut ring = ring();
    let entry = || {
        let fd = types::Fd(listener.as_raw_fd());
        opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).build()
    };
    let mut kept = Vec::new();
    for round in 0..ROUNDS {
        let client;
        if round % 2 == 0 {
            client = connect(PORT);
            push(&mut ring, &entry());
        } else {
            push(&mut ring, &entry());
            ring.submit().expect("the accept waits");
            client = connect(PORT);
        }
        kept.push((client, socket(&complete(&mut ring))));
    }
    assert_accepts(&mut watch, ROUNDS as u64);
}

fn io_uring_multishot_accept(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let mut ring = ring();
    push(&mut ring, &opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build());
    ring.submit().expect("the accept waits");
    let mut kept = Vec::new();
    for _ in 0..ROUNDS {
        let client = connect(PORT);
        let entry = complete_if_known(&mut ring, "an accept of many (since 5.19)");
        assert!(cqueue::more(entry.flags()), "the accept goes on");
        kept.push((client, socket(&entry)));
    }
    assert_accepts(&mut watch, ROUNDS as u64);
}

/// Such an accept yields no descriptor: it is noticed at the first read.
fn io_uring_fixed_file(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let mut ring = ring();
    if let Err(error) = ring.submitter().register_files_sparse(4) {
        skip(format!("io_uring has no sparse table of files here (since 5.19): {error}"));
    }
    let client = connect(PORT);
    send_all(&client, b"hello");
    let slot = types::DestinationSlot::try_from_slot_target(2).expect("a slot of the table");
    let fd = types::Fd(listener.as_raw_fd());
    let accept = opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).file_index(Some(slot));
    push(&mut ring, &accept.build());
    complete(&mut ring);
    let mut buffer = [0; 10];
    push(&mut ring, &opcode::Recv::new(types::Fixed(2), buffer.as_mut_ptr(), 10).build());
    assert_eq!(complete(&mut ring).result(), 5);
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.accepts, seen.total.reads, seen.total.read_bytes), (Some(1), Some(1), Some(5)));
    assert_eq!(thread(seen, tid()).map(|thread| (thread.accepts, thread.reads)), Some((1, 1)));
}

fn io_uring_receive_and_send(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let client = connect(PORT);
    let server = accept(&listener).expect("a connection");
    let mut ring = ring();
    let fd = types::Fd(server.as_raw_fd());
    let mut buffer = [0_u8; 100];
    for round in 0..ROUNDS {
        let entry = opcode::Recv::new(fd, buffer.as_mut_ptr(), 100).build();
        if round % 2 == 0 {
            send_all(&client, &[1; 60]);
            push(&mut ring, &entry);
        } else {
            push(&mut ring, &entry);
            ring.submit().expect("the receive waits");
            send_all(&client, &[1; 60]);
        }
        assert_eq!(complete(&mut ring).result(), 60);
        push(&mut ring, &opcode::Send::new(fd, buffer.as_ptr(), 25).build());
        assert_eq!(complete(&mut ring).result(), 25);
    }
    let rounds = ROUNDS as u64;
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.reads, seen.total.read_bytes), (Some(rounds), Some(60 * rounds)));
    assert_eq!((seen.total.writes, seen.total.write_bytes), (Some(rounds), Some(25 * rounds)));
    let this = thread(seen, tid()).expect("this thread works");
    assert_eq!((this.reads, this.writes), (rounds, rounds));
    assert_eq!(count(&seen.distributions.residency), rounds);
}

fn would_block_and_failed(lab: &Lab) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    for _ in 0..7 {
        assert!(accept(&listener).is_none());
    }
    let client = connect(PORT);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    // No descriptor is free below this limit.
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).expect("a lower limit");
    let failed = [listener.accept().is_err(), listener.accept().is_err()];
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("the limit as before");
    assert_eq!(failed, [true, true], "EMFILE");
    drop(accept(&listener));
    watch.sample();
    let seen = watch.listener(PORT);
    // Unknown where no probe can tell whose accept it was.
    let failed = (!older_than(5, 15)).then_some(2);
    assert_eq!((seen.total.would_block, seen.total.accept_failed, seen.total.accepts), (Some(7), failed, Some(1)));
    let this = thread(seen, tid()).expect("this thread works");
    assert_eq!((this.would_block, this.accept_failed, this.accepts), (7, failed.unwrap_or(0), 1));
    drop(client);
}

/// A connection and its client.
fn pair(listener: &Socket) -> (Socket, Socket) {
    let client = connect(PORT);
    (client, accept(listener).expect("a connection"))
}

fn splice(lab: &Lab) {
    use nix::fcntl::{SpliceFFlags, splice};
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    let (read_end, write_end) = nix::unistd::pipe().expect("a pipe");
    send_all(&client, &[1; 1000]);
    for size in [300, 700] {
        assert_eq!(splice(&server, None, &write_end, None, size, SpliceFFlags::empty()), Ok(size));
    }
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.reads, seen.total.read_bytes), (Some(2), Some(1000)));
    assert_eq!(seen.now.queued_bytes, Some(0));
    assert_eq!(count(&seen.distributions.residency), 2);
    assert_eq!(thread(seen, tid()).map(|this| (this.reads, this.read_bytes)), Some((2, 1000)));
    drop(read_end);
}

fn peek(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    send_all(&client, &[1; 100]);
    for _ in 0..3 {
        assert_eq!(recv(server.as_raw_fd(), &mut [0; 60], MsgFlags::MSG_PEEK), Ok(60));
    }
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.reads, seen.total.read_bytes, seen.now.queued_bytes), (Some(0), Some(0), Some(100)));
    assert_eq!((count(&seen.distributions.residency), count(&seen.distributions.first_read)), (0, 0));
    assert_eq!(receive(&server, 100), 100);
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.reads, seen.total.read_bytes, seen.now.queued_bytes), (Some(1), Some(100), Some(0)));
}

fn recvmmsg_and_readv(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    send_all(&client, &[1; 250]);
    // Of a stream each message is a read: 100, 100 and the last 50 bytes.
    let mut buffers = [[0_u8; 100]; 3];
    let mut vectors =
        buffers.each_mut().map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 100 });
    let mut messages = vectors.each_mut().map(|vector| {
        // SAFETY: zero is valid for all members.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iov = vector;
        message.msg_hdr.msg_iovlen = 1;
        message
    });
    // SAFETY: three messages, whose buffers live on the stack until after the call.
    let received = unsafe { libc::recvmmsg(server.as_raw_fd(), messages.as_mut_ptr(), 3, 0, std::ptr::null_mut()) };
    assert_eq!(received, 3, "{}", io::Error::last_os_error());
    assert_eq!(messages.map(|message| message.msg_len), [100, 100, 50]);
    send_all(&client, &[1; 30]);
    let (mut one, mut two) = ([0; 20], [0; 20]);
    let parts = &mut [io::IoSliceMut::new(&mut one), io::IoSliceMut::new(&mut two)];
    assert_eq!(nix::sys::uio::readv(&server, parts), Ok(30));
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.reads, seen.total.read_bytes), (Some(4), Some(280)));
    assert_eq!(count(&seen.distributions.bytes_per_read), 4);
}

fn sendfile(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    let file = std::fs::File::open("/proc/self/exe").expect("this program");
    assert_eq!(nix::sys::sendfile::sendfile(&server, &file, None, 4000), Ok(4000));
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!(seen.total.write_bytes, Some(4000));
    drop(client);
}
