//! The side that waits for news.

use super::server::command;
use super::{Message, Method};
use crate::counted::Totals;
use crate::io::{Io, plain};
use crate::load::{Common, Open, connect, drive, responded};
use crate::summary::Shared;
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use demo_servers::sys::now_ns;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;

/// Subscribes, and measures how late messages come.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The method, the same as the server's
    #[arg(long, value_enum)]
    pub method: Method,
    /// Number of subscribers, each with a connection of its own
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub subscribers: u64,
    /// For poll: how often each subscriber asks, in milliseconds
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub poll_every_ms: u64,
    /// For pubsub: publish a message every so many milliseconds, on a connection of its own
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub every_ms: u64,
}

/// The topic's name in Redis' protocol.
const CHANNEL: &str = "news";

/// What the subscribers share.
struct Shares {
    options: Options,
    record: Shared,
    totals: Arc<Totals>,
}

/// Runs the load and prints the summary.
///
/// # Errors
/// A refused target, or a failed system call of the client itself.
pub fn run(options: Options) -> anyhow::Result<()> {
    let record = Shared::default();
    let totals = Arc::new(Totals::default());
    let common = options.common.clone();
    let shares = Arc::new(Shares { options, record: record.clone(), totals: Arc::clone(&totals) });
    drive(&common, &record, &totals, async move {
        let mut tasks = tokio::task::JoinSet::new();
        let publishers = u64::from(shares.options.method == Method::Pubsub);
        for number in 0..shares.options.subscribers + publishers {
            let shares = Arc::clone(&shares);
            tasks.spawn(async move { one(&shares, number).await });
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        match shares.options.common.duration {
            // A subscription has no end of its own.
            Some(length) => {
                let _ = timeout(length, all).await;
            }
            None => all.await,
        }
        Ok(())
    })
}

/// One subscriber; with pubsub the last one publishes.
async fn one(shares: &Shares, number: u64) {
    let intended = now_ns();
    {
        let mut record = shares.record.lock();
        record.summary.due += 1;
        record.summary.started += 1;
        record.summary.peak_open = record.summary.peak_open.max(record.open + 1);
    }
    let open = Open::new(&shares.record);
    let mut established = false;
    let outcome = follow(shares, number, intended, &mut established).await;
    drop(open);
    if let Err(error) = outcome {
        shares.record.lock().failed(established, &error);
    }
}

async fn follow(shares: &Shares, number: u64, intended: u64, established: &mut bool) -> anyhow::Result<()> {
    let options = &shares.options;
    let stream = connect(&options.common, &shares.record, intended).await?;
    *established = true;
    let io: Io = Box::new(plain(stream, &shares.totals)?);
    let mut seen = Seen { shares, last: None };
    match options.method {
        Method::Poll | Method::LongPoll => {
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
            tokio::spawn(connection);
            ask(&mut seen, sender, number).await
        }
        Method::Events => {
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
            tokio::spawn(connection);
            events(&mut seen, sender).await
        }
        Method::Websocket => websocket(&mut seen, io).await,
        Method::Pubsub if number < options.subscribers => subscribe(&mut seen, io).await,
        Method::Pubsub => publish(shares, io).await,
    }
}

/// What one subscriber has.
struct Seen<'a> {
    shares: &'a Shares,
    last: Option<u64>,
}

impl Seen<'_> {
    /// A message is here.
    fn message(&mut self, line: &str) -> anyhow::Result<()> {
        let message = Message::parse(line).with_context(|| format!("'{line}' is no message"))?;
        let mut record = self.shares.record.lock();
        record.messages += 1;
        record.delay.record(now_ns().saturating_sub(message.time_ns));
        if let Some(last) = self.last {
            record.missed += (message.number - 1).saturating_sub(last);
        }
        self.last = Some(message.number);
        Ok(())
    }
}

fn get(uri: &str) -> anyhow::Result<Request<Empty<Bytes>>> {
    Ok(Request::get(uri).header("host", "localhost").body(Empty::new())?)
}

