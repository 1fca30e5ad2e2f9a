//! A pool of connections that requests share: a request that finds none free waits in the client.

use super::connection::{Connection, Failure, Phase};
use super::engine::Engine;
use super::kind::Kind;
use super::summary::{Latencies, Pool};
use super::table::Table;
use crate::sys::now_ns;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use std::collections::VecDeque;
use std::os::fd::AsRawFd;

/// Requests that wait for a connection, and connections that wait for a request.
#[derive(Default)]
pub(super) struct Waiting {
    /// When each was due.
    requests: VecDeque<u64>,
    /// Tokens; some may have been closed meanwhile.
    idle: Vec<u64>,
    peak: u64,
    opened: u64,
}

impl Waiting {
    pub(super) fn pending(&self) -> bool {
        !self.requests.is_empty()
    }

    pub(super) fn count(&self) -> u64 {
        self.requests.len() as u64
    }

    /// Number of open connections without a request.
    pub(super) fn idle(&mut self, table: &Table) -> u64 {
        self.idle.retain(|token| table.get(*token).is_some());
        self.idle.len() as u64
    }

    /// The request that has waited longest.
    pub(super) fn take(&mut self, waits: &mut Latencies, now: u64) -> Option<u64> {
        let due = self.requests.pop_front()?;
        waits.record(now.saturating_sub(due));
        Some(due)
    }

    pub(super) fn summary(&self, size: u64, waits: &Latencies) -> Pool {
        Pool { size, opened: self.opened, peak_waiting: self.peak, wait_us: waits.summary() }
    }
}

/// Whether the server has left an idle connection open: there is nothing to read, not even an end. The end may have
/// come together with the last response, and then no event reports it.
fn is_open(connection: &Connection) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    recv(connection.fd.as_raw_fd(), &mut [0], flags) == Err(Errno::EAGAIN)
}

impl Engine<'_> {
    /// A request arrives.
    pub(super) fn pooled(&mut self, due_ns: u64) {
        while let Some(token) = self.waiting.idle.pop() {
            let Some(connection) = self.table.get(token).filter(|connection| connection.phase == Phase::Idle) else {
                continue;
            };
            if !is_open(connection) {
                self.fail(token, Failure::Closed);
                continue;
            }
            self.recorded.pool_wait.record(now_ns().saturating_sub(due_ns));
            return self.request(token, due_ns);
        }
        if self.waiting.count() >= self.options.max_open {
            self.summary.skipped.max_open += 1;
            return;
        }
        self.waiting.requests.push_back(due_ns);
        self.replace_pooled();
        self.waiting.peak = self.waiting.peak.max(self.waiting.count());
    }

    /// Opens connections for requests that wait, up to the size of the pool.
    pub(super) fn replace_pooled(&mut self) {
        let Some(size) = self.options.pool else { return };
        while self.table.open < size
            && let Some(due) = self.waiting.take(&mut self.recorded.pool_wait, now_ns())
        {
            self.waiting.opened += 1;
            self.begin(Kind::Ordinary, due, now_ns(), 0);
        }
    }

    /// Puts a connection back into the pool.
    pub(super) fn rest(&mut self, token: u64) {
        let Some(connection) = self.table.get_mut(token) else { return };
        connection.phase = Phase::Idle;
        connection.serial += 1;
        self.waiting.idle.push(token);
    }
}
