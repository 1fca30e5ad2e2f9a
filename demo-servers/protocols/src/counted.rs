//! Counting the calls that move bytes, below TLS and the protocol: what the kernel sees.

use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Counters of one program.
#[derive(Debug, Default)]
pub struct Totals {
    /// Accepted connections.
    pub accepts: AtomicU64,
    /// Accept calls that failed.
    pub accept_failures: AtomicU64,
    /// Accepted connections that are closed.
    pub closed: AtomicU64,
    /// Read calls that returned at least one byte.
    pub reads: AtomicU64,
    /// Bytes that these returned.
    pub read_bytes: AtomicU64,
    /// Write calls that wrote at least one byte.
    pub writes: AtomicU64,
    /// Bytes that these wrote.
    pub write_bytes: AtomicU64,
    /// Requests that were answered.
    pub requests: AtomicU64,
    /// TLS handshakes that were completed.
    pub handshakes: AtomicU64,
    /// Those that resumed an earlier session.
    pub resumed: AtomicU64,
    /// Connections that ended by an error, such as a broken handshake.
    pub broken: AtomicU64,
    /// Messages that were pushed or returned to subscribers.
    pub messages: AtomicU64,
    /// Connections to the server behind a proxy.
    pub upstream_connects: AtomicU64,
    /// The same: those that failed.
    pub upstream_failures: AtomicU64,
    /// Requests that waited for a connection to the server behind a proxy, at most at one time.
    pub peak_waiting: AtomicU64,
    /// io_uring: calls that submitted or waited.
    pub ring_calls: AtomicU64,
}

/// Counters that only some servers have, as printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are described at Totals")]
pub struct More {
    pub handshakes: u64,
    pub resumed: u64,
    pub broken: u64,
    pub messages: u64,
    pub upstream_connects: u64,
    pub upstream_failures: u64,
    pub peak_waiting: u64,
    pub ring_calls: u64,
}

impl Totals {
    /// The counters that only some servers have.
    #[must_use]
    pub fn more(&self) -> More {
        More {
            handshakes: self.handshakes.load(Relaxed),
            resumed: self.resumed.load(Relaxed),
            broken: self.broken.load(Relaxed),
            messages: self.messages.load(Relaxed),
            upstream_connects: self.upstream_connects.load(Relaxed),
            upstream_failures: self.upstream_failures.load(Relaxed),
            peak_waiting: self.peak_waiting.load(Relaxed),
            ring_calls: self.ring_calls.load(Relaxed),
        }
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// A connection whose calls are counted.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    inner: S,
    totals: Arc<Totals>,
}

impl<S> Counted<S> {
    pub(crate) fn new(inner: S, totals: &Arc<Totals>) -> Self {
        Self { inner, totals: Arc::clone(totals) }
    }

    fn wrote(&self, bytes: usize) {
        if bytes > 0 {
            count(&self.totals.writes);
            self.totals.write_bytes.fetch_add(bytes as u64, Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let bytes = buf.filled().len() - before;
        if bytes > 0 {
            count(&self.totals.reads);
            self.totals.read_bytes.fetch_add(bytes as u64, Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.wrote(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
        self.wrote(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn calls_and_bytes_are_counted_on_both_sides() {
        let (one, other) = tokio::io::duplex(64);
        let totals = Arc::new(Totals::default());
        let mut one = Counted::new(one, &totals);
        let mut other = other;
        one.write_all(b"hello").await.unwrap();
        let mut buffer = [0; 3];
        other.write_all(b"abcdef").await.unwrap();
        one.read_exact(&mut buffer).await.unwrap();
        one.read_exact(&mut buffer).await.unwrap();
        drop(other);
        assert_eq!(one.read(&mut buffer).await.unwrap(), 0, "the end is no read of bytes");
        let counted = [&totals.writes, &totals.write_bytes, &totals.reads, &totals.read_bytes];
        assert_eq!(counted.map(|counter| counter.load(Relaxed)), [1, 5, 2, 6]);
    }
}
