//! Sessions: what a server remembers of a user between two connections. With SO_REUSEPORT a hash of the addresses and
//! ports decides which shard gets a connection, and a user who comes back on a new port may meet another one.

use crate::counted::{Totals, count};
use crate::io::plain;
use crate::load::{Common as LoadCommon, Open, Rate, connect, drive, responded};
use crate::orders;
use crate::server::{Common, Server, accept, listen, runtime};
use crate::summary::Shared;
use anyhow::Context;
use clap::ValueEnum;
use demo_servers::sys::now_ns;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Answer to a user whose session is there.
const KNOWN: u8 = 1;
/// Answer to a user whose session is not here, or is an old one: it begins anew.
const NEW: u8 = 0;

/// Where sessions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Store {
    /// In the memory of the shard that accepted the connection: the server is stateful
    Shard,
    /// In one place that all shards use, as a database would be: the shards are stateless
    Shared,
}

/// Keeps sessions.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerOptions {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Number of shards: threads with a listener each (SO_REUSEPORT)
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub shards: u16,
    /// Where sessions are kept
    #[arg(long, value_enum, default_value = "shard")]
    pub store: Store,
}

/// By user: how many requests the session has seen.
type Known = Arc<Mutex<HashMap<u64, u64>>>;

/// Runs the server until a signal.
///
/// # Errors
/// An address that cannot be used.
pub fn serve(options: &ServerOptions) -> anyhow::Result<()> {
    let server = Server::new("sessions", &options.common)?;
    let first = server.listen(server.port(), true)?;
    let address = first.local_addr().context("getsockname")?;
    let mut listeners = vec![first];
    for _ in 1..options.shards {
        listeners.push(server.listen(address.port(), true)?);
    }
    let shared = Known::default();
    let (totals, control, store) = (Arc::clone(&server.totals), Arc::clone(&server.control), options.store);
    // Each shard has a thread of its own, with a runtime of its own. They end with the process: nothing of theirs
    // outlives it.
    let mut number = 0;
    let mut start = move |listener| {
        let known = match store {
            Store::Shard => Known::default(),
            Store::Shared => Arc::clone(&shared),
        };
        let (totals, control) = (Arc::clone(&totals), Arc::clone(&control));
        let runtime = runtime(1)?;
        let shard = move || {
            runtime.block_on(accept(listener, &totals, &control, |stream| {
                let (known, totals) = (Arc::clone(&known), Arc::clone(&totals));
                async move { requests(stream, &known, &totals).await }
            }))
        };
        number += 1;
        let thread = std::thread::Builder::new().name(format!("shard-{number}"));
        thread.spawn(shard).context("cannot start a thread")?;
        anyhow::Ok(())
    };
    for listener in listeners {
        start(listener)?;
    }
    let (common, control) = (options.common.clone(), Arc::clone(&server.control));
    // It has the control as long as the control has it: both end with the process.
    server.control.grows_by(Box::new(move || start(listen(&common, &control, address.port(), true)?)));
    runtime(1)?.block_on(server.run(address, std::future::pending()))
}

/// A request is a user's number and how many requests this user has made before, eight bytes each. The answer is one
/// byte: whether the session here has seen just these.
async fn requests(stream: TcpStream, known: &Known, totals: &Arc<Totals>) -> anyhow::Result<()> {
    let mut stream = plain(stream, totals)?;
    let mut request = [0; 16];
    while stream.read_exact(&mut request).await.is_ok() {
        let [user, before] = [0, 8]
            .map(|place| request[place..place + 8].iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte)));
        let seen = known.lock().unwrap_or_else(PoisonError::into_inner).insert(user, before + 1);
        count(&totals.requests);
        stream.write_all(&[if seen == Some(before) { KNOWN } else { NEW }]).await?;
    }
    Ok(())
}

/// Users who come back on new connections.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadOptions {
    #[command(flatten)]
    pub(crate) common: LoadCommon,
    #[command(flatten)]
    pub(crate) rate: Rate,
    /// Number of users. Each visit is one connection; the users come in turn
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub users: u64,
    /// Requests per visit, all on one connection
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub requests: u64,
}

/// Runs the load and prints the summary.
///
/// # Errors
/// A refused target, or a failed system call of the client itself.
pub fn load(options: LoadOptions) -> anyhow::Result<()> {
    let record = Shared::default();
    let totals = Arc::new(Totals::default());
    let common = options.common.clone();
    let arrivals = options.rate.clone();
    let rate = orders::rate(arrivals.closed.is_some())?;
    let (recorded, counted) = (record.clone(), Arc::clone(&totals));
    let mut visits = 0;
    let visitor = move |intended| {
        let number = visits;
        visits += 1;
        visit(options.clone(), recorded.clone(), Arc::clone(&counted), number, intended)
    };
    let (shared, of) = (record.clone(), common.clone());
    drive(&common, &record, &totals, async move {
        arrivals.each(&of, rate, &shared, visitor).await;
        Ok(())
    })
}

async fn visit(options: LoadOptions, record: Shared, totals: Arc<Totals>, number: u64, intended: u64) {
    let open = Open::new(&record);
    let mut established = false;
    let outcome = talk(&options, &record, &totals, number, intended, &mut established).await;
    drop(open);
    let mut record = record.lock();
    match outcome {
        Ok(()) => record.summary.completed += 1,
        Err(error) => record.failed(established, &error),
    }
}

async fn talk(
    options: &LoadOptions,
    record: &Shared,
    totals: &Arc<Totals>,
    number: u64,
    intended: u64,
    established: &mut bool,
) -> anyhow::Result<()> {
    let limit = Duration::from_millis(options.common.timeout_ms);
    let stream = connect(&options.common, record, intended).await?;
    *established = true;
    let mut stream = plain(stream, totals)?;
    let (user, visits) = (number % options.users, number / options.users);
    for request in 0..options.requests {
        let due = now_ns();
        record.lock().summary.requests += 1;
        let before = visits * options.requests + request;
        stream.write_all(&[user.to_be_bytes(), before.to_be_bytes()].concat()).await?;
        let answer = timeout(limit, stream.read_u8()).await.map_err(std::io::Error::from)??;
        let mut record = record.lock();
        responded(&mut record, due, (request == 0).then_some(intended));
        // Before a user's first request there is no session to lose.
        record.lost_sessions += u64::from(before > 0 && answer == NEW);
    }
    Ok(())
}
