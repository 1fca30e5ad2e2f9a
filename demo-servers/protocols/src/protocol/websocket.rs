//! WebSocket: an upgrade from HTTP/1.1, then binary messages.

use super::{Handler, content};
use crate::io::Io;
use anyhow::bail;
use futures_util::{SinkExt, StreamExt};
use std::io::{Error, ErrorKind};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{Error as WebSocketError, ProtocolError};

pub(super) async fn serve(io: Io, handler: &Handler) -> anyhow::Result<()> {
    let mut socket = tokio_tungstenite::accept_async(io).await?;
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Binary(_)) => {
                let bytes = handler.handle().await;
                socket.send(Message::Binary(content(bytes))).await?;
            }
            // The library answers pings and closes.
            Ok(_) => {}
            Err(error) if is_end(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether the other side has gone, with a closing handshake or without.
pub(crate) fn is_end(error: &WebSocketError) -> bool {
    matches!(
        error,
        WebSocketError::ConnectionClosed
            | WebSocketError::AlreadyClosed
            | WebSocketError::Protocol(ProtocolError::ResetWithoutClosingHandshake)
    )
}

pub(crate) struct Client(WebSocketStream<Io>);

impl Client {
    pub(super) async fn open(io: Io) -> anyhow::Result<Self> {
        let (socket, _) = tokio_tungstenite::client_async("ws://localhost/echo", io).await?;
        Ok(Self(socket))
    }

    pub(super) async fn request(&mut self, bytes: usize) -> anyhow::Result<usize> {
        self.0.send(Message::Binary(content(bytes))).await?;
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(answer))) => return Ok(answer.len()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => bail!("the server sends {other:?}"),
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Error::from(ErrorKind::UnexpectedEof).into()),
            }
        }
    }
}
