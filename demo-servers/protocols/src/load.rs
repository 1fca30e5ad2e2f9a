//! Clients of the echo server: an open loop in each protocol, and a closed one for comparison.

use crate::counted::Totals;
use crate::io::{Io, plain};
use crate::protocol::{Client, Protocol};
use crate::server::runtime;
use crate::summary::{Record, Shared};
use crate::{orders, tls};
use anyhow::Context;
use demo_servers::cli::usage;
use demo_servers::stress::options::{Arrivals, Options as Times};
use demo_servers::stress::schedule::Schedule;
use demo_servers::sys::{limit_open_files, now_ns, print_json};
use demo_servers::target::Place;
use rustls::HandshakeKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;

/// A user of a closed loop starts at most one connection in this time.
const RESPITE: Duration = Duration::from_millis(1);

/// Options of every client.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// The server: a loopback address or, inside another network namespace, one of its own addresses
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub target: SocketAddr,
    /// Start connections for this time, such as 30s or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = duration_arg::parse)]
    pub duration: Option<Duration>,
    /// Seed of random times; the same seed gives the same times
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Time limit of a connect, and of each response, in milliseconds
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub timeout_ms: u64,
    /// Accepted, and without effect: it prints no progress
    #[arg(long, hide = true)]
    pub quiet: bool,
}

/// Arrivals of connections.
#[derive(Debug, Clone, clap::Args)]
pub struct Rate {
    /// Connections per second
    #[arg(long, value_parser = rate, required_unless_present = "closed")]
    pub rate: Option<f64>,
    /// Closed loop, for comparison: this many users, each of whom starts the next connection when the last one has
    /// ended. A slow server then gets less load
    #[arg(long, value_name = "USERS", conflicts_with_all = ["rate", "arrivals", "max_open"],
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub closed: Option<u32>,
    /// Distribution of the times between connections
    #[arg(long, value_enum, default_value = "constant")]
    pub arrivals: Arrivals,
    /// Start this many connections
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub connections: Option<u64>,
    /// Largest number of open connections; connections beyond it are skipped and counted
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub max_open: u64,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 100_000.0 => Ok(rate),
        _ => Err("must be a number above 0, at most 100000".to_owned()),
    }
}

impl Rate {
    /// The times at which connections are due, as `stress` has them.
    fn schedule(&self, common: &Common) -> Schedule {
        let times = Times {
            rate: self.rate,
            arrivals: self.arrivals,
            seed: common.seed,
            duration: common.duration,
            connections: self.connections,
            ..Times::to(common.target)
        };
        Schedule::new(&times)
    }

    /// Starts `user` for each connection, and waits until all have ended. The lab may change the rate.
    pub(crate) async fn each<F>(
        &self,
        common: &Common,
        rate: watch::Receiver<u32>,
        record: &Shared,
        user: impl FnMut(u64) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        match self.closed {
            Some(users) => closed(users as usize, self.connections, common.duration, record, user).await,
            None => open(self.schedule(common), rate, self.max_open, record, user).await,
        }
    }
}

/// Sends requests to the echo server.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) rate: Rate,
    /// The protocol
    #[arg(long, value_enum, default_value = "raw")]
    pub protocol: Protocol,
    /// Speak it over TLS of this version
    #[arg(long, value_enum)]
    pub tls: Option<tls::Version>,
    /// Do not resume TLS sessions
    #[arg(long, requires = "tls")]
    pub no_resume: bool,
    /// Requests per connection, at least one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub requests: u64,
    /// Size of the content of a request in bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    pub request_bytes: u32,
    /// Pause between a response and the next request in milliseconds
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=86_400_000))]
    pub think_ms: u64,
}

/// What the connections of one load share.
struct Shares {
    options: Options,
    connector: Option<TlsConnector>,
    totals: Arc<Totals>,
    record: Shared,
}

/// Runs the load and prints the summary.
///
/// # Errors
/// A refused target, or a failed system call of the client itself. Failed connections are results, not errors.
pub fn run(options: Options) -> anyhow::Result<()> {
    let connector = options.tls.map(|version| tls::connector(version, !options.no_resume)).transpose()?;
    let common = options.common.clone();
    let arrivals = options.rate.clone();
    let rate = orders::rate(arrivals.closed.is_some())?;
    let shares = Arc::new(Shares { options, connector, totals: Arc::default(), record: Shared::default() });
    let (record, totals, of) = (shares.record.clone(), Arc::clone(&shares.totals), common.clone());
    drive(&common, &record.clone(), &totals, async move {
        arrivals.each(&of, rate, &record, move |intended| user(Arc::clone(&shares), intended)).await;
        Ok(())
    })
}

/// Runs `load` until it is complete or a signal comes, then prints what was recorded.
pub(crate) fn drive(
    common: &Common,
    record: &Shared,
    totals: &Totals,
    load: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    Place::here().check(common.target)?;
    if common.duration.is_some_and(|length| length > Duration::from_hours(24)) {
        return Err(usage("--for: at most a day"));
    }
    limit_open_files(None)?;
    let start = now_ns();
    let print = || {
        let mut record = record.lock();
        record.summary.target = common.target.to_string();
        record.summary.sent_bytes = totals.write_bytes.load(Relaxed);
        record.summary.received_bytes = totals.read_bytes.load(Relaxed);
        print_json(&record.printed((now_ns() - start) as f64 / 1e9))
    };
    runtime(1)?.block_on(async {
        let signal = |kind| signal(kind).context("cannot handle signals");
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut report = signal(SignalKind::user_defined1())?;
        let mut load = std::pin::pin!(load);
        loop {
            tokio::select! {
                outcome = &mut load => break outcome,
                _ = terminate.recv() => break Ok(()),
                _ = interrupt.recv() => break Ok(()),
                _ = hangup.recv() => break Ok(()),
                _ = report.recv() => print()?,
            }
        }
    })?;
    print()
}

