//! Connecting, failing, and trying again.

use super::connection::{Connection, Failure, Phase, connect};
use super::engine::Engine;
use super::kind::Kind;
use super::options::Options;
use super::summary::Summary;
use super::tcp_info;
use super::timers::Ticket;
use crate::sys::now_ns;
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::{getsockopt, sockopt};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;

/// The longest pause before an attempt.
const LONGEST_PAUSE_MS: u64 = 60_000;

/// Attempts to come, after failed ones.
pub(super) struct Attempts {
    /// When it is due, the intended start of the first attempt, and how many have failed.
    pending: BinaryHeap<Reverse<(u64, u64, u32)>>,
    random: fastrand::Rng,
    next_source: u8,
}

impl Attempts {
    pub(super) fn new(options: &Options) -> Self {
        // Another sequence than that of the arrivals.
        let random = fastrand::Rng::with_seed(options.seed ^ 0x7265_7472);
        Self { pending: BinaryHeap::new(), random, next_source: 0 }
    }

    pub(super) fn pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn count(&self) -> u64 {
        self.pending.len() as u64
    }

    pub(super) fn next(&self) -> Option<u64> {
        self.pending.peek().map(|Reverse((due, ..))| *due)
    }

    /// The pause after this many failures.
    fn pause_ns(&mut self, options: &Options, failed: u32) -> u64 {
        let mut pause = options.retry_after_ms * 1_000_000;
        if options.backoff {
            let doubled = pause.saturating_mul(1 << failed.saturating_sub(1).min(16));
            pause = doubled.min(LONGEST_PAUSE_MS * 1_000_000);
            // Clients that failed together must not come back together.
            pause = pause / 2 + self.random.u64(0..=pause / 2);
        }
        pause
    }
}

