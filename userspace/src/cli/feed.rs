//! From the source to models.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use listentop_model::{model::Model, tracker::Tracker};
use tokio::{
    runtime::Handle,
    sync::{
        mpsc::{UnboundedReceiver, error::TryRecvError},
        watch,
    },
};

use super::filter::Filter;
use crate::{dashboard::Control, source::Source};

/// A source and the model of what it has said so far.
pub(super) struct Feed {
    source: Box<dyn Source>,
    tracker: Tracker,
    filter: Filter,
}

impl Feed {
    /// Takes the first sample: from here on the interval counts.
    pub(super) fn start(mut source: Box<dyn Source>, filter: Filter) -> io::Result<Self> {
        let tracker = Tracker::new(&source.sample()?);
        Ok(Self { source, tracker, filter })
    }

    /// Takes another sample.
    pub(super) fn advance(&mut self) -> io::Result<()> {
        self.tracker.push(&self.source.sample()?);
        Ok(())
    }

    /// What is to be shown.
    pub(super) fn model(&self) -> Model {
        let mut model = self.tracker.model().clone();
        self.filter.apply(&mut model);
        model
    }

    /// Sends models from a thread of its own, so that reading never holds up the screen. It ends when nobody listens any more, or with
    /// the error that the source met.
    pub(super) fn spawn(
        mut self,
        mut interval: Duration,
        models: watch::Sender<Option<Arc<Model>>>,
        mut controls: UnboundedReceiver<Control>,
    ) -> anyhow::Result<JoinHandle<io::Result<()>>> {
        let runtime = Handle::current();
        let run = move || {
            let mut due = Instant::now() + interval;
            loop {
                if models.send(Some(Arc::new(self.model()))).is_err() {
                    return Ok(());
                }
                // Wait until the next sample is due, unless a control comes first.
                loop {
                    match controls.try_recv() {
                        Ok(Control::SetInterval(wanted)) => {
                            interval = wanted;
                            due = Instant::now() + interval;
                        }
                        Err(TryRecvError::Disconnected) => return Ok(()),
                        Err(TryRecvError::Empty) => {}
                    }
                    let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                        break;
                    };
                    let came = runtime.block_on(async { tokio::time::timeout(left, controls.recv()).await });
                    match came {
                        Ok(Some(Control::SetInterval(wanted))) => {
                            interval = wanted;
                            due = Instant::now() + interval;
                        }
                        Ok(None) => return Ok(()),
                        Err(_) => {}
                    }
                }
                // After a pause (a suspended process) it goes on from now rather than catching up.
                due = (due + interval).max(Instant::now());
                self.advance()?;
            }
        };
        thread::Builder::new().name("source".to_owned()).spawn(run).context("no thread for the source")
    }
}
