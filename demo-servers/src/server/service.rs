//! What all threads of one server share: options, counters, the signal to stop, and simulated work.

use super::neighbours;
use super::options::Options;
use super::shop::Shop;
use super::work::Spread;
use crate::counters::{Board, Role, Slot};
use crate::sys::{now_ns, set_thread_name, thread_cpu_ns};
use anyhow::Context;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a stalled thread checks whether it was released. Seldom: one that wakes up often is often found waiting
/// for a CPU on a busy machine, and then it seems to work.
const RELEASE_CHECK: Duration = Duration::from_millis(100);

thread_local! {
    /// When the calling thread was started by [`Service::spawn`]; 0: it was there from the beginning.
    static STARTED_NS: Cell<u64> = const { Cell::new(0) };
}

/// One running server.
#[derive(Debug)]
pub struct Service {
    /// The command line.
    pub options: Options,
    /// All counters.
    pub board: Board,
    /// Becomes readable, and stays so, when the server ends. Children inherit it.
    stop: EventFd,
    shop: Option<Shop>,
    started_ns: u64,
    failure: Mutex<Option<anyhow::Error>>,
}

impl Service {
    /// A server with these options, without threads yet.
    ///
    /// # Errors
    /// No memory or no file descriptor is left.
    pub fn new(options: Options) -> anyhow::Result<Self> {
        let board = Board::new().context("cannot map memory for the counters")?;
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let stop = EventFd::from_value_and_flags(0, flags).context("cannot create an eventfd")?;
        let shop = options.shop.map(Shop::new).transpose().context("cannot create an eventfd")?;
        Ok(Self { options, board, stop, shop, started_ns: now_ns(), failure: Mutex::new(None) })
    }

    /// Makes all threads and children end.
    pub fn stop(&self) {
        self.board.shared().stopping.store(true, SeqCst);
        // It fails only if the counter is full, and then the eventfd is readable too.
        let _ = self.stop.write(1);
    }

    /// Whether the server is ending.
    pub fn stopping(&self) -> bool {
        self.board.shared().stopping.load(SeqCst)
    }

