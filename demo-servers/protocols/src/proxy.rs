//! A proxy in front of a server. At level 4 it copies bytes: each client's connection becomes one to the server. At
//! level 7 it reads whole requests of the demo server's protocol, and sends them over a few connections that it keeps
//! open.

use crate::counted::{Totals, count};
use crate::io::plain;
use crate::server::{Common, Server, accept, runtime};
use anyhow::Context;
use clap::ValueEnum;
use demo_servers::cli::usage;
use demo_servers::target::Place;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// What the proxy understands of what passes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Bytes: one connection to the server for each client
    L4,
    /// Requests: they share --pool connections to the server
    L7,
}

/// Stands between clients and a server.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub(crate) common: Common,
    /// What it understands
    #[arg(long, value_enum)]
    pub level: Level,
    /// The server behind it: a loopback address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub upstream: SocketAddr,
    /// For l7: number of connections to the server
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub pool: u32,
    /// For l7: size of a request in bytes, the same as the server's
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub request_bytes: u32,
    /// For l7: size of a response in bytes, the same as the server's
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub response_bytes: u32,
}

/// Runs it until a signal.
///
/// # Errors
/// Bad options, or an address that cannot be used.
pub fn run(options: &Options) -> anyhow::Result<()> {
    Place::here().check(options.upstream)?;
    let server = Server::new("proxy", &options.common)?;
    let listener = server.listen(server.port(), false)?;
    let address = listener.local_addr().context("getsockname")?;
    if address == options.upstream {
        return Err(usage("--upstream is the proxy itself"));
    }
    let totals = Arc::clone(&server.totals);
    let upstream = Arc::new(Upstream {
        options: options.clone(),
        totals: Arc::clone(&totals),
        free: Mutex::default(),
        permits: Semaphore::new(options.pool as usize),
        waiting: AtomicU64::new(0),
    });
    runtime(1)?.block_on(server.run(address, async {
        accept(listener, &totals, &server.control, |client| {
            let upstream = Arc::clone(&upstream);
            async move {
                match upstream.options.level {
                    Level::L4 => upstream.copy(client).await,
                    Level::L7 => upstream.requests(client).await,
                }
            }
        })
        .await
    }))
}

/// The way to the server.
struct Upstream {
    options: Options,
    totals: Arc<Totals>,
    /// Connections of the pool that no request uses.
    free: Mutex<Vec<TcpStream>>,
    /// One per connection of the pool.
    permits: Semaphore,
    waiting: AtomicU64,
}

impl Upstream {
    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.options.upstream).await;
        count(if stream.is_ok() { &self.totals.upstream_connects } else { &self.totals.upstream_failures });
        let stream = stream?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Copies both ways until both have ended.
    async fn copy(&self, client: TcpStream) -> anyhow::Result<()> {
        let mut server = self.connect().await?;
        let mut client = plain(client, &self.totals)?;
        copy_bidirectional(&mut client, &mut server).await?;
        Ok(())
    }

    /// Passes on one request after the other.
    async fn requests(&self, client: TcpStream) -> anyhow::Result<()> {
        let mut client = plain(client, &self.totals)?;
        let mut request = vec![0; self.options.request_bytes as usize];
        let mut response = vec![0; self.options.response_bytes as usize];
        loop {
            // The end of the connection, or of a part of a request.
            if client.read_exact(&mut request).await.is_err() {
                return Ok(());
            }
            self.exchange(&request, &mut response).await?;
            client.write_all(&response).await?;
            count(&self.totals.requests);
        }
    }

    /// Sends a request over a connection of the pool, when one is free, and reads the response.
    async fn exchange(&self, request: &[u8], response: &mut [u8]) -> anyhow::Result<()> {
        let waiting = self.waiting.fetch_add(1, Relaxed) + 1;
        let permit = if let Ok(permit) = self.permits.try_acquire() {
            permit
        } else {
            self.totals.peak_waiting.fetch_max(waiting, Relaxed);
            self.permits.acquire().await?
        };
        self.waiting.fetch_sub(1, Relaxed);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut server = match free {
            Some(server) => server,
            None => self.connect().await?,
        };
        server.write_all(request).await?;
        server.read_exact(response).await?;
        // A connection that failed does not come back.
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(server);
        drop(permit);
        Ok(())
    }
}
