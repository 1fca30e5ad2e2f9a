//! What clients print, and how failures are counted.

use demo_servers::stress::summary::{ConnectFailures, Distribution, Latencies, ResponseFailures, Summary};
use serde::{Deserialize, Serialize};
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The JSON that a client prints: what `stress` prints, and what only protocols have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Printed {
    /// As `stress` prints it.
    #[serde(flatten)]
    pub summary: Summary,
    /// Time from the intended start until the first request can be sent: connect, TLS, and the protocol's own start.
    pub setup_us: Distribution,
    /// Time of the TLS handshake.
    pub handshake_us: Distribution,
    /// Handshakes that resumed an earlier session.
    pub resumed: u64,
    /// Messages that subscribers received.
    pub messages: u64,
    /// Time from the publication of a message until a subscriber has it.
    pub delay_us: Distribution,
    /// Messages that a subscriber saw to be missing.
    pub missed: u64,
    /// Requests whose session the server did not know.
    pub lost_sessions: u64,
}

/// What is being recorded.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) summary: Summary,
    pub(crate) open: u64,
    pub(crate) start_delay: Latencies,
    pub(crate) connect: Latencies,
    pub(crate) handshake: Latencies,
    pub(crate) setup: Latencies,
    pub(crate) response: Latencies,
    pub(crate) first_response: Latencies,
    pub(crate) delay: Latencies,
    pub(crate) resumed: u64,
    pub(crate) messages: u64,
    pub(crate) missed: u64,
    pub(crate) lost_sessions: u64,
}

impl Record {
    /// Counts a connection that failed before or after it was established.
    pub(crate) fn failed(&mut self, established: bool, error: &anyhow::Error) {
        let failures = &mut self.summary.failures;
        if established {
            response_failed(&mut failures.response, error);
        } else {
            connect_failed(&mut failures.connect, error);
        }
    }

    /// The results so far.
    pub(crate) fn printed(&self, seconds: f64) -> Printed {
        let mut summary = self.summary.clone();
        summary.seconds = seconds;
        summary.unfinished = self.open;
        summary.goodput_per_second = summary.completed as f64 / seconds;
        summary.start_delay_us = self.start_delay.summary();
        summary.connect_us = self.connect.summary();
        summary.response_us = self.response.summary();
        summary.first_response_us = self.first_response.summary();
        Printed {
            summary,
            setup_us: self.setup.summary(),
            handshake_us: self.handshake.summary(),
            resumed: self.resumed,
            messages: self.messages,
            delay_us: self.delay.summary(),
            missed: self.missed,
            lost_sessions: self.lost_sessions,
        }
    }
}

/// A record that several tasks write.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Record>>);

impl Shared {
    /// It must not be held across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kind of the first I/O error in the chain.
fn kind(error: &anyhow::Error) -> Option<ErrorKind> {
    error.chain().find_map(|cause| cause.downcast_ref::<Error>()).map(Error::kind)
}

fn connect_failed(failures: &mut ConnectFailures, error: &anyhow::Error) {
    *match kind(error) {
        Some(ErrorKind::ConnectionRefused) => &mut failures.refused,
        Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => &mut failures.reset,
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => &mut failures.unreachable,
        Some(ErrorKind::AddrNotAvailable) => &mut failures.no_port,
        Some(ErrorKind::TimedOut) => &mut failures.timeout,
        _ => &mut failures.other,
    } += 1;
}

fn response_failed(failures: &mut ResponseFailures, error: &anyhow::Error) {
    *match kind(error) {
        Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => &mut failures.reset,
        Some(ErrorKind::UnexpectedEof) => &mut failures.closed,
        Some(ErrorKind::TimedOut) => &mut failures.timeout,
        _ => &mut failures.other,
    } += 1;
}
