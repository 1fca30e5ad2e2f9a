//! OTLP by gRPC: one unary call, over a connection of our own.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut as _, Bytes};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    header::{HeaderValue, USER_AGENT},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::{
    Code, Request, Status,
    body::Body,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{Service, http::uri::PathAndQuery},
    metadata::MetadataMap,
};
use tonic_types::StatusExt as _;

use super::{
    config::Target,
    connection,
    message::AGENT,
    outcome::{Failure, Outcome},
};

const PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// The longest answer that is read.
const LONGEST_ANSWER: usize = 64 << 10;

/// A connection that can be used again.
#[derive(Default)]
pub(super) struct Client {
    open: Option<SendRequest<Body>>,
    /// What drives the connection; ends with this.
    driver: JoinSet<()>,
}

impl Client {
    /// Sends a request, by the connection that is open or a new one.
    pub(super) async fn send(&mut self, target: &Target, body: Bytes) -> Outcome {
        let sender = match self.sender(target).await {
            Ok(sender) => sender,
            Err(error) => return Outcome::later(Failure::Unreachable, error),
        };
        let mut headers = target.headers.clone();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let request = Request::from_parts(MetadataMap::from_headers(headers), tonic::Extensions::new(), body);
        let channel = Channel(sender.clone());
        let mut grpc = Grpc::with_origin(channel, target.uri.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(LONGEST_ANSWER);
        if target.gzip {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        }
        if let Err(error) = grpc.ready().await {
            return Outcome::later(Failure::Unreachable, error);
        }
        let answer = grpc.unary(request, PathAndQuery::from_static(PATH), Encoded).await;
        // A connection that broke says so when it is asked the next time.
        self.open = Some(sender);
        match answer {
            Ok(answer) => Outcome::of(answer.into_inner()),
            Err(status) => outcome(&status),
        }
    }

    async fn sender(&mut self, target: &Target) -> Result<SendRequest<Body>, Box<dyn std::error::Error + Send + Sync>> {
        if let Some(mut open) = self.open.take()
            && !open.is_closed()
            && open.ready().await.is_ok()
        {
            return Ok(open);
        }
        let stream = TokioIo::new(connection::open(target).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        self.driver = JoinSet::new();
        self.driver.spawn(async move {
            // The request that waits for it is told.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// A connection as the service that tonic's client calls.
struct Channel(SendRequest<Body>);

impl Service<hyper::Request<Body>> for Channel {
    type Response = hyper::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// A request that is encoded already, so that one which waits takes no more than its bytes.
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = ExportMetricsServiceResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, body: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(body);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = ExportMetricsServiceResponse;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<ExportMetricsServiceResponse>, Status> {
        let message = ExportMetricsServiceResponse::decode(from);
        message.map(Some).map_err(|_| Status::internal("the answer is no message of OTLP"))
    }
}

/// What a status means, by the specification's table.
fn outcome(status: &Status) -> Outcome {
    let after: Option<Duration> = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let broke = std::error::Error::source(status).is_some();
    let why = super::outcome::words(&format!("it answers {}: {}", code(status.code()), status.message()));
    match status.code() {
        // tonic's own words for a connection that broke.
        Code::Unknown | Code::Unavailable | Code::Cancelled | Code::Internal if broke => {
            Outcome::later(Failure::Unreachable, status.message())
        }
        Code::Unavailable
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::DataLoss => Outcome::Later { after, failure: Failure::Busy, why },
        Code::ResourceExhausted if after.is_some() => Outcome::Later { after, failure: Failure::Busy, why },
        Code::Internal | Code::Unknown => Outcome::Never { failure: Failure::Garbage, why },
        _ => Outcome::Never { failure: Failure::Refused, why },
    }
}

/// A code as the specification writes it.
fn code(code: Code) -> String {
    format!("{code:?}")
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn codes_mean_what_the_specification_says() {
        let later = [
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unavailable,
            Code::DataLoss,
        ];
        for number in 1..=16 {
            let code = Code::from_i32(number);
            let outcome = outcome(&Status::new(code, "why"));
            assert_eq!(matches!(outcome, Outcome::Later { .. }), later.contains(&code), "{code:?}: {outcome:?}");
        }
        for code in [Code::ResourceExhausted, Code::Unavailable] {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(9)));
            let outcome = outcome(&Status::with_error_details(code, "full", details));
            let expected = Some(Duration::from_secs(9));
            assert!(matches!(&outcome, Outcome::Later { after, .. } if *after == expected), "{outcome:?}");
        }
    }
}
