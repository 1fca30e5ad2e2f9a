//! What waits unread: a walk over the table of connections, when there is something to find.

use std::{
    io,
    time::{Duration, Instant},
};

use listentop_abi::listener::ListenerInfo;

use super::shared::SharedArray;
use crate::source::{live::visitor::Visitor, machine, pace::Pace};

/// A walk is repeated after this many times the CPU time that it took at the earliest: 1 % of a core at most.
const THRIFT: u32 = 100;

/// The iterators over the connections, and when they ran.
pub(crate) struct Walk {
    /// Over the sets of connections, and over those that found their set full.
    iterators: [Visitor; 2],
    pace: Pace,
    /// It ran, or was postponed, since the last sample.
    settled: bool,
    /// When it last ran, by the monotonic clock; 0 before the first time.
    walked_ns: u64,
}

impl Walk {
    pub(crate) fn new(iterators: [Visitor; 2]) -> Self {
        Self { iterators, pace: Pace::new(Instant::now(), THRIFT), settled: false, walked_ns: 0 }
    }

    /// From now on it runs for every sample with bytes that wait.
    pub(crate) fn be_lavish(&mut self) {
        self.pace.be_lavish();
    }

    /// A new sample begins.
    pub(crate) fn begin(&mut self) {
        self.settled = false;
    }

    /// Some listener has bytes that wait: walks over the connections, once per sample, and not more often than its cost
    /// allows. The outcome is in `info`, for every listener. Returns when the last walk was.
    ///
    /// # Errors
    /// What bpf(2) or read(2) says.
    pub(crate) fn settle(&mut self, info: &SharedArray<ListenerInfo>) -> io::Result<u64> {
        if std::mem::replace(&mut self.settled, true) {
            return Ok(self.walked_ns);
        }
        let (begin, cpu) = (Instant::now(), machine::thread_cpu());
        if self.pace.is_due(begin) {
            for slot in 0..info.length() {
                let record = info.pointer(slot);
                // SAFETY: inside the mapping; fields of a record of integers. Only the iterators below write them, and
                // they do not run now.
                unsafe {
                    if (*record).unread_ns != 0 || (*record).passed_bytes != 0 || (*record).accepted_unread != 0 {
                        (&raw mut (*record).unread_ns).write_volatile(0);
                        (&raw mut (*record).passed_bytes).write_volatile(0);
                        (&raw mut (*record).accepted_unread).write_volatile(0);
                    }
                }
            }
            for iterator in &self.iterators {
                iterator.run()?;
            }
            self.walked_ns = machine::monotonic_ns();
            self.pace.has_read(begin, machine::thread_cpu().saturating_sub(cpu));
        }
        Ok(self.walked_ns)
    }

    /// Time between two walks, if it is longer than that between two samples.
    pub(crate) fn every(&self) -> Option<Duration> {
        self.pace.every()
    }
}
