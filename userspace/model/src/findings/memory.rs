//! What was found before: since when a finding holds, what has passed, and how bad it was a moment ago.

use super::{Found, HOLD_US};
use crate::model::Severity;

/// The findings of a listener in the interval so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    entries: Vec<Entry>,
    /// When an acceptor was last seen at work while connections waited for too long.
    worked_us: Option<u64>,
}

/// Nothing was found before.
pub(crate) static NOTHING: Memory = Memory { entries: Vec::new(), worked_us: None };

/// A finding with its times, in microseconds of the interval.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Remembered {
    pub(super) found: Found,
    /// When it began; negative if before the interval.
    pub(super) since_us: i64,
    /// When it was last seen to hold; `None` while it holds.
    pub(super) until_us: Option<i64>,
}

#[derive(Debug, Clone)]
struct Entry {
    id: &'static str,
    /// The beginning of the last time, or of the present one.
    since_us: i64,
    /// When it last held.
    until_us: i64,
    holds: bool,
    /// How often it came.
    times: u64,
    /// The worst of the earlier times, for when it has passed.
    worst: Option<Worst>,
    /// The worst of the last time, or of the present one.
    latest: Option<Worst>,
    /// The severity that is shown, and when it was last found.
    severity: Severity,
    severe_us: u64,
    /// It will change with time alone.
    settling: bool,
}

#[derive(Debug, Clone)]
struct Worst {
    found: Found,
    weight: f64,
    since_us: i64,
    until_us: i64,
}

impl Memory {
    /// Whether this finding was there in the interval.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.entries.iter().any(|entry| entry.id == id)
    }

    /// Whether this finding held until a moment ago.
    pub(super) fn held_lately(&self, id: &str, now_us: u64) -> bool {
        let lately = |entry: &Entry| now_us as i64 - entry.until_us <= HOLD_US as i64;
        self.entries.iter().any(|entry| entry.id == id && lately(entry))
    }

    /// Whether one of these findings held at this time or later.
    pub(super) fn held_since(&self, ids: &[&str], since_us: i64) -> bool {
        self.entries.iter().any(|entry| ids.contains(&entry.id) && entry.until_us >= since_us)
    }

    /// An acceptor is at work while connections wait for too long.
    pub(super) fn note_work(&mut self, now_us: u64) {
        self.worked_us = Some(now_us);
    }

    /// How long ago that was noted last; `None` if it never was.
    pub(super) fn seen_at_work_us_ago(&self, now_us: u64) -> Option<u64> {
        Some(now_us.saturating_sub(self.worked_us?))
    }

    /// Whether it will change with time alone: a severity is held, or something will be forgotten.
    pub(crate) fn is_settling(&self) -> bool {
        self.entries.iter().any(|entry| entry.settling)
    }

    /// One of these findings was there, and is not any more, but what it was said of goes on since `began_us`: more is
    /// known of that now, and it has another name. So that time of it is forgotten.
    pub(super) fn correct(&mut self, ids: &[&str], found: &[Found], began_us: i64) {
        let is_other = |entry: &Entry| {
            ids.contains(&entry.id) && entry.until_us >= began_us && !found.iter().any(|found| found.id == entry.id)
        };
        self.entries.retain_mut(|entry| !is_other(entry) || entry.correct());
    }

    /// Takes what was found now. Returns that, with what has passed and is remembered.
    pub(super) fn update(&mut self, found: Vec<Found>, now_us: u64) -> Vec<Remembered> {
        let mut all = Vec::with_capacity(found.len());
        for entry in &mut self.entries {
            if !found.iter().any(|found| found.id == entry.id) {
                entry.holds = false;
            }
        }
        for found in found {
            let at = self.entries.iter().position(|entry| entry.id == found.id).unwrap_or_else(|| {
                self.entries.push(Entry::new(&found, now_us));
                self.entries.len() - 1
            });
            all.push(self.entries[at].take(found, now_us));
        }
        self.entries.retain_mut(|entry| {
            if all.iter().any(|known| known.found.id == entry.id) {
                return true;
            }
            let passed = entry.passed(now_us);
            let keep = passed.is_some();
            all.extend(passed);
            keep
        });
        all
    }
}

impl Entry {
    fn new(found: &Found, now_us: u64) -> Self {
        // What only the sums of the interval show may have been at any time in it.
        let since_us = if found.holds { now_us as i64 - found.for_us as i64 } else { 0 };
        Self {
            id: found.id,
            since_us,
            until_us: now_us as i64,
            holds: found.holds,
            times: 1,
            worst: None,
            latest: None,
            severity: found.severity,
            severe_us: now_us,
            settling: false,
        }
    }

