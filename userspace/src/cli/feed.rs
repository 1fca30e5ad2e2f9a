//! From the source to models.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use listentop_model::{connections::PER_LISTENER, episodes::now_ms, model::Model, tracker::Tracker};
use tokio::{
    runtime::Handle,
    sync::{
        mpsc::{UnboundedReceiver, error::TryRecvError},
        watch,
    },
};

use super::{blaming::Blaming, filter::Filter};
use crate::{
    dashboard::{Control, Moment, Remembered, SPAN_MS, Shown, Travel},
    past::{Memory, Past as _, Traveller, Turn},
    source::Source,
};

/// A source, and the model of its samples so far.
pub(super) struct Feed {
    source: Box<dyn Source>,
    tracker: Tracker,
    filter: Filter,
    /// What acceptors do, while somebody asks; of the dashboard only.
    blaming: Blaming,
    /// What was measured lately; of the dashboard only.
    memory: Memory,
    /// Where in it the user is, and how often places had changed by then.
    traveller: Option<(Traveller, u64)>,
    /// What came of changing the level, to be said.
    said: Option<String>,
}

impl Feed {
    /// Takes the first sample: the interval begins.
    pub(super) fn start(mut source: Box<dyn Source>, filter: Filter) -> io::Result<Self> {
        let sample = source.sample()?;
        let mut memory = Memory::default();
        memory.push(&sample);
        let blaming = Blaming::none();
        Ok(Self { source, tracker: Tracker::new(&sample), filter, blaming, memory, traveller: None, said: None })
    }

    /// The same, with what acceptors do while somebody asks.
    pub(super) fn with_blaming(self, blaming: Blaming) -> Self {
        Self { blaming, ..self }
    }

    /// Takes another sample.
    pub(super) fn advance(&mut self) -> io::Result<()> {
        self.tracker.push(&self.source.sample()?);
        Ok(())
    }

    /// From the next sample on so many connections of each listener are listed, in that sample in any case.
    pub(super) fn list_connections(&mut self, per_listener: u32) {
        self.source.list_connections(per_listener);
    }

