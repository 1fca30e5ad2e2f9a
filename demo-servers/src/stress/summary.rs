//! The results of `stress`.

use super::kind::Misbehaving;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency, an hour. Latencies are recorded in nanoseconds with three significant digits.
const HIGHEST_NS: u64 = 3_600_000_000_000;

/// A distribution of latencies that is being recorded.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("these bounds are valid"))
    }
}

impl Latencies {
    /// Records a latency. A longer one counts as an hour.
    pub fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds.max(1));
    }

    /// Removes all values.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The distribution in microseconds.
    #[must_use]
    pub fn summary(&self) -> Distribution {
        let at = |quantile| (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile) / 1000);
        Distribution {
            count: self.0.len(),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
        }
    }
}

/// A distribution in microseconds, to three significant digits; `null` where nothing was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are clear")]
pub struct Distribution {
    pub count: u64,
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p95: Option<u64>,
    pub p99: Option<u64>,
    pub p999: Option<u64>,
    pub max: Option<u64>,
}

/// Connections that were due and not started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// --max-open connections were open.
    pub max_open: u64,
    /// No file descriptor was left.
    pub no_descriptor: u64,
}

impl Skipped {
    /// All kinds together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.max_open + self.no_descriptor
    }
}

/// Connects that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectFailures {
    /// ECONNREFUSED: no listener.
    pub refused: u64,
    /// ECONNRESET: reset by a listener, such as with tcp_abort_on_overflow.
    pub reset: u64,
    /// No answer in time.
    pub timeout: u64,
    /// No route.
    pub unreachable: u64,
    /// No local port left.
    pub no_port: u64,
    /// Anything else.
    pub other: u64,
}

impl ConnectFailures {
    /// All kinds together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.refused + self.reset + self.timeout + self.unreachable + self.no_port + self.other
    }
}

/// Connections that failed after they were established.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseFailures {
    /// ECONNRESET or EPIPE.
    pub reset: u64,
    /// The server closed before the last response was complete.
    pub closed: u64,
    /// No complete response in time.
    pub timeout: u64,
    /// Anything else.
    pub other: u64,
}

impl ResponseFailures {
    /// All kinds together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.reset + self.closed + self.timeout + self.other
    }
}

/// Failures by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// Before the connection was established.
    pub connect: ConnectFailures,
    /// Afterwards.
    pub response: ResponseFailures,
}

/// Connects by how often their SYN was sent again, whether they succeeded, failed or were unfinished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SynRetries {
    /// Once.
    pub one: u64,
    /// Twice.
    pub two: u64,
    /// Three times or more.
    pub three_or_more: u64,
}

impl SynRetries {
    /// Counts one connect whose SYN was sent again `retries` times.
    pub fn count(&mut self, retries: u32) {
        match retries {
            0 => {}
            1 => self.one += 1,
            2 => self.two += 1,
            _ => self.three_or_more += 1,
        }
    }
}

/// Connects by time from the intended start, whether they succeeded, failed or were unfinished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowConnects {
    /// 1 s or more.
    pub s1: u64,
    /// 3 s or more (counted in `s1` too).
    pub s3: u64,
    /// 7 s or more (counted in `s1` and `s3` too).
    pub s7: u64,
}

impl SlowConnects {
    /// Counts one connect.
    pub fn count(&mut self, nanoseconds: u64) {
        for (bound, counter) in [(1, &mut self.s1), (3, &mut self.s3), (7, &mut self.s7)] {
            *counter += u64::from(nanoseconds >= bound * 1_000_000_000);
        }
    }
}

