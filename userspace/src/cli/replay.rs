//! `listentop replay`.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use listentop_model::{model::Model, words::plural};
use tokio::{
    runtime::Handle,
    sync::{
        mpsc::{self, UnboundedReceiver, error::TryRecvError},
        watch,
    },
};

use super::{
    Failure,
    chronicle::Chronicle,
    filter::Filter,
    options::{Cli, Replay},
    progress::Progress,
    recorded::{Recorded, folder},
    runtime, still,
    top::{self, Medium},
};
use crate::{
    dashboard::{self, Control, DashboardOptions, Moment, Remembered, Shown, Travel},
    past::{self, Past as _, Traveller, Turn},
    say::say,
};

/// Between two frames at least: a screen shows no more.
const SHORTEST: Duration = Duration::from_millis(50);
/// At most: a gap in a recording is not waited for.
const LONGEST: Duration = Duration::from_secs(10);

/// Why there is nothing to show.
const UNREADABLE: &str = "none of these samples can be read";

pub(super) fn run(cli: &Cli, options: &Replay) -> Result<u8, Failure> {
    let still = options.still.name.as_deref();
    let medium = if still.is_some() { Medium::File } else { Medium::Terminal };
    if medium == Medium::Terminal {
        dashboard::usable()?;
    }
    let top = cli.top();
    let look = top::look(&top, medium)?;
    cli.filter.notes().into_iter().for_each(|note| say(format_args!("listentop: {note}")));
    // Stills, or evidence bundles.
    let writes = still.map_or_else(|| ".".into(), folder);
    let recorded = Recorded::open(cli, &options.file, vec![writes])?;
    let place = if let Some(moment) = options.at {
        recorded.place(moment)?
    } else {
        let all = recorded.part(&super::recorded::Part::default(), None)?;
        if still.is_some() { all.end.saturating_sub(1) } else { all.start }
    };
    let run = recorded.recording.runs().iter().find(|run| run.samples.contains(&place));
    let (places, about) = run.map(|run| (run.samples.clone(), run.start.clone())).context("there is no sample")?;
    let every = Duration::from_millis(about.interval_ms.max(1)).div_f64(options.speed);
    let every = top.refresh.unwrap_or(every).clamp(SHORTEST, LONGEST);
    let past = Arc::new(past::Recorded { recording: recorded.recording, places });
    let traveller = Traveller::at(&*past, place);
    let is_stopped = options.at.is_some() && still.is_none();
    let chronicle = Chronicle::new();
    let mut player = Player { past, traveller, chronicle, filter: cli.filter.clone(), every, is_stopped };
    let look = DashboardOptions {
        refresh: every,
        host: about.machine,
        source: "replay".to_owned(),
        filters: cli.filter.to_string(),
        is_replay: true,
        starts_paused: is_stopped,
        ..look
    };
    if let Some(name) = still {
        let shown = player.shown().context(UNREADABLE)?;
        let shown = if options.still.lists_events() { player.with_all_events(shown) } else { shown };
        return still::run(name, &options.still, shown, look);
    }
    let runtime = runtime()?;
    let (ended, reader) = runtime.block_on(async move {
        let (models, receiver) = watch::channel(None);
        let (sender, controls) = mpsc::unbounded_channel();
        let reader = player.spawn(models, controls)?;
        let ended = dashboard::run(receiver, sender, look).await?;
        anyhow::Ok((ended, reader))
    })?;
    let read = reader.join();
    drop(runtime);
    top::left(ended).map_or_else(
        || match read {
            Ok(Err(error)) => Err(error.into()),
            _ => Err(anyhow!("the replay ended").into()),
        },
        Ok,
    )
}

/// Plays a recording.
struct Player {
    past: Arc<past::Recorded>,
    traveller: Traveller,
    chronicle: Arc<Chronicle>,
    filter: Filter,
    /// Time between two samples.
    every: Duration,
    is_stopped: bool,
}

