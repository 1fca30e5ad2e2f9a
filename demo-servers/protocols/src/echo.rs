//! A server that answers requests in one protocol, with TLS or without.

use crate::io::{Io, plain};
use crate::protocol::{Handler, Protocol, Work, serve};
use crate::server::{Common, Server, accept, runtime};
use crate::{counted, ring, tls};
use anyhow::Context;
use clap::ValueEnum;
use demo_servers::cli::usage;
use rustls::HandshakeKind;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// How the server waits for the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Engine {
    /// tokio: epoll, then accept4, read and write
    Tokio,
    /// io_uring: one multishot accept, one multishot receive per connection (raw protocol only)
    IoUring,
}

/// Answers requests.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The protocol
    #[arg(long, value_enum, default_value = "raw")]
    pub protocol: Protocol,
    /// Speak it over TLS of this version
    #[arg(long, value_enum)]
    pub tls: Option<tls::Version>,
    /// Do not let clients resume TLS sessions: each connection makes a full handshake
    #[arg(long, requires = "tls")]
    pub no_resume: bool,
    /// Number of threads that accept, read and write
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// How it waits for the kernel
    #[arg(long, value_enum, default_value = "tokio")]
    pub engine: Engine,
    #[command(flatten)]
    pub(crate) work: Work,
}

impl Options {
    fn check(&self) -> anyhow::Result<()> {
        let plain = self.protocol == Protocol::Raw && self.tls.is_none() && self.threads == 1;
        if self.engine == Engine::IoUring && (!plain || self.work.wait_us > 0) {
            return Err(usage("--engine io_uring serves --protocol raw in one thread, without TLS and --wait-us"));
        }
        Ok(())
    }
}

/// Runs it until a signal.
///
/// # Errors
/// Bad options, or an address that cannot be used.
pub fn run(options: &Options) -> anyhow::Result<()> {
    options.check()?;
    let server = Server::new("echo", &options.common)?;
    let listener = server.listen(server.port(), false)?;
    let address = listener.local_addr().context("getsockname")?;
    let handler = Arc::new(Handler { work: options.work.clone(), totals: Arc::clone(&server.totals) });
    if options.engine == Engine::IoUring {
        let ring = ring::Echo::new(listener, handler, server.control.stalled())?;
        return runtime(2)?.block_on(server.run(address, ring.run()));
    }
    let acceptor = options.tls.map(|version| tls::acceptor(version, !options.no_resume)).transpose()?;
    let protocol = options.protocol;
    let totals = Arc::clone(&server.totals);
    runtime(usize::from(options.threads))?.block_on(server.run(address, async {
        accept(listener, &totals, &server.control, |stream| {
            let (acceptor, handler) = (acceptor.clone(), Arc::clone(&handler));
            async move {
                let io = secure(stream, acceptor, &handler.totals).await?;
                serve(protocol, io, &handler).await
            }
        })
        .await
    }))
}

/// Makes the TLS handshake, if there is one to make.
async fn secure(stream: TcpStream, acceptor: Option<TlsAcceptor>, totals: &Arc<counted::Totals>) -> anyhow::Result<Io> {
    let stream = plain(stream, totals)?;
    let Some(acceptor) = acceptor else { return Ok(Box::new(stream)) };
    let stream = acceptor.accept(stream).await?;
    counted::count(&totals.handshakes);
    if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
        counted::count(&totals.resumed);
    }
    Ok(Box::new(stream))
}
