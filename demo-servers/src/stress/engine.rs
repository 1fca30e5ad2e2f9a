//! The event loop: one thread, edge-triggered epoll, a timerfd for arrivals and deadlines.

use super::connection::{Connection, Failure, Phase, Progress, connect, retransmissions};
use super::options::Options;
use super::schedule::Schedule;
use super::summary::{Latencies, Summary};
use super::table::Table;
use super::timers::{Ticket, Timers};
use crate::sys::{now_ns, print_json, say};
use anyhow::Context;
use lab_control::{Connection as Lab, FromLab, Order, ToLab};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::Duration;

const TIMER: u64 = u64::MAX;
const SIGNAL: u64 = u64::MAX - 1;
const LAB: u64 = u64::MAX - 2;

/// Number of arrivals to start before events are handled, so that neither starves the other.
const ARRIVALS: usize = 64;

/// Distributions of one run.
#[derive(Default)]
struct Recorded {
    start_delay: Latencies,
    connect: Latencies,
    response: Latencies,
    first_response: Latencies,
    /// Since the last line of progress.
    recent_connect: Latencies,
    recent_response: Latencies,
}

/// A running load.
pub(super) struct Engine<'a> {
    options: &'a Options,
    epoll: Epoll,
    timer: TimerFd,
    armed_ns: u64,
    start_ns: u64,
    schedule: Schedule,
    table: Table,
    connecting: Timers,
    responding: Timers,
    thinking: Timers,
    summary: Summary,
    recorded: Recorded,
    next_source: u8,
    ended: bool,
    signals: &'a SignalFd,
    lab: Option<Lab>,
}

