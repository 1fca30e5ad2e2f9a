//! What began and what ended, from one model to the next: listeners that open and close, findings as episodes. And what
//! was done on purpose.
//!
//! A finding that goes away and is back within [`HOLD_MS`] has not ended. So an episode's end is known that much later
//! than it was; its time is when it was.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    model::{Finding, ListenerModel, Model, Severity},
    names::names,
};

/// How long a finding is gone before its episode has ended, in milliseconds.
pub const HOLD_MS: u64 = 5_000;

names! {
    /// What happened.
    pub enum Happening {
        /// A listener began to listen.
        Opened = "listener_opened",
        /// A listener stopped listening.
        Closed = "listener_closed",
        /// A finding began to hold.
        Began = "finding_began",
        /// A finding that holds became worse.
        Worsened = "finding_worsened",
        /// A finding no longer holds.
        Ended = "finding_ended",
        /// Something was done on purpose.
        Marked = "mark",
    }
}

/// One line of what happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When, in milliseconds since the epoch.
    pub unix_ms: u64,
    /// When that was known: a beginning is known when the finding holds, an end when the finding has been gone for long
    /// enough.
    pub known_ms: u64,
    /// What.
    pub happening: Happening,
    /// The id of the listener; `None` if it concerns all of them, or none is known.
    pub listener: Option<u64>,
    /// The finding; `None` if it is about the listener itself.
    pub finding: Option<Episode>,
    /// What was done on purpose; `None` if nothing was.
    pub mark: Option<String>,
}

/// A finding from its beginning on.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// The finding's name.
    pub id: &'static str,
    /// The worst that it was.
    pub severity: Severity,
    /// When it began, in milliseconds since the epoch.
    pub since_unix_ms: u64,
    /// What it was last, in a sentence or a few.
    pub summary: String,
    /// What follows from another finding of the same listener names it.
    pub follows_from: Option<&'static str>,
    /// What came of it so far.
    pub totals: Totals,
    /// How often it came: it may have been gone for less than [`HOLD_MS`] between two times.
    pub times: u64,
}

/// What happened to a listener during an episode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Attempts that were refused; `None` if that is not known.
    pub refused: Option<u64>,
    /// Connections that were accepted; `None` if that is not known.
    pub accepted: Option<u64>,
    /// The largest depth of the accept queue that was seen.
    pub deepest: u32,
}

/// An episode that has not ended.
#[derive(Debug)]
struct Open {
    episode: Episode,
    /// Refused and accepted before it began.
    before: (Option<u64>, Option<u64>),
    /// When it was last seen to hold.
    last_ms: u64,
}

/// Follows a sequence of models.
#[derive(Debug, Default)]
pub struct Episodes {
    listeners: HashMap<u64, Seen>,
    open: HashMap<(u64, &'static str), Open>,
    begun: bool,
    /// The time of the last mark.
    marked_ns: u64,
    /// The time of the last model.
    last_ms: u64,
    /// The listeners of the last model, and whether a finding holds there: those that did not change are not looked at.
    last: Vec<(Arc<ListenerModel>, bool)>,
}

/// How a listener was in the last model.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    closed: bool,
    refused: Option<u64>,
    accepted: Option<u64>,
}

impl Seen {
    fn of(listener: &ListenerModel) -> Self {
        Self { closed: listener.closed, refused: listener.drops.total, accepted: listener.total.accepts }
    }
}

