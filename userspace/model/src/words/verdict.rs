//! The verdict: in one sentence, what is wrong on this machine, where, and why. The dashboard's header, the reports and
//! what follows from them share it.
//!
//! It rests on findings, and on the figures that stand beside it: it never denies what one of those shows.

mod cause;
mod likely;
mod standing;

pub use self::{
    cause::{cause, command, doing, line_to_copy, root},
    standing::{Harm, Standing, unfound, unfound_line},
};
use super::{
    dates::utc,
    names::{numbered_endpoint, process},
    numbers::{SAMPLED, bytes, marked, status},
    prose::{agree, duration, grouped, plural},
};
use crate::{
    catalogue::Quantity,
    coverage::{Measure, Status},
    findings::TOO_LONG_US,
    model::{ListenerModel, Model, Severity},
};

/// What is wrong on a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What the clients of the worst listener suffer.
    pub harm: Harm,
    /// The id of the worst listener, or of the last whose clients suffered; `None` if nothing is or was wrong.
    pub listener: Option<u64>,
    /// The sentence, without a full stop.
    pub text: String,
}

impl Verdict {
    /// How bad it is; `None` if nothing is wrong.
    #[must_use]
    pub const fn severity(&self) -> Option<Severity> {
        self.harm.severity()
    }
}

/// The verdict on everything that `model` has.
#[must_use]
pub fn of(model: &Model) -> Verdict {
    let standings = model.listeners.iter().map(|listener| (!listener.closed).then(|| Standing::of(listener)));
    judge(model, standings)
}

/// The verdict, from the standing of each of the model's listeners in their order; `None` for one that does not count,
/// because it has closed or is not shown.
#[must_use]
pub fn judge(model: &Model, standings: impl Iterator<Item = Option<Standing>>) -> Verdict {
    let (mut total, mut refused, mut waiting, mut warned) = (0, 0, 0, 0);
    let mut worst: Option<(usize, Standing)> = None;
    let mut quiet = Quiet::default();
    for (at, standing) in standings.enumerate().filter_map(|(at, standing)| Some((at, standing?))) {
        total += 1;
        match standing.harm {
            Harm::None => {
                quiet.add(at, standing);
                continue;
            }
            Harm::Warned => warned += 1,
            Harm::Waiting => waiting += 1,
            Harm::Refused => refused += 1,
        }
        if worst.is_none_or(|(_, before)| standing > before) {
            worst = Some((at, standing));
        }
    }
    let Some((listener, standing)) = worst.and_then(|(at, standing)| Some((model.listeners.get(at)?, standing))) else {
        let (text, listener) = quiet.say(total, model);
        return Verdict { text, listener: listener.map(|listener| listener.id), ..Verdict::default() };
    };
    let (count, verb, others) = match standing.harm {
        Harm::Refused => (refused, agree(refused, "refuses clients", "refuse clients"), waiting),
        Harm::Waiting => (waiting, agree(waiting, "keeps clients waiting", "keep clients waiting"), 0),
        Harm::Warned | Harm::None => (warned, agree(warned, "needs a look", "need a look"), 0),
    };
    let others = match others {
        0 => String::new(),
        more => format!(", {} {} them waiting", grouped(more), agree(more, "keeps", "keep")),
    };
    let which = if count + waiting.min(refused) > 1 { "the worst is " } else { "" };
    // What the findings say is the cause of what they report, not of more than that.
    let figures = unfound(model, listener);
    let cause = if figures.is_some() && standing::found(listener) < Harm::Waiting { None } else { cause(listener) };
    let reasons = [figures.map(|(_, text)| text), cause].into_iter().flatten();
    let reasons = reasons.fold(String::new(), |reasons, reason| reasons + ", " + &reason);
    let text = format!(
        "{} of {} {verb}{others}: {which}{}{reasons}",
        grouped(count),
        plural(total, "listener"),
        place(model, listener),
    );
    Verdict { harm: standing.harm, listener: Some(listener.id), text }
}

/// What is to be said if no listener's clients suffer: of each sort the listener with most of it.
#[derive(Debug, Default)]
struct Quiet {
    unaged: Most<u32>,
    unread_us: Most<u64>,
    unread_bytes: Most<u64>,
    passed_ms: Most<u64>,
    refused: Most<u64>,
}

