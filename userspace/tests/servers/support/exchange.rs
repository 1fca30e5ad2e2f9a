//! What a client and a server say to each other, protocol by protocol.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use test_support::lab::loopback;

/// A client gives up after this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// One question and its whole answer.
pub(crate) type Exchange = fn(&mut Client) -> io::Result<()>;

/// A connection that counts its bytes.
pub(crate) struct Client {
    stream: TcpStream,
    /// Bytes that it sent.
    pub(crate) sent: u64,
    /// Bytes that it received.
    pub(crate) received: u64,
}

impl Client {
    /// Connects to this port of the loopback address.
    pub(crate) fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&loopback(port), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, sent: 0, received: 0 })
    }

    /// Sends all of `bytes`.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.sent += bytes.len() as u64;
        Ok(())
    }

    /// Receives until `complete` says that all has come, or to the end of the connection.
    pub(crate) fn receive(&mut self, complete: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
        let (mut text, mut buffer) = (Vec::new(), [0; 16_384]);
        while !complete(&text) {
            match self.stream.read(&mut buffer)? {
                0 => break,
                count => text.extend_from_slice(&buffer[..count]),
            }
        }
        self.received += text.len() as u64;
        Ok(text)
    }
}

fn check(right: bool, answer: &[u8]) -> io::Result<()> {
    if right { Ok(()) } else { Err(io::Error::other(format!("answered {:?}", String::from_utf8_lossy(answer)))) }
}

/// `GET /` of HTTP/1.1 on a connection that stays open.
pub(crate) fn http(client: &mut Client) -> io::Result<()> {
    http_get(client, "/").map(drop)
}

/// `GET /` of HTTP/1.0: the server closes the connection.
pub(crate) fn http_once(client: &mut Client) -> io::Result<()> {
    client.send(b"GET / HTTP/1.0\r\nHost: server\r\n\r\n")?;
    let answer = client.receive(|_| false)?;
    check(is_ok(&answer), &answer)
}

/// `GET PATH` of HTTP/1.1 on a connection that stays open; the answer with its head.
pub(crate) fn http_get(client: &mut Client, path: &str) -> io::Result<String> {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: server\r\n\r\n").as_bytes())?;
    let answer = client.receive(is_whole)?;
    check(is_ok(&answer), &answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The answer to `GET PATH` on a connection of its own, without its head.
pub(crate) fn page(port: u16, path: &str) -> String {
    let answer = Client::connect(port).and_then(|mut client| http_get(&mut client, path)).expect("the page");
    answer.split_once("\r\n\r\n").expect("a head").1.to_owned()
}

fn is_ok(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.") && answer.get(8..12) == Some(b" 200")
}

/// Whether an answer of HTTP/1.1 is complete: by its length, or by its last chunk.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => answer.len() >= end + 4 + length,
        None => head.contains("transfer-encoding: chunked") && answer.ends_with(b"\r\n0\r\n\r\n"),
    }
}

/// `PING` of Redis.
pub(crate) fn redis_ping(client: &mut Client) -> io::Result<()> {
    client.send(b"PING\r\n")?;
    let answer = client.receive(|answer| answer.ends_with(b"\r\n"))?;
    check(answer == b"+PONG\r\n", &answer)
}

/// A `get` of memcached that finds nothing.
pub(crate) fn memcached_get(client: &mut Client) -> io::Result<()> {
    client.send(b"get nothing\r\n")?;
    let answer = client.receive(|answer| answer.ends_with(b"\r\n"))?;
    check(answer == b"END\r\n", &answer)
}

/// A whole session of PostgreSQL: start, one query, end.
pub(crate) fn postgresql(client: &mut Client) -> io::Result<()> {
    const START: &[u8] = b"\0\x03\0\0user\0nobody\0database\0postgres\0\0";
    client.send(&[&(START.len() as u32 + 4).to_be_bytes(), START].concat())?;
    let hello = client.receive(is_ready)?;
    check(is_ready(&hello), &hello)?;
    client.send(&message(b'Q', b"SELECT 1\0"))?;
    let answer = client.receive(is_ready)?;
    check(answer.first() == Some(&b'T') && is_ready(&answer), &answer)?;
    client.send(&message(b'X', b""))
}

/// A message of PostgreSQL: its kind, its length with that of the length, its content.
fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind], &(content.len() as u32 + 4).to_be_bytes()[..], content].concat()
}

/// Whether PostgreSQL says that it waits for a query (ReadyForQuery, idle).
fn is_ready(answer: &[u8]) -> bool {
    answer.ends_with(b"Z\0\0\0\x05I")
}

/// A FastCGI request for /index.php.
pub(crate) fn fastcgi(client: &mut Client) -> io::Result<()> {
    fastcgi_to(client, "/index.php").map(drop)
}

/// A FastCGI request for a script or a page of php-fpm; the answer. The server closes the connection.
pub(crate) fn fastcgi_to(client: &mut Client, name: &str) -> io::Result<String> {
    const BEGIN: u8 = 1;
    const END: u8 = 3;
    const PARAMETERS: u8 = 4;
    const INPUT: u8 = 5;
    // Role: responder. The connection closes after the answer.
    let begin = [0, 1, 0, 0, 0, 0, 0, 0];
    let variables = [
        ("REQUEST_METHOD", "GET"),
        ("SCRIPT_NAME", name),
        ("SCRIPT_FILENAME", name),
        ("QUERY_STRING", "json"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
    ];
    let pair = |(name, value): (&str, &str)| {
        [&[name.len() as u8, value.len() as u8], name.as_bytes(), value.as_bytes()].concat()
    };
    let variables: Vec<u8> = variables.into_iter().flat_map(pair).collect();
    let parts = [(BEGIN, &begin[..]), (PARAMETERS, &variables), (PARAMETERS, b""), (INPUT, b"")];
    client.send(&parts.into_iter().flat_map(|(kind, content)| record(kind, content)).collect::<Vec<_>>())?;
    let answer = client.receive(|_| false)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let ended = answer.len() >= 16 && answer[answer.len() - 16..][..2] == [1, END];
    check(ended && text.to_lowercase().contains("content-type:") && !text.contains("Status: "), &answer)?;
    Ok(text)
}

/// A record of FastCGI, of request 1.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u16).to_be_bytes();
    [&[1, kind, 0, 1, length[0], length[1], 0, 0], content].concat()
}
