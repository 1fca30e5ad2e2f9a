//! Polling, long polling and server-sent events: HTTP/1.1.

use super::server::Publisher;
use crate::counted::count;
use crate::io::Io;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a long poll waits before it is answered without a message. Proxies close what is silent for longer.
const LONG: Duration = Duration::from_secs(25);

type Body = BoxBody<Bytes, Infallible>;

pub(super) async fn serve(io: Io, publisher: &Arc<Publisher>) -> anyhow::Result<()> {
    let answer = service_fn(|request| answer(request, Arc::clone(publisher)));
    Ok(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), answer).await?)
}

async fn answer(request: Request<Incoming>, publisher: Arc<Publisher>) -> Result<Response<Body>, Infallible> {
    count(&publisher.totals.requests);
    let after = request.uri().query().and_then(|query| query.strip_prefix("after=")?.parse().ok());
    let topic = &publisher.topic;
    // Who does not say what it has gets what comes from now on.
    let after = after.unwrap_or_else(|| topic.latest());
    match request.uri().path() {
        "/poll" => {}
        "/long-poll" => {
            let _ = timeout(LONG, topic.wait(after)).await;
        }
        "/events" => return Ok(events(&publisher, after)),
        _ => {
            let mut response = Response::new(Full::default().boxed());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        }
    }
    // The first line is the last number, for the next request.
    let messages = topic.after(after);
    let mut text = format!("{}\n", messages.last().map_or(after, |message| message.number));
    for message in &messages {
        count(&publisher.totals.messages);
        text += &message.line(publisher.message_bytes);
        text.push('\n');
    }
    Ok(Response::new(Full::from(text).boxed()))
}

/// A response that goes on as long as the client reads it.
fn events(publisher: &Arc<Publisher>, after: u64) -> Response<Body> {
    let begin = (Arc::clone(publisher), after);
    let pieces = stream::unfold(begin, |(publisher, after)| async move {
        publisher.topic.wait(after).await;
        let messages = publisher.topic.after(after);
        let mut text = String::new();
        for message in &messages {
            count(&publisher.totals.messages);
            // Writing to a String does not fail.
            let _ = write!(text, "data: {}\n\n", message.line(publisher.message_bytes));
        }
        let last = messages.last().map_or(after, |message| message.number);
        Some((Bytes::from(text), (publisher, last)))
    });
    let body = StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece))));
    let mut response = Response::new(BodyExt::boxed(body));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
    response
}
