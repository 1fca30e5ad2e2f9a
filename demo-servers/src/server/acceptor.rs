//! Accepting in an epoll loop: by which system call, how many per wake-up, with which pauses, and what happens when no
//! file descriptor is left.

use super::options::AcceptCall;
use super::ring::AcceptRing;
use super::service::{Client, Service};
use crate::counters::{Slot, add};
use crate::sys::now_ns;
use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{SockFlag, accept, accept4};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// epoll token of the listener or its ring.
pub(crate) const LISTENER: u64 = u64::MAX - 1;

/// Pause of accepting when no file descriptor is left. The listener stays readable, so without a pause it would spin.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// Takes an accepted connection.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Client) -> anyhow::Result<()>;

enum Call {
    Accept4,
    Accept,
    Ring(Box<AcceptRing>),
}

/// The accepting part of a thread.
pub(crate) struct Acceptor {
    service: Arc<Service>,
    slot: &'static Slot,
    listener: Arc<OwnedFd>,
    exclusive: bool,
    call: Call,
    /// In a stall the thread hangs, instead of watching its other descriptors only.
    hangs: bool,
    /// The listener is not watched until this time (CLOCK_MONOTONIC, nanoseconds).
    paused_until: Option<u64>,
}

impl Acceptor {
    pub(crate) fn new(
        service: &Arc<Service>,
        slot: &'static Slot,
        listener: &Arc<OwnedFd>,
        exclusive: bool,
    ) -> anyhow::Result<Self> {
        let ring = |multishot| {
            AcceptRing::new(multishot).context("cannot create an io_uring").map(|ring| Call::Ring(Box::new(ring)))
        };
        let call = match service.options.accept_call {
            AcceptCall::Accept4 => Call::Accept4,
            AcceptCall::Accept => Call::Accept,
            AcceptCall::IoUring => ring(false)?,
            AcceptCall::IoUringMultishot => ring(true)?,
        };
        let listener = Arc::clone(listener);
        Ok(Self { service: Arc::clone(service), slot, listener, exclusive, call, hangs: false, paused_until: None })
    }

    /// Hangs in a stall, as in a blocking call. For a thread that does nothing but accept: one that serves connections
    /// goes on with these, and only leaves the listener out of its epoll.
    pub(crate) fn hanging_in_stalls(self) -> Self {
        Self { hangs: true, ..self }
    }

    /// Begins to watch the listener.
    pub(crate) fn start(&mut self, epoll: &Epoll, sink: Sink<'_>) -> anyhow::Result<()> {
        if let Call::Ring(ring) = &self.call {
            epoll.add(&**ring, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).context("epoll_ctl")?;
            return self.ready(epoll, sink);
        }
        self.watch(epoll)
    }

    fn watch(&self, epoll: &Epoll) -> anyhow::Result<()> {
        let exclusive = if self.exclusive { EpollFlags::EPOLLEXCLUSIVE } else { EpollFlags::empty() };
        epoll.add(&*self.listener, EpollEvent::new(EpollFlags::EPOLLIN | exclusive, LISTENER)).context("epoll_ctl")
    }

    /// How long the loop may wait: without limit, or until the end of a pause.
    pub(crate) fn timeout(&self) -> EpollTimeout {
        self.paused_until.map_or(EpollTimeout::NONE, |until| {
            let milliseconds = until.saturating_sub(now_ns()).div_ceil(1_000_000);
            EpollTimeout::try_from(milliseconds.min(60_000)).unwrap_or(EpollTimeout::ZERO)
        })
    }

    /// Watches the listener again if a pause has ended.
    pub(crate) fn resume_if_due(&mut self, epoll: &Epoll, sink: Sink<'_>) -> anyhow::Result<()> {
        if self.paused_until.is_none_or(|until| now_ns() < until) {
            return Ok(());
        }
        if let Some(until) = self.service.stalled_until() {
            self.paused_until = Some(until);
            return Ok(());
        }
        self.paused_until = None;
        match self.call {
            Call::Ring(_) => self.ready(epoll, sink),
            _ => self.watch(epoll),
        }
    }

    fn pause(&mut self, epoll: &Epoll, until: u64) -> anyhow::Result<()> {
        if self.paused_until.replace(until).is_none() && !matches!(self.call, Call::Ring(_)) {
            epoll.delete(&*self.listener).context("epoll_ctl")?;
        }
        Ok(())
    }