impl Player {
    /// Sends models from a thread of its own until nobody receives them.
    fn spawn(
        mut self,
        models: watch::Sender<Option<Shown>>,
        mut controls: UnboundedReceiver<Control>,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
        let runtime = Handle::current();
        let run = move || {
            let mut due = Instant::now() + self.every;
            let first = self.shown().context(UNREADABLE)?;
            if !self.send(&models, first) {
                return Ok(());
            }
            // The first frame waits for nothing.
            self.chronicle.clone().spawn(self.past.clone(), self.filter.clone(), models.clone())?;
            let _ends = Ends(&self.chronicle.clone());
            loop {
                let control = match controls.try_recv() {
                    Err(TryRecvError::Disconnected) => return Ok(()),
                    Err(TryRecvError::Empty) if self.is_stopped => runtime.block_on(controls.recv()),
                    Err(TryRecvError::Empty) => {
                        let left = due.saturating_duration_since(Instant::now());
                        let came = runtime.block_on(async { tokio::time::timeout(left, controls.recv()).await });
                        match came {
                            Ok(control) => control,
                            Err(_) => Some(Control::Travel(Travel::To(Turn::Samples(1)))),
                        }
                    }
                    Ok(control) => Some(control),
                };
                let Some(control) = control else { return Ok(()) };
                let before = self.traveller.place();
                self.obey(control);
                due = Instant::now() + self.every;
                if self.traveller.place() != before
                    && let Some(shown) = self.shown()
                    && !self.send(&models, shown)
                {
                    return Ok(());
                }
            }
        };
        thread::Builder::new().name("replay".to_owned()).spawn(run).context("cannot start a thread for the replay")
    }

    /// Sends what is to be shown, with the events that are known by then; whether anybody receives it.
    fn send(&self, models: &watch::Sender<Option<Shown>>, shown: Shown) -> bool {
        models.send_modify(|slot| *slot = Some(Shown { events: Some(self.chronicle.log()), ..shown }));
        !models.is_closed()
    }

    /// The same with everything that happens in the recording.
    fn with_all_events(&self, shown: Shown) -> Shown {
        let mut progress = Progress::start();
        let all = self.past.places().len();
        self.chronicle.read(&self.past, &self.filter, &|| (), &mut |read| {
            progress.show(|| format!("reading what happened: {read} of {}", plural(all as u64, "sample")));
        });
        Shown { events: Some(self.chronicle.log()), ..shown }
    }

    fn obey(&mut self, control: Control) {
        match control {
            Control::SetInterval(every) => self.every = every,
            // It holds what was asked for and measured when it was recorded.
            Control::ListConnections(_) | Control::Blame(_) | Control::SetLevel(_) => {}
            Control::Remember(answer) => {
                let until = self.past.time(self.traveller.place());
                // Whoever asked may have left.
                let _ = answer.send(Remembered::until(until, Box::new(self.past.clone())));
            }
            Control::Travel(Travel::Pause(stop)) => self.is_stopped = stop,
            Control::Travel(Travel::To(turn)) => _ = self.traveller.go(&*self.past, self.known(turn)),
            Control::Travel(Travel::At(moment)) => {
                self.is_stopped = true;
                self.traveller.go(&*self.past, Turn::At(moment));
            }
            Control::Travel(Travel::Now) => {
                let count = self.past.places().len() as isize;
                self.traveller.go(&*self.past, Turn::Samples(count));
            }
        }
    }

    /// Where to go for an event that was found already; otherwise it is looked for.
    fn known(&self, turn: Turn) -> Turn {
        let neighbour = |forwards| self.chronicle.neighbour(self.past.time(self.traveller.place()), forwards);
        let moment = match turn {
            Turn::NextEvent => neighbour(true),
            Turn::PreviousEvent => neighbour(false),
            _ => None,
        };
        moment.map_or(turn, Turn::At)
    }

    /// What is to be shown of this moment.
    fn shown(&mut self) -> Option<Shown> {
        let mut model = Model::clone(&*self.traveller.model(&*self.past)?);
        self.filter.apply(&mut model);
        let last = self.past.places().end.saturating_sub(1);
        let moment = Moment { unix_ms: self.past.time(self.traveller.place()), last_ms: self.past.time(last) };
        Some(Shown { past: Some(moment), ..Arc::new(model).into() })
    }
}

/// Ends the reading of events with the replay.
struct Ends<'a>(&'a Chronicle);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
