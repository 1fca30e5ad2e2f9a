//! Command line of `stress`.

use crate::cli::{positive, usage};
use crate::duration;
use crate::target::Place;
use clap::{Parser, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How the times between arrivals are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// All the same.
    Constant,
    /// Exponential: independent users.
    Poisson,
}

/// Connections that start at the same instant, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// Connections at once.
    pub connections: u64,
    /// From one burst to the next; the first comes after one such time.
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
        _ => Err("must be N:EVERY_MS, N from 1 to 1000000, EVERY_MS from 1 to a day".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    positive(text).and_then(|rate| if rate <= 1e7 { Ok(rate) } else { Err("must be at most 10000000".to_owned()) })
}

fn target(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "must be ADDRESS:PORT, such as 127.0.0.1:7001 or [::1]:7001".to_owned())
}

/// Open-loop load: connections start when they are due, however slow the server is.
///
/// Prints its results as one line of JSON on stdout at the end (also on SIGTERM, SIGINT, SIGHUP), progress on stderr.
/// Latencies count from the intended start, so that waiting is not hidden by a generator that waits too.
#[derive(Debug, Clone, Parser)]
#[command(name = "stress", version)]
pub struct Options {
    /// Server: loopback, or inside a network namespace of its own an address of that namespace
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = target)]
    pub target: SocketAddr,
    /// Connections per second
    #[arg(long, value_parser = rate)]
    pub rate: Option<f64>,
    /// Distribution of the times between connections
    #[arg(long, value_enum, default_value = "constant")]
    pub arrivals: Arrivals,
    /// Seed of the Poisson arrivals: the same seed gives the same times
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// N connections at once each EVERY_MS milliseconds, besides --rate or instead of it
    #[arg(long, value_name = "N:EVERY_MS", value_parser = burst)]
    pub burst: Option<Burst>,
    /// Start connections for this time, such as 30s or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    pub duration: Option<Duration>,
    /// Start so many connections
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub connections: Option<u64>,
    /// Requests per connection; 0 connects and closes
    #[arg(long, default_value_t = 1)]
    pub requests: u64,
    /// Bytes of a request, as the server expects them
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub request_bytes: u64,
    /// Bytes of a response, as the server sends them
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=1 << 30))]
    pub response_bytes: u64,
    /// Pause between a response and the next request, in milliseconds
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=86_400_000))]
    pub think_ms: u64,
    /// Most connections open at a time; those due beyond it are skipped and counted
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=4_000_000))]
    pub max_open: u64,
    /// Give up a connect after so many milliseconds
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub connect_timeout_ms: u64,
    /// Give up a response after so many milliseconds
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub timeout_ms: u64,
    /// Spread the client's end over 127.0.0.1 to 127.0.0.N when one address has too few ports
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=254))]
    pub source_addresses: u8,
    /// Close with a reset (SO_LINGER 0), which leaves no port in TIME_WAIT
    #[arg(long)]
    pub rst_close: bool,
    /// No progress on stderr
    #[arg(long)]
    pub quiet: bool,
}

impl Options {
    /// Refuses a target that load could harm, and combinations that mean nothing.
    ///
    /// # Errors
    /// One line naming the option.
    pub fn check(&self, place: &Place) -> anyhow::Result<()> {
        place.check(self.target)?;
        if self.rate.is_none() && self.burst.is_none() {
            return Err(usage("no load: give --rate, --burst or both"));
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
            .check(&Place { own_namespace: Some(false), addresses: Vec::new() })
            .map_err(|error| error.to_string())?;
        Ok(options)
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for good in ["--target 127.0.0.1:1 --rate 5", "--target [::1]:1 --burst 5:100"] {
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
        ] {
            let error = options(bad).expect_err(bad);
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
