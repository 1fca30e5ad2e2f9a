//! The same exchange, a request with some bytes and a response with some bytes, in several protocols. A file each, with
//! the server's side and the client's.

pub(crate) mod grpc;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod raw;
pub(crate) mod websocket;

use crate::counted::{Totals, count};
use crate::io::Io;
use clap::ValueEnum;
use std::sync::Arc;
use std::time::Duration;

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Four bytes with the length, then the content
    Raw,
    /// HTTP/1.1, keep-alive (hyper)
    Http1,
    /// HTTP/2, one request at a time (hyper)
    Http2,
    /// WebSocket, binary messages (tungstenite)
    Websocket,
    /// gRPC, unary calls (tonic)
    Grpc,
}

/// What a server does for a request.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Work {
    /// Size of the content of a response in bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    pub response_bytes: u32,
    /// CPU time that each request costs, in microseconds
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=60_000_000))]
    pub cpu_us: u64,
    /// Time that each request waits for something else, while its thread serves others (an asynchronous wait)
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=60_000_000))]
    pub wait_us: u64,
    /// Time that each request blocks its thread, in microseconds: a call that does not know of the runtime
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=60_000_000))]
    pub block_us: u64,
}

/// What the handlers of all protocols share.
#[derive(Debug)]
pub(crate) struct Handler {
    pub(crate) work: Work,
    pub(crate) totals: Arc<Totals>,
}

impl Handler {
    /// Does the work of one request. Returns the size of the response.
    pub(crate) async fn handle(&self) -> usize {
        let work = &self.work;
        if work.cpu_us > 0 {
            let end = demo_servers::sys::thread_cpu_ns() + work.cpu_us * 1000;
            while demo_servers::sys::thread_cpu_ns() < end {
                std::hint::spin_loop();
            }
        }
        if work.block_us > 0 {
            std::thread::sleep(Duration::from_micros(work.block_us));
        }
        if work.wait_us > 0 {
            tokio::time::sleep(Duration::from_micros(work.wait_us)).await;
        }
        count(&self.totals.requests);
        work.response_bytes as usize
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(protocol: Protocol, io: Io, handler: &Arc<Handler>) -> anyhow::Result<()> {
    match protocol {
        Protocol::Raw => raw::serve(io, handler).await,
        Protocol::Http1 => http1::serve(io, handler).await,
        Protocol::Http2 => http2::serve(io, handler).await,
        Protocol::Websocket => websocket::serve(io, handler).await,
        Protocol::Grpc => grpc::serve(io, handler).await,
    }
}

/// A client of one connection.
pub(crate) enum Client {
    Raw(raw::Client),
    Http1(http1::Client),
    Http2(http2::Client),
    Websocket(Box<websocket::Client>),
    Grpc(Box<grpc::Client>),
}

impl Client {
    /// Does what the protocol does before the first request.
    pub(crate) async fn open(protocol: Protocol, io: Io) -> anyhow::Result<Self> {
        Ok(match protocol {
            Protocol::Raw => Self::Raw(raw::Client::new(io)),
            Protocol::Http1 => Self::Http1(http1::Client::open(io).await?),
            Protocol::Http2 => Self::Http2(http2::Client::open(io).await?),
            Protocol::Websocket => Self::Websocket(Box::new(websocket::Client::open(io).await?)),
            Protocol::Grpc => Self::Grpc(Box::new(grpc::Client::open(io).await?)),
        })
    }

    /// Sends a request and reads the whole response. Returns the size of its content.
    pub(crate) async fn request(&mut self, bytes: usize) -> anyhow::Result<usize> {
        match self {
            Self::Raw(client) => client.request(bytes).await,
            Self::Http1(client) => client.request(bytes).await,
            Self::Http2(client) => client.request(bytes).await,
            Self::Websocket(client) => client.request(bytes).await,
            Self::Grpc(client) => client.request(bytes).await,
        }
    }
}

/// Content without a meaning.
pub(crate) fn content(bytes: usize) -> bytes::Bytes {
    let all: &'static [u8] = &demo_servers::protocol::PAYLOAD;
    if bytes <= all.len() { bytes::Bytes::from_static(&all[..bytes]) } else { vec![b'.'; bytes].into() }
}
