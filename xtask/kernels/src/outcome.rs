//! The outcome of a run in a machine: the measures of a backend, and the tests that passed, failed or were skipped.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use listentop_guest::plan::Event;

/// A measure's coverage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Coverage {
    /// `measured`, `sampled` or `unavailable`.
    pub(crate) status: String,
    /// Why it is not `measured`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
}

/// The outcome of one backend on one kernel.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Why the backend cannot run at all.
    pub(crate) refused: Option<String>,
    /// The coverage of each measure, in the tool's order.
    pub(crate) measures: Vec<(String, Coverage)>,
    /// Names of the tests that passed.
    pub(crate) passed: BTreeSet<String>,
    /// The tests that failed at the first attempt, with the message.
    pub(crate) again: BTreeMap<String, String>,
    /// The tests that were skipped, with the reason.
    pub(crate) skipped: BTreeMap<String, String>,
    /// The tests that failed, with the message.
    pub(crate) failed: BTreeMap<String, String>,
    /// Other failures.
    pub(crate) troubles: Vec<String>,
    /// The test that has begun and not ended.
    pub(crate) running: Option<String>,
    /// Whether the tests reported their end.
    pub(crate) complete: bool,
}

/// What a run of a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A short report, for its coverage.
    Coverage,
    /// The kernel tests.
    Tests,
}

impl Purpose {
    /// Its name in plans.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Coverage => "coverage",
            Self::Tests => "tests",
        }
    }

    /// The purpose with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Coverage, Self::Tests].into_iter().find(|purpose| purpose.name() == name)
    }
}

impl Outcome {
    /// Takes an event of a run into account.
    pub(crate) fn take(&mut self, purpose: Purpose, event: &Event) {
        match (purpose, event) {
            (Purpose::Coverage, Event::Line { stderr: true, text }) => {
                if let Some(reason) = text.strip_prefix("listentop: ") {
                    self.refused = Some(reason.to_owned());
                }
            }
            (Purpose::Coverage, Event::Line { stderr: false, text }) => {
                if let Some(measures) = serde_json::from_str(text).ok().as_ref().and_then(measures) {
                    self.measures = measures;
                }
            }
            (Purpose::Coverage, Event::End { code, .. }) => match code {
                // 3: the probes cannot run here.
                Some(0) if !self.measures.is_empty() => self.refused = None,
                Some(3) if self.refused.is_some() => {}
                code => self.troubles.push(format!("the report for the coverage {}", ending(*code))),
            },
            (Purpose::Tests, Event::Line { stderr: false, text }) => self.take_test(text),
            (Purpose::Tests, Event::End { code, .. }) => self.end_tests(*code),
            (_, Event::Trouble { what }) => self.troubles.push(what.clone()),
            _ => {}
        }
    }

    /// Lines in JSON come from the harness, or from `test-harness` for a test that is skipped or runs again. Other
    /// lines are output of the tests.
    fn take_test(&mut self, line: &str) {
        let Ok(message) = serde_json::from_str::<Value>(line) else { return };
        let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
        let name = text("name");
        match (message["type"].as_str(), message["event"].as_str()) {
            (Some("test"), Some("started")) => self.running = Some(name),
            (Some("test"), Some(event)) => {
                self.running = None;
                match event {
                    "ok" => drop(self.passed.insert(name)),
                    // Its reason came in a line before.
                    "ignored" => drop(self.skipped.entry(name).or_default()),
                    _ => drop(self.failed.insert(name, text("stdout").trim().to_owned())),
                }
            }
            (Some("skipped"), _) => drop(self.skipped.insert(name, text("reason"))),
            (Some("again"), _) => drop(self.again.insert(name, text("reason"))),
            (Some("suite"), Some("ok" | "failed")) => self.complete = true,
            _ => {}
        }
    }

    fn end_tests(&mut self, code: Option<i32>) {
        if self.complete && matches!(code, Some(0 | 101)) {
            return;
        }
        let during = self.running.take().map(|name| format!(", during {name}")).unwrap_or_default();
        self.troubles.push(format!("the tests {}{during}", ending(code)));
    }

    /// A short description.
    pub(crate) fn in_short(&self) -> String {
        if let Some(reason) = &self.refused {
            return format!("refused: {reason}");
        }
        let counts =
            format!("{} passed, {} failed, {} skipped", self.passed.len(), self.failed.len(), self.skipped.len());
        let flaky: Vec<&str> = self.flaky().collect();
        if flaky.is_empty() { counts } else { format!("{counts}; passed at the second attempt: {}", flaky.join(", ")) }
    }

    /// The tests that passed at the second attempt.
    pub(crate) fn flaky(&self) -> impl Iterator<Item = &str> {
        self.again.keys().filter(|name| self.passed.contains(*name)).map(String::as_str)
    }
}

fn ending(code: Option<i32>) -> String {
    code.map_or_else(|| "took too long".to_owned(), |code| format!("ended with code {code}"))
}

