//! The committed table of what each kernel must do, and its comparison with a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;

/// The committed file, in the checkout.
pub(crate) const FILE: &str = "xtask/kernels.toml";

/// Written above the table.
const HEADING: &str = "\
# What each source of samples can measure on each kernel, and which kernel tests cannot run there. `cargo xtask kernels` fails where a
# kernel does less or more than this; `cargo xtask kernels --write` writes this file again, for review.

";

/// The whole table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    /// All measures, in the tool's order.
    pub(crate) measures: Vec<String>,
    /// One entry for each kernel and backend.
    #[serde(default, rename = "run")]
    pub(crate) runs: Vec<Entry>,
}

/// One kernel with one backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// The boot's title, such as `6.12`.
    pub(crate) kernel: String,
    /// The source of samples.
    pub(crate) backend: String,
    /// Why this backend cannot run there at all. The fields below are empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
    /// The number of tests that run there: those that pass and those that are known to fail.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) tests: usize,
    /// Measures that count every event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) measured: Vec<String>,
    /// Measures that are sampled, inferred or bounds, with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sampled: BTreeMap<String, String>,
    /// Measures that are unavailable, with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) unavailable: BTreeMap<String, String>,
    /// Tests that cannot run there, with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) skipped: BTreeMap<String, String>,
    /// Tests that are known to fail there, with the message: a fault of listentop, or of the test, on this kernel.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) failing: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Expected {
    /// Reads the committed table; an empty one where there is none.
    ///
    /// # Errors
    /// When the file cannot be read or is not such a table.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let path = root.join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{FILE} is not a table of kernels"))
    }

    /// Writes it over the committed one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, root: &Path) -> Result<()> {
        let path = root.join(FILE);
        let text = format!("{HEADING}{}", toml::to_string_pretty(self)?);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The entry of one kernel and backend.
    pub(crate) fn entry(&self, kernel: &str, backend: &str) -> Option<&Entry> {
        self.runs.iter().find(|entry| entry.kernel == kernel && entry.backend == backend)
    }

    /// Replaces the entry of the same kernel and backend, or appends this one.
    pub(crate) fn put(&mut self, entry: Entry) {
        match self.runs.iter_mut().find(|known| known.kernel == entry.kernel && known.backend == entry.backend) {
            Some(known) => *known = entry,
            None => self.runs.push(entry),
        }
    }
}

impl Entry {
    /// The entry that a run produced.
    pub(crate) fn of(kernel: &str, backend: &str, outcome: &Outcome) -> Self {
        let mut entry = Self { kernel: kernel.to_owned(), backend: backend.to_owned(), ..Self::default() };
        if let Some(reason) = &outcome.refused {
            // All tests are skipped then, for this reason.
            entry.refused = Some(reason.clone());
            return entry;
        }
        for (measure, coverage) in &outcome.measures {
            match coverage.status.as_str() {
                "measured" => entry.measured.push(measure.clone()),
                "sampled" => drop(entry.sampled.insert(measure.clone(), coverage.reason.clone())),
                _ => drop(entry.unavailable.insert(measure.clone(), coverage.reason.clone())),
            }
        }
        entry.tests = outcome.passed.len() + outcome.failed.len();
        entry.skipped = outcome.skipped.clone();
        let in_a_line = |text: &String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        entry.failing = outcome.failed.iter().map(|(test, why)| (test.clone(), in_a_line(why))).collect();
        entry
    }

