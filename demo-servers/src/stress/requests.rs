//! Requests and responses of a connection.

use super::connection::{Phase, Progress};
use super::engine::Engine;
use super::kind::Kind;
use super::timers::Ticket;
use crate::sys::now_ns;

impl Engine<'_> {
    /// Sends the next request, which was due at `due_ns`, or ends the connection after the last one.
    pub(super) fn request(&mut self, token: u64, due_ns: u64) {
        if self.prepare(token, due_ns) {
            self.write(token);
        }
    }

    /// Prepares the next request. Returns false if nothing is to be written now: the last one was answered, which ends
    /// the connection, or it is sent slowly.
    fn prepare(&mut self, token: u64, due_ns: u64) -> bool {
        let Some(connection) = self.table.get_mut(token) else { return false };
        if connection.requests_left == 0 {
            self.complete(token);
            return false;
        }
        connection.requests_left -= 1;
        connection.request_ns = due_ns;
        let slow = connection.kind == Kind::SlowSender;
        let bytes = self.options.request_size();
        connection.phase = if slow { Phase::SlowWriting(bytes) } else { Phase::Writing(bytes) };
        connection.serial += 1;
        if slow {
            self.tick_later(token);
            return false;
        }
        let ticket = Ticket { token, serial: connection.serial };
        self.responding.push(now_ns() + self.options.timeout_ms * 1_000_000, ticket);
        true
    }

    pub(super) fn write(&mut self, token: u64) {
        let options = self.options;
        let largest = options.request_size().div_ceil(options.pieces);
        while let Some(connection) = self.table.get_mut(token) {
            let (bytes, result) = connection.write(options, largest);
            self.summary.sent_bytes += bytes;
            match result {
                Ok(Progress::Written) => {
                    if !self.written(token) {
                        return;
                    }
                }
                Ok(_) => return,
                Err(failure) => return self.fail(token, failure),
            }
        }
    }

    /// A request is written. Returns true if the next one must be written now.
    pub(super) fn written(&mut self, token: u64) -> bool {
        let Some(connection) = self.table.get_mut(token) else { return false };
        self.summary.requests += 1;
        let bytes = self.options.response_bytes;
        if connection.kind == Kind::SlowReader {
            connection.phase = Phase::SlowReading(bytes);
            // What limits an ordinary response does not limit this one.
            connection.serial += 1;
            self.tick_later(token);
            return false;
        }
        connection.phase = Phase::Reading(bytes);
        // Without responses the next request follows at once.
        bytes == 0 && self.responded(token)
    }

    pub(super) fn read(&mut self, token: u64, buffer: &mut [u8]) {
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
    pub(super) fn responded(&mut self, token: u64) -> bool {
        let now = now_ns();
        let Some(connection) = self.table.get_mut(token) else { return false };
        self.summary.responses += 1;
        if connection.kind == Kind::Ordinary {
            let took = now - connection.request_ns;
            self.recorded.response.record(took);
            self.recorded.recent_response.record(took);
            let is_first = std::mem::take(&mut connection.first_response);
            let waited = if is_first { now - connection.intended_ns } else { took };
            self.recorded.answers.record(waited);
            if is_first {
                self.recorded.first_response.record(waited);
            }
        }
        if self.options.pool.is_some() {
            self.summary.completed += 1;
            if let Some(due) = self.waiting.take(&mut self.recorded.pool_wait, now) {
                return self.prepare(token, due);
            }
            self.rest(token);
            return false;
        }
        let Some(connection) = self.table.get_mut(token) else { return false };
        if connection.requests_left == 0 || self.options.think_ms == 0 {
            return self.prepare(token, now);
        }
        connection.phase = Phase::Thinking;
        connection.serial += 1;
        let ticket = Ticket { token, serial: connection.serial };
        self.thinking.push(now + self.options.think_ms * 1_000_000, ticket);
        false
    }
}
