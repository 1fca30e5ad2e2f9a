//! The event loop: one thread, edge-triggered epoll, a timerfd for arrivals and deadlines. What a connection does is in
//! `attempts` (connect, fail, try again), `requests`, `misbehave` and `pool`; what others ask of
//! the load is in `orders`.

use super::attempts::Attempts;
use super::connection::Phase;
use super::kind::Kinds;
use super::options::Options;
use super::pool::Waiting;
use super::schedule::Schedule;
use super::summary::{Latencies, Summary};
use super::table::Table;
use super::timers::Timers;
use crate::sys::{now_ns, say};
use anyhow::Context;
use lab_control::Connection as Lab;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signalfd::SignalFd;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::time::Duration;

const TIMER: u64 = u64::MAX;
const SIGNAL: u64 = u64::MAX - 1;
const LAB: u64 = u64::MAX - 2;

/// Number of arrivals to start before events are handled, so that neither starves the other.
const ARRIVALS: usize = 64;

/// Distributions of one run.
#[derive(Default)]
pub(super) struct Recorded {
    pub(super) start_delay: Latencies,
    pub(super) connect: Latencies,
    pub(super) response: Latencies,
    pub(super) first_response: Latencies,
    pub(super) pool_wait: Latencies,
    /// Since the results were given last: each answer from when it was meant to be asked for, the first of a connection
    /// from the intended start.
    pub(super) answers: Latencies,
    /// Since the last line of progress.
    pub(super) recent_connect: Latencies,
    pub(super) recent_response: Latencies,
}

/// A running load.
pub(super) struct Engine<'a> {
    pub(super) options: &'a Options,
    pub(super) epoll: Epoll,
    timer: TimerFd,
    armed_ns: u64,
    pub(super) start_ns: u64,
    pub(super) schedule: Schedule,
    pub(super) kinds: Kinds,
    pub(super) table: Table,
    pub(super) connecting: Timers,
    pub(super) responding: Timers,
    pub(super) thinking: Timers,
    /// Connected, and to send their first request later.
    pub(super) holding: Timers,
    /// The next tick of slow senders and readers.
    pub(super) ticking: Timers,
    pub(super) attempts: Attempts,
    /// Users of a closed loop who have no connection.
    pub(super) users: u64,
    pub(super) waiting: Waiting,
    pub(super) summary: Summary,
    pub(super) recorded: Recorded,
    pub(super) ended: bool,
    pub(super) signals: &'a SignalFd,
    pub(super) lab: Option<Lab>,
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
            kinds: Kinds::new(options),
            table: Table::default(),
            connecting: Timers::default(),
            responding: Timers::default(),
            thinking: Timers::default(),
            holding: Timers::default(),
            ticking: Timers::default(),
            attempts: Attempts::new(options),
            users: options.closed.unwrap_or(0),
            waiting: Waiting::default(),
            summary: Summary { target: options.target.to_string(), ..Summary::default() },
            recorded: Recorded::default(),
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
        while !self.ended && self.has_work() {
            let now = now_ns();
            if now >= next_progress {
                self.progress(now);
                next_progress += 1_000_000_000;
            }
            self.arrive();
            self.expire(&mut buffer);
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

    /// Whether anything is under way or to come.
    fn has_work(&mut self) -> bool {
        let idle = if self.options.pool.is_some() { self.waiting.idle(&self.table) } else { 0 };
        self.table.open > idle
            || self.schedule.peek().is_some()
            || self.attempts.pending()
            || self.waiting.pending()
            || (self.users > 0 && self.user_may_start(now_ns()))
    }

    /// What was counted so far.
    pub(super) fn results(&mut self) -> Summary {
        let mut summary = self.summary.clone();
        let idle = if self.options.pool.is_some() { self.waiting.idle(&self.table) } else { 0 };
        summary.unfinished = self.table.open - idle + self.attempts.count() + self.waiting.count();
        self.count_unfinished_connects(&mut summary);
        summary.seconds = (now_ns() - self.start_ns) as f64 / 1e9;
        summary.goodput_per_second = summary.completed as f64 / summary.seconds;
        summary.start_delay_us = self.recorded.start_delay.summary();
        summary.connect_us = self.recorded.connect.summary();
        summary.response_us = self.recorded.response.summary();
        summary.first_response_us = self.recorded.first_response.summary();
        summary.recent_answers_us = self.recorded.answers.summary();
        self.recorded.answers.clear();
        summary.pool = self.options.pool.map(|size| self.waiting.summary(size, &self.recorded.pool_wait));
        summary
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
        let user = (self.users > 0 && self.user_may_start(now_ns())).then_some(0);
        let table = &self.table;
        [&mut self.connecting, &mut self.responding, &mut self.thinking, &mut self.holding, &mut self.ticking]
            .into_iter()
            .filter_map(|timers| timers.next(|ticket| table.is_current(ticket)))
            .chain(arrival)
            .chain(self.attempts.next())
            .chain(user)
            .min()
    }

    fn arrive(&mut self) {
        for _ in 0..ARRIVALS {
            let now = now_ns();
            let start = self.start_ns;
            let Some(offset) = self.schedule.next_until(now.saturating_sub(start)) else { break };
            self.arrived(start + offset);
        }
        for _ in 0..ARRIVALS {
            let now = now_ns();
            if self.users == 0 || !self.user_may_start(now) {
                break;
            }
            self.users -= 1;
            self.arrived(now);
        }
        self.replace_pooled();
        self.try_again();
    }

    /// A connection, or a request for the pool, is due.
    fn arrived(&mut self, intended_ns: u64) {
        self.summary.due += 1;
        if self.options.pool.is_some() {
            return self.pooled(intended_ns);
        }
        let kind = self.kinds.next();
        self.begin(kind, intended_ns, intended_ns, 0);
    }

    fn expire(&mut self, buffer: &mut [u8]) {
        let now = now_ns();
        while let Some((_, ticket)) = self.connecting.expired(now) {
            self.timed_out(ticket);
        }
        while let Some((_, ticket)) = self.responding.expired(now) {
            self.timed_out(ticket);
        }
        while let Some((due, ticket)) = self.thinking.expired(now) {
            if self.table.is_current(ticket) {
                self.request(ticket.token, due);
            }
        }
        while let Some((due, ticket)) = self.holding.expired(now) {
            if self.table.is_current(ticket) {
                self.request(ticket.token, due);
            }
        }
        while let Some((_, ticket)) = self.ticking.expired(now) {
            if self.table.is_current(ticket) {
                self.tick(ticket.token, buffer);
            }
        }
    }

    /// An event on a connection.
    fn advance(&mut self, token: u64, events: EpollFlags, buffer: &mut [u8]) {
        let Some(connection) = self.table.get_mut(token) else { return };
        match connection.phase {
            Phase::Connecting => self.connect_event(token, events),
            Phase::Writing(_) => self.write(token),
            // It reads when its tick comes, and notices then if the server is gone.
            Phase::SlowReading(_) => {}
            Phase::Reading(_) | Phase::Thinking | Phase::Idle | Phase::SlowWriting(_) | Phase::Silent => {
                if events.intersects(!EpollFlags::EPOLLOUT) {
                    self.read(token, buffer);
                }
            }
        }
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