    /// The status of a measure; `None` for an unknown one.
    pub(crate) fn status(&self, measure: &str) -> Option<&'static str> {
        if self.measured.iter().any(|known| known == measure) {
            Some("measured")
        } else if self.sampled.contains_key(measure) {
            Some("sampled")
        } else if self.unavailable.contains_key(measure) {
            Some("unavailable")
        } else {
            None
        }
    }

    /// The differences between this entry and a run, one line each. Reasons are not compared: they may name versions.
    pub(crate) fn differences(&self, found: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        match (&self.refused, &found.refused) {
            (None, Some(reason)) => return vec![format!("it should run, but is refused: {reason}")],
            (Some(_), None) => return vec!["it should be refused, but runs".to_owned()],
            (Some(_), Some(_)) => return differences,
            (None, None) => {}
        }
        let mut measures: Vec<&String> = [self, found].into_iter().flat_map(Self::measures).collect();
        measures.sort_unstable();
        measures.dedup();
        for measure in measures {
            let (should, is) = (self.status(measure), found.status(measure));
            if should != is {
                let say = |status: Option<&'static str>| status.unwrap_or("unknown");
                let reason = found.sampled.get(measure).or_else(|| found.unavailable.get(measure));
                let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                differences.push(format!("{measure} should be {}, but is {}{reason}", say(should), say(is)));
            }
        }
        if self.tests != found.tests {
            differences.push(format!(
                "{} tests should run, but {} do: if that is intended, use --write",
                self.tests, found.tests
            ));
        }
        for (test, reason) in found.skipped.iter().filter(|(test, _)| !self.skipped.contains_key(*test)) {
            differences.push(format!("{test} should run, but is skipped: {reason}"));
        }
        for test in self.skipped.keys().filter(|test| !found.skipped.contains_key(*test)) {
            differences.push(format!("{test} should be skipped, but is not"));
        }
        for (test, why) in found.failing.iter().filter(|(test, _)| !self.failing.contains_key(*test)) {
            differences.push(format!("{test} failed: {why}"));
        }
        for test in self.failing.keys().filter(|test| !found.failing.contains_key(*test)) {
            differences.push(format!("{test} was known to fail, but passes: remove it from {FILE}"));
        }
        differences
    }

    fn measures(&self) -> impl Iterator<Item = &String> {
        self.measured.iter().chain(self.sampled.keys()).chain(self.unavailable.keys())
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Expected};
    use crate::outcome::{Coverage, Outcome};

    fn outcome() -> Outcome {
        let coverage = |status: &str, reason: &str| Coverage { status: status.to_owned(), reason: reason.to_owned() };
        let mut outcome = Outcome {
            measures: vec![
                ("enqueued".to_owned(), coverage("measured", "")),
                ("drops".to_owned(), coverage("sampled", "an upper bound")),
                ("cookies_sent".to_owned(), coverage("unavailable", "no hook")),
            ],
            ..Outcome::default()
        };
        outcome.skipped.insert("drops::cookies".to_owned(), "no hook".to_owned());
        outcome.passed.insert("drops::reset".to_owned());
        outcome
    }

    fn entry() -> Entry {
        Entry::of("6.12", "tracepoint", &outcome())
    }

    #[test]
    fn a_written_table_equals_the_run() {
        let mut expected = Expected { measures: vec!["enqueued".to_owned()], runs: Vec::new() };
        expected.put(Entry { kernel: "6.12".to_owned(), backend: "tracepoint".to_owned(), ..Entry::default() });
        expected.put(entry());
        assert_eq!(expected.runs.len(), 1, "the second replaces the first");
        let read: Expected = toml::from_str(&toml::to_string_pretty(&expected).unwrap()).unwrap();
        assert_eq!(read, expected);
        assert_eq!(read.entry("6.12", "tracepoint").unwrap().differences(&entry()), [""; 0]);
        assert!(read.entry("6.1", "tracepoint").is_none());
    }

    #[test]
    fn less_than_expected_is_a_difference() {
        let mut lesser = outcome();
        lesser.measures[0].1 = Coverage { status: "unavailable".to_owned(), reason: "refused".to_owned() };
        lesser.skipped.insert("drops::reset".to_owned(), "no hook".to_owned());
        let differences = entry().differences(&Entry::of("6.12", "tracepoint", &lesser));
        assert_eq!(
            differences,
            [
                "enqueued should be measured, but is unavailable (refused)",
                "drops::reset should run, but is skipped: no hook"
            ]
        );
        let mut fewer = outcome();
        fewer.passed.clear();
        let differences = entry().differences(&Entry::of("6.12", "tracepoint", &fewer));
        assert_eq!(differences, ["1 tests should run, but 0 do: if that is intended, use --write"]);
        let refused = Outcome { refused: Some("no BTF".to_owned()), ..Outcome::default() };
        let differences = entry().differences(&Entry::of("6.12", "tracepoint", &refused));
        assert_eq!(differences, ["it should run, but is refused: no BTF"]);
    }

    #[test]
    fn more_than_expected_is_a_difference_too() {
        let mut better = outcome();
        better.measures[2].1 = Coverage { status: "measured".to_owned(), reason: String::new() };
        better.skipped.clear();
        let differences = entry().differences(&Entry::of("6.12", "tracepoint", &better));
        assert_eq!(
            differences,
            ["cookies_sent should be unavailable, but is measured", "drops::cookies should be skipped, but is not"]
        );
    }

    #[test]
    fn new_failures_and_repaired_ones_are_differences() {
        let mut failing = outcome();
        failing.passed.clear();
        failing.failed.insert("drops::late".to_owned(), "left is\n not right".to_owned());
        let failing = Entry::of("6.12", "tracepoint", &failing);
        assert_eq!(entry().differences(&failing), ["drops::late failed: left is not right"]);
        assert_eq!(failing.differences(&failing), [""; 0]);
        let repaired = failing.differences(&entry());
        assert_eq!(repaired, ["drops::late was known to fail, but passes: remove it from xtask/kernels.toml"]);
    }

    #[test]
    fn a_missing_measure_is_a_difference() {
        let mut fewer = outcome();
        fewer.measures.remove(0);
        let differences = entry().differences(&Entry::of("6.12", "tracepoint", &fewer));
        assert_eq!(differences, ["enqueued should be measured, but is unknown"]);
    }

    #[test]
    fn another_reason_is_no_difference() {
        let mut other = outcome();
        other.measures[1].1.reason = "another".to_owned();
        assert_eq!(entry().differences(&Entry::of("6.12", "tracepoint", &other)), [""; 0]);
    }
}
