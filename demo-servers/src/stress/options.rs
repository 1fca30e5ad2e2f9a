//! Command line of `stress`.

use crate::cli::{positive, usage};
use crate::duration;
use crate::protocol::piece;
use crate::target::Place;
use clap::builder::TypedValueParser;
use clap::{Parser, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Distribution of the times between arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// All times are equal
    Constant,
    /// Exponential, as of independent users
    Poisson,
}

/// Connections that start at the same instant, repeatedly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// Number of connections per burst.
    pub connections: u64,
    /// Time between bursts, and before the first one.
    pub every: Duration,
}

fn burst(text: &str) -> Result<Burst, String> {
    let parts = text.split_once(':').and_then(|(count, every)| Some((count.parse().ok()?, every.parse().ok()?)));
    match parts {
        Some((connections, every))
            if (1..=1_000_000).contains(&connections) && (1..=86_400_000u64).contains(&every) =>
        {
            Ok(Burst { connections, every: Duration::from_millis(every) })
        }
        _ => Err("must be N:EVERY_MS, with N from 1 to 1000000 and EVERY_MS from 1 to a day".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    positive(text).and_then(|rate| if rate <= 1e7 { Ok(rate) } else { Err("must be at most 10000000".to_owned()) })
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=100.0).contains(&number) => Ok(number),
        _ => Err("must be a number from 0 to 100".to_owned()),
    }
}

fn text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn target(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "must be ADDRESS:PORT, such as 127.0.0.1:7001 or [::1]:7001".to_owned())
}

/// Loads a server with connections that start at fixed times, however slow the server is (open loop). With --closed,
/// users wait for the server instead.
///
/// Prints its results as one line of JSON on stdout when it ends, also by SIGTERM, SIGINT or SIGHUP, and upon SIGUSR1
/// those so far; progress goes to stderr. Latencies count from the intended start: if the generator itself is late,
/// that is part of them.
#[derive(Debug, Clone, Parser)]
#[command(name = "stress", version)]
pub struct Options {
    /// The server: a loopback address or, inside another network namespace, one of its own addresses
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = target)]
    pub target: SocketAddr,
    /// Connections per second
    #[arg(long, value_parser = rate)]
    pub rate: Option<f64>,
    /// Distribution of the times between connections
    #[arg(long, value_enum, default_value = "constant")]
    pub arrivals: Arrivals,
    /// Seed of the Poisson arrivals; the same seed gives the same times
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Start N connections at once every EVERY_MS milliseconds, in addition to --rate or instead of it
    #[arg(long, value_name = "N:EVERY_MS", value_parser = burst)]
    pub burst: Option<Burst>,
    /// Start connections for this time, such as 30s or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    pub duration: Option<Duration>,
    /// Start this many connections
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub connections: Option<u64>,
    /// Requests per connection; with 0 a connection is closed when it is established
    #[arg(long, default_value_t = 1)]
    pub requests: u64,
    /// Size of a request in bytes, the same as the server's
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub request_bytes: u64,
    /// The text of a request, for servers that expect one: 'GET / HTTP/1.1' and so on, with its line ends
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["request_bytes", "slow_senders"], value_parser = text)]
    pub request_text: Option<String>,
    /// Size of a response in bytes, the same as the server's
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=1 << 30))]
    pub response_bytes: u64,
    /// Pause between a response and the next request in milliseconds
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=86_400_000))]
    pub think_ms: u64,
    /// Pause between the connect and the first request in milliseconds
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=86_400_000),
          conflicts_with = "pool")]
    pub first_delay_ms: u64,
    /// Send the first request in the SYN, once the server has given out its cookie (TCP Fast Open)
    #[arg(long, conflicts_with = "first_delay_ms")]
    pub fast_open: bool,
    /// Largest number of open connections; connections beyond it are skipped and counted
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=4_000_000))]
    pub max_open: u64,
    /// Time limit of a connect in milliseconds
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub connect_timeout_ms: u64,
    /// Time limit of a response in milliseconds
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub timeout_ms: u64,
    /// Connect from 127.0.0.1 to 127.0.0.N in turn, if one address has too few ports
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=254))]
    pub source_addresses: u8,
    /// Close by a reset (SO_LINGER 0), so that no port stays in TIME_WAIT
    #[arg(long)]
    pub rst_close: bool,
    /// Closed loop, for comparison: this many users, each of whom starts the next connection when the last one has
    /// ended. A slow server then gets less load
    #[arg(long, value_name = "USERS", value_parser = clap::value_parser!(u64).range(1..=100_000),
          conflicts_with_all = ["rate", "burst", "pool", "retries"])]
    pub closed: Option<u64>,
    /// Arrivals are requests that share a pool of this many open connections. A request that finds none free waits
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000),
          conflicts_with_all = ["requests", "think_ms", "retries", "slow_senders", "slow_readers", "silent",
                                "reset_queued"])]
    pub pool: Option<u64>,
    /// Try a failed connection again, up to this many times
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub retries: u32,
    /// Pause before such an attempt in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub retry_after_ms: u64,
    /// Double that pause with each attempt, up to a minute, and draw the real one between half and all of it
    #[arg(long)]
    pub backoff: bool,
    /// Percentage of connections that send their requests a tenth at a time
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub slow_senders: f64,
    /// Percentage of connections that read their responses a tenth at a time
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub slow_readers: f64,
    /// Pause of slow senders and readers before each tenth in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub slow_ms: u64,
    /// Percentage of connections that send nothing, and close after --timeout-ms
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub silent: f64,
    /// Percentage of connections that are reset as soon as they are established, which is while they are queued if the
    /// server accepts slowly
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub reset_queued: f64,
    /// Write each request in this many pieces, a call for each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub pieces: u64,
    /// Send small pieces at once (TCP_NODELAY) instead of waiting for the last one's ACK (Nagle's algorithm)
    #[arg(long)]
    pub nodelay: bool,
    /// Size of the receive buffer (SO_RCVBUF); the kernel doubles it. Default: the kernel adapts it
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1 << 30).map(|n| n as usize))]
    pub receive_buffer: Option<usize>,
    /// Do not print progress on stderr
    #[arg(long)]
    pub quiet: bool,
}

