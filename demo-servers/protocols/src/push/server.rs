//! The side that has the news.

use super::topic::Topic;
use super::{Message, Method, http};
use crate::counted::{Totals, count};
use crate::io::{Io, plain};
use crate::protocol::websocket::is_end;
use crate::server::{Common, Server, accept, runtime};
use anyhow::{Context, bail};
use demo_servers::sys::now_ns;
use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_tungstenite::tungstenite::Message as Frame;

/// Brings messages to subscribers.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The method
    #[arg(long, value_enum)]
    pub method: Method,
    /// Publish a message every so many milliseconds; with pubsub a client publishes
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub every_ms: u64,
    /// Size of a message in bytes, at least what its number and time need
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub message_bytes: u32,
}

/// What the connections of one server share.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) topic: Topic,
    pub(super) totals: Arc<Totals>,
    pub(super) message_bytes: usize,
    method: Method,
}

/// Runs it until a signal.
///
/// # Errors
/// An address that cannot be used.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let server = Server::new("push", &options.common)?;
    let listener = server.listen(server.port(), false)?;
    let address = listener.local_addr().context("getsockname")?;
    let publisher = Arc::new(Publisher {
        topic: Topic::new(),
        totals: Arc::clone(&server.totals),
        message_bytes: options.message_bytes as usize,
        method: options.method,
    });
    let every = Duration::from_millis(options.every_ms);
    runtime(1)?.block_on(server.run(address, async {
        let publish = async {
            if publisher.method == Method::Pubsub {
                std::future::pending::<()>().await;
            }
            let mut ticks = tokio::time::interval(every);
            for number in 1..=u64::MAX {
                ticks.tick().await;
                publisher.topic.publish(Message { number, time_ns: now_ns() });
            }
        };
        let serve = accept(listener, &publisher.totals, &server.control, |stream| {
            let publisher = Arc::clone(&publisher);
            async move {
                let io: Io = Box::new(plain(stream, &publisher.totals)?);
                match publisher.method {
                    Method::Poll | Method::LongPoll | Method::Events => http::serve(io, &publisher).await,
                    Method::Websocket => websocket(io, &publisher).await,
                    Method::Pubsub => pubsub(io, &publisher).await,
                }
            }
        });
        tokio::select! {
            () = publish => Ok(()),
            outcome = serve => outcome,
        }
    }))
}

async fn websocket(io: Io, publisher: &Publisher) -> anyhow::Result<()> {
    let mut socket = tokio_tungstenite::accept_async(io).await?;
    let mut last = publisher.topic.latest();
    loop {
        tokio::select! {
            () = publisher.topic.wait(last) => {
                for message in publisher.topic.after(last) {
                    count(&publisher.totals.messages);
                    last = message.number;
                    socket.send(Frame::text(message.line(publisher.message_bytes))).await?;
                }
            }
            incoming = socket.next() => match incoming {
                None => return Ok(()),
                Some(Err(error)) if is_end(&error) => return Ok(()),
                Some(Err(error)) => return Err(error.into()),
                // The library answers pings and closes.
                Some(Ok(_)) => {}
            }
        }
    }
}

/// SUBSCRIBE and PUBLISH of Redis, for one topic whose name does not matter.
async fn pubsub(io: Io, publisher: &Publisher) -> anyhow::Result<()> {
    let mut io = BufReader::new(io);
    loop {
        let Some(command) = command(&mut io).await? else { return Ok(()) };
        count(&publisher.totals.requests);
        match command.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["SUBSCRIBE", channel] => {
                let answer = format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{channel}\r\n:1\r\n", channel.len());
                io.write_all(answer.as_bytes()).await?;
                io.flush().await?;
                return pass_on(io, publisher, channel).await;
            }
            ["PUBLISH", _, message] => {
                let Some(message) = Message::parse(message) else { bail!("no message") };
                publisher.topic.publish(message);
                io.write_all(b":1\r\n").await?;
                io.flush().await?;
            }
            _ => {
                io.write_all(b"-ERR this server knows SUBSCRIBE and PUBLISH\r\n").await?;
                io.flush().await?;
            }
        }
    }
}

async fn pass_on(mut io: BufReader<Io>, publisher: &Publisher, channel: &str) -> anyhow::Result<()> {
    let mut last = publisher.topic.latest();
    let mut end = [0; 64];
    loop {
        tokio::select! {
            () = publisher.topic.wait(last) => {
                for message in publisher.topic.after(last) {
                    count(&publisher.totals.messages);
                    last = message.number;
                    let line = message.line(publisher.message_bytes);
                    let length = channel.len();
                    let push = format!("*3\r\n$7\r\nmessage\r\n${length}\r\n{channel}\r\n${}\r\n{line}\r\n", line.len());
                    io.write_all(push.as_bytes()).await?;
                    io.flush().await?;
                }
            }
            // A subscriber that closes; commands of subscribers are not served.
            bytes = io.read(&mut end) => if bytes? == 0 { return Ok(()) },
        }
    }
}

/// Largest number of parts of a command, and their largest size.
const PARTS: usize = 8;
const PART_BYTES: usize = 1 << 17;

/// Reads a command: an array of strings. Returns `None` at the end of the connection.
pub(super) async fn command(io: &mut BufReader<Io>) -> anyhow::Result<Option<Vec<String>>> {
    let Some(count) = number(io, '*').await? else { return Ok(None) };
    if count > PARTS {
        bail!("a command of {count} parts");
    }
    let mut parts = Vec::new();
    for _ in 0..count {
        parts.push(string(io).await?);
    }
    Ok(Some(parts))
}

/// Reads `$LENGTH`, the string, and its end; or `:NUMBER`.
async fn string(io: &mut BufReader<Io>) -> anyhow::Result<String> {
    let line = line(io).await?.context("the connection ends within a command")?;
    if let Some(number) = line.strip_prefix(':') {
        return Ok(number.to_owned());
    }
    let length: usize = line.strip_prefix('$').and_then(|length| length.parse().ok()).context("no string")?;
    if length > PART_BYTES {
        bail!("a string of {length} bytes");
    }
    let mut bytes = vec![0; length + 2];
    io.read_exact(&mut bytes).await?;
    bytes.truncate(length);
    Ok(String::from_utf8(bytes)?)
}

async fn number(io: &mut BufReader<Io>, mark: char) -> anyhow::Result<Option<usize>> {
    let Some(line) = line(io).await? else { return Ok(None) };
    let number = line.strip_prefix(mark).and_then(|number| number.parse().ok());
    number.context("no command").map(Some)
}

/// Reads a line of at most some bytes, without its end.
async fn line(io: &mut BufReader<Io>) -> anyhow::Result<Option<String>> {
    let mut bytes = Vec::new();
    io.take(1024).read_until(b'\n', &mut bytes).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8(bytes)?;
    text.strip_suffix("\r\n").map(|line| Some(line.to_owned())).context("a line without an end")
}
