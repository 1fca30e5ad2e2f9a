//! OTLP by HTTP: a request is a POST of a message.

use std::{
    io::Write as _,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message as _;
use tokio::task::JoinSet;

use super::{
    config::Target,
    connection,
    message::AGENT,
    outcome::{Failure, Outcome},
};

const PROTOBUF: &str = "application/x-protobuf";
/// The longest answer that is read.
const LONGEST_ANSWER: usize = 64 << 10;

/// A connection that can be used again.
#[derive(Default)]
pub(super) struct Client {
    open: Option<SendRequest<Full<Bytes>>>,
    /// What drives the connection; ends with this.
    driver: JoinSet<()>,
}

impl Client {
    /// Sends a request, by the connection that is open or a new one.
    pub(super) async fn send(&mut self, target: &Target, body: Bytes) -> Outcome {
        let request = match request(target, body) {
            Ok(request) => request,
            Err(error) => return Outcome::never(Failure::Refused, error),
        };
        let mut sender = match self.sender(target).await {
            Ok(sender) => sender,
            Err(error) => return Outcome::later(Failure::Unreachable, error),
        };
        match sender.send_request(request).await {
            Ok(answer) => {
                let outcome = outcome(answer).await;
                self.open = Some(sender);
                outcome
            }
            Err(error) if error.is_parse() => Outcome::never(Failure::Garbage, "the answer is not HTTP"),
            Err(error) => Outcome::later(Failure::Unreachable, error),
        }
    }

    async fn sender(
        &mut self,
        target: &Target,
    ) -> Result<SendRequest<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
        if let Some(mut open) = self.open.take()
            && open.ready().await.is_ok()
        {
            return Ok(open);
        }
        let stream = TokioIo::new(connection::open(target).await?);
        let (sender, connection) = http1::handshake(stream).await?;
        self.driver = JoinSet::new();
        self.driver.spawn(async move {
            // The request that waits for it is told.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

fn request(target: &Target, body: Bytes) -> Result<Request<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let path = target.uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = target.uri.authority().map_or("", |authority| authority.as_str());
    let body = if target.gzip { compressed(&body)? } else { body };
    let mut request = Request::post(path).body(Full::new(body))?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(authority)?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.extend(target.headers.clone());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
    if target.gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(request)
}

fn compressed(body: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}

/// What an answer means.
async fn outcome(answer: Response<Incoming>) -> Outcome {
    let status = answer.status();
    let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(retry_after);
    let is_protobuf =
        answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(PROTOBUF.as_bytes()));
    let body =
        Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await.map(http_body_util::Collected::to_bytes);
    if status == StatusCode::OK {
        return match body {
            Ok(body) if is_protobuf || body.is_empty() => match ExportMetricsServiceResponse::decode(body) {
                Ok(answer) => Outcome::of(answer),
                Err(_) => Outcome::never(Failure::Garbage, "the answer is no message of OTLP"),
            },
            Ok(_) => Outcome::never(Failure::Garbage, "what answers is a web server, and no collector"),
            Err(error) => Outcome::later(Failure::Unreachable, error),
        };
    }
    let why = format!("it answers {status}");
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Outcome::Later { after, failure: Failure::Busy, why },
        _ => Outcome::Never { failure: Failure::Refused, why },
    }
}

/// Seconds, or a date.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text.trim()).ok().map(|date| date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let time = retry_after(&date).expect("a date");
        assert!((98..=100).contains(&time.as_secs()), "{time:?}");
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!([retry_after("soon"), retry_after("-1"), retry_after("")], [None; 3]);
    }
}
