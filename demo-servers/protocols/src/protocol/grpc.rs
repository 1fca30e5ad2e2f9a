//! gRPC: unary calls over HTTP/2. The messages are declared here by hand, so no build needs protoc.

use super::{Handler, content};
use crate::io::Io;
use anyhow::anyhow;
use http::uri::PathAndQuery;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// The method's path: service and method.
const PATH: &str = "/echo.Echo/Echo";

/// `message Content { bytes content = 1; }`
#[derive(Clone, PartialEq, prost::Message)]
struct Content {
    #[prost(bytes = "bytes", tag = "1")]
    content: bytes::Bytes,
}

type Codec = ProstCodec<Content, Content>;
type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// The method.
struct Echo(Arc<Handler>);

impl UnaryService<Content> for Echo {
    type Response = Content;
    type Future = Answer<Response<Content>, Status>;

    fn call(&mut self, _: Request<Content>) -> Self::Future {
        let handler = Arc::clone(&self.0);
        Box::pin(async move {
            let bytes = handler.handle().await;
            Ok(Response::new(Content { content: content(bytes) }))
        })
    }
}

pub(super) async fn serve(io: Io, handler: &Arc<Handler>) -> anyhow::Result<()> {
    let handler = Arc::clone(handler);
    let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let echo = Echo(Arc::clone(&handler));
        async move {
            if request.uri().path() == PATH {
                Ok::<_, std::convert::Infallible>(Grpc::new(Codec::default()).unary(echo, request).await)
            } else {
                Ok(Status::unimplemented("there is one method, echo.Echo/Echo").into_http())
            }
        }
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    Ok(builder.serve_connection(TokioIo::new(io), answer).await?)
}

/// A connection as the service that tonic's client calls.
#[derive(Clone)]
struct Channel(SendRequest<Body>);

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Answer<Self::Response, hyper::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

pub(crate) struct Client(tonic::client::Grpc<Channel>);

impl Client {
    pub(super) async fn open(io: Io) -> anyhow::Result<Self> {
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
        tokio::spawn(connection);
        let origin = http::Uri::from_static("http://localhost");
        Ok(Self(tonic::client::Grpc::with_origin(Channel(sender), origin)))
    }

    pub(super) async fn request(&mut self, bytes: usize) -> anyhow::Result<usize> {
        self.0.ready().await?;
        let request = Request::new(Content { content: content(bytes) });
        let response = self.0.unary(request, PathAndQuery::from_static(PATH), Codec::default()).await;
        let response: Response<Content> = response.map_err(|status| anyhow!("the server answers {status}"))?;
        Ok(response.into_inner().content.len())
    }
}
