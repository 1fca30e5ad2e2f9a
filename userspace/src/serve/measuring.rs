//! The thread that samples, at its own pace, whatever is scraped.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use listentop_model::{
    figures::{GaugeSample, Value},
    model::Model,
    sample::Sample,
    tracker::Tracker,
};
use tokio::sync::watch;

use super::{Keep, ServeError};
use crate::source::Source;

/// What a scrape is written from.
#[derive(Debug)]
pub(super) struct Latest {
    /// The model, as the filters leave it.
    pub(super) model: Model,
    /// Which sample it is of.
    pub(super) samples: u64,
    /// When it was taken.
    pub(super) at: Instant,
    /// Peaks of the last 30 to 60 seconds, by listener.
    pub(super) peaks: HashMap<u64, PeaksOf>,
}

impl Latest {
    /// A model, as if it had just been measured.
    #[cfg(test)]
    pub(super) fn of(model: Model) -> Arc<Self> {
        Arc::new(Self { model, samples: 2, at: Instant::now(), peaks: HashMap::new() })
    }
}

/// How long peaks are collected until the next collection begins.
const SPAN: Duration = Duration::from_secs(30);

/// The largest values of a listener.
pub(super) type PeaksOf = [Option<u64>; GaugeSample::PEAKS];

/// The largest values of two spans of time: the one that runs, and the one before.
#[derive(Debug)]
struct Peaks {
    now: HashMap<u64, PeaksOf>,
    before: HashMap<u64, PeaksOf>,
    since: Instant,
}

impl Peaks {
    fn new(now: Instant) -> Self {
        Self { now: HashMap::new(), before: HashMap::new(), since: now }
    }

    fn take(&mut self, sample: &Sample, now: Instant) {
        if now.duration_since(self.since) >= SPAN {
            self.before = std::mem::take(&mut self.now);
            self.since = now;
        }
        for listener in &sample.listeners {
            let held = self.now.entry(listener.id).or_default();
            for (held, peak) in held.iter_mut().zip(listener.gauges.peaks()) {
                if let Value::Number(peak) = peak {
                    *held = (*held).max(Some(peak));
                }
            }
        }
    }

    fn all(&self) -> HashMap<u64, PeaksOf> {
        let mut all = self.now.clone();
        for (id, peaks) in &mut all {
            let before = self.before.get(id).copied().unwrap_or_default();
            for (peak, before) in peaks.iter_mut().zip(before) {
                *peak = (*peak).max(before);
            }
        }
        all
    }
}

/// What the samples so far amount to. A model is copied when somebody asks for it, not for each of the many samples
/// between two scrapes: a copy costs something for every listener, and as long as it is held, so does each change.
struct Figures {
    tracker: Tracker,
    samples: u64,
    at: Instant,
    peaks: Peaks,
    keep: Keep,
    /// The copy, if somebody has asked since the last sample.
    latest: Option<Arc<Latest>>,
}

impl Figures {
    fn new(first: &Sample, keep: Keep) -> Self {
        let at = Instant::now();
        Self { tracker: Tracker::new(first), samples: 1, at, peaks: Peaks::new(at), keep, latest: None }
    }

    fn take(&mut self, sample: &Sample) {
        self.latest = None;
        self.tracker.push(sample);
        (self.samples, self.at) = (self.samples + 1, Instant::now());
        self.peaks.take(sample, self.at);
    }

    fn latest(&mut self) -> Arc<Latest> {
        let Self { tracker, samples, at, peaks, keep, latest } = self;
        let describe = || {
            let mut model = tracker.model().clone();
            keep(&mut model);
            Arc::new(Latest { model, samples: *samples, at: *at, peaks: peaks.all() })
        };
        latest.get_or_insert_with(describe).clone()
    }
}

/// How far the thread is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    /// Samples so far.
    pub(super) samples: u64,
    /// When the last one was taken.
    pub(super) at: Instant,
    every: Duration,
}

impl Progress {
    /// Whether the next sample is overdue.
    pub(super) fn is_stale(&self) -> bool {
        self.at.elapsed() > self.every * 5 + Duration::from_secs(5)
    }
}

/// What is measured, for whoever asks.
#[derive(Clone)]
pub(super) struct Reader {
    figures: Arc<Mutex<Figures>>,
    progress: watch::Receiver<Progress>,
}

impl Reader {
    /// How far the thread is. This never waits.
    pub(super) fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// The last model. While a sample is taken in, this waits for it.
    pub(super) fn latest(&self) -> Arc<Latest> {
        lock(&self.figures).latest()
    }
}

