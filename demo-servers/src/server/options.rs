//! Command line of `demo-server`.

use crate::cli::usage;
use crate::duration;
use clap::{Parser, ValueEnum};
use std::net::IpAddr;
use std::time::Duration;

/// How roles are spread over threads, processes and sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Pattern {
    /// One thread accepts, reads and writes (Node.js, Redis).
    SingleThread,
    /// One thread accepts; each connection is then read by one of several others (memcached).
    AcceptorReaders,
    /// One thread accepts and reads; others do the work and write the answers.
    MessageBalancing,
    /// Several threads or processes accept from the same socket (nginx workers, prefork).
    MultiAcceptor,
    /// SO_REUSEPORT: each acceptor has a listener of its own (nginx reuseport, Envoy).
    Sharded,
    /// One thread accepts, a new thread reads each connection; accept blocks.
    ThreadPerConnection,
    /// One process accepts, a new process reads each connection; accept blocks (PostgreSQL).
    ProcessPerConnection,
}

impl Pattern {
    /// The name used on the command line and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleThread => "single_thread",
            Self::AcceptorReaders => "acceptor_readers",
            Self::MessageBalancing => "message_balancing",
            Self::MultiAcceptor => "multi_acceptor",
            Self::Sharded => "sharded",
            Self::ThreadPerConnection => "thread_per_connection",
            Self::ProcessPerConnection => "process_per_connection",
        }
    }

    /// Whether its accept call blocks until a connection arrives.
    #[must_use]
    pub fn accept_blocks(self) -> bool {
        matches!(self, Self::ThreadPerConnection | Self::ProcessPerConnection)
    }
}

/// How connections are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum AcceptCall {
    /// accept4(2)
    Accept4,
    /// accept(2), then fcntl
    Accept,
    /// IORING_OP_ACCEPT, one submission per connection
    IoUring,
    /// IORING_OP_ACCEPT with IORING_ACCEPT_MULTISHOT
    IoUringMultishot,
}

/// A time in which nothing is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// Since the start of the server.
    pub start: Duration,
    /// From then on.
    pub length: Duration,
}

fn stall(text: &str) -> Result<Stall, String> {
    let parts = text.split_once(':').and_then(|(start, length)| Some((start.parse().ok()?, length.parse().ok()?)));
    // A day is more than any demonstration needs, and far from overflowing nanoseconds.
    match parts {
        Some((start, length)) if (1..=86_400_000).contains(&length) && start <= 86_400_000u64 => {
            Ok(Stall { start: Duration::from_millis(start), length: Duration::from_millis(length) })
        }
        _ => Err("must be START:LENGTH in milliseconds, LENGTH at least 1, each at most a day".to_owned()),
    }
}

/// A server with a known acceptor/reader pattern and exact counters.
///
/// Prints {"ready":true,…} on stdout when it listens, and its counters as one line of JSON on SIGUSR1 and at its end
/// (SIGTERM, SIGINT, SIGHUP, --for, --max-connections-total). SIGUSR2 stalls accepting for --stall-for.
#[derive(Debug, Clone, Parser)]
#[command(name = "demo-server", version)]
pub struct Options {
    /// How roles are spread over threads, processes and sockets
    #[arg(long, value_enum)]
    pub pattern: Pattern,
    /// Address to listen on, IPv4 or IPv6
    #[arg(long, default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// Port; 0 lets the kernel choose (the line `ready` tells)
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Do not serve IPv4 on an IPv6 wildcard address
    #[arg(long)]
    pub v6_only: bool,
    /// Backlog passed to listen(2)
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(i32).range(0..))]
    pub backlog: i32,
    /// acceptor_readers: readers; message_balancing: workers; multi_acceptor: acceptors; sharded: shards.
    /// The other patterns do not use it
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// multi_acceptor: processes instead of threads
    #[arg(long)]
    pub processes: bool,
    /// multi_acceptor: without EPOLLEXCLUSIVE, so that each connection wakes every acceptor
    #[arg(long)]
    pub no_exclusive: bool,
    /// sharded: shard N (from 0) listens and never accepts; repeatable
    #[arg(long, value_name = "N")]
    pub dead_shard: Vec<u32>,
    /// How connections are accepted
    #[arg(long, value_enum, default_value = "accept4")]
    pub accept_call: AcceptCall,
    /// Connections accepted per wake-up; 0: until accept would block
    #[arg(long, default_value_t = 1)]
    pub accept_batch: u32,
    /// Pause before each accept, in microseconds (with io_uring: before each submission)
    #[arg(long, default_value_t = 0, value_parser = micros)]
    pub accept_delay_us: u64,
    /// Close each connection right after accept
    #[arg(long)]
    pub close_on_accept: bool,
    /// Accept nothing from START for LENGTH milliseconds, counted from the start; repeatable. An accept that is
    /// already blocked, or submitted to io_uring, when the stall begins takes one more connection
    #[arg(long, value_name = "START:LENGTH", value_parser = stall)]
    pub stall: Vec<Stall>,
    /// How long SIGUSR2 stalls accepting, in milliseconds
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub stall_for: u64,
    /// Bytes of a request
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub request_bytes: u64,
    /// Bytes of a response; 0 answers nothing
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=1 << 30))]
    pub response_bytes: u64,
    /// Most bytes a read call takes
    #[arg(long, default_value_t = 16384, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub read_bytes: u32,
    /// Pause before each read, in microseconds
    #[arg(long, default_value_t = 0, value_parser = micros)]
    pub read_delay_us: u64,
    /// CPU time per request, in microseconds
    #[arg(long, default_value_t = 0, value_parser = micros)]
    pub cpu_us: u64,
    /// Blocking time per request, in microseconds
    #[arg(long, default_value_t = 0, value_parser = micros)]
    pub block_us: u64,
    /// End after so many accepted connections were closed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_connections_total: Option<u64>,
    /// End after this time, such as 30s or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    pub duration: Option<Duration>,
    /// Limit of open files, to see what a server does without descriptors (default: as many as allowed)
    #[arg(long, value_name = "N")]
    pub max_open_files: Option<u64>,
    /// Name of the process, at most 15 bytes
    #[arg(long, default_value = "demo-server")]
    pub name: String,
}

