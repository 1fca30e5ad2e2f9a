//! What was lost, in words: the same for the dashboard and the report.

use listentop_model::sample::Losses;

use crate::dashboard::format::grouped;

/// Something of which there was some.
pub(crate) struct Loss {
    count: u64,
    /// What it is a number of.
    noun: &'static str,
    /// What became of them, in a word or two.
    brief: &'static str,
    /// The same with the remedy, where there is one.
    remedy: &'static str,
    /// What that does to the numbers.
    pub(crate) meaning: &'static str,
}

impl Loss {
    /// In a few words: `3 calls of threads (table full)`.
    pub(crate) fn brief(&self) -> String {
        self.words(self.brief)
    }

    /// With the remedy: `3 calls of threads (raise --max-threads)`.
    pub(crate) fn with_remedy(&self) -> String {
        self.words(self.remedy)
    }

    fn words(&self, how: &str) -> String {
        let plural = if self.count == 1 { "" } else { "s" };
        format!("{} {}{plural}{how}", grouped(self.count), self.noun)
    }
}

/// What there was some of, the gravest first; nothing if nothing was lost.
pub(crate) fn of(losses: &Losses) -> Vec<Loss> {
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
            meaning: "connections beyond --max-connections are counted, without waits, and without reads unless there was room when they \
                      were accepted",
        },
        Loss {
            count: losses.threads,
            noun: "call",
            brief: " of threads (table full)",
            remedy: " of threads (raise --max-threads)",
            meaning: "accepts, reads and writes of threads beyond --max-threads: counted for the listener, by no thread",
        },
        Loss {
            count: losses.missed_runs,
            noun: "probe run",
            brief: " skipped",
            remedy: " skipped by the kernel",
            meaning: "probe runs that the kernel skipped, because a probe interrupted itself",
        },
        Loss {
            count: losses.unseen,
            noun: "connection",
            brief: " unseen",
            remedy: " whose beginning or end the kernel showed to no probe",
            meaning: "connections whose beginning or end the kernel showed to no probe: counted later, without their accept wait",
        },
        Loss {
            count: losses.other,
            noun: "other",
            brief: "",
            remedy: "",
            meaning: "other: queued sockets that could not be told, queues too long to take over at the start",
        },
        Loss {
            count: losses.ambiguous,
            noun: "connection",
            brief: " of a shard unknown",
            remedy: " that were open at the start, of a shard unknown",
            meaning: "connections that were open at the start and count for one shard of their group, whichever they came through: the \
                      group's sums are right",
        },
    ];
    all.into_iter().filter(|loss| loss.count > 0).collect()
}

/// Whether something is missing for certain, and what to say of the numbers: skipped runs need not have lost anything,
/// what was unseen at first is counted later, and of a group whose shards are in doubt nothing is missing.
pub(crate) fn verdict(losses: &Losses) -> (bool, &'static str) {
    if losses.total() > losses.unseen {
        (true, "LOST, numbers are too low")
    } else if losses.unseen + losses.missed_runs > 0 {
        (false, "numbers may be too low")
    } else {
        (false, "shares of shards may be wrong")
    }
}

#[cfg(test)]
mod tests {
    use super::{Loss, Losses, of, verdict};

    #[test]
    fn losses_are_said_in_words() {
        assert!(of(&Losses::default()).is_empty());
        let some = of(&Losses { connections: 1_234, threads: 1, unseen: 1, ..Losses::default() });
        let brief: Vec<String> = some.iter().map(Loss::brief).collect();
        assert_eq!(brief, ["1,234 connections (table full)", "1 call of threads (table full)", "1 connection unseen"]);
        assert_eq!(some[1].with_remedy(), "1 call of threads (raise --max-threads)");
    }

    #[test]
    fn what_is_counted_later_is_not_lost_for_certain() {
        assert!(!verdict(&Losses { unseen: 2, missed_runs: 3, ..Losses::default() }).0);
        assert!(verdict(&Losses { unseen: 2, connections: 1, ..Losses::default() }).0);
    }

    #[test]
    fn a_shard_in_doubt_is_no_loss() {
        let losses = Losses { ambiguous: 3, ..Losses::default() };
        assert_eq!(verdict(&losses), (false, "shares of shards may be wrong"));
        assert_eq!(of(&losses)[0].brief(), "3 connections of a shard unknown");
        assert_eq!(verdict(&Losses { other: 1, ..losses.clone() }), (true, "LOST, numbers are too low"));
        assert_eq!(verdict(&Losses { unseen: 1, ..losses }), (false, "numbers may be too low"));
    }
}
