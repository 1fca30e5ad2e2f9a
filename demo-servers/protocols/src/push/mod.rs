//! How news reach clients: they ask again and again, ask and wait, or the server pushes.
//!
//! A message is a line `NUMBER TIME`, padded to its size: numbers count from 1, the time is its publication on the
//! machine's monotonic clock in nanoseconds. So a subscriber knows how late it has it, and whether one is missing.

pub mod client;
mod http;
pub mod server;
mod topic;

use clap::ValueEnum;

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Method {
    /// Short polling: the client asks every so often, the server answers at once (HTTP/1.1)
    Poll,
    /// Long polling: the server answers when there is something (HTTP/1.1)
    LongPoll,
    /// Server-sent events: one response without an end (HTTP/1.1)
    Events,
    /// WebSocket: the server sends messages
    Websocket,
    /// Publish/subscribe in Redis' protocol: a client publishes, the server passes on
    Pubsub,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Message {
    /// From 1 on.
    pub(crate) number: u64,
    /// When it was published.
    pub(crate) time_ns: u64,
}

impl Message {
    /// The line, without its end, at least `bytes` long.
    pub(crate) fn line(self, bytes: usize) -> String {
        let mut line = format!("{} {}", self.number, self.time_ns);
        while line.len() + 1 < bytes {
            line.push(if line.len() < 40 { ' ' } else { '.' });
        }
        line
    }

    /// Reads a line.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        Some(Self { number: words.next()?.parse().ok()?, time_ns: words.next()?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[test]
    fn a_message_survives_its_line() {
        let message = Message { number: 7, time_ns: u64::MAX };
        for bytes in [0, 20, 41, 64, 1000] {
            let line = message.line(bytes);
            assert!(line.len() + 1 >= bytes && !line.contains('\n'), "{line}");
            assert_eq!(Message::parse(&line), Some(message), "{line}");
        }
        for bad in ["", "1", "a b", "1 -2"] {
            assert_eq!(Message::parse(bad), None);
        }
    }
}