/// The JSON that `stress` prints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The server.
    pub target: String,
    /// Time from the start to the end of the last connection.
    pub seconds: f64,
    /// Connections that were due: started or skipped.
    pub due: u64,
    /// Connections whose connect was called. With --retries each attempt is one.
    pub started: u64,
    /// Connections that were due and not started.
    pub skipped: Skipped,
    /// Connections that were established.
    pub established: u64,
    /// Connections with all their responses.
    pub completed: u64,
    /// Connections that failed, by kind. With --retries each failed attempt counts.
    pub failures: Failures,
    /// Connections that were open when a signal ended the load.
    pub unfinished: u64,
    /// Largest number of open connections.
    pub peak_open: u64,
    /// Requests that were written completely.
    pub requests: u64,
    /// Responses that were read completely.
    pub responses: u64,
    /// Bytes of requests.
    pub sent_bytes: u64,
    /// Bytes of responses.
    pub received_bytes: u64,
    /// SYN retransmissions per connect, from the kernel's TCP_INFO (tcpi_total_retrans): exact.
    pub syn_retries: SynRetries,
    /// Slow connects by time.
    pub slow_connects: SlowConnects,
    /// Time from the intended start to the connect call: the delay of the generator itself.
    pub start_delay_us: Distribution,
    /// Time from the intended start of the attempt until the connection is established.
    pub connect_us: Distribution,
    /// Time from the intended request until its response is complete. The first request is intended when the
    /// connection is established, the next ones after the think time.
    pub response_us: Distribution,
    /// Time from the intended start until the first response is complete: what a user waits, failed attempts included.
    pub first_response_us: Distribution,
    /// The answers since the results were printed last: the first of a connection from its intended start, others from
    /// their intended request.
    #[serde(default)]
    pub recent_answers_us: Distribution,
    /// Attempts after a failed one (--retries); they count in `started` too.
    #[serde(default)]
    pub retries: u64,
    /// Connections whose last attempt failed: users who got nothing.
    #[serde(default)]
    pub gave_up: u64,
    /// Connections with all their responses, per second: what users got.
    #[serde(default)]
    pub goodput_per_second: f64,
    /// Connections that do not behave. Only ordinary ones count in `completed`, `failures`, and the distributions of
    /// responses.
    #[serde(default)]
    pub misbehaving: Misbehaving,
    /// The pool of connections, with --pool.
    #[serde(default)]
    pub pool: Option<Pool>,
    /// Segments that the kernel sent again after the connect, of all connections that have ended.
    #[serde(default)]
    pub retransmissions: u64,
    /// How long the kernel could not send because the server's receive window was full, summed over the connections
    /// that have ended.
    #[serde(default)]
    pub receiver_limited_us: u64,
}

/// A pool of connections under load. Each arrival is a request, which counts as a completed connection when it is
/// answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Largest number of connections.
    pub size: u64,
    /// Connections that were opened, also to replace failed ones.
    pub opened: u64,
    /// Largest number of requests that waited for a connection.
    pub peak_waiting: u64,
    /// Time that each request waited for a connection of the pool.
    pub wait_us: Distribution,
}

#[cfg(test)]
mod tests {
    use super::{SlowConnects, SynRetries};

    #[test]
    fn retries_are_counted_by_their_number() {
        for (retries, expected) in
            [(0, (0, 0, 0)), (1, (1, 0, 0)), (2, (0, 1, 0)), (3, (0, 0, 1)), (4, (0, 0, 1)), (127, (0, 0, 1))]
        {
            let mut counted = SynRetries::default();
            counted.count(retries);
            assert_eq!((counted.one, counted.two, counted.three_or_more), expected, "{retries}");
        }
    }

    #[test]
    fn slow_connects_are_in_all_classes_that_they_reach() {
        for (milliseconds, expected) in [
            (999, (0, 0, 0)),
            (1000, (1, 0, 0)),
            (2999, (1, 0, 0)),
            (3000, (1, 1, 0)),
            (6999, (1, 1, 0)),
            (7000, (1, 1, 1)),
            (60_000, (1, 1, 1)),
        ] {
            let mut counted = SlowConnects::default();
            counted.count(milliseconds * 1_000_000);
            assert_eq!((counted.s1, counted.s3, counted.s7), expected, "{milliseconds} ms");
        }
    }
}
