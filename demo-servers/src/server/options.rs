//! Command line of `demo-server`.

use super::shop::Costs;
use super::work::{Slow, Spread};
use crate::cli::usage;
use crate::duration;
use clap::builder::TypedValueParser;
use clap::{Parser, ValueEnum};
use std::net::IpAddr;
use std::time::Duration;

/// Which threads and processes accept, read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Pattern {
    /// One thread accepts, reads and writes (Node.js, Redis)
    SingleThread,
    /// One thread accepts; one of several others serves each connection (memcached)
    AcceptorReaders,
    /// One thread accepts and reads; others do the work and write the answers
    MessageBalancing,
    /// Several threads or processes accept from the same socket (nginx workers, prefork)
    MultiAcceptor,
    /// Each acceptor has a listener of its own, with SO_REUSEPORT (nginx reuseport, Envoy)
    Sharded,
    /// One thread accepts with a blocking call; a new thread serves each connection
    ThreadPerConnection,
    /// One process accepts with a blocking call; a new process serves each connection (PostgreSQL)
    ProcessPerConnection,
    /// One thread accepts at once; each of several workers takes the next connection from a queue inside the process
    /// and serves it to its end (Tomcat, Puma)
    ThreadPool,
    /// Several processes wait in a blocking accept call; each serves one connection to its end (Apache prefork)
    Prefork,
}

impl Pattern {
    /// Its name on the command line and in JSON, the same as listentop's.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether its accept call blocks until a connection arrives.
    #[must_use]
    pub fn accept_blocks(self) -> bool {
        matches!(self, Self::ThreadPerConnection | Self::ProcessPerConnection | Self::ThreadPool | Self::Prefork)
    }
}

/// The system call that accepts.
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

/// A time in which the server accepts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// When it begins, counted from the start of the server.
    pub start: Duration,
    /// How long it lasts.
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
/// When it listens it prints {"ready":true,…} on stdout. On SIGUSR1 and when it ends it prints its counters as one
/// line of JSON. It ends on SIGTERM, SIGINT or SIGHUP, after --for, or after --max-connections-total. On SIGUSR2 it
/// accepts nothing for --stall-for.
#[derive(Debug, Clone, Parser)]
#[command(name = "demo-server", version)]
pub struct Options {
    /// Which threads and processes accept, read and write
    #[arg(long, value_enum)]
    pub pattern: Pattern,
    /// Address to listen on, IPv4 or IPv6
    #[arg(long, default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// Port; with 0 the kernel chooses one, which the line {"ready":true,…} shows
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Do not accept IPv4 connections on an IPv6 wildcard address
    #[arg(long)]
    pub v6_only: bool,
    /// Backlog passed to listen(2)
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(i32).range(0..))]
    pub backlog: i32,
    /// Connections wait for the client's first data before they can be accepted, for about this many seconds
    /// (TCP_DEFER_ACCEPT)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i32).range(1..=3600))]
    pub defer_accept: Option<i32>,
    /// Take requests that come with the SYN, from this many clients at most whose handshake is not finished yet (TCP
    /// Fast Open)
    #[arg(long, value_name = "QUEUE", value_parser = clap::value_parser!(i32).range(1..=65_535))]
    pub fast_open: Option<i32>,
    /// Number of readers (acceptor_readers), workers (message_balancing, thread_pool), acceptors (multi_acceptor,
    /// prefork) or shards (sharded). The other patterns do not use it
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// For multi_acceptor: use processes instead of threads
    #[arg(long)]
    pub processes: bool,
    /// For multi_acceptor: do not use EPOLLEXCLUSIVE, so that each connection wakes every acceptor
    #[arg(long)]
    pub no_exclusive: bool,
    /// For sharded: shard N, counted from 1, listens but does not accept; repeatable
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub dead_shard: Vec<u32>,
    /// The system call that accepts
    #[arg(long, value_enum, default_value = "accept4")]
    pub accept_call: AcceptCall,
    /// Number of connections to accept per wake-up; 0: until accept would block
    #[arg(long, default_value_t = 1)]
    pub accept_batch: u32,
    /// Pause before each accept in microseconds (with io_uring: before each submission)
    #[arg(long, default_value_t = 0, value_parser = micros)]
    pub accept_delay_us: u64,
    /// Close each connection right after accept
    #[arg(long)]
    pub close_on_accept: bool,
    /// Accept nothing for LENGTH milliseconds, beginning START milliseconds after the start; repeatable. An accept
    /// that already blocks, or waits in io_uring, when this begins still takes one connection
    #[arg(long, value_name = "START:LENGTH", value_parser = stall)]
    pub stall: Vec<Stall>,
    /// After SIGUSR2, accept nothing for this many milliseconds
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub stall_for: u64,
    /// Size of a request in bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub request_bytes: u64,
    /// Size of a response in bytes; 0: no response
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=1 << 30))]
    pub response_bytes: u64,
    /// Largest number of bytes that a read call takes
    #[arg(long, default_value_t = 16384, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub read_bytes: u32,
    /// Pause before each read in microseconds
    #[arg(long, default_value_t = 0, value_parser = micros)]
    pub read_delay_us: u64,
    /// CPU time that each request costs, in microseconds
    #[arg(long, default_value_t = 0, value_parser = micros)]
    pub cpu_us: u64,
    /// Time that the thread sleeps for each request, in microseconds
    #[arg(long, default_value_t = 0, value_parser = micros)]
    pub block_us: u64,
    /// How these costs vary around their means
    #[arg(long, value_enum, default_value = "fixed")]
    pub work: Spread,
    /// Seed of unequal costs; the same seed gives the n-th request the same cost
    #[arg(long, default_value_t = 1)]
    pub work_seed: u64,
    /// One request in N blocks its thread for so many milliseconds more
    #[arg(long, value_name = "N:MILLISECONDS", value_parser = Slow::parse)]
    pub slow_request: Option<Slow>,
    /// Each request is an order of a shop: it computes for PRICE milliseconds (price_order), waits for a lock that
    /// another thread holds for STOCK milliseconds again and again (reserve_stock), and sleeps for JOURNAL milliseconds
    /// (write_journal)
    #[arg(long, value_name = "PRICE:STOCK:JOURNAL", value_parser = Costs::parse)]
    pub shop: Option<Costs>,
    /// Size of the receive buffer (SO_RCVBUF); the kernel doubles it. Default: the kernel adapts it
    #[arg(long, value_name = "BYTES", value_parser = buffer)]
    pub receive_buffer: Option<usize>,
    /// Size of the send buffer (SO_SNDBUF); the kernel doubles it. Default: the kernel adapts it
    #[arg(long, value_name = "BYTES", value_parser = buffer)]
    pub send_buffer: Option<usize>,
    /// Send small responses at once (TCP_NODELAY) instead of waiting for the last one's ACK
    #[arg(long)]
    pub nodelay: bool,
    /// Run on this CPU only, counted from 0
    #[arg(long, value_name = "CPU", value_parser = clap::value_parser!(u16).range(0..8192).map(usize::from))]
    pub pin: Option<usize>,
    /// Start this many threads that compute all the time beside the pattern's own
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=64))]
    pub hogs: u32,
    /// Give the pattern's threads the lowest priority (SCHED_IDLE): whoever else wants the CPU goes first
    #[arg(long)]
    pub idle_priority: bool,
    /// End when this many accepted connections have been closed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_connections_total: Option<u64>,
    /// End after this time, such as 30s or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    pub duration: Option<Duration>,
    /// Limit of open files, to see what a server without free descriptors does (default: the hard limit)
    #[arg(long, value_name = "N")]
    pub max_open_files: Option<u64>,
    /// Name of the process; the kernel keeps the first 15 bytes
    #[arg(long, default_value = "demo-server")]
    pub name: String,
}