    /// Readable when the server is ending.
    pub fn stop_fd(&self) -> BorrowedFd<'_> {
        self.stop.as_fd()
    }

    /// Ends the server with an error. If there are several, the first one is reported.
    pub fn fail(&self, error: anyhow::Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop();
    }

    /// The error the server ended with.
    pub fn take_failure(&self) -> Option<anyhow::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        Duration::from_nanos(now_ns().saturating_sub(self.started_ns))
    }

    /// Stops accepting from now for `length`.
    pub fn stall_now(&self, length: Duration) {
        let now = now_ns();
        let until = now + u64::try_from(length.as_nanos()).unwrap_or(u64::MAX / 2);
        self.board.shared().stalled_since_ns.store(now, Relaxed);
        self.board.shared().stalled_until_ns.fetch_max(until, Relaxed);
    }

    /// Stops all who accept now until [`Self::release`]. An acceptor that is added later accepts.
    pub fn stall(&self) {
        self.board.shared().stalled_since_ns.store(now_ns(), Relaxed);
        self.board.shared().stalled_until_ns.store(u64::MAX, Relaxed);
    }

    /// Ends a stall, except a scheduled one.
    pub fn release(&self) {
        self.board.shared().stalled_until_ns.store(0, Relaxed);
    }

    /// The time (CLOCK_MONOTONIC, nanoseconds) until which the calling thread accepts nothing; `None` outside of
    /// stalls. A stall without an end is looked at again soon, because nothing wakes a thread when it is released.
    pub fn stalled_until(&self) -> Option<u64> {
        let now = now_ns();
        let scheduled = self.options.stall.iter().filter_map(|stall| {
            let from = self.started_ns + stall.start.as_nanos() as u64;
            (from <= now).then(|| from + stall.length.as_nanos() as u64)
        });
        let shared = self.board.shared();
        let is_new = STARTED_NS.get() > shared.stalled_since_ns.load(Relaxed);
        let ordered = (!is_new).then(|| shared.stalled_until_ns.load(Relaxed));
        let until = scheduled.chain(ordered).filter(|&until| until > now).max()?;
        Some(if until == u64::MAX { now + RELEASE_CHECK.as_nanos() as u64 } else { until })
    }

    /// Does nothing until the stall is over or the server ends, as a thread in a blocking call.
    pub fn hang(&self) {
        while let Some(until) = self.stalled_until().filter(|_| !self.stopping()) {
            std::thread::sleep(Duration::from_nanos(until.saturating_sub(now_ns())).min(RELEASE_CHECK));
        }
    }

    /// Sleeps for `duration`, or until the server ends.
    pub fn sleep(&self, duration: Duration) {
        if !duration.is_zero() {
            self.wait_for(None, PollFlags::empty(), Some(duration));
        }
    }

    /// Waits until `fd` has one of `events` or an error, until the server ends, or for `timeout`.
    pub fn wait_for(&self, fd: Option<BorrowedFd<'_>>, events: PollFlags, timeout: Option<Duration>) {
        let deadline = timeout.map(|timeout| now_ns() + u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX / 2));
        let mut fds = vec![PollFd::new(self.stop_fd(), PollFlags::POLLIN)];
        fds.extend(fd.map(|fd| PollFd::new(fd, events)));
        loop {
            let left = deadline.map(|deadline| Duration::from_nanos(deadline.saturating_sub(now_ns())));
            match ppoll(&mut fds, left.map(TimeSpec::from_duration), None) {
                // Interrupted by a signal that this thread does not block, or by io_uring's task work.
                Err(nix::errno::Errno::EINTR) => {}
                _ => return,
            }
        }
    }

    /// The shop whose orders the requests are, if they are.
    pub(super) fn shop(&self) -> Option<&Shop> {
        self.shop.as_ref()
    }

    /// Does the work of one request: that of an order, CPU time, then blocking time.
    pub fn work(&self) {
        let options = &self.options;
        if let Some(shop) = &self.shop {
            shop.order();
        }
        // All threads share this counter: it is left alone where all requests are equal.
        let unequal = options.work != Spread::Fixed || options.slow_request.is_some();
        let number = if unequal { self.board.shared().worked.fetch_add(1, Relaxed) + 1 } else { 0 };
        let factor = options.work.factor(options.work_seed, number);
        let cost_ns = |mean_us: u64| (mean_us as f64 * factor * 1000.0) as u64;
        if options.cpu_us > 0 {
            let end = thread_cpu_ns() + cost_ns(options.cpu_us);
            while thread_cpu_ns() < end && !self.stopping() {
                std::hint::spin_loop();
            }
        }
        let slow = options.slow_request.filter(|slow| number.is_multiple_of(slow.every));
        let more = slow.map_or(Duration::ZERO, |slow| slow.length);
        self.sleep(Duration::from_nanos(cost_ns(options.block_us)) + more);
    }

    /// The pause before a read.
    pub fn before_read(&self) {
        self.sleep(Duration::from_micros(self.options.read_delay_us));
    }

    /// Counts a closed connection. After --max-connections-total the server ends.
    pub fn closed(&self) {
        let closed = self.board.shared().closed.fetch_add(1, SeqCst) + 1;
        if self.options.max_connections_total == Some(closed) {
            self.stop();
        }
    }

    /// Gives the calling thread or process, which is about to serve, the priority that the options name.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn prepare_thread(&self) -> anyhow::Result<()> {
        if self.options.idle_priority { neighbours::idle_priority() } else { Ok(()) }
    }

    /// Starts a thread that is named after its role and has counters of its own. Its error ends the server.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn spawn(
        self: &Arc<Self>,
        role: Role,
        number: Option<u32>,
        body: impl FnOnce(&Arc<Self>, &'static Slot) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<JoinHandle<()>> {
        let slot = self.board.register(role, number).context("too many threads")?;
        let name = role.thread_name(number);
        let service = Arc::clone(self);
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            STARTED_NS.set(now_ns());
            slot.adopt();
            set_thread_name(&name);
            let guard = StopOnPanic(&service);
            if let Err(error) = service.prepare_thread().and_then(|()| body(&service, slot)) {
                service.fail(error.context(format!("thread {name}")));
            }
            drop(guard);
            slot.end();
        });
        thread.context("cannot start a thread")
    }
}

/// Ends the server if a thread panics: without it the server would only look alive.
struct StopOnPanic<'a>(&'a Service);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(anyhow::anyhow!("a thread panicked"));
        }
    }
}

/// An accepted connection. Closing it counts.
#[derive(Debug)]
pub struct Client {
    fd: Option<OwnedFd>,
    service: Arc<Service>,
}

impl Client {
    /// Takes over a connection that was just accepted.
    pub fn new(fd: OwnedFd, service: &Arc<Service>) -> Self {
        Self { fd: Some(fd), service: Arc::clone(service) }
    }

    /// Gives the descriptor away without counting it as closed: another process serves it.
    ///
    /// # Panics
    /// Never: a client has its descriptor until it is dropped.
    #[must_use]
    pub fn into_fd(mut self) -> OwnedFd {
        self.fd.take().expect("a client has its descriptor until it is dropped")
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("a client has its descriptor until it is dropped").as_fd()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            drop(fd);
            self.service.closed();
        }
    }
}
