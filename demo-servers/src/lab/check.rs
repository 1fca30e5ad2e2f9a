//! What is printed at the end of a lesson: prediction and outcome, expectations, totals, Little's law.

use super::options::Options;
use super::outcome::{DEVIATION, Found, Little, Total, Verdict, Why};
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
    pub(super) findings: Vec<Found>,
    pub(super) acts: Vec<Acted>,
    pub(super) seconds: f64,
    /// Why the machine could not offer the load as it was meant; `None`: it could.
    pub(super) busy: Option<String>,
    /// Which run of a check it is, from 1. One that fails on a busy machine is done once more.
    pub(super) attempt: u32,
}

impl Proof {
    /// Whether everything is as expected.
    pub(super) fn ok(&self) -> bool {
        self.finished
            && self.verdicts.iter().all(|verdict| verdict.ok)
            && self.totals.iter().all(Total::ok)
            && self.little.iter().all(Little::ok)
    }

    /// What is not as expected.
    pub(super) fn failed(&self) -> Vec<String> {
        let expected = self.verdicts.iter().filter(|verdict| !verdict.ok).map(|verdict| verdict.id.to_owned());
        let totals = self.totals.iter().filter(|total| !total.ok());
        let little = self.little.iter().filter(|law| !law.ok());
        expected
            .chain(totals.map(|total| format!("{} of {}", total.what, total.server)))
            .chain(little.map(|law| format!("Little's law of {}", law.server)))
            .collect()
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
            "busy": self.busy,
            "attempt": self.attempt,
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
            "findings": self.findings,
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
        text += &self.found();
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
            let unknown = || format!("n/a ({})", verdict.unknown.as_deref().unwrap_or("unknown"));
            let value = value(verdict).unwrap_or_else(unknown);
            let mark = if verdict.ok { "ok  " } else { "FAIL" };
            let line = format!("{} ({}): {value}", verdict.what, bounds(verdict));
            text += &filled(&format!("  {mark} "), &line);
            if !verdict.ok {
                text += &filled("       ", &format!("why these bounds: {}", verdict.why));
            }
        }
        if let Some(busy) = self.busy.as_ref().filter(|_| holding < self.verdicts.len()) {
            text += &filled("  ", &format!("The machine was busy: {busy}. Run it again when it has CPUs to spare."));
        }
        text + "\n"
    }

    fn compared(&self) -> String {
        let mut text = String::from("listentop beside what the servers counted themselves:\n");
        let (all, equal) = (self.totals.len(), self.totals.iter().filter(|total| total.difference == 0).count());
        let went_on = |total: &&Total| matches!(total.explained, Some(Why::WentOn { .. }));
        let later: Vec<&Total> = self.totals.iter().filter(went_on).collect();
        let share = |total: &&Total| 100.0 * total.difference.unsigned_abs() as f64 / total.program as f64;
        let line = if let Some(most) = later.iter().map(share).reduce(f64::max) {
            format!(
                "{} of {all} numbers agree: {equal} are equal, {} lie between what the servers had counted before and after \
                 listentop reported, because the load went on. These differ by {} % at most; with --outcome FILE each is written",
                equal + later.len(),
                later.len(),
                plain(most)
            )
        } else {
            format!("{equal} of {all} numbers are equal")
        };
        text += &filled("  ", &line);
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

    /// What listentop said of the servers.
    fn found(&self) -> String {
        if self.findings.is_empty() {
            return String::new();
        }
        let mut text = String::from("findings of listentop:\n");
        for Found { server, id, severity, expected } in &self.findings {
            let mark = if *expected { ", expected" } else { "" };
            text += &filled("  ", &format!("{server}: {} ({severity}{mark})", id.replace('_', " ")));
        }
        text
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

/// A widening is shown from this share of the bound on. One that decides is shown in any case.
const WORTH_SAYING: f64 = 0.1;

/// The bounds of an expectation with their unit, and what busy CPUs have added to them.
pub(super) fn bounds(verdict: &Verdict) -> String {
    let widened = verdict.widened;
    let narrow = |bound: f64, sign: f64| bound - sign * widened;
    let (own, decides) = match (verdict.low, verdict.high) {
        (low, Some(high)) => ((low, Some(narrow(high, 1.0))), verdict.value.is_some_and(|v| v > narrow(high, 1.0))),
        (Some(low), None) => ((Some(narrow(low, -1.0)), None), verdict.value.is_some_and(|v| v < narrow(low, -1.0))),
        (None, None) => ((None, None), false),
    };
    let bound = own.1.or(own.0).unwrap_or(0.0);
    if widened > 0.0 && (decides || widened > WORTH_SAYING * bound.abs()) {
        let (by, which) = (number(widened, verdict.unit), if own.1.is_some() { "more" } else { "less" });
        return format!("{}, {by} {which} for busy CPUs", between(own, verdict.unit));
    }
    between(own, verdict.unit)
}

fn between(ends: (Option<f64>, Option<f64>), unit: &str) -> String {
    let text = match ends {
        (Some(low), Some(high)) if low >= high => plain(low),
        (Some(low), Some(high)) => format!("{} to {}", plain(low), plain(high)),
        (Some(low), None) => format!("at least {}", plain(low)),
        (None, Some(high)) => format!("at most {}", plain(high)),
        (None, None) => "anything".to_owned(),
    };
    format!("{text} {unit}").trim_end().to_owned()
}

/// The value of an expectation with its unit; two where the load went on while it was taken, and it lies between them.
pub(super) fn value(verdict: &Verdict) -> Option<String> {
    let value = verdict.value?;
    let (least, most) = verdict.before.map_or((value, value), |before| (value.min(before), value.max(before)));
    let [least, most] = [least, most].map(plain);
    let text = if least == most { least } else { format!("{least} to {most}") };
    Some(format!("{text} {}", verdict.unit).trim_end().to_owned())
}

/// A number with its unit.
fn number(value: f64, unit: &str) -> String {
    format!("{} {unit}", plain(value)).trim_end().to_owned()
}

/// A number with three digits at most behind the point, and no more than it needs.
fn plain(value: f64) -> String {
    if value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    let text = match value.abs() {
        100.0.. => return format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
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
            findings: vec![Found {
                server: "slow_acceptor",
                id: "accept_queue_overflow".to_owned(),
                severity: "critical".to_owned(),
                expected: true,
            }],
            acts: Vec::new(),
            seconds: 5.0,
            busy: None,
            attempt: 1,
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
            widened: 0.0,
            value,
            before: None,
            unknown: value.is_none().then(|| "not measured".to_owned()),
            ok,
            why: "so",
        }
    }

    #[test]
    fn counts_that_lie_between_two_of_the_servers_agree() {
        let said = |explained| {
            let text = proof(verdict(Some(9.0), true), None, explained).compared();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(said(true).contains("1 of 1 numbers agree: 0 are equal, 1 lie between"), "{}", said(true));
        assert!(said(false).contains("0 of 1 numbers are equal reads of slow_acceptor: 9 and 10"), "{}", said(false));
    }

    #[test]
    fn each_part_can_fail() {
        assert!(proof(verdict(Some(9.0), true), Some(1.0), true).ok());
        assert_eq!(proof(verdict(Some(9.0), true), Some(1.0), true).failed(), [""; 0]);
        let all = ["peak", "reads of slow_acceptor", "Little's law of slow_acceptor"];
        assert_eq!(proof(verdict(Some(8.0), false), Some(16.0), false).failed(), all);
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
            "  slow_acceptor: accept queue overflow (critical, expected)\n",
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
    fn a_value_that_lies_between_two_is_shown_as_both() {
        let of = |before| value(&Verdict { before, unit: "calls", ..verdict(Some(-90.0), true) });
        assert_eq!(of(None).as_deref(), Some("-90 calls"));
        assert_eq!(of(Some(60.0)).as_deref(), Some("-90 to 60 calls"));
        assert_eq!(value(&verdict(None, false)), None);
    }

    #[test]
    fn bounds_say_what_busy_cpus_added_where_it_matters() {
        let wide = |value, by| {
            let wide = Verdict { low: None, high: Some(20.0 + by), widened: by, ..verdict(Some(value), true) };
            bounds(&Verdict { unit: "ms", ..wide })
        };
        assert_eq!(wide(3.0, 0.5), "at most 20 ms");
        assert_eq!(wide(20.3, 0.5), "at most 20 ms, 0.5 ms more for busy CPUs");
        assert_eq!(wide(3.0, 14.0), "at most 20 ms, 14 ms more for busy CPUs");
        let low = Verdict { low: Some(20.0), high: None, widened: 5.0, unit: "ms", ..verdict(Some(30.0), true) };
        assert_eq!(bounds(&low), "at least 25 ms, 5 ms less for busy CPUs");
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in
            [(9.0, "9"), (123.46, "123"), (12.346, "12.3"), (1.2346, "1.23"), (0.01234, "0.012"), (0.8, "0.8")]
        {
            assert_eq!(plain(value), expected);
        }
        assert_eq!(number(3.0, ""), "3");
    }
}