    /// What acceptors do, if the source was asked to watch them.
    #[cfg(feature = "blame")]
    pub(super) fn blame(&mut self) -> Result<crate::source::live::blame::Watching<'_>, String> {
        self.source.blame()
    }

    /// The model of everything.
    pub(super) fn all(&self) -> &Model {
        self.tracker.model()
    }

    /// The model as the filters leave it.
    pub(super) fn model(&self) -> Model {
        let mut model = self.tracker.model().clone();
        self.filter.apply(&mut model);
        model
    }

    /// Sends models from a thread of its own, so that reading never delays the screen. The thread ends when nobody
    /// receives them, or when the source fails.
    pub(super) fn spawn(
        mut self,
        mut interval: Duration,
        models: watch::Sender<Option<Shown>>,
        mut controls: UnboundedReceiver<Control>,
    ) -> anyhow::Result<JoinHandle<io::Result<()>>> {
        let runtime = Handle::current();
        let run = move || {
            let mut due = Instant::now() + interval;
            loop {
                // What is shown of the past stays until the user goes on.
                if self.traveller.is_none() && models.send(Some(self.shown())).is_err() {
                    return Ok(());
                }
                // Wait until the next sample is due, unless a control comes first.
                loop {
                    let control = match controls.try_recv() {
                        Err(TryRecvError::Disconnected) => return Ok(()),
                        Err(TryRecvError::Empty) => {
                            let left = due.saturating_duration_since(Instant::now());
                            if left.is_zero() {
                                break;
                            }
                            match runtime.block_on(async { tokio::time::timeout(left, controls.recv()).await }) {
                                Ok(None) => return Ok(()),
                                Ok(Some(control)) => control,
                                Err(_) => continue,
                            }
                        }
                        Ok(control) => control,
                    };
                    match control {
                        Control::SetInterval(wanted) => {
                            interval = wanted;
                            due = Instant::now() + interval;
                        }
                        Control::ListConnections(wanted) => {
                            self.source.list_connections(if wanted { PER_LISTENER } else { 0 });
                            if wanted {
                                // Whoever opens their view wants to see them now.
                                due = Instant::now();
                            }
                        }
                        Control::Blame(wanted) => {
                            self.blaming.want(wanted);
                            due = Instant::now();
                        }
                        Control::SetLevel(level) => {
                            self.said = Some(match self.source.set_level(level) {
                                Ok(()) => format!("measured from now on: {}", level.name()),
                                Err(why) => why,
                            });
                            // The sample after a change is the baseline of what it brings.
                            due = Instant::now();
                        }
                        Control::Remember(answer) => {
                            // Whoever asked may have left.
                            let _ = answer.send(self.remembered());
                        }
                        Control::Travel(travel) => {
                            if let Some(shown) = self.travel(travel)
                                && models.send(Some(shown)).is_err()
                            {
                                return Ok(());
                            }
                        }
                    }
                }
                // After a pause (a suspended process) it continues from now; it does not catch up.
                due = (due + interval).max(Instant::now());
                let mut sample = self.source.sample()?;
                self.blaming.add_to(&mut sample, self.tracker.model(), &self.filter);
                self.memory.push(&sample);
                self.tracker.push(&sample);
            }
        };
        thread::Builder::new().name("source".to_owned()).spawn(run).context("cannot start a thread for the source")
    }

    /// The present, as the dashboard takes it.
    fn shown(&mut self) -> Shown {
        let (levels, said) = (self.source.levels(), self.said.take());
        Shown { levels, said, ..Arc::new(self.model()).into() }
    }

    /// The last minutes until what is shown.
    fn remembered(&self) -> Remembered {
        let shown = self.traveller.as_ref().map(|(traveller, _)| traveller.place());
        let until = self.memory.time(shown.unwrap_or(self.memory.places().end.saturating_sub(1)));
        Remembered::until(until, Box::new(self.memory.part(until.saturating_sub(SPAN_MS))))
    }

    /// What is to be shown of another moment; `None` if that is the one that is shown.
    fn travel(&mut self, travel: Travel) -> Option<Shown> {
        let turn = match travel {
            Travel::To(turn) => turn,
            Travel::At(moment) => Turn::At(moment),
            Travel::Now => {
                self.traveller = None;
                return Some(self.shown());
            }
            // The present cannot be stopped: the dashboard holds back what comes.
            Travel::Pause(_) => return None,
        };
        let places = self.memory.places();
        let last = places.end.checked_sub(1).filter(|last| places.contains(last))?;
        let (traveller, changes) = match &mut self.traveller {
            Some(travelling) => travelling,
            // It begins at the newest, which is about what is shown.
            none => none.insert((Traveller::at(&self.memory, last), self.memory.changes())),
        };
        if *changes != self.memory.changes() {
            // Samples were thinned out: other places have them now.
            *changes = self.memory.changes();
            *traveller = Traveller::at(&self.memory, traveller.place().clamp(places.start, last));
        }
        traveller.go(&self.memory, turn);
        let unix_ms = self.memory.time(traveller.place());
        let mut model = Model::clone(&*traveller.model(&self.memory)?);
        self.filter.apply(&mut model);
        let now_ms = now_ms(self.tracker.model());
        Some(Shown {
            model: Arc::new(model),
            past: Some(Moment { unix_ms, last_ms: now_ms }),
            events: None,
            levels: self.source.levels(),
            said: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use listentop_model::{coverage::Coverage, fixtures, sample::Sample};
    use tokio::sync::mpsc;

    use super::*;

    /// Returns the same sample again and again, counts how often, and notes how many connections are to be listed.
    #[derive(Clone, Default)]
    struct Counting(Arc<AtomicUsize>, Arc<AtomicUsize>);

    impl Source for Counting {
        fn sample(&mut self) -> io::Result<Sample> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(fixtures::quiet().remove(0))
        }

        fn coverage(&self) -> &[Coverage] {
            &[]
        }

        fn list_connections(&mut self, per_listener: u32) {
            self.1.store(per_listener as usize, Ordering::Relaxed);
        }

        fn name(&self) -> &'static str {
            "counting"
        }
    }

    /// Waits until that many samples were taken.
    async fn until(asked: &AtomicUsize, times: usize) {
        let enough = async {
            while asked.load(Ordering::Relaxed) < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), enough).await.expect("it samples");
    }

    #[test]
    fn a_new_interval_holds_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let source = Counting::default();
        let (asked, listed) = (source.0.clone(), source.1.clone());
        let feed = Feed::start(Box::new(source), Filter::default()).expect("a first sample");
        runtime.block_on(async {
            let (models, receiver) = watch::channel(None);
            let (sender, controls) = mpsc::unbounded_channel();
            let hour = Duration::from_secs(3600);
            let reader = feed.spawn(hour, models, controls).expect("a thread");
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(asked.load(Ordering::Relaxed), 1, "the first alone: the next is due in an hour");
            // Whoever opens the view of connections does not wait either.
            sender.send(Control::ListConnections(true)).expect("it listens");
            until(&asked, 2).await;
            assert_eq!(listed.load(Ordering::Relaxed), PER_LISTENER as usize);
            sender.send(Control::ListConnections(false)).expect("it listens");
            // It does not wait for the hour's end.
            sender.send(Control::SetInterval(Duration::from_millis(1))).expect("it listens");
            until(&asked, 10).await;
            sender.send(Control::SetInterval(hour)).expect("it listens");
            // One that it was taking when the control came.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let before = asked.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(asked.load(Ordering::Relaxed), before, "the next is due in an hour");
            assert_eq!(listed.load(Ordering::Relaxed), 0, "nobody asks any more");
            drop(receiver);
            drop(sender);
            reader.join().expect("it does not fail").expect("it ends");
        });
    }
}
