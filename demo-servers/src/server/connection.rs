//! One connection in an epoll loop: reads requests, does their work, writes responses, and closes after the client.

use super::service::{Client, Service};
use crate::counters::{Slot, add};
use crate::protocol::{Framing, piece};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::epoll::EpollFlags;
use nix::unistd::{read, write};
use std::os::fd::{AsFd, BorrowedFd};

/// What to do with a connection after an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Watch it for these events.
    Wait(EpollFlags),
    /// Close it.
    Close,
}

/// A connection served by one thread.
pub(crate) struct Connection {
    client: Client,
    framing: Framing,
    /// Number of bytes of responses that are not written yet.
    owed: u64,
    /// The client will send no more.
    ended: bool,
    watched: EpollFlags,
}

impl Connection {
    pub(crate) fn new(client: Client, service: &Service) -> Self {
        let framing = Framing::new(service.options.request_bytes);
        Self { client, framing, owed: 0, ended: false, watched: EpollFlags::EPOLLIN }
    }

    /// The events it is watched for.
    pub(crate) fn watched(&self) -> EpollFlags {
        self.watched
    }

    /// Sets the events it is watched for. Returns whether they changed.
    pub(crate) fn watch(&mut self, events: EpollFlags) -> bool {
        std::mem::replace(&mut self.watched, events) != events
    }

    /// Reads and writes without blocking, and does the work of the requests.
    pub(crate) fn advance(&mut self, service: &Service, slot: &Slot, buffer: &mut [u8]) -> Next {
        if self.owed == 0 && !self.ended {
            match read_once(service, slot, self.client.as_fd(), buffer) {
                Read::Bytes(bytes) => {
                    for _ in 0..self.framing.push(bytes) {
                        add(&slot.requests, 1);
                        service.work();
                        self.owed += service.options.response_bytes;
                        if !self.flush(slot) || service.stopping() {
                            return Next::Close;
                        }
                    }
                }
                Read::Nothing => {}
                Read::End => self.ended = true,
                Read::Broken => return Next::Close,
            }
        } else if !self.flush(slot) {
            return Next::Close;
        }
        match (self.owed, self.ended) {
            (0, true) => Next::Close,
            // While a client does not take its responses, nothing more is read from it.
            (0, false) => Next::Wait(EpollFlags::EPOLLIN),
            _ => Next::Wait(EpollFlags::EPOLLOUT),
        }
    }

    /// Writes as much of the owed bytes as the socket takes. Returns false if the connection is broken.
    fn flush(&mut self, slot: &Slot) -> bool {
        while self.owed > 0 {
            match write_once(slot, self.client.as_fd(), self.owed) {
                Ok(bytes) => self.owed -= bytes,
                Err(Errno::EAGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

/// Result of one read call.
pub(crate) enum Read {
    /// This many bytes, at least 1.
    Bytes(u64),
    /// Nothing has arrived.
    Nothing,
    /// The client will send no more.
    End,
    /// The connection is broken.
    Broken,
}

/// One counted read call.
pub(crate) fn read_once(service: &Service, slot: &Slot, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Read {
    service.before_read();
    loop {
        return match read(fd, buffer) {
            Ok(0) => Read::End,
            Ok(bytes) => {
                add(&slot.reads, 1);
                add(&slot.read_bytes, bytes as u64);
                Read::Bytes(bytes as u64)
            }
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => Read::Nothing,
            Err(_) => Read::Broken,
        };
    }
}

/// One counted write call of at most `owed` bytes.
fn write_once(slot: &Slot, fd: BorrowedFd<'_>, owed: u64) -> nix::Result<u64> {
    loop {
        match write(fd, piece(owed)) {
            Ok(bytes) => {
                add(&slot.writes, 1);
                add(&slot.write_bytes, bytes as u64);
                return Ok(bytes as u64);
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes a whole response and waits for a slow client. Returns false if the connection is broken or the server ends.
pub(crate) fn write_fully(service: &Service, slot: &Slot, fd: BorrowedFd<'_>) -> bool {
    let mut owed = service.options.response_bytes;
    while owed > 0 {
        match write_once(slot, fd, owed) {
            Ok(bytes) => owed -= bytes,
            Err(Errno::EAGAIN) if !service.stopping() => service.wait_for(Some(fd), PollFlags::POLLOUT, None),
            Err(_) => return false,
        }
    }
    true
}

/// Serves one connection until it ends, in a thread or process of its own.
pub(crate) fn serve_alone(service: &Service, slot: &Slot, fd: BorrowedFd<'_>, buffer: &mut [u8]) {
    let mut framing = Framing::new(service.options.request_bytes);
    while !service.stopping() {
        match read_once(service, slot, fd, buffer) {
            Read::Bytes(bytes) => {
                for _ in 0..framing.push(bytes) {
                    add(&slot.requests, 1);
                    service.work();
                    if service.stopping() || !write_fully(service, slot, fd) {
                        return;
                    }
                }
            }
            Read::Nothing => service.wait_for(Some(fd), PollFlags::POLLIN, None),
            Read::End | Read::Broken => return,
        }
    }
}