/// Starts a user whenever there are less than so many, and waits until all have ended.
async fn closed<F>(
    users: usize,
    connections: Option<u64>,
    duration: Option<Duration>,
    record: &Shared,
    mut user: impl FnMut(u64) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = tokio::task::JoinSet::new();
    let start = Instant::now();
    let mut left = connections.unwrap_or(u64::MAX);
    loop {
        let over = left == 0 || duration.is_some_and(|length| start.elapsed() >= length);
        if !over && tasks.len() < users {
            left -= 1;
            let mut record = record.lock();
            record.summary.due += 1;
            record.summary.started += 1;
            record.summary.peak_open = record.summary.peak_open.max(tasks.len() as u64 + 1);
            drop(record);
            let (next, begun) = (user(now_ns()), Instant::now());
            tasks.spawn(async move {
                next.await;
                // Where connections fail at once, users do not try all the time.
                sleep_until(begun + RESPITE).await;
            });
        } else if tasks.join_next().await.is_none() {
            return;
        }
    }
}

/// Starts `user` for each time of the schedule, and waits until all have ended. The lab may change the rate.
async fn open<F>(
    mut schedule: Schedule,
    mut rate: watch::Receiver<u32>,
    max_open: u64,
    record: &Shared,
    mut user: impl FnMut(u64) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = tokio::task::JoinSet::new();
    let (start, start_ns) = (Instant::now(), now_ns());
    while let Some(offset) = schedule.peek() {
        tokio::select! {
            () = sleep_until(start + Duration::from_nanos(offset)) => {}
            // Without a lab, or when it is gone, the rate stays.
            Ok(()) = rate.changed() => {
                schedule.go_on_at(f64::from(*rate.borrow_and_update()) / 100.0);
                continue;
            }
        }
        let _ = schedule.next();
        while tasks.try_join_next().is_some() {}
        let open = tasks.len() as u64;
        {
            let mut record = record.lock();
            record.summary.due += 1;
            if open >= max_open {
                record.summary.skipped.max_open += 1;
                continue;
            }
            record.summary.started += 1;
            record.summary.peak_open = record.summary.peak_open.max(open + 1);
            record.start_delay.record(now_ns().saturating_sub(start_ns + offset));
        }
        tasks.spawn(user(start_ns + offset));
    }
    while tasks.join_next().await.is_some() {}
}

/// Counts a connection as open while it lives.
pub(crate) struct Open(Shared);

impl Open {
    pub(crate) fn new(record: &Shared) -> Self {
        record.lock().open += 1;
        Self(record.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().open -= 1;
    }
}

/// One user: a connection with its requests.
async fn user(shares: Arc<Shares>, intended: u64) {
    let open = Open::new(&shares.record);
    let mut established = false;
    let outcome = talk(&shares, intended, &mut established).await;
    drop(open);
    let mut record = shares.record.lock();
    match outcome {
        Ok(()) => record.summary.completed += 1,
        Err(error) => record.failed(established, &error),
    }
}

/// Connects, with an error of the usual kind if that takes too long.
pub(crate) async fn connect(common: &Common, record: &Shared, intended: u64) -> anyhow::Result<TcpStream> {
    let limit = Duration::from_millis(common.timeout_ms);
    let stream = timeout(limit, TcpStream::connect(common.target)).await.map_err(std::io::Error::from)??;
    let mut record = record.lock();
    record.summary.established += 1;
    record.connect.record(now_ns().saturating_sub(intended));
    Ok(stream)
}

async fn talk(shares: &Shares, intended: u64, established: &mut bool) -> anyhow::Result<()> {
    let Shares { options, connector, totals, record } = shares;
    let limit = Duration::from_millis(options.common.timeout_ms);
    let stream = connect(&options.common, record, intended).await?;
    *established = true;
    let stream = plain(stream, totals)?;
    let io: Io = match connector {
        None => Box::new(stream),
        Some(connector) => {
            let began = now_ns();
            let secured = connector.connect(tls::name()?, stream);
            let stream = timeout(limit, secured).await.map_err(std::io::Error::from)??;
            let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            let mut record = record.lock();
            record.handshake.record(now_ns() - began);
            record.resumed += u64::from(resumed);
            Box::new(stream)
        }
    };
    let opened = timeout(limit, Client::open(options.protocol, io));
    let mut client = opened.await.map_err(std::io::Error::from)??;
    record.lock().setup.record(now_ns().saturating_sub(intended));
    for number in 0..options.requests {
        if number > 0 && options.think_ms > 0 {
            sleep(Duration::from_millis(options.think_ms)).await;
        }
        let due = now_ns();
        record.lock().summary.requests += 1;
        let answer = client.request(options.request_bytes as usize);
        timeout(limit, answer).await.map_err(std::io::Error::from)??;
        responded(&mut record.lock(), due, (number == 0).then_some(intended));
    }
    Ok(())
}

/// Records a response; the first one of a connection also from the connection's intended start.
pub(crate) fn responded(record: &mut Record, due: u64, intended: Option<u64>) {
    let now = now_ns();
    record.summary.responses += 1;
    record.response.record(now.saturating_sub(due));
    if let Some(intended) = intended {
        record.first_response.record(now.saturating_sub(intended));
    }
}
