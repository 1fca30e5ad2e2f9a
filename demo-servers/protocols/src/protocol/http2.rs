//! HTTP/2 without TLS, by prior knowledge. Each connection has one request at a time, to compare with the others.

use super::Handler;
use super::http1::{answer, post, size};
use crate::io::Io;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::Arc;

pub(super) async fn serve(io: Io, handler: &Arc<Handler>) -> anyhow::Result<()> {
    let handler = Arc::clone(handler);
    let answer = service_fn(move |request| answer(request, Arc::clone(&handler)));
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    Ok(builder.serve_connection(TokioIo::new(io), answer).await?)
}

pub(crate) struct Client(SendRequest<Full<Bytes>>);

impl Client {
    pub(super) async fn open(io: Io) -> anyhow::Result<Self> {
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    pub(super) async fn request(&mut self, bytes: usize) -> anyhow::Result<usize> {
        self.0.ready().await?;
        let response = self.0.send_request(post("http://localhost/echo", bytes)?).await?;
        size(response).await
    }
}
