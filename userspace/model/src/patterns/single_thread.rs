//! `single_thread`: one thread accepts, reads and writes.

use super::{FITS, OneAcceptor, PatternKind, PatternName, Work, found, percent, work::share};
use crate::{model::Pattern, words::prose::grouped};

pub(super) const KIND: PatternKind = PatternKind {
    name: PatternName::SingleThread,
    seen: "one acceptor, which also makes the reads and the writes",
    programs: "Node.js, Redis",
    fits,
};

fn fits(work: &Work<'_>) -> Option<Pattern> {
    // Where writes are not measured, another thread may write the answers.
    if !work.reads_measured || !work.writes_measured {
        return None;
    }
    let one = OneAcceptor::of(work)?;
    let reads = share(one.thread.reads, work.reads);
    let writes = if work.writes > 0 { share(one.thread.writes, work.writes) } else { 1.0 };
    if reads.min(writes) < FITS {
        return None;
    }
    let mut evidence = one.evidence();
    evidence.push(format!("it made {} of {} reads", percent(reads), grouped(work.reads)));
    evidence.push(match work.writes {
        0 => "no writes were seen".to_owned(),
        n => format!("it made {} of {} writes", percent(writes), grouped(n)),
    });
    found(KIND.name, one.accepts.min(reads).min(writes), evidence)
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{name, of, of_listener},
        *,
    };
    use crate::sample::ListenerSample;

    /// Of reads and writes: how many the acceptor makes, and how many another thread.
    fn server(reads: [u64; 2], writes: [u64; 2]) -> Pattern {
        of(&[(1, 1), (1, 2)], |l| {
            l.accept(0, 60, 50);
            (0..2).for_each(|t| l.read(t, reads[t], 60, 50));
            (0..2).for_each(|t| l.write(t, writes[t]));
        })
    }

    #[test]
    fn what_it_reports() {
        let pattern = server([1_940, 60], [1_140, 60]);
        assert_eq!(pattern.name, PatternName::SingleThread);
        assert_eq!(
            pattern.evidence,
            ["srv (thread 1) made 100% of 60 accepts", "it made 97% of 2,000 reads", "it made 95% of 1,200 writes"]
        );
        assert!((pattern.confidence - 0.95).abs() < 1e-9, "{pattern:?}");
        assert!((server([1_840, 160], [1_140, 60]).confidence - 0.92).abs() < 1e-9);
    }

    #[test]
    fn it_need_not_write() {
        let pattern = server([60, 0], [0, 0]);
        assert_eq!((pattern.name, pattern.confidence), (PatternName::SingleThread, 1.0));
        assert_eq!(pattern.evidence[2], "no writes were seen");
        assert_eq!(name(&server([60, 0], [0, 1])), "unknown");
    }

    #[test]
    fn it_makes_nine_tenths_of_the_reads_and_of_the_writes() {
        let expected = ["acceptor_in_pool", "acceptor_in_pool", "single_thread", "single_thread"];
        assert_eq!([895, 899, 900, 905].map(|own| name(&server([own, 1_000 - own], [9, 0]))), expected);
        assert_eq!([895, 899, 900, 905].map(|own| name(&server([99, 0], [own, 1_000 - own]))), expected);
    }

    #[test]
    fn twenty_reads_are_enough() {
        assert_eq!([19, 20].map(|reads| name(&server([reads, 0], [0, 0]))), ["unknown", "single_thread"]);
    }

    #[test]
    fn reads_and_writes_must_be_measured() {
        let without = |hide: fn(&mut ListenerSample)| {
            of_listener(&[(1, 1)], hide, |l| {
                l.accept(0, 60, 50);
                l.read(0, 60, 60, 50);
            })
        };
        let reads = without(|l| l.counts.reads = None);
        assert_eq!(name(&reads), "unknown");
        assert!(reads.evidence.iter().any(|e| e == "reads are not measured here"), "{reads:?}");
        let writes = without(|l| l.counts.writes = None);
        assert_eq!(name(&writes), "unknown");
        assert!(writes.evidence.iter().any(|e| e == "writes are not measured here"), "{writes:?}");
    }
}