fn buffer(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=1 << 30).contains(&number) => Ok(number),
        _ => Err("must be a number of bytes from 1 to 1 GiB".to_owned()),
    }
}

fn micros(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if number <= 86_400_000_000 => Ok(number),
        _ => Err("must be whole microseconds, at most a day".to_owned()),
    }
}

impl Options {
    /// Refuses combinations that have no meaning.
    ///
    /// # Errors
    /// One line naming the options.
    pub fn check(&self) -> anyhow::Result<()> {
        use Pattern::{MultiAcceptor, Prefork, ProcessPerConnection, Sharded};
        let processes = self.processes || matches!(self.pattern, Prefork | ProcessPerConnection);
        let ring = matches!(self.accept_call, AcceptCall::IoUring | AcceptCall::IoUringMultishot);
        for (given, option, allowed) in [
            (self.processes, "--processes", self.pattern == MultiAcceptor),
            (self.no_exclusive, "--no-exclusive", self.pattern == MultiAcceptor),
            (!self.dead_shard.is_empty(), "--dead-shard", self.pattern == Sharded),
            (ring, "--accept-call io_uring", !self.pattern.accept_blocks()),
            (self.v6_only, "--v6-only", self.address.is_ipv6()),
            // They would have a lock each.
            (self.shop.is_some(), "--shop", !processes),
        ] {
            if given && !allowed {
                let what = match option {
                    "--v6-only" => "an IPv4 address".to_owned(),
                    "--shop" => "processes".to_owned(),
                    _ => self.pattern.name(),
                };
                return Err(usage(format!("{option} has no meaning for {what}")));
            }
        }
        if let Some(shard) = self.dead_shard.iter().find(|&&shard| shard > self.threads) {
            return Err(usage(format!("--dead-shard {shard}: the shards are 1 to {}", self.threads)));
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
    fn meaningless_options_are_refused() {
        for bad in [
            "--pattern nginx",
            "--pattern single_thread --port 65536",
            "--pattern single_thread --threads 0",
            "--pattern single_thread --processes",
            "--pattern single_thread --no-exclusive",
            "--pattern multi_acceptor --dead-shard 1",
            "--pattern sharded --threads 2 --dead-shard 0",
            "--pattern sharded --threads 2 --dead-shard 3",
            "--pattern thread_per_connection --accept-call io_uring",
            "--pattern single_thread --accept-call io_uring_multishot --accept-delay-us 1",
            "--pattern single_thread --request-bytes 0",
            "--pattern single_thread --for 0",
            "--pattern single_thread --for inf",
            "--pattern single_thread --v6-only",
            "--pattern prefork --accept-call io_uring",
            "--pattern thread_pool --accept-call io_uring_multishot",
            "--pattern single_thread --slow-request 5",
            "--pattern single_thread --work uniform",
            "--pattern single_thread --receive-buffer 0",
            "--pattern single_thread --pin -1",
            "--pattern single_thread --hogs 65",
            "--pattern single_thread --shop 5:40",
            "--pattern prefork --shop 5:40:10",
            "--pattern multi_acceptor --processes --shop 5:40:10",
        ] {
            let error = options(bad).expect_err(bad);
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