    /// Accepts after a wake-up.
    pub(crate) fn ready(&mut self, epoll: &Epoll, sink: Sink<'_>) -> anyhow::Result<()> {
        let batch = match self.service.options.accept_batch {
            0 => u32::MAX,
            batch => batch,
        };
        for _ in 0..batch {
            // Connections whose completions are in the ring are accepted already: delays apply to the next ones.
            let result = if let Some(result) = self.completed() {
                result
            } else {
                self.service.sleep(Duration::from_micros(self.service.options.accept_delay_us));
                if self.service.stopping() {
                    return Ok(());
                }
                if let Some(until) = self.service.stalled_until() {
                    if !self.hangs {
                        return self.pause(epoll, until);
                    }
                    self.service.hang();
                    if self.service.stopping() {
                        return Ok(());
                    }
                }
                match self.try_accept()? {
                    Some(result) => result,
                    None => return Ok(()),
                }
            };
            if !self.take(result, sink)? {
                return self.pause(epoll, now_ns() + PAUSE.as_nanos() as u64);
            }
        }
        // The batch is complete. A ring without a submitted accept would not wake this thread again.
        match &mut self.call {
            Call::Ring(ring) if !ring.armed() && self.paused_until.is_none() => self.rearm(epoll),
            _ => Ok(()),
        }
    }

    fn rearm(&mut self, epoll: &Epoll) -> anyhow::Result<()> {
        self.service.sleep(Duration::from_micros(self.service.options.accept_delay_us));
        match (self.service.stalled_until(), &mut self.call) {
            (Some(until), _) => self.pause(epoll, until),
            (None, Call::Ring(ring)) => ring.arm(self.listener.as_fd()).context("io_uring accept"),
            (None, _) => Ok(()),
        }
    }

    fn completed(&mut self) -> Option<io::Result<OwnedFd>> {
        match &mut self.call {
            Call::Ring(ring) => ring.next(),
            _ => None,
        }
    }

    /// One accept call, or one submission. `None` if no connection was waiting.
    fn try_accept(&mut self) -> anyhow::Result<Option<io::Result<OwnedFd>>> {
        let result = match &mut self.call {
            Call::Accept4 => accept4(&self.listener, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC),
            Call::Accept => accept(&self.listener).and_then(|fd| non_blocking(fd.as_fd()).map(|()| fd)),
            Call::Ring(ring) => {
                ring.arm(self.listener.as_fd()).context("io_uring accept")?;
                return Ok(ring.next());
            }
        };
        match result {
            Err(Errno::EAGAIN) => {
                add(&self.slot.would_block, 1);
                Ok(None)
            }
            result => Ok(Some(result.map_err(io::Error::from))),
        }
    }

    /// Passes an accepted connection on. Returns false if no file descriptor is left: then accepting must pause.
    fn take(&self, result: io::Result<OwnedFd>, sink: Sink<'_>) -> anyhow::Result<bool> {
        match result {
            Ok(fd) => {
                add(&self.slot.accepts, 1);
                let client = Client::new(fd, &self.service);
                if !self.service.options.close_on_accept {
                    sink(client)?;
                }
                Ok(true)
            }
            Err(error) => {
                add(&self.slot.accept_failures, 1);
                accept_error(error)
            }
        }
    }

    /// Ends accepting. Counts and closes the connections that io_uring has accepted meanwhile.
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        let Call::Ring(ring) = &mut self.call else { return Ok(()) };
        if ring.armed() {
            ring.cancel().context("io_uring cancel")?;
        }
        loop {
            while let Some(result) = ring.next() {
                if let Ok(fd) = result {
                    add(&self.slot.accepts, 1);
                    drop(Client::new(fd, &self.service));
                }
            }
            if !ring.armed() {
                return Ok(());
            }
            ring.wait().context("io_uring cancel")?;
        }
    }
}

/// Whether to go on at once after a failed accept; false: after a pause.
///
/// # Errors
/// The listener itself is broken.
pub(crate) fn accept_error(error: io::Error) -> anyhow::Result<bool> {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => Ok(false),
        // Errors of the connection, not of the listener (see accept(2)), and interruptions.
        Some(
            Errno::EINTR
            | Errno::ECONNABORTED
            | Errno::EPROTO
            | Errno::EPERM
            | Errno::ENETDOWN
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::ETIMEDOUT,
        ) => Ok(true),
        _ => Err(error).context("accept"),
    }
}

/// Sets after accept(2) the flags that accept4(2) sets.
pub(crate) fn non_blocking(fd: BorrowedFd<'_>) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).map(|_| ())
}
