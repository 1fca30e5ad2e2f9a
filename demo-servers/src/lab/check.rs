//! What is printed at the end of a lesson: prediction and outcome, expectations, totals, Little's law.

use super::options::Options;
use super::outcome::{DEVIATION, Little, Total, Verdict, Why};
use super::run::Acted;
use lessons::Lesson;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Columns of the text.
const WIDTH: usize = 79;

/// All that a run proved.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) lesson: &'static Lesson,
    /// The answer that was chosen before the run, from 0.
    pub(super) chosen: Option<usize>,
    /// All steps are over.
    pub(super) finished: bool,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) totals: Vec<Total>,
    pub(super) little: Vec<Little>,
    pub(super) acts: Vec<Acted>,
    pub(super) seconds: f64,
}

impl Proof {
    /// Whether everything is as expected.
    pub(super) fn ok(&self) -> bool {
        self.finished
            && self.verdicts.iter().all(|verdict| verdict.ok)
            && self.totals.iter().all(Total::ok)
            && self.little.iter().all(Little::ok)
    }

    /// For programs: one object. docs/lab.md describes it.
    pub(super) fn json(&self, options: &Options) -> Value {
        let lesson = self.lesson;
        let prediction = &lesson.prediction;
        json!({
            "schema": 1,
            "lesson": lesson.name,
            "short": options.short,
            "spoiled": options.spoil.then_some(lesson.spoiler.what),
            "seconds": self.seconds,
            "finished": self.finished,
            "ok": self.ok(),
            "prediction": {
                "ask": prediction.ask,
                "answers": prediction.answers,
                "chosen": self.chosen,
                "right": prediction.right,
                "because": prediction.because,
            },
            "expectations": self.verdicts,
            "totals": self.totals,
            "littles_law": self.little,
            "acts": self.acts,
            "belief": lesson.belief,
            "mechanism": lesson.mechanism,
            "try_next": lesson.try_next,
            "next": lessons::next(lesson).map(|next| next.name),
        })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let lesson = self.lesson;
        let mut text = format!("{}: {}\n\n", lesson.name, lesson.title);
        text += &self.prediction();
        text += &self.expectations();
        text += &self.compared();
        text += &self.law();
        for Acted { seconds, what, .. } in self.acts.iter().filter(|act| !act.by_lesson) {
            let _ = writeln!(text, "at {seconds:.0} s: {what}");
        }
        let _ = write!(text, "\n{}", filled("the belief that it breaks: ", lesson.belief));
        for sentence in lesson.mechanism {
            text += &filled("- ", sentence);
        }
        if let Some(next) = lessons::next(lesson) {
            let _ = writeln!(text, "\nnext lesson: cargo xtask demo {}", next.name);
        }
        text
    }

    fn prediction(&self) -> String {
        let prediction = &self.lesson.prediction;
        let mut text = filled("", prediction.ask);
        for (place, answer) in prediction.answers.iter().enumerate() {
            let mark = match (place == prediction.right, self.chosen == Some(place)) {
                (true, true) => "right, as you predicted",
                (true, false) => "right",
                (false, true) => "your prediction",
                (false, false) => "",
            };
            let mark = if mark.is_empty() { String::new() } else { format!("  <- {mark}") };
            text += &filled(&format!("  {}. ", place + 1), &format!("{answer}{mark}"));
        }
        text + &filled("", prediction.because) + "\n"
    }

    fn expectations(&self) -> String {
        let mut text = String::new();
        let holding = self.verdicts.iter().filter(|verdict| verdict.ok).count();
        let _ = writeln!(text, "expected: {holding} of {} hold", self.verdicts.len());
        for verdict in &self.verdicts {
            let value = match &verdict.value {
                Some(value) => number(*value, verdict.unit),
                None => format!("n/a ({})", verdict.unknown.as_deref().unwrap_or("unknown")),
            };
            let mark = if verdict.ok { "ok  " } else { "FAIL" };
            let line = format!("{} ({}): {value}", verdict.what, bounds(verdict));
            text += &filled(&format!("  {mark} "), &line);
            if !verdict.ok {
                text += &filled("       ", &format!("why these bounds: {}", verdict.why));
            }
        }
        text + "\n"
    }

    fn compared(&self) -> String {
        let mut text = String::from("listentop beside what the servers counted themselves:\n");
        let equal = self.totals.iter().filter(|total| total.difference == 0).count();
        let _ = writeln!(text, "  {equal} of {} numbers are equal", self.totals.len());
        let went_on = |total: &&Total| matches!(total.explained, Some(Why::WentOn { .. }));
        let later: Vec<&Total> = self.totals.iter().filter(went_on).collect();
        let share = |total: &&Total| 100.0 * total.difference.unsigned_abs() as f64 / total.program as f64;
        if let Some(most) = later.iter().map(share).reduce(f64::max) {
            let line = format!(
                "{} lie between what the servers had counted before and after listentop reported: the load went on \
                 meanwhile. They differ by {} % at most; --format json has each",
                later.len(),
                plain(most)
            );
            text += &filled("  ", &line);
        }
        for total in self.totals.iter().filter(|total| total.difference != 0 && !went_on(total)) {
            let why = total.explained.map_or_else(|| "NOT EXPLAINED".to_owned(), |why| why.to_string());
            let line = format!(
                "{} of {}: {} and {}, difference {}: {why}",
                total.what, total.server, total.listentop, total.program, total.difference
            );
            text += &filled("  ", &line);
        }
        text + "\n"
    }