/// The largest value, and the place of its listener. 0 is none.
#[derive(Debug, Default)]
struct Most<T>(Option<(usize, T)>);

impl<T: Default + PartialOrd + Copy> Most<T> {
    fn add(&mut self, at: usize, value: T) {
        if value > self.0.map_or(T::default(), |(_, most)| most) {
            self.0 = Some((at, value));
        }
    }

    fn get<'a>(&self, model: &'a Model) -> Option<(&'a ListenerModel, T)> {
        let (at, value) = self.0?;
        Some((model.listeners.get(at)?, value))
    }
}

impl Quiet {
    fn add(&mut self, at: usize, standing: Standing) {
        let note = standing.note;
        self.unaged.add(at, note.unaged);
        self.unread_us.add(at, note.unread_us);
        self.unread_bytes.add(at, note.unread_bytes);
        self.passed_ms.add(at, standing.passed_ms);
        self.refused.add(at, note.refused);
    }

    /// That nothing is wrong, as far as that can be told here: what is not measured may be wrong. And the listener that
    /// is named first.
    fn say<'a>(&self, total: u64, model: &'a Model) -> (String, Option<&'a ListenerModel>) {
        let known =
            |measures: &[Measure]| measures.iter().any(|measure| status(model, *measure) != Status::Unavailable);
        let (refusals, waits) = (known(&[Measure::Drops]), known(&[Measure::AcceptWait, Measure::OldestWaiting]));
        let unaged = self.unaged.get(model);
        let unread = self.unread_us.get(model).map(|(listener, us)| {
            let age = marked(Some(duration(us)), status(model, Measure::OldestUnread));
            (listener, format!("unread bytes have waited for {age} at {}", place(model, listener)))
        });
        let unread = unread.or_else(|| {
            let (listener, size) = self.unread_bytes.get(model)?;
            let size = marked(Some(bytes(size)), status(model, Measure::QueuedBytes));
            Some((listener, format!("{size} wait unread at {}, for how long is not known", place(model, listener))))
        });
        let who = if total == 1 { "The listener".to_owned() } else { format!("None of {} listeners", grouped(total)) };
        let too_long = Quantity::Micros(TOO_LONG_US);
        // Unread bytes wait, too, but not for that.
        let to_be = if unread.is_some() { " to be accepted" } else { "" };
        let claim = match (total, refusals, waits && unaged.is_none()) {
            (0, ..) => "No listener is open".to_owned(),
            (1, true, true) => format!("{who} refuses no client and keeps none waiting over {too_long}{to_be}"),
            (1, true, false) => format!("{who} refuses no client"),
            (_, true, true) => format!("{who} refuses clients or keeps them waiting over {too_long}{to_be}"),
            (_, true, false) => format!("{who} refuses clients"),
            (_, false, _) => "Whether clients are refused cannot be measured here".to_owned(),
        };
        let waiting = unaged.map(|(listener, depth)| {
            let wait = agree(depth.into(), "waits", "wait");
            let connections = plural(depth.into(), "connection");
            (listener, format!("{connections} {wait} at {}, for how long is not known", place(model, listener)))
        });
        let blind = (total > 0 && refusals && !waits && waiting.is_none()).then(|| {
            let them = if total == 1 { "it keeps them waiting" } else { "they wait" };
            format!("whether {them} cannot be measured here")
        });
        let named = waiting.as_ref().or(unread.as_ref()).map(|(listener, _)| *listener);
        let notes = [waiting.map(|(_, text)| text), blind, unread.map(|(_, text)| text)];
        let text = notes.into_iter().flatten().fold(claim, |text, note| format!("{text}; {note}"));
        match (self.passed_ms.get(model), self.refused.get(model)) {
            (Some((listener, until)), _) => (text + &passed(model, listener, until), named.or(Some(listener))),
            (None, Some((listener, n))) => {
                let mark =
                    if status(model, Measure::Drops) == Status::Sampled { SAMPLED.to_string() } else { String::new() };
                let n = plural(n, "attempt");
                let text = format!("{text} (earlier {} refused {mark}{n})", place(model, listener));
                (text, named.or(Some(listener)))
            }
            (None, None) => (text, named),
        }
    }
}