fn micros(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if number <= 86_400_000_000 => Ok(number),
        _ => Err("must be whole microseconds, at most a day".to_owned()),
    }
}

impl Options {
    /// Refuses combinations that mean nothing.
    ///
    /// # Errors
    /// One line naming the options.
    pub fn check(&self) -> anyhow::Result<()> {
        use Pattern::{MultiAcceptor, Sharded};
        let ring = matches!(self.accept_call, AcceptCall::IoUring | AcceptCall::IoUringMultishot);
        let pattern = self.pattern.name();
        for (given, option, allowed) in [
            (self.processes, "--processes", self.pattern == MultiAcceptor),
            (self.no_exclusive, "--no-exclusive", self.pattern == MultiAcceptor),
            (!self.dead_shard.is_empty(), "--dead-shard", self.pattern == Sharded),
            (ring, "--accept-call io_uring", !self.pattern.accept_blocks()),
            (self.v6_only, "--v6-only", self.address.is_ipv6()),
        ] {
            if given && !allowed {
                let what = if option == "--v6-only" { "an IPv4 address" } else { pattern };
                return Err(usage(format!("{option} means nothing for {what}")));
            }
        }
        if let Some(shard) = self.dead_shard.iter().find(|&&shard| shard >= self.threads) {
            return Err(usage(format!("--dead-shard {shard}: the shards are 0 to {}", self.threads - 1)));
        }
        if self.accept_call == AcceptCall::IoUringMultishot && (self.accept_delay_us > 0 || !self.stall.is_empty()) {
            return Err(usage("a multishot accept cannot be delayed or stalled: use --accept-call io_uring"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse;

    fn options(arguments: &str) -> Result<Options, String> {
        let arguments = std::iter::once("demo-server").chain(arguments.split_whitespace()).map(Into::into);
        let options: Options = parse(arguments).map_err(|refusal| refusal.line)?;
        options.check().map_err(|error| error.to_string())?;
        Ok(options)
    }

    #[test]
    fn every_pattern_has_its_name() {
        for pattern in Pattern::value_variants() {
            assert_eq!(options(&format!("--pattern {}", pattern.name())).unwrap().pattern, *pattern);
        }
    }

    #[test]
    fn stalls_are_read_in_milliseconds() {
        let stalls = options("--pattern sharded --stall 0:50 --stall 100:20").unwrap().stall;
        assert_eq!(stalls[1], Stall { start: Duration::from_millis(100), length: Duration::from_millis(20) });
        for bad in ["5", "a:b", "1:0", "-1:5", "1:2:3", "0:99999999999", "99999999999999999999:1"] {
            assert!(options(&format!("--pattern sharded --stall={bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for bad in [
            "--pattern nginx",
            "--pattern single_thread --port 65536",
            "--pattern single_thread --threads 0",
            "--pattern single_thread --processes",
            "--pattern single_thread --no-exclusive",
            "--pattern multi_acceptor --dead-shard 0",
            "--pattern sharded --threads 2 --dead-shard 2",
            "--pattern thread_per_connection --accept-call io_uring",
            "--pattern single_thread --accept-call io_uring_multishot --accept-delay-us 1",
            "--pattern single_thread --request-bytes 0",
            "--pattern single_thread --for 0",
            "--pattern single_thread --for inf",
            "--pattern single_thread --v6-only",
        ] {
            let error = options(bad).expect_err(bad);
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
