//! A connection, with TLS or without.

use crate::counted::{Counted, Totals};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What all protocols are spoken over.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection of either kind.
pub(crate) type Io = Box<dyn Duplex>;

/// A counted connection that sends small segments at once, as servers of these protocols do.
pub(crate) fn plain(stream: TcpStream, totals: &Arc<Totals>) -> std::io::Result<Counted<TcpStream>> {
    stream.set_nodelay(true)?;
    Ok(Counted::new(stream, totals))
}
