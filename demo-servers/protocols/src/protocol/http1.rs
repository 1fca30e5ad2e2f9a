//! HTTP/1.1 with keep-alive.

use super::{Handler, content};
use crate::io::Io;
use anyhow::ensure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::sync::Arc;

pub(super) async fn serve(io: Io, handler: &Arc<Handler>) -> anyhow::Result<()> {
    let answer = service_fn(|request| answer(request, Arc::clone(handler)));
    Ok(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), answer).await?)
}

/// Reads the whole request, does its work, and answers.
pub(super) async fn answer(request: Request<Incoming>, handler: Arc<Handler>) -> hyper::Result<Response<Full<Bytes>>> {
    request.into_body().collect().await?;
    let bytes = handler.handle().await;
    Ok(Response::new(Full::new(content(bytes))))
}

pub(crate) struct Client(SendRequest<Full<Bytes>>);

impl Client {
    pub(super) async fn open(io: Io) -> anyhow::Result<Self> {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        // It ends with the sender, or by an error that the next request reports too.
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    pub(super) async fn request(&mut self, bytes: usize) -> anyhow::Result<usize> {
        self.0.ready().await?;
        let response = self.0.send_request(post("/echo", bytes)?).await?;
        size(response).await
    }
}

/// A request with this much content.
pub(super) fn post(uri: &str, bytes: usize) -> anyhow::Result<Request<Full<Bytes>>> {
    Ok(Request::post(uri).header("host", "localhost").body(Full::new(content(bytes)))?)
}

/// Reads a response to its end. Returns the size of its content.
pub(super) async fn size(response: Response<Incoming>) -> anyhow::Result<usize> {
    ensure!(response.status().is_success(), "the server answers {}", response.status());
    Ok(response.into_body().collect().await?.to_bytes().len())
}