    fn take(&mut self, mut found: Found, now_us: u64) -> Remembered {
        let now = now_us as i64;
        if found.holds {
            let began = now - found.for_us as i64;
            if !self.holds && began - self.until_us > HOLD_US as i64 {
                self.since_us = began;
                self.times += 1;
                self.worst = self.take_worst();
            }
            self.since_us = self.since_us.min(began);
            self.until_us = now;
            if let Some(past) = found.past.clone()
                && self.latest.as_ref().is_none_or(|worst| past.weight >= worst.weight)
            {
                let weight = past.weight;
                let severity = found.severity;
                let found = Found {
                    severity,
                    summary: past.summary,
                    advice: past.advice,
                    evidence: found.evidence.clone(),
                    holds: false,
                    past: None,
                    ..found
                };
                self.latest = Some(Worst { found, weight, since_us: self.since_us, until_us: now });
            }
        }
        if let Some(over) = found.over_us {
            self.until_us = self.since_us.max(over as i64);
        }
        self.holds = found.holds;
        found.severity = self.hold(found.severity, now_us);
        Remembered { since_us: self.since_us, until_us: (!found.holds).then_some(self.until_us), found }
    }

    /// The worst of all times; of equal ones the last.
    fn worst(&self) -> Option<&Worst> {
        let both = self.worst.iter().chain(&self.latest);
        both.max_by(|a, b| a.weight.total_cmp(&b.weight))
    }

    fn take_worst(&mut self) -> Option<Worst> {
        let both = [self.worst.take(), self.latest.take()].into_iter().flatten();
        both.max_by(|a, b| a.weight.total_cmp(&b.weight))
    }

    /// The last time was something else. Returns whether there were others.
    fn correct(&mut self) -> bool {
        self.times -= 1;
        self.latest = None;
        if let Some(worst) = &self.worst {
            (self.since_us, self.until_us, self.holds) = (worst.since_us, worst.until_us, false);
        }
        self.times > 0 && self.worst.is_some()
    }

    /// What is said of it when it was not found any more; `None` if it is forgotten.
    fn passed(&mut self, now_us: u64) -> Option<Remembered> {
        let worst = self.worst()?;
        let mut found = worst.found.clone();
        let (since_us, until_us) = (worst.since_us, Some(worst.until_us));
        // Clients are no longer left waiting. What was only worth knowing is not any more.
        let lower = match found.severity {
            Severity::Critical => Severity::Warning,
            Severity::Warning | Severity::Info => Severity::Info,
        };
        let was_info = found.severity == Severity::Info;
        found.severity = self.hold(lower, now_us);
        self.settling |= was_info;
        if was_info && now_us as i64 - self.until_us > HOLD_US as i64 {
            return None;
        }
        if self.times > 1 {
            found.summary = format!("{} It happened {} times.", found.summary, self.times);
        }
        Some(Remembered { found, since_us, until_us })
    }