impl Episodes {
    /// What has happened since the last model, in the order in which it was known, and of that in the order of time.
    /// Listeners that were there at the first model have not opened; findings that hold then have begun.
    pub fn push(&mut self, model: &Model) -> Vec<Event> {
        let now_ms = now_ms(model);
        let mut events = Vec::new();
        let handles = model.listeners.handles();
        let mut last = std::mem::take(&mut self.last);
        last.truncate(handles.len());
        for (at, handle) in handles.iter().enumerate() {
            // A finding that holds is noted each time.
            if last.get(at).is_some_and(|(before, holds)| !holds && Arc::ptr_eq(before, handle)) {
                continue;
            }
            self.look(handle, now_ms, &mut events);
            let holds = handle.findings.iter().any(|finding| finding.until_unix_ms.is_none());
            match last.get_mut(at) {
                Some(before) => *before = (handle.clone(), holds),
                None => last.push((handle.clone(), holds)),
            }
        }
        self.last = last;
        if self.listeners.len() > model.listeners.len() {
            let present: HashSet<u64> = model.listeners.iter().map(|listener| listener.id).collect();
            self.listeners.retain(|id, _| present.contains(id));
        }
        self.end(now_ms, HOLD_MS, &mut events);
        for mark in model.marks.iter().filter(|mark| mark.monotonic_ns > self.marked_ns) {
            events.push(Event {
                unix_ms: model.interval.start_unix_ms + (mark.at * 1e3).round() as u64,
                known_ms: now_ms,
                happening: Happening::Marked,
                listener: model.marked(mark).map(|listener| listener.id),
                finding: None,
                mark: Some(mark.what.clone()),
            });
        }
        self.marked_ns = model.marks.last().map_or(self.marked_ns, |last| last.monotonic_ns);
        self.begun = true;
        self.last_ms = now_ms;
        events.sort_by_key(|event| event.unix_ms);
        events
    }

    /// The end of the models: what of it is known of episodes that have ended by then.
    pub fn finish(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let last_ms = self.open.values().map(|open| open.last_ms).max().unwrap_or(0);
        self.end(last_ms, 1, &mut events);
        // That is known now.
        events.iter_mut().for_each(|event| event.known_ms = event.known_ms.max(self.last_ms));
        events.sort_by_key(|event| event.unix_ms);
        events
    }

    /// The episodes that have not ended: the listener's id, and the finding.
    pub fn open(&self) -> impl Iterator<Item = (u64, &Episode)> {
        self.open.iter().map(|((listener, _), open)| (*listener, &open.episode))
    }

    fn look(&mut self, listener: &ListenerModel, now_ms: u64, events: &mut Vec<Event>) {
        let seen = Seen::of(listener);
        let before = self.listeners.insert(listener.id, seen);
        let event = |happening| Event {
            unix_ms: now_ms,
            known_ms: now_ms,
            happening,
            listener: Some(listener.id),
            finding: None,
            mark: None,
        };
        // One that opens and closes between two models did both.
        if before.is_none_or(|before| before.closed && !listener.closed) && self.begun {
            events.push(event(Happening::Opened));
        }
        if listener.closed && before.map_or(self.begun, |before| !before.closed) {
            events.push(event(Happening::Closed));
        }
        let before = before.unwrap_or(Seen { closed: false, refused: Some(0), accepted: Some(0) });
        for finding in listener.findings.iter().filter(|finding| finding.until_unix_ms.is_none()) {
            self.hold(listener, finding, before, now_ms, events);
        }
    }

    fn hold(&mut self, of: &ListenerModel, finding: &Finding, before: Seen, now_ms: u64, events: &mut Vec<Event>) {
        let (mut begun, before_ms) = (false, self.last_ms);
        let open = self.open.entry((of.id, finding.id)).or_insert_with(|| {
            begun = true;
            Open {
                episode: Episode {
                    id: finding.id,
                    severity: finding.severity,
                    since_unix_ms: finding.since_unix_ms,
                    summary: String::new(),
                    follows_from: finding.follows_from,
                    totals: Totals::default(),
                    times: 1,
                },
                before: (before.refused, before.accepted),
                last_ms: now_ms,
            }
        });
        // It was not there in the model before.
        open.episode.times += u64::from(!begun && open.last_ms < before_ms);
        open.last_ms = now_ms;
        let worse = finding.severity > open.episode.severity;
        let episode = &mut open.episode;
        episode.severity = episode.severity.max(finding.severity);
        episode.summary.clone_from(&finding.summary);
        let since = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before.unwrap_or(0)));
        episode.totals = Totals {
            refused: since(of.drops.total, open.before.0),
            accepted: since(of.total.accepts, open.before.1),
            deepest: episode.totals.deepest.max(of.now.accept_depth).max(of.now.recent_accept_peak.unwrap_or(0)),
        };
        if begun || worse {
            let happening = if begun { Happening::Began } else { Happening::Worsened };
            let unix_ms = if begun { episode.since_unix_ms.min(now_ms) } else { now_ms };
            let finding = Some(episode.clone());
            events.push(Event { unix_ms, known_ms: now_ms, happening, listener: Some(of.id), finding, mark: None });
        }
    }

    /// Ends the episodes that were last seen so long ago.
    fn end(&mut self, now_ms: u64, hold_ms: u64, events: &mut Vec<Event>) {
        self.open.retain(|(listener, _), open| {
            let is_gone = self.listeners.get(listener).is_none_or(|seen| seen.closed);
            let ended = open.last_ms < now_ms && (is_gone || open.last_ms + hold_ms <= now_ms);
            if ended {
                let finding = Some(open.episode.clone());
                let (unix_ms, listener) = (open.last_ms, Some(*listener));
                events.push(Event {
                    unix_ms,
                    known_ms: now_ms,
                    happening: Happening::Ended,
                    listener,
                    finding,
                    mark: None,
                });
            }
            !ended
        });
    }
}

