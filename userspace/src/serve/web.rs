//! The web server. Whatever a client does, it costs little and ends soon: measuring goes on in a thread of its own.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{Arc, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Options,
    exposition::{self, Format},
    measuring::Reader,
    own::{Counters, count},
    page::Floors,
    web_config::Guard,
};

/// The path that says whether it measures, to anyone.
pub(super) const HEALTH: &str = "/healthz";

/// Connections at a time. Further ones wait in the accept queue.
const CONNECTIONS: usize = 128;
/// How long a request may take to arrive, and a TLS handshake.
const REQUEST: Duration = Duration::from_secs(10);
/// How long an exchange may take, from its connection to its last byte.
const EXCHANGE: Duration = Duration::from_secs(60);
/// The longest request, with its headers.
const LONGEST_REQUEST: usize = 16 << 10;
/// Passwords that are known to be right. bcrypt takes long, on purpose.
const KNOWN_PASSWORDS: usize = 64;

type Answer = Response<Full<Bytes>>;

/// A page in one format, and the sample that it is of.
#[derive(Default)]
struct Written {
    sample: u64,
    page: Bytes,
}

/// The memory of a page, for the next one, if nobody reads it any more: new memory takes a third of the time in which a
/// page is written.
fn reclaim(page: Bytes) -> Vec<u8> {
    let Ok(mut page) = page.try_into_mut() else { return Vec::new() };
    page.clear();
    page.into()
}

/// What is served.
pub(super) struct Site {
    path: String,
    max_series: usize,
    guard: Guard,
    reader: Reader,
    counters: Arc<Counters>,
    floors: Arc<Floors>,
    /// One for each of [`Format::ALL`].
    written: [Mutex<Written>; Format::ALL.len()],
    /// Names and passwords that were right.
    known: std::sync::Mutex<HashSet<Vec<u8>>>,
    /// One password at a time: a client that guesses takes one CPU at most.
    checking: Semaphore,
}

impl Site {
    pub(super) fn new(
        options: &Options,
        guard: Guard,
        reader: Reader,
        counters: Arc<Counters>,
        floors: Arc<Floors>,
    ) -> Self {
        Self {
            path: options.path.clone(),
            max_series: options.max_series as usize,
            guard,
            reader,
            counters,
            floors,
            written: Default::default(),
            known: std::sync::Mutex::default(),
            checking: Semaphore::new(1),
        }
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        if path == HEALTH {
            return self.health();
        }
        if !self.is_authorized(request.headers().get(AUTHORIZATION)).await {
            count(&self.counters.unauthorized);
            let mut answer = text(StatusCode::UNAUTHORIZED, "Unauthorized\n");
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
            return answer;
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            count(&self.counters.mistaken);
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        if path == self.path {
            let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
            return self.figures(Format::preferred(accept)).await;
        }
        if path == "/" {
            return text(StatusCode::OK, format!("listentop: figures are at {}, health at {HEALTH}\n", self.path));
        }
        count(&self.counters.mistaken);
        text(StatusCode::NOT_FOUND, format!("not found: figures are at {}\n", self.path))
    }

    fn health(&self) -> Answer {
        let progress = self.reader.progress();
        if progress.is_stale() {
            let age = progress.at.elapsed().as_secs();
            return text(StatusCode::SERVICE_UNAVAILABLE, format!("the last sample is {age} s old\n"));
        }
        text(StatusCode::OK, "it measures\n")
    }

    /// The last sample in a format. Who asks while it is written waits for it, and gets the same.
    async fn figures(self: &Arc<Self>, format: Format) -> Answer {
        let mut written = self.written[format as usize].lock().await;
        if written.sample != self.reader.progress().samples {
            let (site, before) = (self.clone(), std::mem::take(&mut *written));
            let write = move || {
                let latest = site.reader.latest();
                let sample = latest.samples;
                let page = site.floors.page(latest, site.max_series);
                let page = exposition::write(page, site.counters.clone(), format, reclaim(before.page))?;
                Ok::<_, std::fmt::Error>(Written { sample, page: page.into() })
            };
            match spawn_blocking(write).await {
                Ok(Ok(page)) => *written = page,
                Ok(Err(_)) | Err(_) => {
                    return text(StatusCode::INTERNAL_SERVER_ERROR, "the figures could not be written\n");
                }
            }
        }
        count(&self.counters.scrapes);
        let mut answer = Response::new(Full::new(written.page.clone()));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        answer
    }

    async fn is_authorized(self: &Arc<Self>, header: Option<&HeaderValue>) -> bool {
        if self.guard.users.is_empty() {
            return true;
        }
        let Some(given) = header.and_then(|header| header.as_bytes().strip_prefix(b"Basic ")) else { return false };
        let Ok(given) = BASE64_STANDARD.decode(given.trim_ascii()) else { return false };
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(&given) {
            return true;
        }
        let Ok(_one) = self.checking.acquire().await else { return false };
        let (site, checked) = (self.clone(), given.clone());
        let right = spawn_blocking(move || site.is_right(&checked)).await.unwrap_or(false);
        if right {
            let mut known = known();
            if known.len() >= KNOWN_PASSWORDS {
                known.clear();
            }
            known.insert(given);
        }
        right
    }

    /// Whether `NAME:PASSWORD` is right. An unknown name takes as long as a wrong password.
    fn is_right(&self, given: &[u8]) -> bool {
        let colon = given.iter().position(|byte| *byte == b':').unwrap_or(given.len());
        let (name, password) = (&given[..colon], given.get(colon + 1..).unwrap_or_default());
        let hash = str::from_utf8(name).ok().and_then(|name| self.guard.users.get(name));
        let any = self.guard.users.values().next();
        let fits = hash.or(any).is_some_and(|hash| bcrypt::verify(password, hash).unwrap_or(false));
        hash.is_some() && fits
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// Serves for ever.
pub(super) async fn serve(listener: TcpListener, site: Arc<Site>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let tls = site.guard.tls.clone().map(TlsAcceptor::from);
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is left, perhaps. Others will end.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (site, tls) = (site.clone(), tls.clone());
        tokio::spawn(async move {
            if timeout(EXCHANGE, exchange(stream, &site, tls)).await.is_err() {
                count(&site.counters.slow);
            }
            drop(place);
        });
    }
}

async fn exchange(stream: TcpStream, site: &Arc<Site>, tls: Option<TlsAcceptor>) {
    match tls {
        None => converse(stream, site).await,
        Some(tls) => match timeout(REQUEST, tls.accept(stream)).await {
            Ok(Ok(stream)) => converse(stream, site).await,
            Ok(Err(_)) => count(&site.counters.broken),
            Err(_) => count(&site.counters.slow),
        },
    }
}

/// One request and its answer.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, site: &Arc<Site>) {
    let answer = |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(request).await) }
    };
    let served = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .max_buf_size(LONGEST_REQUEST)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
    match served {
        Ok(()) => {}
        Err(error) if error.is_timeout() => count(&site.counters.slow),
        Err(_) => count(&site.counters.broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_page_is_used_again_when_nobody_reads_it() {
        let mut memory = Vec::with_capacity(100);
        memory.extend(b"page");
        let (place, page) = (memory.as_ptr(), Bytes::from(memory));
        let read = page.clone();
        assert_eq!(reclaim(page).capacity(), 0);
        let memory = reclaim(read);
        assert_eq!((memory.as_ptr(), memory.len(), memory.capacity()), (place, 0, 100));
    }
}