/// A reason without what changes from run to run: how long a reading takes on an emulated machine.
fn steady(reason: &str) -> String {
    let varying = reason
        .strip_prefix("read every ")
        .and_then(|rest| rest.split_once(" s, as reading takes long here"))
        .filter(|(seconds, _)| seconds.parse::<f64>().is_ok());
    varying.map_or_else(|| reason.to_owned(), |(_, rest)| format!("read at each refresh{rest}"))
}

/// The coverage of a report.
fn measures(report: &Value) -> Option<Vec<(String, Coverage)>> {
    let entries = report["coverage"].as_array()?.iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let measure = |entry: &Value| {
        let coverage = Coverage { status: text(&entry["status"]), reason: steady(&text(&entry["reason"])) };
        (text(&entry["measure"]), coverage)
    };
    Some(entries.map(measure).collect())
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Purpose};
    use listentop_guest::plan::Event;

    fn line(text: &str) -> Event {
        Event::Line { stderr: false, text: text.to_owned() }
    }

    fn end(code: Option<i32>) -> Event {
        Event::End { run: "x".to_owned(), code }
    }

    fn tests(lines: &[&str], code: Option<i32>) -> Outcome {
        let mut outcome = Outcome::default();
        lines.iter().for_each(|text| outcome.take(Purpose::Tests, &line(text)));
        outcome.take(Purpose::Tests, &end(code));
        outcome
    }

    #[test]
    fn passed_failed_and_skipped_tests_are_distinguished() {
        let outcome = tests(
            &[
                r#"{ "type": "suite", "event": "started", "test_count": 3 }"#,
                r#"{ "type": "test", "event": "started", "name": "a::b" }"#,
                "printed by the test",
                r#"{ "type": "test", "name": "a::b", "event": "ok" }"#,
                r#"{"type":"again","name":"a::b","reason":"too late"}"#,
                r#"{"type":"again","name":"a::d","reason":"too late"}"#,
                r#"{"type":"skipped","name":"a::c","reason":"no IPv6"}"#,
                r#"{ "type": "test", "name": "a::c", "event": "ignored" }"#,
                r#"{ "type": "test", "name": "a::d", "event": "failed", "stdout": "Error: \"left is not right\"\n" }"#,
                r#"{ "type": "suite", "event": "failed", "passed": 1, "failed": 1, "ignored": 1 }"#,
            ],
            Some(101),
        );
        assert!(outcome.passed.contains("a::b") && outcome.troubles.is_empty());
        assert_eq!(outcome.skipped["a::c"], "no IPv6");
        assert_eq!(outcome.failed["a::d"], "Error: \"left is not right\"");
        assert_eq!(outcome.in_short(), "1 passed, 1 failed, 1 skipped; passed at the second attempt: a::b");
    }

    #[test]
    fn how_long_a_reading_takes_is_no_difference() {
        let end = ": what comes and goes in between is missed";
        for reason in
            [format!("read every 0.3 s, as reading takes long here{end}"), format!("read at each refresh{end}")]
        {
            assert_eq!(super::steady(&reason), format!("read at each refresh{end}"));
        }
        assert_eq!(super::steady("read every half second"), "read every half second");
    }

    #[test]
    fn tests_that_do_not_finish_are_trouble() {
        let begun = [r#"{ "type": "test", "event": "started", "name": "a::b" }"#];
        assert_eq!(tests(&begun, None).troubles, ["the tests took too long, during a::b"]);
        assert_eq!(tests(&begun, Some(139)).troubles, ["the tests ended with code 139, during a::b"]);
        assert_eq!(tests(&[], Some(0)).troubles, ["the tests ended with code 0"], "nothing was tested");
    }

    #[test]
    fn a_report_has_the_coverage_or_the_reason_for_none() {
        let mut outcome = Outcome::default();
        let report = r#"{"schema":1,"coverage":[{"measure":"drops","status":"sampled","via":"x","reason":"why"}]}"#;
        outcome.take(Purpose::Coverage, &line(report));
        outcome.take(Purpose::Coverage, &end(Some(0)));
        assert!(outcome.troubles.is_empty() && outcome.refused.is_none());
        assert_eq!((outcome.measures[0].0.as_str(), outcome.measures[0].1.status.as_str()), ("drops", "sampled"));

        let mut outcome = Outcome::default();
        let text = "listentop: the probes cannot be attached: no tracepoint".to_owned();
        outcome.take(Purpose::Coverage, &Event::Line { stderr: true, text });
        outcome.take(Purpose::Coverage, &end(Some(3)));
        assert_eq!(outcome.refused.as_deref(), Some("the probes cannot be attached: no tracepoint"));
        assert_eq!(outcome.troubles, [""; 0]);
        outcome.take(Purpose::Coverage, &end(Some(1)));
        assert_eq!(outcome.troubles, ["the report for the coverage ended with code 1"]);
    }
}
