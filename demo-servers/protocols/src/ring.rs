//! The raw echo on io_uring: one multishot accept brings all connections, one multishot receive per connection brings
//! all its requests. A thread asks the kernel once for many of both.

use crate::counted::{Totals, count};
use crate::protocol::{Handler, content};
use anyhow::Context;
use futures_util::FutureExt;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::HashMap;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use tokio::sync::watch;

/// Number and size of the buffers from which the kernel takes one for each receive.
const BUFFERS: u16 = 512;
const BUFFER_BYTES: usize = 4096;
/// Their group; there is only one.
const GROUP: u16 = 1;
/// The largest request.
const LARGEST: u32 = 1 << 24;

/// What a completion is of. It is the upper half of its user data; the lower half is a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum Of {
    Accept = 1,
    Receive = 2,
    Send = 3,
    Buffers = 4,
    Order = 5,
    Cancel = 6,
}

fn data(of: Of, fd: RawFd) -> u64 {
    (of as u64) << 32 | u64::from(fd as u32)
}

/// One connection. It is closed when it is dropped.
struct Connection {
    fd: OwnedFd,
    /// The first bytes of a request whose length is not complete.
    head: Vec<u8>,
    /// Bytes of the present request that have not come yet.
    missing: u32,
    /// What is being sent; the kernel reads it until its completion.
    sending: Vec<u8>,
    sent: usize,
    /// What is to be sent afterwards.
    next: Vec<u8>,
    /// The client will send no more.
    ended: bool,
}

impl Connection {
    fn new(fd: OwnedFd) -> Self {
        Self { fd, head: Vec::new(), missing: 0, sending: Vec::new(), sent: 0, next: Vec::new(), ended: false }
    }

    /// Takes bytes that came. Returns the number of requests that they complete, or `None` if one is too long.
    fn take(&mut self, mut bytes: &[u8]) -> Option<u32> {
        let mut requests = 0;
        while !bytes.is_empty() {
            if self.missing > 0 {
                let part = bytes.len().min(self.missing as usize);
                bytes = &bytes[part..];
                self.missing -= part as u32;
                requests += u32::from(self.missing == 0);
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if let Ok(length) = <[u8; 4]>::try_from(&self.head[..]) {
                self.missing = u32::from_be_bytes(length);
                self.head.clear();
                requests += u32::from(self.missing == 0);
                if self.missing > LARGEST {
                    return None;
                }
            }
        }
        Some(requests)
    }
}

/// What the thread is to do; the eventfd wakes it.
struct Orders {
    wake: EventFd,
    stop: AtomicBool,
    stall: AtomicBool,
}

impl Orders {
    fn wake(&self) {
        // It fails only if the counter is full, and then the thread is awake.
        let _ = self.wake.write(1);
    }
}

/// The server. Its thread ends when this is dropped.
pub(crate) struct Echo {
    orders: Arc<Orders>,
    stalled: watch::Receiver<bool>,
    thread: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
    done: Option<tokio::sync::oneshot::Receiver<()>>,
}

impl Echo {
    /// Starts its thread.
    ///
    /// # Errors
    /// This kernel has no io_uring, or does not allow it.
    pub(crate) fn new(
        listener: TcpListener,
        handler: Arc<Handler>,
        stalled: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = EventFd::from_value_and_flags(0, flags).context("cannot create an eventfd")?;
        let orders = Arc::new(Orders { wake, stop: AtomicBool::new(false), stall: AtomicBool::new(false) });
        let ring = IoUring::builder().setup_cqsize(4096).build(1024).context("cannot create an io_uring")?;
        let (sender, done) = tokio::sync::oneshot::channel();
        let mut serving = Serving {
            ring,
            buffers: vec![0; usize::from(BUFFERS) * BUFFER_BYTES],
            connections: HashMap::new(),
            listener,
            orders: Arc::clone(&orders),
            accepting: false,
            handler,
        };
        let serve = move || {
            let outcome = serving.serve();
            // The receiver may be gone already.
            let _ = sender.send(());
            outcome
        };
        let thread = std::thread::Builder::new().name("io_uring".to_owned()).spawn(serve);
        let thread = thread.context("cannot start a thread")?;
        Ok(Self { orders, stalled, thread: Some(thread), done: Some(done) })
    }