fn lock(figures: &Mutex<Figures>) -> MutexGuard<'_, Figures> {
    figures.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread, while it runs.
pub(super) struct Measuring {
    reader: Reader,
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Measuring {
    /// What is measured, whenever it is asked for.
    pub(super) fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Waits until the thread ends, which it does if the source fails.
    pub(super) async fn ended(&self) {
        let mut progress = self.reader.progress.clone();
        while progress.changed().await.is_ok() {}
    }

    /// Ends the thread, after the sample that it is taking.
    pub(super) fn end(&mut self) -> Result<(), ServeError> {
        // It may have ended by itself.
        let _ = self.stop.send(());
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(ServeError::Source(error)),
            Some(Err(_)) => Err(ServeError::Source(io::Error::other("the source panicked"))),
        }
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        // Its failure was reported, or something else failed first.
        let _ = self.end();
    }
}

/// Takes the first sample, and goes on in a thread. With `to_the_end` it takes one more when it is told to end, so that
/// what came last is known.
pub(super) fn start(
    mut source: Box<dyn Source>,
    keep: Keep,
    every: Duration,
    to_the_end: bool,
) -> Result<Measuring, ServeError> {
    let first = source.sample().map_err(ServeError::Source)?;
    let figures = Figures::new(&first, keep);
    let progress = move |figures: &Figures| Progress { samples: figures.samples, at: figures.at, every };
    let (sender, progresses) = watch::channel(progress(&figures));
    let figures = Arc::new(Mutex::new(figures));
    let reader = Reader { figures: figures.clone(), progress: progresses };
    let (stop, stopped) = mpsc::channel();
    let run = move || {
        let mut due = Instant::now() + every;
        loop {
            let stopped = stopped.recv_timeout(due.saturating_duration_since(Instant::now()));
            let is_last = stopped != Err(RecvTimeoutError::Timeout);
            if is_last && !to_the_end {
                break;
            }
            // After a pause (a suspended process) it continues from now; it does not catch up.
            due = (due + every).max(Instant::now());
            let sample = source.sample()?;
            let mut figures = lock(&figures);
            figures.take(&sample);
            let progress = progress(&figures);
            drop(figures);
            if sender.send(progress).is_err() || is_last {
                break;
            }
        }
        Ok(())
    };
    let thread = thread::Builder::new().name("source".to_owned()).spawn(run).map_err(ServeError::Thread)?;
    Ok(Measuring { reader, stop, thread: Some(thread) })
}

#[cfg(test)]
mod tests {
    use listentop_model::fixtures;

    use super::*;

    #[test]
    fn a_model_is_copied_when_it_is_asked_for_and_let_go_with_the_next_sample() {
        let samples = fixtures::overflow();
        let mut figures = Figures::new(&samples[0], Box::new(|_| {}));
        let is_shared = |figures: &Figures| Arc::strong_count(&figures.tracker.model().listeners.handles()[0]) > 1;
        for (number, sample) in (2..).zip(&samples[1..4]) {
            figures.take(sample);
            assert!(!is_shared(&figures), "nobody asked after sample {number}");
            let latest = figures.latest();
            assert_eq!((latest.samples, &latest.model), (number, figures.tracker.model()));
            assert!(Arc::ptr_eq(&latest, &figures.latest()) && is_shared(&figures));
        }
    }

    #[test]
    fn a_peak_is_there_for_a_span_and_then_goes() {
        let begin = Instant::now();
        let mut peaks = Peaks::new(begin);
        let mut sample = fixtures::overflow().remove(0);
        let id = sample.listeners[0].id;
        sample.listeners[0].gauges.accept_peak = Some(900);
        peaks.take(&sample, begin);
        sample.listeners[0].gauges.accept_peak = Some(3);
        sample.listeners[0].gauges.accept_depth = 2;
        let after = |seconds| begin + Duration::from_secs(seconds);
        for seconds in [1, 29, 30, 45, 59] {
            peaks.take(&sample, after(seconds));
            assert_eq!(peaks.all()[&id][0], Some(900), "after {seconds} s");
        }
        peaks.take(&sample, after(60));
        assert_eq!(peaks.all()[&id][0], Some(3));
        // A listener that is gone is forgotten.
        sample.listeners = Vec::<listentop_model::sample::ListenerSample>::new().into();
        peaks.take(&sample, after(90));
        assert!(peaks.all().is_empty());
    }
}
