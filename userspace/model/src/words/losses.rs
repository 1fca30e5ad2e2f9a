//! What was lost, in words: the same for the dashboard, the report and the probes' log.

use super::prose::plural;
use crate::sample::Losses;

/// A kind of loss, and how often it occurred.
#[derive(Debug)]
pub struct Loss {
    count: u64,
    /// What it is a number of.
    noun: &'static str,
    /// What happened to them, in a word or two.
    brief: &'static str,
    /// The same with the remedy, if there is one.
    remedy: &'static str,
    /// Its effect on the numbers.
    pub meaning: &'static str,
}

impl Loss {
    /// In a few words: `3 calls of threads (table full)`.
    #[must_use]
    pub fn brief(&self) -> String {
        self.words(self.brief)
    }

    /// With the remedy: `3 calls of threads (raise --max-threads)`.
    #[must_use]
    pub fn with_remedy(&self) -> String {
        self.words(self.remedy)
    }

    fn words(&self, how: &str) -> String {
        format!("{}{how}", plural(self.count, self.noun))
    }
}

/// Every loss that occurred, the gravest first.
#[must_use]
pub fn of(losses: &Losses) -> Vec<Loss> {
    let all = [
        Loss {
            count: losses.listeners,
            noun: "listener",
            brief: " (table full)",
            remedy: " (raise --max-listeners)",
            meaning: "listeners beyond --max-listeners are not shown",
        },
        Loss {
            count: losses.connections,
            noun: "connection",
            brief: " (table full)",
            remedy: " (raise --max-connections)",
            meaning: "connections beyond --max-connections: counted, but without waits; without reads too, if the table was still full when \
                      they were accepted",
        },
        Loss {
            count: losses.threads,
            noun: "call",
            brief: " of threads (table full)",
            remedy: " of threads (raise --max-threads)",
            meaning: "accepts, reads and writes of threads beyond --max-threads: counted for the listener, but for no thread",
        },
        Loss {
            count: losses.missed_runs,
            noun: "probe run",
            brief: " skipped",
            remedy: " skipped by the kernel",
            meaning: "probe runs that the kernel skipped because a probe interrupted itself",
        },
        Loss {
            count: losses.unseen,
            noun: "connection",
            brief: " unseen",
            remedy: " that no probe saw begin or end",
            meaning: "connections that no probe saw begin or end: counted later, without their accept wait",
        },
        Loss {
            count: losses.other,
            noun: "other loss",
            brief: "",
            remedy: "",
            meaning: "other losses: queued sockets that could not be identified, queues too long to be read completely at the start",
        },
        Loss {
            count: losses.ambiguous,
            noun: "connection",
            brief: " of an unknown listener",
            remedy: " of an unknown listener or shard, open at the start",
            meaning: "connections that were open at the start, of which it cannot be told through which listener they came: those of a \
                      group count for one of its shards, others for none",
        },
    ];
    all.into_iter().filter(|loss| loss.count > 0).collect()
}

/// Whether something is certainly missing, and what that means for the numbers.
///
/// A skipped run need not have lost anything. What was unseen at first is counted later. Connections from before the
/// start, of which the listener cannot be told, did not begin while it was measured.
#[must_use]
pub fn verdict(losses: &Losses) -> (bool, &'static str) {
    if losses.total() > losses.unseen {
        (true, "LOST, numbers are too low")
    } else if losses.unseen + losses.missed_runs > 0 {
        (false, "numbers may be too low")
    } else {
        (false, "some connections from before the start count for none or for another shard")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each, so that every sentence is in the singular.
    fn one_of_each() -> Losses {
        Losses { listeners: 1, connections: 1, threads: 1, missed_runs: 1, unseen: 1, ambiguous: 1, other: 1 }
    }

    #[test]
    fn every_loss_has_its_words() {
        let losses = of(&one_of_each());
        let words: Vec<(String, String)> = losses.iter().map(|loss| (loss.brief(), loss.with_remedy())).collect();
        let expected = [
            ("1 listener (table full)", "1 listener (raise --max-listeners)"),
            ("1 connection (table full)", "1 connection (raise --max-connections)"),
            ("1 call of threads (table full)", "1 call of threads (raise --max-threads)"),
            ("1 probe run skipped", "1 probe run skipped by the kernel"),
            ("1 connection unseen", "1 connection that no probe saw begin or end"),
            ("1 other loss", "1 other loss"),
            ("1 connection of an unknown listener", "1 connection of an unknown listener or shard, open at the start"),
        ];
        assert_eq!(words, expected.map(|(brief, remedy)| (brief.to_owned(), remedy.to_owned())));
        for (i, loss) in losses.iter().enumerate() {
            assert!(losses[..i].iter().all(|other| other.meaning != loss.meaning), "{}", loss.meaning);
        }
    }

    #[test]
    fn losses_are_counted_apart() {
        assert!(of(&Losses::default()).is_empty());
        let some = of(&Losses { connections: 1_234, other: 2, ambiguous: 3, ..Losses::default() });
        let brief: Vec<String> = some.iter().map(Loss::brief).collect();
        assert_eq!(brief, ["1,234 connections (table full)", "2 other losses", "3 connections of an unknown listener"]);
    }

    #[test]
    fn the_verdict_is_of_the_gravest_loss() {
        let none = Losses::default();
        for (losses, verdict_of) in [
            (Losses { listeners: 1, ..none.clone() }, (true, "LOST, numbers are too low")),
            (Losses { other: 1, ambiguous: 3, ..none.clone() }, (true, "LOST, numbers are too low")),
            (Losses { unseen: 2, connections: 1, ..none.clone() }, (true, "LOST, numbers are too low")),
            (Losses { unseen: 2, missed_runs: 3, ..none.clone() }, (false, "numbers may be too low")),
            (Losses { unseen: 1, ..none.clone() }, (false, "numbers may be too low")),
            (Losses { missed_runs: 1, ambiguous: 3, ..none.clone() }, (false, "numbers may be too low")),
            (
                Losses { ambiguous: 3, ..none.clone() },
                (false, "some connections from before the start count for none or for another shard"),
            ),
        ] {
            assert_eq!(verdict(&losses), verdict_of, "{losses:?}");
        }
    }
}
