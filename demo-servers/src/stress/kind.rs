//! How a client behaves: as it should, or in one of the ways that servers must survive.

use super::options::Options;
use serde::{Deserialize, Serialize};

/// The behaviour of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sends at once, reads at once.
    Ordinary,
    /// Sends its request a tenth at a time.
    SlowSender,
    /// Reads the response a tenth at a time.
    SlowReader,
    /// Connects and sends nothing until its time is over.
    Silent,
    /// Resets the connection as soon as it is established: it may still be in the accept queue.
    Reset,
}

/// Draws the behaviour of connections.
pub(super) struct Kinds {
    random: fastrand::Rng,
    shares: [(Kind, f64); 4],
}

impl Kinds {
    pub(super) fn new(options: &Options) -> Self {
        // Another sequence than that of the arrivals.
        let random = fastrand::Rng::with_seed(options.seed ^ 0x6b69_6e64);
        let shares = [
            (Kind::SlowSender, options.slow_senders),
            (Kind::SlowReader, options.slow_readers),
            (Kind::Silent, options.silent),
            (Kind::Reset, options.reset_queued),
        ];
        Self { random, shares }
    }

    /// That of the next connection.
    pub(super) fn next(&mut self) -> Kind {
        let mut drawn = self.random.f64() * 100.0;
        for (kind, percent) in self.shares {
            if drawn < percent {
                return kind;
            }
            drawn -= percent;
        }
        Kind::Ordinary
    }
}

/// What became of the connections of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    /// Connections of this kind whose connect was called.
    pub started: u64,
    /// Those that did what they meant to do: all responses read, silent until the end, reset.
    pub completed: u64,
    /// Those that failed, or that the server closed.
    pub failed: u64,
}

/// Connections that do not behave, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misbehaving {
    /// --slow-senders.
    pub slow_senders: Fate,
    /// --slow-readers.
    pub slow_readers: Fate,
    /// --silent.
    pub silent: Fate,
    /// --reset-queued.
    pub reset_queued: Fate,
}

impl Misbehaving {
    /// The counters of a kind; `None` for ordinary connections, which the summary counts itself.
    pub(super) fn of(&mut self, kind: Kind) -> Option<&mut Fate> {
        match kind {
            Kind::Ordinary => None,
            Kind::SlowSender => Some(&mut self.slow_senders),
            Kind::SlowReader => Some(&mut self.slow_readers),
            Kind::Silent => Some(&mut self.silent),
            Kind::Reset => Some(&mut self.reset_queued),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn kinds_have_their_shares_and_the_seed_decides() {
        let line =
            "stress --target 127.0.0.1:1 --rate 1 --slow-senders 10 --slow-readers 20 --silent 5 --reset-queued 15";
        let options = Options::parse_from(line.split(' '));
        let mut kinds = Kinds::new(&options);
        let drawn: Vec<Kind> = (0..100_000).map(|_| kinds.next()).collect();
        let share = |kind| drawn.iter().filter(|drawn| **drawn == kind).count() as f64 / 1000.0;
        for (kind, percent) in [
            (Kind::SlowSender, 10.0),
            (Kind::SlowReader, 20.0),
            (Kind::Silent, 5.0),
            (Kind::Reset, 15.0),
            (Kind::Ordinary, 50.0),
        ] {
            assert!((share(kind) - percent).abs() < 1.0, "{kind:?}: {}", share(kind));
        }
        let mut again = Kinds::new(&options);
        assert!(drawn.iter().take(100).all(|kind| *kind == again.next()));
    }
}