impl<'a> Engine<'a> {
    pub(super) fn new(options: &'a Options, signals: &'a SignalFd, lab: Option<Lab>) -> anyhow::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot create an epoll instance")?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
            .context("cannot create a timerfd")?;
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&timer, EpollEvent::new(edge, TIMER)).context("epoll_ctl")?;
        epoll.add(signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNAL)).context("epoll_ctl")?;
        if let Some(lab) = &lab {
            epoll.add(&lab.reader, EpollEvent::new(EpollFlags::EPOLLIN, LAB)).context("epoll_ctl")?;
        }
        Ok(Self {
            options,
            epoll,
            timer,
            armed_ns: 0,
            start_ns: now_ns(),
            schedule: Schedule::new(options),
            table: Table::default(),
            connecting: Timers::default(),
            responding: Timers::default(),
            thinking: Timers::default(),
            summary: Summary { target: options.target.to_string(), ..Summary::default() },
            recorded: Recorded::default(),
            next_source: 0,
            ended: false,
            signals,
            lab,
        })
    }

    /// Runs until the load is complete or a signal comes.
    pub(super) fn run(mut self) -> anyhow::Result<Summary> {
        let mut events = vec![EpollEvent::empty(); 512];
        let mut buffer = vec![0; 65_536];
        let mut next_progress = self.start_ns + 1_000_000_000;
        while !self.ended && (self.table.open > 0 || self.schedule.peek().is_some()) {
            let now = now_ns();
            if now >= next_progress {
                self.progress(now);
                next_progress += 1_000_000_000;
            }
            self.arrive();
            self.expire();
            let wake = self.next_deadline().unwrap_or(u64::MAX).min(next_progress);
            let timeout = if wake <= now_ns() {
                EpollTimeout::ZERO
            } else {
                self.arm(wake)?;
                EpollTimeout::NONE
            };
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error).context("epoll_wait"),
            };
            for event in &events[..count] {
                match event.data() {
                    TIMER => {}
                    SIGNAL => self.signalled()?,
                    LAB => self.ordered()?,
                    token => self.advance(token, event.events(), &mut buffer),
                }
            }
        }
        Ok(self.results())
    }

    /// What was counted so far.
    fn results(&self) -> Summary {
        let mut summary = self.summary.clone();
        summary.unfinished = self.table.open;
        self.count_unfinished_connects(&mut summary);
        summary.seconds = (now_ns() - self.start_ns) as f64 / 1e9;
        summary.start_delay_us = self.recorded.start_delay.summary();
        summary.connect_us = self.recorded.connect.summary();
        summary.response_us = self.recorded.response.summary();
        summary.first_response_us = self.recorded.first_response.summary();
        summary
    }

    /// SIGUSR1 asks for the results so far; all other signals end the load.
    fn signalled(&mut self) -> anyhow::Result<()> {
        while let Some(signal) = self.signals.read_signal().context("signalfd")? {
            if signal.ssi_signo == Signal::SIGUSR1 as u32 {
                print_json(&self.results())?;
            } else {
                self.ended = true;
            }
        }
        Ok(())
    }

    /// Carries out what the lab orders.
    fn ordered(&mut self) -> anyhow::Result<()> {
        while let Some(lab) = &mut self.lab {
            let answer = match lab.reader.receive() {
                Ok(Some(FromLab::Order { number, order: Order::Rate { percent } })) if percent > 0 => {
                    self.schedule.go_on_at(f64::from(percent) / 100.0);
                    Some(ToLab::Done { number, error: None })
                }
                Ok(Some(FromLab::Order { number, .. })) => {
                    Some(ToLab::Done { number, error: Some("a load has nothing but a rate".to_owned()) })
                }
                Ok(Some(_)) => None,
                Ok(None) | Err(_) => {
                    self.epoll.delete(lab.reader.as_fd()).context("epoll_ctl")?;
                    self.lab = None;
                    return Ok(());
                }
            };
            // Without a reader of the answer the next message fails too.
            let _ = answer.map(|answer| lab.writer.send(&answer));
            if !lab.reader.has_more() {
                break;
            }
        }
        Ok(())
    }

    fn arm(&mut self, wake_ns: u64) -> anyhow::Result<()> {
        if self.armed_ns != wake_ns {
            let time = TimeSpec::from_duration(Duration::from_nanos(wake_ns));
            self.timer.set(Expiration::OneShot(time), TimerSetTimeFlags::TFD_TIMER_ABSTIME).context("timerfd")?;
            self.armed_ns = wake_ns;
        }
        Ok(())
    }

    fn next_deadline(&mut self) -> Option<u64> {
        let arrival = self.schedule.peek().map(|offset| self.start_ns.saturating_add(offset));
        let table = &self.table;
        [&mut self.connecting, &mut self.responding, &mut self.thinking]
            .into_iter()
            .filter_map(|timers| timers.next(|ticket| table.is_current(ticket)))
            .chain(arrival)
            .min()
    }

    fn arrive(&mut self) {
        for _ in 0..ARRIVALS {
            let now = now_ns();
            let start = self.start_ns;
            let Some(offset) = self.schedule.next_until(now.saturating_sub(start)) else { return };
            self.begin(start + offset);
        }
    }

    fn begin(&mut self, intended_ns: u64) {
        self.summary.due += 1;
        if self.table.open >= self.options.max_open {
            self.summary.skipped.max_open += 1;
            return;
        }
        let source = (self.options.source_addresses > 1).then(|| {
            self.next_source = self.next_source % self.options.source_addresses + 1;
            Ipv4Addr::new(127, 0, 0, self.next_source)
        });
        let began = now_ns();
        let result = connect(self.options, source);
        if let Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) = result {
            self.summary.skipped.no_descriptor += 1;
            return;
        }
        self.summary.started += 1;
        self.recorded.start_delay.record(began - intended_ns);
        let fd = match result {
            Ok(fd) => fd,
            Err(error) => return self.connect_failed(Failure::Errno(error)),
        };
        let token = self.table.insert(Connection {
            fd,
            phase: Phase::Connecting,
            intended_ns,
            request_ns: intended_ns,
            requests_left: self.options.requests,
            first_response: true,
            serial: 0,
        });
        self.summary.peak_open = self.summary.peak_open.max(self.table.open);
        let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        if let Some(connection) = self.table.get(token)
            && let Err(error) = self.epoll.add(&connection.fd, EpollEvent::new(events, token))
        {
            return self.fail(token, Failure::Errno(error));
        }
        self.connecting.push(began + self.options.connect_timeout_ms * 1_000_000, Ticket { token, serial: 0 });
    }

    fn expire(&mut self) {
        let now = now_ns();
        while let Some((_, ticket)) = self.connecting.expired(now) {
            if self.table.is_current(ticket) {
                self.fail(ticket.token, Failure::Timeout);
            }
        }
        while let Some((_, ticket)) = self.responding.expired(now) {
            if self.table.is_current(ticket) {
                self.fail(ticket.token, Failure::Timeout);
            }
        }
        while let Some((due, ticket)) = self.thinking.expired(now) {
            if self.table.is_current(ticket) {
                self.request(ticket.token, due);
            }
        }
    }

    /// An event on a connection.
    fn advance(&mut self, token: u64, events: EpollFlags, buffer: &mut [u8]) {
        let Some(connection) = self.table.get_mut(token) else { return };
        match connection.phase {
            Phase::Connecting => {
                if events.contains(EpollFlags::EPOLLERR) {
                    let error = getsockopt(&connection.fd, sockopt::SocketError).unwrap_or(0);
                    self.fail(token, Failure::Errno(Errno::from_raw(error)));
                } else if events.contains(EpollFlags::EPOLLOUT) {
                    self.connected(token);
                }
            }
            Phase::Writing(_) => self.write(token),
            Phase::Reading(_) | Phase::Thinking => {
                if events.intersects(!EpollFlags::EPOLLOUT) {
                    self.read(token, buffer);
                }
            }
        }
    }

    /// Adds the connects that are still under way to the slow ones and to the retries.
    fn count_unfinished_connects(&self, summary: &mut Summary) {
        let now = now_ns();
        for connection in self.table.iter().filter(|connection| connection.phase == Phase::Connecting) {
            summary.slow_connects.count(now - connection.intended_ns);
            summary.syn_retries.count(retransmissions(&connection.fd).unwrap_or(0));
        }
    }

    fn connected(&mut self, token: u64) {
        let now = now_ns();
        let Some(connection) = self.table.get_mut(token) else { return };
        connection.serial += 1;
        let took = now - connection.intended_ns;
        self.summary.established += 1;
        self.recorded.connect.record(took);
        self.recorded.recent_connect.record(took);
        self.connect_ended(token, took);
        self.request(token, now);
    }

    /// Counts the time and the SYN retries of a connect, whether it succeeded or not.
    fn connect_ended(&mut self, token: u64, took_ns: u64) {
        self.summary.slow_connects.count(took_ns);
        if let Some(retries) = self.table.get(token).and_then(|connection| retransmissions(&connection.fd)) {
            self.summary.syn_retries.count(retries);
        }
    }

    /// Sends the next request, which was due at `due_ns`, or ends the connection after the last one.
    fn request(&mut self, token: u64, due_ns: u64) {
        if self.prepare(token, due_ns) {
            self.write(token);
        }
    }

    /// Prepares the next request. Returns false if the last one was answered, which ends the connection.
    fn prepare(&mut self, token: u64, due_ns: u64) -> bool {
        let Some(connection) = self.table.get_mut(token) else { return false };
        if connection.requests_left == 0 {
            self.summary.completed += 1;
            self.table.remove(token);
            return false;
        }
        connection.requests_left -= 1;
        connection.request_ns = due_ns;
        connection.phase = Phase::Writing(self.options.request_bytes);
        connection.serial += 1;
        let ticket = Ticket { token, serial: connection.serial };
        self.responding.push(now_ns() + self.options.timeout_ms * 1_000_000, ticket);
        true
    }

    fn write(&mut self, token: u64) {
        while let Some(connection) = self.table.get_mut(token) {
            let (bytes, result) = connection.write();
            self.summary.sent_bytes += bytes;
            match result {
                Ok(Progress::Written) => {
                    self.summary.requests += 1;
                    connection.phase = Phase::Reading(self.options.response_bytes);
                    // Without responses the next request follows at once.
                    if self.options.response_bytes > 0 || !self.responded(token) {
                        return;
                    }
                }
                Ok(_) => return,
                Err(failure) => return self.fail(token, failure),
            }
        }
    }

    fn read(&mut self, token: u64, buffer: &mut [u8]) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let (bytes, result) = connection.read(buffer);
        self.summary.received_bytes += bytes;
        match result {
            Ok(Progress::Responded) => {
                if self.responded(token) {
                    self.write(token);
                }
            }
            Ok(_) => {}
            Err(failure) => self.fail(token, failure),
        }
    }

    /// Records a response. Returns true if the next request must be written now.
    fn responded(&mut self, token: u64) -> bool {
        let now = now_ns();
        let Some(connection) = self.table.get_mut(token) else { return false };
        self.summary.responses += 1;
        let took = now - connection.request_ns;
        self.recorded.response.record(took);
        self.recorded.recent_response.record(took);
        if std::mem::take(&mut connection.first_response) {
            self.recorded.first_response.record(now - connection.intended_ns);
        }
        if connection.requests_left == 0 || self.options.think_ms == 0 {
            return self.prepare(token, now);
        }
        connection.phase = Phase::Thinking;
        connection.serial += 1;
        let ticket = Ticket { token, serial: connection.serial };
        self.thinking.push(now + self.options.think_ms * 1_000_000, ticket);
        false
    }

    fn fail(&mut self, token: u64, failure: Failure) {
        let Some(connection) = self.table.get(token) else { return };
        if connection.phase == Phase::Connecting {
            let took = now_ns() - connection.intended_ns;
            self.connect_ended(token, took);
            self.connect_failed(failure);
        } else {
            let failures = &mut self.summary.failures.response;
            *match failure {
                Failure::Errno(Errno::ECONNRESET | Errno::EPIPE) => &mut failures.reset,
                Failure::Closed => &mut failures.closed,
                Failure::Timeout | Failure::Errno(Errno::ETIMEDOUT) => &mut failures.timeout,
                Failure::Errno(_) => &mut failures.other,
            } += 1;
        }
        self.table.remove(token);
    }

    fn connect_failed(&mut self, failure: Failure) {
        let failures = &mut self.summary.failures.connect;
        *match failure {
            Failure::Errno(Errno::ECONNREFUSED) => &mut failures.refused,
            Failure::Errno(Errno::ECONNRESET | Errno::EPIPE) => &mut failures.reset,
            Failure::Errno(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => &mut failures.unreachable,
            Failure::Errno(Errno::EADDRNOTAVAIL) => &mut failures.no_port,
            Failure::Timeout | Failure::Errno(Errno::ETIMEDOUT) => &mut failures.timeout,
            Failure::Errno(_) | Failure::Closed => &mut failures.other,
        } += 1;
    }

    fn progress(&mut self, now: u64) {
        if !self.options.quiet {
            let summary = &self.summary;
            let p99 = |latencies: &Latencies| {
                latencies
                    .summary()
                    .p99
                    .map_or_else(|| "–".to_owned(), |micros| format!("{:.1} ms", micros as f64 / 1e3))
            };
            say(format_args!(
                "{:4.0} s  started {}  open {}  completed {}  failed {}  skipped {}  connect p99 {}  response p99 {}",
                (now - self.start_ns) as f64 / 1e9,
                summary.started,
                self.table.open,
                summary.completed,
                summary.failures.connect.total() + summary.failures.response.total(),
                summary.skipped.total(),
                p99(&self.recorded.recent_connect),
                p99(&self.recorded.recent_response),
            ));
        }
        self.recorded.recent_connect.clear();
        self.recorded.recent_response.clear();
    }
}
