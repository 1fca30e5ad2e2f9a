//! The loop: models and keys in, frames out.

use std::{io, sync::Arc, time::Duration};

use crossterm::event::{Event, KeyEventKind};
use listentop_model::model::Model;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

use super::{
    App, DashboardOptions,
    action::{Action, Effect},
    input::Input,
    keymap,
    terminal::{self, Guard},
    views,
};

/// How often the loop looks whether its terminal is still there. One poll(2); a lost terminal usually also sends
/// SIGHUP.
const TERMINAL_CHECK: Duration = Duration::from_secs(1);

/// What the dashboard asks of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Send a model this often from now on.
    SetInterval(Duration),
}

/// Why the dashboard ended. The terminal is as it was before in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By key.
    Quit,
    /// By this signal (SIGINT, SIGTERM, SIGHUP).
    Signal(i32),
    /// The terminal went away.
    TerminalLost,
    /// The sender of models was dropped: the source knows why.
    SourceEnded,
}

/// Shows the models that `models` receives until the user leaves, a signal comes, or the sender is dropped.
///
/// A source that has no more models but is not broken (the end of a recording) keeps its sender, so that the last one
/// stays.
///
/// # Errors
/// Standard output is not a terminal, or is too small at the start, or the terminal fails other than by going away, or
/// a panic on another thread took it.
pub async fn run(
    models: watch::Receiver<Option<Arc<Model>>>,
    controls: mpsc::UnboundedSender<Control>,
    options: DashboardOptions,
) -> anyhow::Result<Ended> {
    // Handlers first: from the moment the terminal is taken, no signal may end the process without giving it back.
    let signals = Signals::new()?;
    let mut guard = Guard::take()?;
    let input = Input::start()?;
    match show(models, &controls, options, signals, &mut guard, input).await {
        // Whatever fails on a terminal that is gone fails because it is gone.
        Err(_) if terminal::is_gone() => Ok(Ended::TerminalLost),
        ended => ended,
    }
}

/// The signals that the loop heeds.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    stop: Signal,
    resume: Signal,
    resized: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            stop: signal(SignalKind::from_raw(libc::SIGTSTP))?,
            resume: signal(SignalKind::from_raw(libc::SIGCONT))?,
            resized: signal(SignalKind::window_change())?,
        })
    }
}

/// The loop.
async fn show(
    mut models: watch::Receiver<Option<Arc<Model>>>,
    controls: &mpsc::UnboundedSender<Control>,
    options: DashboardOptions,
    mut signals: Signals,
    guard: &mut Guard,
    mut input: Input,
) -> anyhow::Result<Ended> {
    let mut check = tokio::time::interval(TERMINAL_CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let mut app = App::new(options);
    resize(&mut app, guard)?;
    if let Some(model) = models.borrow_and_update().clone() {
        app.set_model(model);
    }
    let mut effect = Effect::Redraw;
    loop {
        match effect {
            Effect::None => {}
            Effect::Quit => return Ok(Ended::Quit),
            Effect::Suspend => guard.suspend()?,
            Effect::SetInterval(interval) => {
                // The receiver is gone only when the source is, and then the sender of models is dropped too.
                let _ = controls.send(Control::SetInterval(interval));
            }
            Effect::Redraw => {}
        }
        if !guard.is_taken() {
            anyhow::bail!("the dashboard ended because a part of listentop panicked");
        }
        if effect != Effect::None {
            guard.screen().draw(|frame| views::draw(frame, &app))?;
        }
        effect = tokio::select! {
            changed = models.changed() => match changed {
                Ok(()) => {
                    let model = models.borrow_and_update().clone();
                    model.map_or(Effect::None, |model| app.set_model(model))
                }
                Err(_) => return Ok(Ended::SourceEnded),
            },
            event = input.next() => match event {
                Some(event) => on_events(&mut app, event?, &mut input),
                None => return Ok(Ended::TerminalLost),
            },
            _ = signals.resized.recv() => resize(&mut app, guard)?,
            _ = check.tick() => {
                if terminal::is_gone() {
                    return Ok(Ended::TerminalLost);
                }
                Effect::None
            }
            _ = signals.interrupt.recv() => return Ok(Ended::Signal(libc::SIGINT)),
            _ = signals.terminate.recv() => return Ok(Ended::Signal(libc::SIGTERM)),
            _ = signals.hangup.recv() => return Ok(Ended::Signal(libc::SIGHUP)),
            _ = signals.stop.recv() => Effect::Suspend,
            _ = signals.resume.recv() => {
                // Stopped from outside (SIGSTOP) and continued: the shell had the terminal meanwhile.
                guard.retake()?;
                resize(&mut app, guard)?
            }
        };
    }
}

/// Does what the keys ask for: `first`, and those that came while a frame was drawn, such as repeats of one held down.
fn on_events(app: &mut App, first: Event, input: &mut Input) -> Effect {
    let mut event = Some(first);
    let mut effect = Effect::None;
    while let Some(Event::Key(key)) = event {
        // Terminals that report releases too: a key acts when it goes down.
        if key.kind != KeyEventKind::Release {
            match keymap::action(key, app.scope()).map_or(Effect::None, |action| app.update(action)) {
                Effect::None => {}
                Effect::Redraw => effect = Effect::Redraw,
                other => return other,
            }
        }
        event = input.ready();
    }
    effect
}

fn resize(app: &mut App, guard: &mut Guard) -> io::Result<Effect> {
    let size = guard.screen().size()?;
    Ok(app.update(Action::Resize(size.width, size.height)))
}