    fn law(&self) -> String {
        let mut text = format!("Little's law, depth = rate × wait (within {DEVIATION} %):\n");
        for law in &self.little {
            let line = match (law.depth, law.rate, law.wait_ms, law.deviation, &law.not_checked) {
                (Some(depth), Some(rate), Some(wait), Some(deviation), _) => format!(
                    "{}: {depth:.2} = {rate:.1}/s × {wait:.1} ms, deviation {deviation:+.1} %{}",
                    law.server,
                    if law.ok() { "" } else { ": FAIL" }
                ),
                (.., why) => format!("{}: {}", law.server, why.as_deref().unwrap_or("not known")),
            };
            text += &filled("  ", &line);
        }
        text
    }
}

/// The bounds of an expectation with their unit.
pub(super) fn bounds(verdict: &Verdict) -> String {
    let text = match (verdict.low, verdict.high) {
        (Some(low), Some(high)) if low >= high => plain(low),
        (Some(low), Some(high)) => format!("{} to {}", plain(low), plain(high)),
        (Some(low), None) => format!("at least {}", plain(low)),
        (None, Some(high)) => format!("at most {}", plain(high)),
        (None, None) => "anything".to_owned(),
    };
    format!("{text} {}", verdict.unit).trim_end().to_owned()
}

/// A value with its unit.
pub(super) fn number(value: f64, unit: &str) -> String {
    format!("{} {unit}", plain(value)).trim_end().to_owned()
}

/// A number with three digits at least, and no more than it needs.
fn plain(value: f64) -> String {
    if value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A text within the width, its further lines indented as far as the mark.
pub(super) fn filled(mark: &str, text: &str) -> String {
    let indent = " ".repeat(mark.chars().count());
    let lines = listentop_model::words::wrap(text, WIDTH - indent.len());
    let mut filled = String::new();
    for (place, line) in lines.iter().enumerate() {
        let _ = writeln!(filled, "{}{line}", if place == 0 { mark } else { &indent });
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(verdict: Verdict, deviation: Option<f64>, explained: bool) -> Proof {
        Proof {
            lesson: lessons::find("overflow").unwrap(),
            chosen: Some(0),
            finished: true,
            verdicts: vec![verdict],
            totals: vec![Total {
                server: "slow_acceptor",
                what: "reads",
                listentop: 9,
                program: 10,
                difference: -1,
                explained: explained.then_some(Why::WentOn { before: 9, after: 10 }),
            }],
            little: vec![Little {
                server: "slow_acceptor",
                depth: Some(9.0),
                rate: Some(50.0),
                wait_ms: Some(180.0),
                deviation,
                not_checked: None,
            }],
            acts: Vec::new(),
            seconds: 5.0,
        }
    }

    fn verdict(value: Option<f64>, ok: bool) -> Verdict {
        Verdict {
            id: "peak",
            what: "connections that the queue holds at most",
            figure: "listentop:slow_acceptor:accept_queue.peak",
            unit: "connections",
            low: Some(9.0),
            high: Some(9.0),
            value,
            unknown: value.is_none().then(|| "not measured".to_owned()),
            ok,
            why: "so",
        }
    }

    #[test]
    fn each_part_can_fail() {
        assert!(proof(verdict(Some(9.0), true), Some(1.0), true).ok());
        assert!(!proof(verdict(Some(8.0), false), Some(1.0), true).ok());
        assert!(!proof(verdict(None, false), Some(1.0), true).ok());
        assert!(!proof(verdict(Some(9.0), true), Some(16.0), true).ok());
        assert!(!proof(verdict(Some(9.0), true), Some(1.0), false).ok());
        assert!(!Proof { finished: false, ..proof(verdict(Some(9.0), true), None, true) }.ok());
    }

    #[test]
    fn the_text_says_what_failed_and_fits_80_columns() {
        let text = proof(verdict(Some(8.0), false), Some(20.0), false).text();
        for part in [
            "FAIL connections",
            "9 connections): 8",
            "<- your prediction",
            "NOT EXPLAINED",
            "+20.0 %: FAIL",
            "0 of 1 hold",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
        let unknown = proof(verdict(None, false), None, true).text();
        let words: Vec<&str> = unknown.split_whitespace().collect();
        assert!(words.join(" ").contains("n/a (not measured)"), "{unknown}");
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [(9.0, "9"), (123.46, "123"), (12.346, "12.3"), (1.2346, "1.23"), (0.01234, "0.012")] {
            assert_eq!(plain(value), expected);
        }
        assert_eq!(number(3.0, ""), "3");
    }
}
