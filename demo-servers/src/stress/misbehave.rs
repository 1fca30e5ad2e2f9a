//! Slow senders, slow readers and silent connections.

use super::connection::{Failure, Phase};
use super::engine::Engine;
use super::timers::Ticket;
use crate::protocol::piece;
use crate::sys::now_ns;
use nix::errno::Errno;
use nix::unistd::{read, write};

/// A slow sender or reader takes one in this many of its bytes at each tick.
const PARTS: u64 = 10;

impl Engine<'_> {
    /// Holds a connection open without a request.
    pub(super) fn keep_silent(&mut self, token: u64) {
        let Some(connection) = self.table.get_mut(token) else { return };
        connection.phase = Phase::Silent;
        connection.serial += 1;
        let ticket = Ticket { token, serial: connection.serial };
        self.responding.push(now_ns() + self.options.timeout_ms * 1_000_000, ticket);
        // A server that has closed already reported it together with the connect.
        self.read(token, &mut [0; 64]);
    }

    /// Lets the next tick of a slow connection come after its pause.
    pub(super) fn tick_later(&mut self, token: u64) {
        let Some(connection) = self.table.get(token) else { return };
        let ticket = Ticket { token, serial: connection.serial };
        self.ticking.push(now_ns() + self.options.slow_ms * 1_000_000, ticket);
    }

    /// Sends or reads the next piece of a slow connection.
    pub(super) fn tick(&mut self, token: u64, buffer: &mut [u8]) {
        match self.table.get(token).map(|connection| connection.phase) {
            Some(Phase::SlowWriting(left)) => self.write_slowly(token, left),
            Some(Phase::SlowReading(left)) => self.read_slowly(token, left, buffer),
            _ => {}
        }
    }

    fn write_slowly(&mut self, token: u64, left: u64) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let part = left.min(self.options.request_bytes.div_ceil(PARTS));
        match write(&connection.fd, piece(part)) {
            Ok(bytes) => {
                self.summary.sent_bytes += bytes as u64;
                let left = left - bytes as u64;
                if left > 0 {
                    connection.phase = Phase::SlowWriting(left);
                } else {
                    // From here on it is an ordinary connection that waits for its response.
                    connection.serial += 1;
                    let ticket = Ticket { token, serial: connection.serial };
                    self.responding.push(now_ns() + self.options.timeout_ms * 1_000_000, ticket);
                    if self.written(token) {
                        self.write(token);
                    }
                    return;
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return self.fail(token, Failure::Errno(error)),
        }
        self.tick_later(token);
    }

    fn read_slowly(&mut self, token: u64, left: u64, buffer: &mut [u8]) {
        let mut part = left.min(self.options.response_bytes.div_ceil(PARTS));
        let mut left = left;
        while part > 0 {
            let Some(connection) = self.table.get_mut(token) else { return };
            let room = (part as usize).min(buffer.len());
            match read(&connection.fd, &mut buffer[..room]) {
                Ok(0) => return self.fail(token, Failure::Closed),
                Ok(bytes) => {
                    self.summary.received_bytes += bytes as u64;
                    part -= bytes as u64;
                    left -= bytes as u64;
                    connection.phase = Phase::SlowReading(left);
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(error) => return self.fail(token, Failure::Errno(error)),
            }
        }
        if left > 0 {
            self.tick_later(token);
        } else if self.responded(token) {
            self.write(token);
        }
    }
}