    /// Passes on whether it is to stall. Waits until its thread ends, which it does only by an error.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        if let Some(mut done) = self.done.take() {
            loop {
                tokio::select! {
                    _ = &mut done => break,
                    Ok(()) = self.stalled.changed() => {
                        self.orders.stall.store(*self.stalled.borrow_and_update(), Relaxed);
                        self.orders.wake();
                    }
                }
            }
        }
        match self.thread.take().map(std::thread::JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            _ => Err(anyhow::anyhow!("the thread of io_uring panicked")),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.orders.stop.store(true, Relaxed);
        self.orders.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread has. The ring comes first: it is gone before the memory that the kernel uses for it.
struct Serving {
    ring: IoUring,
    buffers: Vec<u8>,
    connections: HashMap<RawFd, Connection>,
    listener: TcpListener,
    orders: Arc<Orders>,
    /// The kernel accepts: the multishot accept has not ended.
    accepting: bool,
    handler: Arc<Handler>,
}

impl Serving {
    fn serve(&mut self) -> anyhow::Result<()> {
        let all = opcode::ProvideBuffers::new(self.buffers.as_mut_ptr(), BUFFER_BYTES as i32, BUFFERS, GROUP, 0);
        self.push(&all.build().user_data(data(Of::Buffers, 0)))?;
        self.watch_orders()?;
        self.accept()?;
        let mut completions = Vec::new();
        loop {
            count(&self.handler.totals.ring_calls);
            match self.ring.submit_and_wait(1) {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                result => result.context("io_uring_enter")?,
            };
            completions.extend(self.ring.completion());
            for entry in completions.drain(..) {
                let fd = entry.user_data() as u32 as RawFd;
                match entry.user_data() >> 32 {
                    of if of == Of::Order as u64 => {
                        // It fails only if nothing was written.
                        let _ = self.orders.wake.read();
                        if self.orders.stop.load(Relaxed) {
                            return Ok(());
                        }
                        self.watch_orders()?;
                        self.stall_or_go_on()?;
                    }
                    of if of == Of::Accept as u64 => self.accepted(&entry)?,
                    of if of == Of::Receive as u64 => self.received(fd, &entry)?,
                    of if of == Of::Send as u64 => self.sent(fd, entry.result())?,
                    _ => {}
                }
            }
        }
    }

    fn totals(&self) -> &Totals {
        &self.handler.totals
    }

    fn push(&mut self, entry: &squeue::Entry) -> anyhow::Result<()> {
        loop {
            // SAFETY: descriptors, buffers and what is being sent belong to `self` and live until the completion, or
            // until the ring is gone.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            count(&self.handler.totals.ring_calls);
            self.ring.submit().context("io_uring_enter")?;
        }
    }

    fn watch_orders(&mut self) -> anyhow::Result<()> {
        let wake = opcode::PollAdd::new(types::Fd(self.orders.wake.as_fd().as_raw_fd()), libc::POLLIN as u32);
        self.push(&wake.build().user_data(data(Of::Order, 0)))
    }

    /// Has the kernel accept, or accept no more, as ordered.
    fn stall_or_go_on(&mut self) -> anyhow::Result<()> {
        match (self.orders.stall.load(Relaxed), self.accepting) {
            (true, true) => {
                let cancel = opcode::AsyncCancel::new(data(Of::Accept, 0)).build();
                self.push(&cancel.user_data(data(Of::Cancel, 0)))
            }
            (false, false) => self.accept(),
            _ => Ok(()),
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        self.accepting = true;
        let listener = types::Fd(self.listener.as_raw_fd());
        let accept = opcode::AcceptMulti::new(listener).flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
        self.push(&accept.build().user_data(data(Of::Accept, 0)))
    }

    fn receive(&mut self, fd: RawFd) -> anyhow::Result<()> {
        let receive = opcode::RecvMulti::new(types::Fd(fd), GROUP).build();
        self.push(&receive.user_data(data(Of::Receive, fd)))
    }

    fn accepted(&mut self, entry: &cqueue::Entry) -> anyhow::Result<()> {
        if entry.result() >= 0 {
            count(&self.totals().accepts);
            let fd = entry.result();
            // SAFETY: the kernel just made this descriptor for us; nobody else knows it.
            self.connections.insert(fd, Connection::new(unsafe { OwnedFd::from_raw_fd(fd) }));
            self.receive(fd)?;
        } else if entry.result() != -libc::ECANCELED {
            count(&self.totals().accept_failures);
        }
        if cqueue::more(entry.flags()) {
            return Ok(());
        }
        self.accepting = false;
        self.stall_or_go_on()
    }

    fn received(&mut self, fd: RawFd, entry: &cqueue::Entry) -> anyhow::Result<()> {
        let result = entry.result();
        let buffer = cqueue::buffer_select(entry.flags());
        if let (1.., Some(number)) = (result, buffer) {
            counted(&self.totals().reads, &self.totals().read_bytes, result);
            let start = usize::from(number) * BUFFER_BYTES;
            let bytes = &self.buffers[start..start + result as usize];
            let requests = self.connections.get_mut(&fd).and_then(|connection| connection.take(bytes));
            for _ in 0..requests.unwrap_or(0) {
                // Nothing in this handler waits: it is ready at once.
                let bytes = self.handler.handle().now_or_never().unwrap_or(0);
                if let Some(connection) = self.connections.get_mut(&fd) {
                    connection.next.extend((bytes as u32).to_be_bytes());
                    connection.next.extend_from_slice(&content(bytes));
                }
            }
            if requests.is_none() {
                self.end(fd);
            }
        }
        if let Some(number) = buffer {
            let start = usize::from(number) * BUFFER_BYTES;
            let place = self.buffers[start..].as_mut_ptr();
            let back = opcode::ProvideBuffers::new(place, BUFFER_BYTES as i32, 1, GROUP, number);
            self.push(&back.build().user_data(data(Of::Buffers, 0)))?;
        }
        let out_of_buffers = result == -libc::ENOBUFS;
        if result <= 0 && !out_of_buffers {
            self.end(fd);
        } else if !cqueue::more(entry.flags()) && self.connections.contains_key(&fd) {
            self.receive(fd)?;
        }
        self.send(fd)
    }

    /// No more will come. The connection is closed when nothing is being sent.
    fn end(&mut self, fd: RawFd) {
        if let Some(connection) = self.connections.get_mut(&fd) {
            connection.ended = true;
            if connection.sending.is_empty() && connection.next.is_empty() {
                self.close(fd);
            }
        }
    }

    fn close(&mut self, fd: RawFd) {
        if self.connections.remove(&fd).is_some() {
            count(&self.totals().closed);
        }
    }

    /// Sends what waits, unless something is being sent.
    fn send(&mut self, fd: RawFd) -> anyhow::Result<()> {
        let Some(connection) = self.connections.get_mut(&fd) else { return Ok(()) };
        if connection.sending.is_empty() {
            std::mem::swap(&mut connection.sending, &mut connection.next);
            connection.sent = 0;
        } else if connection.sent == 0 {
            return Ok(());
        }
        let rest = &connection.sending[connection.sent..];
        if rest.is_empty() {
            return Ok(());
        }
        let send = opcode::Send::new(types::Fd(connection.fd.as_raw_fd()), rest.as_ptr(), rest.len() as u32);
        self.push(&send.build().user_data(data(Of::Send, fd)))
    }

    fn sent(&mut self, fd: RawFd, result: i32) -> anyhow::Result<()> {
        if result > 0 {
            counted(&self.totals().writes, &self.totals().write_bytes, result);
        }
        let Some(connection) = self.connections.get_mut(&fd) else { return Ok(()) };
        connection.sent += usize::try_from(result).unwrap_or(0);
        let done = connection.sent >= connection.sending.len();
        if done {
            connection.sending.clear();
            connection.sent = 0;
        }
        if result <= 0 || done && connection.ended && connection.next.is_empty() {
            self.close(fd);
            return Ok(());
        }
        self.send(fd)
    }
}

fn counted(calls: &AtomicU64, bytes: &AtomicU64, result: i32) {
    count(calls);
    bytes.fetch_add(u64::from(result.unsigned_abs()), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_found_in_pieces_of_any_size() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut connection = Connection::new(one.into());
        let mut frames = Vec::new();
        for length in [3u32, 0, 5] {
            frames.extend(length.to_be_bytes());
            frames.extend(vec![b'.'; length as usize]);
        }
        assert_eq!(connection.take(&frames), Some(3));
        let each: u32 = frames.iter().map(|byte| connection.take(&[*byte]).unwrap()).sum();
        assert_eq!(each, 3);
        assert_eq!(connection.take(&(LARGEST + 1).to_be_bytes()), None);
    }
}