/// The wall clock of a model, in milliseconds since the epoch: by the monotonic clock since the interval's start.
#[must_use]
pub fn now_ms(model: &Model) -> u64 {
    model.interval.start_unix_ms + (model.interval.seconds * 1e3).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures,
        sample::{MarkSample, Sample},
        tracker::Tracker,
    };

    /// What happens in these samples, and at the end.
    fn events(samples: &[Sample]) -> (Vec<Event>, Vec<Event>) {
        let mut tracker = Tracker::new(&samples[0]);
        let mut episodes = Episodes::default();
        let mut events = episodes.push(tracker.model());
        for sample in &samples[1..] {
            tracker.push(sample);
            events.extend(episodes.push(tracker.model()));
        }
        (events, episodes.finish())
    }

    /// The last sample again, for some seconds.
    fn calm(samples: &mut Vec<Sample>, seconds: u64) {
        for _ in 0..seconds {
            let mut next = samples.last().expect("there is one").clone();
            next.monotonic_ns += 1_000_000_000;
            next.unix_ms += 1_000;
            for listener in &mut next.listeners {
                listener.gauges.accept_depth = 0;
                listener.gauges.accept_peak = Some(0);
                listener.gauges.oldest_waiting_us = Some(0);
            }
            samples.push(next);
        }
    }

    #[test]
    fn an_overflow_is_one_episode_with_its_totals() {
        let mut samples = fixtures::overflow();
        calm(&mut samples, 40);
        let (events, _) = events(&samples);
        let of = |happening: Happening| {
            let of = |event: &&Event| {
                event.happening == happening
                    && event.finding.as_ref().is_some_and(|finding| finding.id == "accept_queue_overflow")
            };
            events.iter().filter(of).collect::<Vec<_>>()
        };
        let (began, ended) = (of(Happening::Began), of(Happening::Ended));
        assert_eq!((began.len(), ended.len()), (1, 1), "{events:#?}");
        let episode = ended[0].finding.as_ref().expect("it is of a finding");
        let last = samples.last().expect("there is one");
        let counters = last.namespaces[0].counters.expect("they are known");
        let first = samples[0].namespaces[0].counters.expect("they are known");
        assert_eq!(episode.totals.refused, Some(counters.listen_drops - first.listen_drops));
        assert_eq!((episode.totals.deepest, episode.severity), (129, Severity::Critical));
        assert_eq!(began[0].unix_ms, episode.since_unix_ms);
        assert!(began[0].unix_ms < ended[0].unix_ms && ended[0].unix_ms <= last.unix_ms - HOLD_MS);
    }

    #[test]
    fn a_short_gap_is_no_end() {
        let one = |present: bool, second: u64| {
            let mut tracker = Tracker::new(&fixtures::overflow()[0]);
            fixtures::overflow()[1..].iter().for_each(|sample| tracker.push(sample));
            let mut model = tracker.model().clone();
            model.interval.seconds = second as f64;
            if !present {
                model.listeners[0].findings.clear();
            }
            model
        };
        let mut episodes = Episodes::default();
        let began = episodes.push(&one(true, 10)).len();
        assert!(began > 0);
        for second in [11, 12, 13, 14] {
            assert_eq!(episodes.push(&one(false, second)), []);
        }
        assert!(episodes.open().all(|(_, episode)| episode.times == 1));
        assert_eq!(episodes.push(&one(true, 14)), [], "it is back");
        assert!(episodes.open().all(|(_, episode)| episode.times == 2));
        assert_eq!(episodes.push(&one(true, 14)), []);
        assert_eq!(episodes.push(&one(false, 18)), []);
        let ended = episodes.push(&one(false, 19));
        assert_eq!(ended.len(), began);
        assert!(ended.iter().all(|event| event.happening == Happening::Ended));
        assert!(ended.iter().all(|event| event.unix_ms == now_ms(&one(true, 14))));
        assert!(ended.iter().all(|event| event.known_ms == now_ms(&one(true, 19))), "it is known later");
        assert!(ended.iter().all(|event| event.finding.as_ref().is_some_and(|episode| episode.times == 2)));
        assert_eq!(episodes.open().count(), 0);
    }

    #[test]
    fn listeners_open_and_close() {
        let mut samples = fixtures::quiet();
        samples.truncate(4);
        let new = samples[0].listeners.remove(1);
        let later = samples[1].listeners.remove(1);
        assert_eq!(new.id, later.id);
        samples[3].listeners.remove(0);
        let (events, _) = events(&samples);
        let found: Vec<_> = events.iter().map(|event| (event.happening, event.listener)).collect();
        let closed = samples[2].listeners[0].id;
        assert_eq!(found, [(Happening::Opened, Some(new.id)), (Happening::Closed, Some(closed))]);
        assert_eq!(events[0].unix_ms, samples[2].unix_ms);
    }

    #[test]
    fn what_was_done_is_an_event_at_its_moment() {
        let mut samples = fixtures::quiet();
        let (netns, port) = (samples[0].listeners[0].netns, samples[0].listeners[0].port);
        let mark = |of: &Sample, before_ms: u64, port| MarkSample {
            monotonic_ns: of.monotonic_ns - before_ms * 1_000_000,
            what: format!("{before_ms} ms before"),
            netns,
            port,
        };
        // In the first sample, and from before it: before the interval.
        let early = mark(&samples[0], 5, None);
        samples[0].marks = vec![early.clone()];
        let (all, one) = (mark(&samples[2], 100, None), mark(&samples[2], 40, Some(port)));
        samples[2].marks = vec![early, all, one];
        let (events, end) = events(&samples);
        let done: Vec<_> = events.iter().filter(|event| event.happening == Happening::Marked).collect();
        let (when, listener) = (samples[2].unix_ms, samples[0].listeners[0].id);
        let expected = [(when - 100, None, "100 ms before"), (when - 40, Some(listener), "40 ms before")];
        let seen: Vec<_> =
            done.iter().map(|e| (e.unix_ms, e.listener, e.mark.as_deref().unwrap_or_default())).collect();
        assert_eq!(seen, expected);
        assert!(end.iter().all(|event| event.mark.is_none()));
    }

    #[test]
    fn a_finding_that_gets_worse_says_so_once() {
        let mut tracker = Tracker::new(&fixtures::overflow()[0]);
        fixtures::overflow()[1..].iter().for_each(|sample| tracker.push(sample));
        let mut model = tracker.model().clone();
        model.listeners[0].findings.truncate(1);
        let mut with = |severity| {
            model.interval.seconds += 1.0;
            model.listeners[0].findings[0].severity = severity;
            model.clone()
        };
        let mut episodes = Episodes::default();
        let severities =
            [Severity::Warning, Severity::Warning, Severity::Critical, Severity::Warning, Severity::Critical];
        let happened: Vec<Vec<Happening>> = severities
            .map(|severity| episodes.push(&with(severity)).iter().map(|event| event.happening).collect())
            .into();
        assert_eq!(happened, [vec![Happening::Began], vec![], vec![Happening::Worsened], vec![], vec![]]);
    }
}
