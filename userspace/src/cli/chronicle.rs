//! All that happened in a recording, read while the dashboard already shows a moment of it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use listentop_model::{episodes::HOLD_MS, model::Model};
use tokio::sync::watch;

use super::filter::Filter;
use crate::{
    dashboard::{Log, Shown},
    past::{self, Happened, Past as _},
};

/// Events of a recording that are listed; of more, the newest.
const KEPT: usize = 20_000;
/// How often the dashboard gets what was read meanwhile.
const EVERY: Duration = Duration::from_millis(250);

/// What was read so far.
#[derive(Debug)]
pub(super) struct Chronicle {
    log: Mutex<Arc<Log>>,
    ends: AtomicBool,
}

impl Chronicle {
    /// Before anything is read.
    pub(super) fn new() -> Arc<Self> {
        let log = Mutex::new(Arc::new(Log::of_recording(KEPT)));
        Arc::new(Self { log, ends: AtomicBool::new(false) })
    }

    /// What was read so far.
    pub(super) fn log(&self) -> Arc<Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the reading.
    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// Reads everything, and publishes it now and then. `each` is told how many samples were read.
    pub(super) fn read(&self, past: &past::Recorded, filter: &Filter, publish: &dyn Fn(), each: &mut dyn FnMut(usize)) {
        let mut log = Log::clone(&self.log());
        let mut passing = HashMap::new();
        let mut due = Instant::now() + EVERY;
        past::follow(past, past.places(), &mut |place, model, happened| {
            for Happened { place, event } in happened {
                // What concerns all listeners concerns those that are wanted.
                if event.listener.is_none_or(|id| passes(filter, model, id, &mut passing)) {
                    log.add(model, event, past.time(place));
                }
            }
            log.read_until(past.time(place));
            each(place - past.places().start);
            if Instant::now() >= due {
                due = Instant::now() + EVERY;
                self.publish(&log, publish);
            }
            !self.ends.load(Ordering::Relaxed)
        });
        log.end();
        self.publish(&log, publish);
    }

    fn publish(&self, log: &Log, publish: &dyn Fn()) {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(log.clone());
        publish();
    }

    /// Reads on a thread of its own, and adds what it has to what the dashboard is shown.
    pub(super) fn spawn(
        self: Arc<Self>,
        past: Arc<past::Recorded>,
        filter: Filter,
        models: watch::Sender<Option<Shown>>,
    ) -> anyhow::Result<()> {
        let run = move || {
            let publish = || {
                models.send_modify(|shown| {
                    if let Some(shown) = shown {
                        shown.events = Some(self.log());
                    }
                });
            };
            self.read(&past, &filter, &publish, &mut |_| ());
        };
        thread::Builder::new()
            .name("chronicle".to_owned())
            .spawn(run)
            .context("cannot start a thread for the events")?;
        Ok(())
    }

    /// The moment of the next event, or of the one before; `None` if not enough was read to know. Without such an event
    /// it is the moment itself.
    pub(super) fn neighbour(&self, moment: u64, forwards: bool) -> Option<u64> {
        let log = self.log();
        let found = log.neighbour(moment, forwards);
        // An end is known later than it was.
        let is_known = |until: u64| log.is_whole() || log.read() >= until + HOLD_MS;
        let is_enough = match found {
            Some(next) if forwards => is_known(next),
            None if forwards => log.is_whole(),
            _ => is_known(moment),
        };
        is_enough.then(|| found.unwrap_or(moment))
    }
}

/// Whether the filters let a listener through. One that is gone is known from before.
fn passes(filter: &Filter, model: &Model, id: u64, known: &mut HashMap<u64, bool>) -> bool {
    if filter.is_empty() {
        return true;
    }
    if let Some(listener) = model.listeners.iter().find(|listener| listener.id == id) {
        known.insert(id, filter.passes(listener));
    }
    known.get(&id).copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use listentop_recording::Recording;

    use super::*;

    fn incident() -> Arc<past::Recorded> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/incident.rec");
        let recording = Recording::open(path.as_ref(), |_, _| ()).expect("a recording");
        let places = 0..recording.len();
        Arc::new(past::Recorded { recording, places })
    }

    #[test]
    fn it_knows_all_that_happened_and_where() {
        let past = incident();
        let chronicle = Chronicle::new();
        assert_eq!(chronicle.neighbour(past.time(0), true), None, "nothing is known yet");
        let mut read = 0;
        chronicle.read(&past, &Filter::default(), &|| (), &mut |count| read = count);
        assert_eq!(read, past.places().len() - 1);
        let log = chronicle.log();
        assert!(log.total() >= 2 && log.is_whole());
        let (first, last) = (past.time(0), past.time(past.places().end - 1));
        let mut moments = vec![first];
        while let Some(next) =
            chronicle.neighbour(moments[moments.len() - 1], true).filter(|next| *next > moments[moments.len() - 1])
        {
            moments.push(next);
        }
        // It hangs from the 41st sample on.
        assert!(moments.len() >= 2 && moments[1] >= past.time(40) && moments[moments.len() - 1] <= last, "{moments:?}");
        let back: Vec<u64> =
            (1..moments.len()).rev().filter_map(|at| chronicle.neighbour(moments[at], false)).collect();
        assert_eq!(back[..back.len() - 1], moments[1..moments.len() - 1].iter().rev().copied().collect::<Vec<_>>()[..]);
        assert_eq!(back[back.len() - 1], moments[1], "there is none before the first");
    }

    #[test]
    fn the_filters_choose_what_it_lists() {
        let count = |port: &str| {
            let chronicle = Chronicle::new();
            let filter = <super::super::options::Cli as clap::Parser>::try_parse_from(["listentop", "--port", port]);
            chronicle.read(&incident(), &filter.expect("options").filter, &|| (), &mut |_| ());
            chronicle.log().total()
        };
        assert!(count("23500") >= 2);
        assert_eq!(count("23000"), 0);
    }

    #[test]
    fn reading_ends_when_nobody_wants_it() {
        let chronicle = Chronicle::new();
        chronicle.end();
        let mut read = 0;
        chronicle.read(&incident(), &Filter::default(), &|| (), &mut |_| read += 1);
        assert_eq!(read, 1);
    }
}
