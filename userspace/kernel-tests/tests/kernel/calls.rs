//! Every system call that accepts, reads or writes.

mod reading;
mod writing;

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _},
};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use listentop_model::coverage::Measure;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    environment::older_than,
    lab::PORT,
    ring::{complete, complete_if_known, push, ring},
    skip,
    sockets::{accept, connect, listen, send_all},
    tid,
    watch::{count, thread},
};

pub(crate) use reading::TESTS as READING;
pub(crate) use writing::TESTS as WRITING;

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::AcceptWait, Measure::WouldBlock];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "calls::io_uring_accept", needs: NEEDS, run: io_uring_accept },
    Test { name: "calls::io_uring_multishot_accept", needs: NEEDS, run: io_uring_multishot_accept },
    Test { name: "calls::io_uring_accept_into_a_fixed_file", needs: NEEDS, run: io_uring_fixed_file },
    Test { name: "calls::io_uring_accept_into_a_fixed_file_unused", needs: NEEDS, run: io_uring_fixed_file_unused },
    Test { name: "calls::accept_on_a_replaced_descriptor", needs: NEEDS, run: replaced_descriptor },
    Test { name: "calls::io_uring_accept_would_block", needs: NEEDS, run: io_uring_would_block_accept },
    Test { name: "calls::would_block_and_failed_accepts", needs: NEEDS, run: |lab| non_blocking_accepts(lab, accept4) },
    Test { name: "calls::accept_that_fails_with_a_connection", needs: NEEDS, run: accept_to_nowhere },
    Test { name: "calls::plain_accept", needs: NEEDS, run: |lab| non_blocking_accepts(lab, plain_accept) },
];

const ROUNDS: usize = 20;

fn socket(entry: &cqueue::Entry) -> Socket {
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { Socket::from_raw_fd(entry.result()) }
}

/// A connection and its client.
fn pair_at(listener: &Socket, port: u16) -> (Socket, Socket) {
    let client = connect(port);
    (client, accept(listener).expect("a connection"))
}

/// The argument of sendmsg and recvmsg for one buffer.
struct Message<'a> {
    vector: libc::iovec,
    header: libc::msghdr,
    buffer: std::marker::PhantomData<&'a mut [u8]>,
}

impl<'a> Message<'a> {
    fn new(buffer: &'a mut [u8]) -> Self {
        let vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: zero is valid for all members.
        Self { vector, header: unsafe { std::mem::zeroed() }, buffer: std::marker::PhantomData }
    }

    /// Pointers in it are valid until this moves.
    fn header(&mut self) -> *mut libc::msghdr {
        (self.header.msg_iov, self.header.msg_iovlen) = (&raw mut self.vector, 1);
        &raw mut self.header
    }
}

/// Failed accepts; unknown where no probe can attribute them to a listener.
fn failed(n: u64) -> Option<u64> {
    (!older_than(5, 15)).then_some(n)
}

fn assert_accepts(watch: &mut Watch, n: u64) {
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.enqueued, seen.total.accepts), (Some(n), Some(n)));
    assert_eq!(count(seen.distributions.accept_wait.as_ref()), n);
    assert_eq!(thread(seen, tid()).map(|thread| thread.accepts), Some(n), "by this thread");
    assert_eq!(seen.now.open, Some(n));
    // io_uring first tries without blocking, and that is not counted.
    assert_eq!((seen.total.would_block, seen.total.accept_failed), (Some(0), failed(0)));
}

/// An accept that cannot pass the client's address has taken its connection off the queue, and closes it.
fn accept_to_nowhere(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let clients: Vec<Socket> = (0..3).map(|_| connect(PORT)).collect();
    for _ in &clients {
        let mut size: libc::socklen_t = 16;
        let nowhere = std::ptr::without_provenance_mut(16);
        // SAFETY: the kernel checks the address, and finds that it cannot write there.
        let result = unsafe { libc::accept4(listener.as_raw_fd(), nowhere, &raw mut size, 0) };
        let error = io::Error::last_os_error();
        assert_eq!((result, error.raw_os_error()), (-1, Some(libc::EFAULT)));
    }
    drop(clients);
    watch.sample_until("all have ended", |watch| watch.listener(PORT).now.open == Some(0));
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.enqueued, seen.total.accepts, seen.total.aborted), (Some(3), Some(3), Some(0)));
    assert_eq!((seen.total.accept_failed, seen.now.accept_depth), (failed(3), 0));
    let this = thread(seen, tid()).map(|thread| (thread.accepts, thread.accept_failed));
    assert_eq!(this, Some((3, failed(3).unwrap_or(0))), "by this thread");
}