/// Asks again and again.
async fn ask(seen: &mut Seen<'_>, mut sender: SendRequest<Empty<Bytes>>, number: u64) -> anyhow::Result<()> {
    let options = &seen.shares.options;
    let every = Duration::from_millis(options.poll_every_ms);
    let poll = options.method == Method::Poll;
    if poll {
        // Not all at the same time.
        sleep(every.mul_f64(number as f64 / options.subscribers as f64)).await;
    }
    let mut ticks = tokio::time::interval(every);
    // Without a number the server sends what comes from then on.
    let mut after = String::new();
    let mut intended = Some(now_ns());
    loop {
        if poll {
            ticks.tick().await;
        }
        let path = if poll { "/poll" } else { "/long-poll" };
        let due = now_ns();
        seen.shares.record.lock().summary.requests += 1;
        sender.ready().await?;
        let response = sender.send_request(get(&format!("{path}{after}"))?).await?;
        ensure!(response.status().is_success(), "the server answers {}", response.status());
        let body = response.into_body().collect().await?.to_bytes();
        responded(&mut seen.shares.record.lock(), due, intended.take());
        let text = std::str::from_utf8(&body)?;
        let mut lines = text.lines();
        after = format!("?after={}", lines.next().context("an empty answer")?);
        for line in lines {
            seen.message(line)?;
        }
    }
}

async fn events(seen: &mut Seen<'_>, mut sender: SendRequest<Empty<Bytes>>) -> anyhow::Result<()> {
    seen.shares.record.lock().summary.requests += 1;
    let response = sender.send_request(get("/events")?).await?;
    ensure!(response.status().is_success(), "the server answers {}", response.status());
    let mut body = response.into_body();
    let mut rest = String::new();
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame?.into_data() {
            rest += std::str::from_utf8(&bytes)?;
        }
        while let Some((event, more)) = rest.split_once("\n\n") {
            seen.message(event.strip_prefix("data: ").context("no event")?)?;
            rest = more.to_owned();
        }
    }
    Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
}

async fn websocket(seen: &mut Seen<'_>, io: Io) -> anyhow::Result<()> {
    let (mut socket, _) = tokio_tungstenite::client_async("ws://localhost/news", io).await?;
    seen.shares.record.lock().summary.requests += 1;
    while let Some(frame) = socket.next().await {
        match frame? {
            Frame::Text(text) => seen.message(&text)?,
            Frame::Ping(_) | Frame::Pong(_) => {}
            Frame::Close(_) => break,
            other => bail!("the server sends {other:?}"),
        }
    }
    Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
}

/// A command in Redis' protocol.
fn redis(parts: &[&str]) -> String {
    let strings = parts.iter().map(|part| format!("${}\r\n{part}\r\n", part.len()));
    format!("*{}\r\n{}", parts.len(), strings.collect::<String>())
}

async fn subscribe(seen: &mut Seen<'_>, io: Io) -> anyhow::Result<()> {
    let mut io = BufReader::new(io);
    io.write_all(redis(&["SUBSCRIBE", CHANNEL]).as_bytes()).await?;
    seen.shares.record.lock().summary.requests += 1;
    while let Some(push) = command(&mut io).await? {
        match push.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["message", _, line] => seen.message(line)?,
            ["subscribe", ..] => {}
            _ => bail!("the server sends {push:?}"),
        }
    }
    Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
}

async fn publish(shares: &Shares, io: Io) -> anyhow::Result<()> {
    let mut io = BufReader::new(io);
    let mut ticks = tokio::time::interval(Duration::from_millis(shares.options.every_ms));
    // The first one comes when all have subscribed.
    ticks.tick().await;
    for number in 1..=u64::MAX {
        ticks.tick().await;
        let line = Message { number, time_ns: now_ns() }.line(64);
        io.write_all(redis(&["PUBLISH", CHANNEL, &line]).as_bytes()).await?;
        shares.record.lock().summary.requests += 1;
        let mut answer = String::new();
        tokio::io::AsyncBufReadExt::read_line(&mut io, &mut answer).await?;
        ensure!(answer.starts_with(':'), "the server answers {answer}");
        shares.record.lock().summary.responses += 1;
    }
    Ok(())
}