/// A listener with its process.
fn place(model: &Model, listener: &ListenerModel) -> String {
    format!("{} {}", numbered_endpoint(model, listener), process(listener))
}

/// The last listener whose clients suffered, as the end of a sentence.
fn passed(model: &Model, listener: &ListenerModel, until_ms: u64) -> String {
    let time = utc(until_ms);
    let time = time.get(11..19).unwrap_or(&time);
    format!(" (until {time} UTC {} did)", place(model, listener))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures,
        model::{Drops, Finding},
        sample::Sample,
        tracker::Tracker,
    };

    fn model(samples: &[Sample]) -> Model {
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        tracker.model().clone()
    }

    #[test]
    fn a_quiet_machine_has_nothing_to_say_about() {
        let verdict = of(&model(&fixtures::quiet()));
        assert_eq!(verdict.text, "None of 3 listeners refuses clients or keeps them waiting over 1 s");
        assert_eq!((verdict.severity(), verdict.listener), (None, None));
        let mut blind = model(&fixtures::quiet());
        let mut hide = |measures: &[Measure]| {
            let hidden = blind.coverage.iter_mut().filter(|coverage| measures.contains(&coverage.measure));
            hidden.for_each(|coverage| coverage.status = Status::Unavailable);
            of(&blind).text
        };
        let text = hide(&[Measure::AcceptWait, Measure::OldestWaiting]);
        assert_eq!(text, "None of 3 listeners refuses clients; whether they wait cannot be measured here");
        assert_eq!(hide(&[Measure::Drops]), "Whether clients are refused cannot be measured here");
        let mut none = model(&fixtures::quiet());
        none.listeners.retain(|_| false);
        assert_eq!(of(&none).text, "No listener is open");
    }

    #[test]
    fn the_worst_listener_is_named_with_its_cause() {
        let mut machine = model(&fixtures::quiet());
        let ill = model(&fixtures::overflow()).listeners[0].clone();
        machine.listeners.push(ill.clone());
        let verdict = of(&machine);
        assert_eq!((verdict.harm, verdict.listener), (Harm::Refused, Some(ill.id)));
        assert_eq!(verdict.severity(), Some(Severity::Critical));
        assert!(verdict.text.starts_with("1 of 4 listeners refuses clients: 0.0.0.0:8080 demo-server[2201], its "));
        // A second one that only keeps clients waiting does not take its place.
        let mut waiting = ill.clone();
        waiting.id += 1;
        waiting.port = 9;
        waiting.recent_drops = Drops::default();
        waiting.findings.retain(|finding| !standing::REFUSING.contains(&finding.id));
        waiting.findings.push(Finding {
            id: "hung_acceptor",
            severity: Severity::Critical,
            follows_from: None,
            until_unix_ms: None,
            ..ill.findings[0].clone()
        });
        machine.listeners.push(waiting);
        let both = of(&machine).text;
        assert!(
            both.starts_with(
                "1 of 5 listeners refuses clients, 1 keeps them waiting: the worst is 0.0.0.0:8080 demo-server[2201]"
            ),
            "{both}"
        );
    }

    #[test]
    fn a_shard_is_named_by_its_number() {
        let text = of(&model(&fixtures::dead_shard())).text;
        let says = "1 of 4 listeners refuses clients: 10.0.0.1:8443 shard 4 envoy[3300], this shard accepts nothing";
        assert!(text.starts_with(says), "{text}");
    }

    #[test]
    fn what_has_passed_or_closed_does_not_count() {
        let mut machine = model(&fixtures::overflow());
        let listener = &mut machine.listeners[0];
        listener.findings.iter_mut().for_each(|finding| finding.until_unix_ms = Some(1));
        (listener.recent_drops, listener.now.accept_depth, listener.now.oldest_waiting_us) =
            (Drops::default(), 0, Some(0));
        let said = |machine: &Model| of(machine).text;
        let none = "The listener refuses no client and keeps none waiting over 1 s";
        let did = format!("{none} (until 00:00:00 UTC 0.0.0.0:8080 demo-server[2201] did)");
        assert_eq!(said(&machine), did);
        assert_eq!((of(&machine).severity(), of(&machine).listener), (None, Some(machine.listeners[0].id)));
        // It is not forgotten when its severity has fallen.
        machine.listeners[0].findings.iter_mut().for_each(|finding| finding.severity = Severity::Warning);
        assert_eq!(said(&machine), did);
        machine.listeners[0].findings.clear();
        machine.listeners[0].drops = Drops { total: Some(1), ..Drops::default() };
        assert_eq!(said(&machine), format!("{none} (earlier 0.0.0.0:8080 demo-server[2201] refused 1 attempt)"));
        machine.listeners[0].closed = true;
        assert_eq!(said(&machine), "No listener is open");
    }

    /// Somebody waits, and no finding holds (yet).
    #[test]
    fn where_no_finding_holds_the_figures_speak() {
        let mut machine = model(&fixtures::quiet());
        let place = "0.0.0.0:22 sshd[801]";
        let mut said = |change: fn(&mut ListenerModel)| {
            let listener = &mut machine.listeners[0];
            (listener.now.accept_depth, listener.now.oldest_waiting_us) = (0, Some(0));
            (listener.now.oldest_unread_us, listener.now.queued_bytes) = (Some(0), Some(0));
            listener.recent_drops = Drops::default();
            change(listener);
            let verdict = of(&machine);
            assert_eq!(verdict.listener, Some(machine.listeners[0].id));
            (verdict.harm, verdict.text)
        };
        let none = "None of 3 listeners refuses clients or keeps them waiting over 1 s";
        for (change, harm, text) in [
            (
                (|l| (l.now.accept_depth, l.now.oldest_waiting_us) = (288, Some(5_800_000))) as fn(&mut ListenerModel),
                Harm::Waiting,
                format!("1 of 3 listeners keeps clients waiting: {place}, 288 connections wait, the oldest for 5.8 s"),
            ),
            (
                |l| l.recent_drops = Drops { total: Some(1), other: Some(1), ..Drops::default() },
                Harm::Refused,
                format!("1 of 3 listeners refuses clients: {place}, 1 attempt was refused in the last 1.0 s"),
            ),
            (
                |l| l.recent_drops = Drops { total: Some(2), unexplained: Some(2), ..Drops::default() },
                Harm::Warned,
                format!(
                    "1 of 3 listeners needs a look: {place}, 2 attempts were refused in the last 1.0 s, why is not known"
                ),
            ),
            (
                |l| (l.now.accept_depth, l.now.oldest_waiting_us) = (l.now.limit, None),
                Harm::Warned,
                format!("1 of 3 listeners needs a look: {place}, its accept queue is full: 129 connections of 129"),
            ),
            (
                |l| (l.now.accept_depth, l.now.oldest_waiting_us) = (1, None),
                Harm::None,
                format!(
                    "None of 3 listeners refuses clients; 1 connection waits at {place}, for how long is not known"
                ),
            ),
            (
                |l| l.now.oldest_unread_us = Some(12_000_000),
                Harm::None,
                format!("{none} to be accepted; unread bytes have waited for 12.0 s at {place}"),
            ),
            (
                |l| (l.now.oldest_unread_us, l.now.queued_bytes) = (None, Some(1 << 20)),
                Harm::None,
                format!("{none} to be accepted; 1.0MiB wait unread at {place}, for how long is not known"),
            ),
        ] {
            assert_eq!(said(change), (harm, text));
        }
        // A critical finding is the cause of what it reports.
        let finding = model(&fixtures::overflow()).listeners[0].findings[0].clone();
        let refuses = machine.listeners[0].clone();
        machine.listeners[0] = ListenerModel {
            findings: vec![Finding { id: "accept_errors", follows_from: None, until_unix_ms: None, ..finding }],
            recent_drops: Drops { total: Some(3), ..Drops::default() },
            ..refuses
        };
        let text = of(&machine).text;
        assert!(text.ends_with("3 attempts were refused in the last 1.0 s, its accepts fail"), "{text}");
    }
}