/// Half of the connections wait before the accept, half come while it waits.
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
        let Some(entry) = complete_if_known(&mut ring) else {
            skip("io_uring has no multishot accept (since 5.19) on this kernel".to_owned())
        };
        assert!(cqueue::more(entry.flags()), "the accept goes on");
        kept.push((client, socket(&entry)));
    }
    assert_accepts(&mut watch, ROUNDS as u64);
}

/// Such an accept returns no descriptor. It is detected at the first read.
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

/// Connections that are accepted in this way, and end without a read or a write, were accepted. Only those that still
/// wait when the listener closes were not.
fn io_uring_fixed_file_unused(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let mut ring = ring();
    if let Err(error) = ring.submitter().register_files_sparse(4) {
        skip(format!("io_uring has no sparse table of files here (since 5.19): {error}"));
    }
    let clients: Vec<Socket> = (0..5).map(|_| connect(PORT)).collect();
    for place in 0..3 {
        let slot = types::DestinationSlot::try_from_slot_target(place).expect("a slot of the table");
        let fd = types::Fd(listener.as_raw_fd());
        let accept = opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).file_index(Some(slot));
        push(&mut ring, &accept.build());
        complete(&mut ring);
    }
    for place in 0..2 {
        push(&mut ring, &opcode::Close::new(types::Fixed(place)).build());
        complete(&mut ring);
    }
    drop(clients);
    watch.sample_until("the connections end", |watch| watch.listener(PORT).total.accepts >= Some(2));
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.enqueued, seen.total.aborted), (Some(5), Some(0)));
    assert_eq!(seen.now.accept_depth, 2);
    drop(listener);
    watch.sample();
    assert_eq!(watch.listener(PORT).total.aborted, Some(2), "two were thrown away");
}

/// dup2(2) puts another listener at the descriptor at which a thread waits: the thread accepts from the first one
/// still.
fn replaced_descriptor(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let (first, second) = (listen(PORT, 16), listen(PORT + 1, 16));
    let waiting = first.try_clone().expect("a descriptor");
    let client = std::thread::scope(|scope| {
        let server = scope.spawn(|| waiting.accept().expect("a connection"));
        test_support::sleep_ms(50);
        // SAFETY: both descriptors are open; the replaced one stays one of a socket.
        assert!(unsafe { libc::dup2(second.as_raw_fd(), waiting.as_raw_fd()) } >= 0);
        let client = connect(PORT);
        drop(server.join().expect("the thread accepts"));
        client
    });
    watch.sample();
    let accepts = |port| (watch.listener(port).total.enqueued, watch.listener(port).total.accepts);
    assert_eq!((accepts(PORT), accepts(PORT + 1)), ((Some(1), Some(1)), (Some(0), Some(0))));
    drop(client);
}

/// An accept of io_uring that returns at once: by IORING_ACCEPT_DONTWAIT since 6.10, on some kernels before that if the
/// listener is non-blocking.
fn accept_at_once(listener: &Socket, dont_wait: bool) -> squeue::Entry {
    const IORING_ACCEPT_DONTWAIT: u16 = 1 << 1;
    let fd = types::Fd(listener.as_raw_fd());
    let mut entry = opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).build();
    if dont_wait {
        // SAFETY: an entry is laid out like the kernel's `struct io_uring_sqe`, whose `ioprio` this is.
        unsafe { (&raw mut entry).cast::<u16>().add(1).write(IORING_ACCEPT_DONTWAIT) };
    }
    entry
}