    /// The severity to show: a higher one at once, a lower one after a time.
    fn hold(&mut self, severity: Severity, now_us: u64) -> Severity {
        if severity >= self.severity || now_us.saturating_sub(self.severe_us) > HOLD_US {
            self.severe_us = now_us;
            self.severity = severity;
        }
        self.settling = severity < self.severity;
        self.severity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::{Past, hung_acceptor};

    const S: u64 = 1_000_000;

    fn found(severity: Severity, weight: f64) -> Found {
        let past = Past { summary: format!("It was {weight}."), advice: "Look.".to_owned(), weight };
        Found {
            past: Some(past),
            ..Found::new(&hung_acceptor::KIND, severity, format!("It is {weight}."), vec![("weight", weight)], "Do.")
        }
    }

    fn one(mut all: Vec<Remembered>) -> Remembered {
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn it_knows_since_when_a_finding_holds() {
        let mut memory = Memory::default();
        let first = one(memory.update(vec![found(Severity::Critical, 1.0).lasting(3 * S)], 2 * S));
        assert_eq!((first.since_us, first.until_us), (-1_000_000, None), "it began before the interval");
        let later = one(memory.update(vec![found(Severity::Critical, 2.0)], 4 * S));
        assert_eq!((later.since_us, later.until_us, later.found.summary.as_str()), (-1_000_000, None, "It is 2."));
    }

    #[test]
    fn what_has_passed_is_told_in_the_past_tense_with_its_times() {
        let mut memory = Memory::default();
        memory.update(vec![found(Severity::Critical, 1.0)], S);
        memory.update(vec![found(Severity::Critical, 9.0)], 2 * S);
        let past = one(memory.update(vec![], 3 * S));
        assert_eq!((past.since_us, past.until_us), (1_000_000, Some(2_000_000)));
        assert_eq!((past.found.summary.as_str(), past.found.advice.as_str()), ("It was 9.", "Look."));
        assert_eq!(past.found.evidence, [("weight", 9.0)]);
        let hours = one(memory.update(vec![], 9_000 * S));
        assert_eq!((hours.found.severity, hours.until_us), (Severity::Warning, Some(2_000_000)));
    }

    #[test]
    fn it_ended_when_it_says_so() {
        let mut memory = Memory::default();
        memory.update(vec![found(Severity::Critical, 1.0)], 2 * S);
        memory.update(vec![found(Severity::Critical, 1.0)], 7 * S);
        let over = |at| found(Severity::Critical, 1.0).holding(false).over(Some(at));
        let past = one(memory.update(vec![over(3 * S)], 8 * S));
        assert_eq!((past.since_us, past.until_us), (2_000_000, Some(3_000_000)));
        let never = one(memory.update(vec![over(S)], 9 * S));
        assert_eq!(never.until_us, Some(2_000_000), "not before it began");
        assert_eq!(found(Severity::Critical, 1.0).over(Some(S)).over_us, None, "it holds");
    }

    #[test]
    fn a_severity_is_held_for_five_seconds() {
        let shown = |severities: &[(u64, Option<Severity>)]| -> Vec<Option<Severity>> {
            let mut memory = Memory::default();
            let step = |&(at, severity): &(u64, Option<Severity>)| {
                let all = memory.update(severity.map(|s| found(s, 1.0)).into_iter().collect(), at * S);
                all.first().map(|one| one.found.severity)
            };
            severities.iter().map(step).collect()
        };
        use Severity::{Critical, Info, Warning};
        let up = shown(&[(1, Some(Info)), (2, Some(Critical))]);
        assert_eq!(up, [Some(Info), Some(Critical)], "up at once");
        let down = shown(&[(1, Some(Critical)), (2, Some(Info)), (6, Some(Info)), (7, Some(Info))]);
        assert_eq!(down, [Some(Critical), Some(Critical), Some(Critical), Some(Info)]);
        let gone = shown(&[(1, Some(Critical)), (6, None), (7, None), (99, None)]);
        assert_eq!(gone, [Some(Critical), Some(Critical), Some(Warning), Some(Warning)]);
        let small = shown(&[(1, Some(Info)), (6, None), (7, None)]);
        assert_eq!(small, [Some(Info), Some(Info), None], "what was worth knowing is forgotten");
    }

    #[test]
    fn the_worst_of_several_times_is_remembered() {
        let mut memory = Memory::default();
        memory.update(vec![found(Severity::Critical, 5.0)], S);
        memory.update(vec![], 2 * S);
        memory.update(vec![found(Severity::Critical, 3.0)], 6 * S);
        assert_eq!(memory.entries[0].times, 1, "within five seconds it is the same");
        let again = one(memory.update(vec![found(Severity::Critical, 3.0)], 60 * S));
        assert_eq!(again.since_us, 1_000_000, "it never ceased to be seen");
        memory.update(vec![], 61 * S);
        let third = one(memory.update(vec![found(Severity::Critical, 4.0)], 80 * S));
        assert_eq!((third.since_us, third.until_us), (80_000_000, None));
        let past = one(memory.update(vec![], 81 * S));
        assert_eq!(past.found.summary, "It was 5. It happened 2 times.");
        assert_eq!((past.since_us, past.until_us), (1_000_000, Some(1_000_000)));
    }

    #[test]
    fn what_gets_another_name_is_not_remembered_by_the_first() {
        const ID: &[&str] = &["hung_acceptor"];
        let mut memory = Memory::default();
        memory.update(vec![found(Severity::Critical, 5.0)], S);
        memory.update(vec![], 2 * S);
        memory.update(vec![found(Severity::Critical, 9.0)], 60 * S);
        memory.correct(ID, &[found(Severity::Critical, 9.0)], 59_000_000);
        memory.correct(&["acceptor_gone"], &[], 59_000_000);
        memory.correct(ID, &[], 60_000_001);
        let past = one(memory.update(vec![], 61 * S)).found.summary;
        assert_eq!(past, "It was 9. It happened 2 times.", "it is there, or another one, or it was before");
        memory.correct(ID, &[], 59_000_000);
        let earlier = one(memory.update(vec![], 62 * S));
        assert_eq!((earlier.found.summary.as_str(), earlier.until_us), ("It was 5.", Some(1_000_000)));
        memory.correct(ID, &[], 500_000);
        assert_eq!(memory.update(vec![], 63 * S), []);
    }

    #[test]
    fn without_words_for_the_past_it_is_forgotten() {
        let mut memory = Memory::default();
        memory.update(vec![Found { past: None, ..found(Severity::Critical, 1.0) }], S);
        assert!(memory.update(vec![], 2 * S).is_empty() && !memory.knows(hung_acceptor::KIND.id));
    }
}
