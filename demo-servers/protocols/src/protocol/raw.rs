//! Raw framing: four bytes with the length, in network order, then the content.

use super::{Handler, content};
use crate::io::Io;
use anyhow::ensure;
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

/// The largest content that is accepted.
const LARGEST: u32 = 1 << 24;

pub(super) async fn serve(io: Io, handler: &Handler) -> anyhow::Result<()> {
    // Without a buffer a frame would take two reads.
    let mut io = BufReader::new(io);
    while read(&mut io).await?.is_some() {
        let bytes = handler.handle().await;
        write(&mut io, bytes).await?;
    }
    Ok(())
}

/// Reads a frame. Returns its size, or `None` at the end of the connection.
pub(crate) async fn read(io: &mut BufReader<Io>) -> anyhow::Result<Option<usize>> {
    let length = match io.read_u32().await {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        length => length?,
    };
    ensure!(length <= LARGEST, "a frame of {length} bytes is too long");
    let mut content = vec![0; length as usize];
    io.read_exact(&mut content).await?;
    Ok(Some(content.len()))
}

async fn write(io: &mut BufReader<Io>, bytes: usize) -> anyhow::Result<()> {
    let mut frame = (bytes as u32).to_be_bytes().to_vec();
    frame.extend(content(bytes));
    io.write_all(&frame).await?;
    Ok(io.flush().await?)
}

pub(crate) struct Client(BufReader<Io>);

impl Client {
    pub(super) fn new(io: Io) -> Self {
        Self(BufReader::new(io))
    }

    pub(super) async fn request(&mut self, bytes: usize) -> anyhow::Result<usize> {
        write(&mut self.0, bytes).await?;
        read(&mut self.0).await?.ok_or_else(|| std::io::Error::from(ErrorKind::UnexpectedEof).into())
    }
}