/// Tries an accept. Returns its result, or `None` if it waits.
fn try_accept(ring: &mut IoUring, listener: &Socket, dont_wait: bool) -> Option<i32> {
    push(ring, &accept_at_once(listener, dont_wait));
    ring.submit().expect("it is submitted");
    ring.completion().next().map(|entry| -entry.result())
}

fn io_uring_would_block_accept(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    let mut ring = ring();
    let first = try_accept(&mut ring, &listener, true);
    let dont_wait = first != Some(libc::EINVAL);
    let mut outcomes = vec![first];
    outcomes.extend((0..7).map(|_| try_accept(&mut ring, &listener, dont_wait)));
    let would_block = outcomes.iter().filter(|outcome| **outcome == Some(libc::EAGAIN)).count() as u64;
    // Before 6.10, without the flag, some kernels wait even if the listener is non-blocking.
    let waits = !dont_wait && outcomes.contains(&None);
    assert_eq!(would_block, if waits { 0 } else { 7 + u64::from(dont_wait) }, "the test's own load: {outcomes:?}");
    // No descriptor is free below this limit.
    let too_many = with_descriptors(3, || [(); 2].map(|()| try_accept(&mut ring, &listener, dont_wait)));
    assert_eq!(too_many, [Some(libc::EMFILE); 2]);

    // Cancelled while it waits: not a failure.
    let blocking = listen(PORT + 1, 16);
    push(&mut ring, &accept_at_once(&blocking, false).user_data(1));
    ring.submit().expect("the accept waits");
    push(&mut ring, &opcode::AsyncCancel::new(1).build());
    ring.submit_and_wait(2).expect("both are done");
    assert!(ring.completion().any(|entry| -entry.result() == libc::ECANCELED), "it was cancelled");

    watch.sample();
    let seen = watch.listener(PORT);
    // Where no probe observes how an accept ends, tries count.
    let would_block = if waits && older_than(5, 15) { 7 } else { would_block };
    assert_eq!((seen.total.would_block, seen.total.accept_failed), (Some(would_block), failed(2)));
    let this = thread(seen, tid()).map(|this| (this.would_block, this.accept_failed, this.accepts));
    assert_eq!(this.unwrap_or_default(), (would_block, failed(2).unwrap_or(0), 0), "by this thread");
    let seen = watch.listener(PORT + 1).total;
    assert_eq!((seen.would_block, seen.accept_failed, seen.accepts), (Some(0), failed(0), Some(0)));
}

/// Runs `work` with `limit` as the limit of open files.
fn with_descriptors<T>(limit: u64, work: impl FnOnce() -> T) -> T {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).expect("a lower limit");
    let result = work();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("the limit as before");
    result
}

fn accept4(listener: &Socket) -> io::Result<Socket> {
    listener.accept().map(|(socket, _)| socket)
}

/// accept(2), which current C libraries do not call any more.
fn plain_accept(listener: &Socket) -> io::Result<Socket> {
    // SAFETY: without an address to fill in the call touches no memory.
    match unsafe { libc::accept(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut()) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel just made this descriptor for us.
        fd => Ok(unsafe { Socket::from_raw_fd(fd) }),
    }
}

fn non_blocking_accepts(lab: &Lab, accept: fn(&Socket) -> io::Result<Socket>) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    let error = || accept(&listener).err().and_then(|error| error.raw_os_error());
    for _ in 0..7 {
        assert_eq!(error(), Some(libc::EAGAIN));
    }
    let clients: Vec<Socket> = (0..5).map(|_| connect(PORT)).collect();
    assert_eq!(with_descriptors(3, || [error(), error()]), [Some(libc::EMFILE); 2]);
    let servers: Vec<Socket> = clients.iter().map(|_| accept(&listener).expect("a connection")).collect();
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.would_block, seen.total.accept_failed, seen.total.accepts), (Some(7), failed(2), Some(5)));
    let this = thread(seen, tid()).expect("this thread works");
    assert_eq!((this.would_block, this.accept_failed, this.accepts), (7, failed(2).unwrap_or(0), 5));
    assert_eq!((count(seen.distributions.accept_wait.as_ref()), seen.now.open), (5, Some(5)));
    drop(servers);
}