impl Engine<'_> {
    /// Whether a user of a closed loop may start another connection.
    pub(super) fn user_may_start(&self, now: u64) -> bool {
        let over = self.options.duration.is_some_and(|length| now >= self.start_ns + length.as_nanos() as u64);
        !over && self.options.connections.is_none_or(|most| self.summary.due < most)
    }

    /// Starts the attempts that are due.
    pub(super) fn try_again(&mut self) {
        while let Some(Reverse((due, intended_ns, failed))) = self.attempts.pending.peek().copied() {
            if due > now_ns() {
                return;
            }
            self.attempts.pending.pop();
            self.summary.retries += 1;
            self.begin(Kind::Ordinary, intended_ns, due, failed);
        }
    }

    /// Connects.
    pub(super) fn begin(&mut self, kind: Kind, intended_ns: u64, attempt_ns: u64, attempt: u32) {
        if self.table.open >= self.options.max_open {
            self.summary.skipped.max_open += 1;
            return self.user_is_free();
        }
        let source = (self.options.source_addresses > 1).then(|| {
            self.attempts.next_source = self.attempts.next_source % self.options.source_addresses + 1;
            Ipv4Addr::new(127, 0, 0, self.attempts.next_source)
        });
        let began = now_ns();
        let result = connect(self.options, kind, source);
        if let Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) = result {
            self.summary.skipped.no_descriptor += 1;
            return self.user_is_free();
        }
        self.summary.started += 1;
        if let Some(fate) = self.summary.misbehaving.of(kind) {
            fate.started += 1;
        }
        self.recorded.start_delay.record(began - attempt_ns);
        let fd = match result {
            Ok(fd) => fd,
            Err(error) => {
                self.connect_failed(kind, Failure::Errno(error));
                self.attempt_failed(kind, intended_ns, attempt);
                return self.user_is_free();
            }
        };
        let token = self.table.insert(Connection {
            fd,
            phase: Phase::Connecting,
            kind,
            intended_ns,
            attempt_ns,
            attempt,
            request_ns: intended_ns,
            requests_left: if self.options.pool.is_some() { u64::MAX } else { self.options.requests },
            first_response: true,
            syn_retries: 0,
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

    /// An event on a connection that is being established.
    pub(super) fn connect_event(&mut self, token: u64, events: EpollFlags) {
        if events.contains(EpollFlags::EPOLLERR) {
            let Some(connection) = self.table.get(token) else { return };
            let error = getsockopt(&connection.fd, sockopt::SocketError).unwrap_or(0);
            self.fail(token, Failure::Errno(Errno::from_raw(error)));
        } else if events.contains(EpollFlags::EPOLLOUT) {
            self.connected(token);
        }
    }

    fn connected(&mut self, token: u64) {
        let now = now_ns();
        let Some(connection) = self.table.get_mut(token) else { return };
        connection.serial += 1;
        let took = now - connection.attempt_ns;
        // A request for the pool was due when it arrived.
        let due = if self.options.pool.is_some() { connection.intended_ns } else { now };
        let kind = connection.kind;
        self.summary.established += 1;
        self.recorded.connect.record(took);
        self.recorded.recent_connect.record(took);
        self.connect_ended(token, took);
        match kind {
            Kind::Silent => self.keep_silent(token),
            Kind::Reset => self.complete(token),
            Kind::Ordinary | Kind::SlowSender | Kind::SlowReader if self.options.first_delay_ms > 0 => {
                self.hold(token, now);
            }
            Kind::Ordinary | Kind::SlowSender | Kind::SlowReader => self.request(token, due),
        }
    }

    /// Sends the first request after the pause of --first-delay-ms.
    fn hold(&mut self, token: u64, now: u64) {
        let Some(connection) = self.table.get_mut(token) else { return };
        connection.phase = Phase::Thinking;
        let ticket = Ticket { token, serial: connection.serial };
        self.holding.push(now + self.options.first_delay_ms * 1_000_000, ticket);
    }

    /// Adds the connects that are still under way to the slow ones and to the retries.
    pub(super) fn count_unfinished_connects(&self, summary: &mut Summary) {
        let now = now_ns();
        for connection in self.table.iter().filter(|connection| connection.phase == Phase::Connecting) {
            summary.slow_connects.count(now.saturating_sub(connection.attempt_ns));
            let retries = tcp_info::read(&connection.fd).map_or(0, |info| info.retransmissions);
            summary.syn_retries.count(retries);
        }
    }

    /// Counts the time and the SYN retries of a connect, whether it succeeded or not.
    fn connect_ended(&mut self, token: u64, took_ns: u64) {
        self.summary.slow_connects.count(took_ns);
        let Some(connection) = self.table.get_mut(token) else { return };
        if let Some(info) = tcp_info::read(&connection.fd) {
            connection.syn_retries = info.retransmissions;
            self.summary.syn_retries.count(info.retransmissions);
        }
    }

    /// A limit of time is over.
    pub(super) fn timed_out(&mut self, ticket: Ticket) {
        let Some(connection) = self.table.get(ticket.token) else { return };
        if !self.table.is_current(ticket) {
            return;
        }
        if connection.phase == Phase::Silent {
            self.complete(ticket.token);
        } else {
            self.fail(ticket.token, Failure::Timeout);
        }
    }

    /// Closes a connection that did what it meant to do.
    pub(super) fn complete(&mut self, token: u64) {
        let Some(kind) = self.table.get(token).map(|connection| connection.kind) else { return };
        match self.summary.misbehaving.of(kind) {
            Some(fate) => fate.completed += 1,
            None => self.summary.completed += 1,
        }
        self.close(token);
        self.user_is_free();
    }

    pub(super) fn fail(&mut self, token: u64, failure: Failure) {
        let Some(connection) = self.table.get(token) else { return };
        let (kind, intended_ns, attempt) = (connection.kind, connection.intended_ns, connection.attempt);
        let was_idle = connection.phase == Phase::Idle;
        if connection.phase == Phase::Connecting {
            let took = now_ns().saturating_sub(connection.attempt_ns);
            self.connect_ended(token, took);
            self.connect_failed(kind, failure);
        } else if let Some(fate) = self.summary.misbehaving.of(kind) {
            fate.failed += 1;
        } else if !was_idle {
            let failures = &mut self.summary.failures.response;
            *match failure {
                Failure::Errno(Errno::ECONNRESET | Errno::EPIPE) => &mut failures.reset,
                Failure::Closed => &mut failures.closed,
                Failure::Timeout | Failure::Errno(Errno::ETIMEDOUT) => &mut failures.timeout,
                Failure::Errno(_) => &mut failures.other,
            } += 1;
        }
        self.close(token);
        self.attempt_failed(kind, intended_ns, attempt);
        self.user_is_free();
    }

    fn connect_failed(&mut self, kind: Kind, failure: Failure) {
        if let Some(fate) = self.summary.misbehaving.of(kind) {
            fate.failed += 1;
            return;
        }
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

    /// Tries again after a pause, or gives up.
    fn attempt_failed(&mut self, kind: Kind, intended_ns: u64, attempt: u32) {
        if kind != Kind::Ordinary || self.options.pool.is_some() {
            return;
        }
        if attempt >= self.options.retries {
            self.summary.gave_up += 1;
            return;
        }
        let due = now_ns() + self.attempts.pause_ns(self.options, attempt + 1);
        self.attempts.pending.push(Reverse((due, intended_ns, attempt + 1)));
    }

    fn user_is_free(&mut self) {
        self.users += u64::from(self.options.closed.is_some());
    }

    /// Closes a connection, after a last look at what the kernel knows of it.
    fn close(&mut self, token: u64) {
        let Some(connection) = self.table.get(token) else { return };
        if let Some(info) = tcp_info::read(&connection.fd).filter(|_| connection.phase != Phase::Connecting) {
            self.summary.retransmissions += u64::from(info.retransmissions.saturating_sub(connection.syn_retries));
            self.summary.receiver_limited_us += info.receiver_limited_us;
        }
        self.table.remove(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn pauses(arguments: &str) -> Vec<u64> {
        let line = format!("stress --target 127.0.0.1:1 --rate 1 --retries 9 {arguments}");
        let options = Options::parse_from(line.split_whitespace());
        let mut attempts = Attempts::new(&options);
        (1..=9).map(|failed| attempts.pause_ns(&options, failed) / 1_000_000).collect()
    }

    #[test]
    fn pauses_are_equal_or_grow() {
        assert_eq!(pauses("--retry-after-ms 500"), [500; 9]);
        let grown = pauses("--retry-after-ms 500 --backoff");
        for (place, pause) in grown.iter().enumerate() {
            let full = (500u64 << place).min(60_000);
            assert!((full / 2 - 1..=full).contains(pause), "{grown:?}");
        }
    }
}