impl Options {
    /// The defaults for this target, without a load.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        Self::parse_from(["stress".to_owned(), "--target".to_owned(), target.to_string()])
    }

    /// Size of a request in bytes.
    #[must_use]
    pub fn request_size(&self) -> u64 {
        self.request_text.as_ref().map_or(self.request_bytes, |text| text.len() as u64)
    }

    /// The next piece to write of a request of which this many bytes are left.
    #[must_use]
    pub fn request_piece(&self, left: u64, largest: u64) -> &[u8] {
        let now = left.min(largest);
        let Some(text) = &self.request_text else { return piece(now) };
        let written = self.request_size() - left;
        &text.as_bytes()[written as usize..(written + now) as usize]
    }

    /// Refuses a target that load could harm, and combinations that have no meaning.
    ///
    /// # Errors
    /// One line naming the option.
    pub fn check(&self, place: &Place) -> anyhow::Result<()> {
        place.check(self.target)?;
        if self.rate.is_none() && self.burst.is_none() && self.closed.is_none() {
            return Err(usage("no load: give --rate, --burst or both, or --closed"));
        }
        if self.slow_senders + self.slow_readers + self.silent + self.reset_queued > 100.0 {
            return Err(usage("the percentages of connections that do not behave are more than 100 together"));
        }
        if self.slow_readers > 0.0 && self.response_bytes == 0 {
            return Err(usage("--slow-readers needs responses: --response-bytes is 0"));
        }
        if self.source_addresses > 1 && !matches!(self.target.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
            return Err(usage("--source-addresses needs an IPv4 loopback target"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse;

    fn options(arguments: &str) -> Result<Options, String> {
        let arguments = std::iter::once("stress").chain(arguments.split_whitespace()).map(Into::into);
        let options: Options = parse(arguments).map_err(|refusal| refusal.line)?;
        options
            .check(&Place { own_namespace: Some(false), addresses: Vec::new(), far_ends: Vec::new() })
            .map_err(|error| error.to_string())?;
        Ok(options)
    }

    #[test]
    fn meaningless_options_are_refused() {
        for good in [
            "--target 127.0.0.1:1 --rate 5",
            "--target [::1]:1 --burst 5:100",
            "--target 127.0.0.1:1 --closed 5",
            "--target 127.0.0.1:1 --rate 5 --pool 2",
        ] {
            options(good).expect(good);
        }
        for bad in [
            "--rate 5",
            "--target 127.0.0.1:1",
            "--target 127.0.0.1 --rate 5",
            "--target localhost:1 --rate 5",
            "--target 127.0.0.1:0 --rate 5",
            "--target 192.0.2.1:80 --rate 5",
            "--target 127.0.0.1:1 --rate 0",
            "--target 127.0.0.1:1 --rate inf",
            "--target 127.0.0.1:1 --burst 5",
            "--target 127.0.0.1:1 --burst 5:0",
            "--target 127.0.0.1:1 --rate 5 --connections 0",
            "--target 127.0.0.1:1 --rate 5 --for 0",
            "--target 127.0.0.1:1 --rate 5 --request-bytes 0",
            "--target 127.0.0.1:1 --rate 5 --arrivals uniform",
            "--target [::1]:1 --rate 5 --source-addresses 2",
            "--target 127.0.0.1:1 --rate 5 --closed 2",
            "--target 127.0.0.1:1 --closed 2 --pool 2",
            "--target 127.0.0.1:1 --closed 0",
            "--target 127.0.0.1:1 --rate 5 --pool 2 --requests 3",
            "--target 127.0.0.1:1 --rate 5 --silent 101",
            "--target 127.0.0.1:1 --rate 5 --silent nan",
            "--target 127.0.0.1:1 --rate 5 --silent 60 --slow-senders 60",
            "--target 127.0.0.1:1 --rate 5 --slow-readers 10 --response-bytes 0",
            "--target 127.0.0.1:1 --rate 5 --pieces 0",
            "--target 127.0.0.1:1 --rate 5 --request-text GET --request-bytes 3",
            "--target 127.0.0.1:1 --rate 5 --request-text GET --slow-senders 5",
            "--target 127.0.0.1:1 --rate 5 --request-text=",
        ] {
            let error = options(bad).expect_err(bad);
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn a_request_of_text_is_written_whole_in_pieces() {
        let options = options("--target 127.0.0.1:1 --rate 5 --request-text abcdefg").unwrap();
        let mut left = options.request_size();
        let mut written = Vec::new();
        while left > 0 {
            let piece = options.request_piece(left, 3);
            left -= piece.len() as u64;
            written.push(std::str::from_utf8(piece).unwrap());
        }
        assert_eq!(written, ["abc", "def", "g"]);
    }
}
