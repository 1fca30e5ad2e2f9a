//! The loop: models and keys in, frames out.

use std::{
    collections::VecDeque,
    io,
    sync::mpsc::Sender,
    time::{Duration, Instant},
};

use crossterm::event::{Event, KeyEventKind, MouseButton, MouseEventKind};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

use crate::{
    lab::{Dashboard, Lab},
    source::live::Level,
};

use super::{
    App, DashboardOptions, Shown,
    action::{Action, Effect, Travel},
    background::{Background, QUESTION},
    bundle::{Bundles, Remembered},
    frame,
    input::Input,
    screen,
    terminal::{self, Guard},
    theme::Palette,
};

/// How often the loop checks whether its terminal still exists: by one poll(2). A lost terminal usually sends SIGHUP,
/// too.
const TERMINAL_CHECK: Duration = Duration::from_secs(1);

/// What the dashboard requests from the source.
#[derive(Debug)]
pub enum Control {
    /// Send a model this often from now on.
    SetInterval(Duration),
    /// Measure so much from now on.
    SetLevel(Level),
    /// Show another moment.
    Travel(Travel),
    /// List the connections that wait longest from now on, or do not any more.
    ListConnections(bool),
    /// Watch what these listeners' acceptors do from now on.
    Blame(BlameWanted),
    /// Tell what the last minutes until the shown moment were.
    Remember(Sender<Remembered>),
}

/// Whose acceptors are to be watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlameWanted {
    /// The listeners, by their ids; none: nobody is watched.
    pub listeners: Vec<u64>,
    /// It begins anew when this changes.
    pub anew: u64,
}

/// Why the dashboard ended. The terminal is as it was before in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By key.
    Quit,
    /// By this signal.
    Signal(i32),
    /// The terminal went away.
    TerminalLost,
    /// The sender of models was dropped: the source knows why.
    SourceEnded,
}

/// Shows the models that `models` receives until the user leaves, a signal comes, or the sender is dropped.
///
/// A source without further models that has not failed keeps its sender, so that the last model stays on the screen.
///
/// # Errors
/// Standard output is not a terminal, or it is too small at the start. The terminal fails other than by going away.
/// Another thread panicked.
pub async fn run<M: Into<Shown> + Clone>(
    models: watch::Receiver<Option<M>>,
    controls: mpsc::UnboundedSender<Control>,
    options: DashboardOptions,
) -> anyhow::Result<Ended> {
    run_in_lab(models, controls, options, None).await
}

/// The same in a lab: with its caption, its keys, and reports when it asks for them.
///
/// # Errors
/// As [`run`].
pub async fn run_in_lab<M: Into<Shown> + Clone>(
    models: watch::Receiver<Option<M>>,
    controls: mpsc::UnboundedSender<Control>,
    options: DashboardOptions,
    lab: Option<Lab>,
) -> anyhow::Result<Ended> {
    // Handlers first: from the moment the terminal is taken, no signal may end the process without giving it back.
    let signals = Signals::new()?;
    let mut guard = Guard::take(options.mouse)?;
    let input = Input::start()?;
    let mut lab = Dashboard::of(lab);
    let ended = show(models, &controls, options, signals, &mut guard, input, &mut lab).await;
    // For the outcome of its lesson.
    lab.report_last();
    match ended {
        // If the terminal is gone, any failure comes from that.
        Err(_) if terminal::is_gone() => Ok(Ended::TerminalLost),
        ended => ended,
    }
}

/// Signals that end the dashboard. Each would end the process, and leave the terminal in raw mode.
const ENDING: [i32; 12] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    // The limit of CPU time (ulimit -t) is reached.
    libc::SIGXCPU,
    libc::SIGPWR,
];

/// The signals that end or stop the dashboard, or change its size.
struct Signals {
    ended: mpsc::UnboundedReceiver<i32>,
    stop: Signal,
    resume: Signal,
    resized: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let (sender, ended) = mpsc::unbounded_channel();
        for number in ENDING {
            let (mut signals, sender) = (signal(SignalKind::from_raw(number))?, sender.clone());
            tokio::spawn(async move { while signals.recv().await.is_some() && sender.send(number).is_ok() {} });
        }
        Ok(Self {
            ended,
            stop: signal(SignalKind::from_raw(libc::SIGTSTP))?,
            resume: signal(SignalKind::from_raw(libc::SIGCONT))?,
            resized: signal(SignalKind::window_change())?,
        })
    }

    /// The next of them.
    async fn next(&mut self) -> Heard {
        tokio::select! {
            Some(number) = self.ended.recv() => Heard::End(number),
            _ = self.stop.recv() => Heard::Stop,
            _ = self.resume.recv() => Heard::Resume,
            _ = self.resized.recv() => Heard::Resized,
        }
    }
}

/// What a signal requests.
enum Heard {
    /// The end, by this signal.
    End(i32),
    /// A stop as a job of the shell.
    Stop,
    /// Nothing: the process was stopped and continues.
    Resume,
    /// The new size of the terminal.
    Resized,
}

/// The outcome of one turn of the loop.
enum Turn {
    Continue(Effect),
    End(Ended),
}

/// The loop.
async fn show<M: Into<Shown> + Clone>(
    mut models: watch::Receiver<Option<M>>,
    controls: &mpsc::UnboundedSender<Control>,
    options: DashboardOptions,
    mut signals: Signals,
    guard: &mut Guard,
    mut input: Input,
    lab: &mut Dashboard,
) -> anyhow::Result<Ended> {
    let mut check = tokio::time::interval(TERMINAL_CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let background = Background::new(options.ask_background);
    let mut keys = Keys { background, early: Vec::new(), rest: VecDeque::new() };
    if options.ask_background {
        screen::send(QUESTION);
    }
    let mut app = App::new(options);
    resize(&mut app, guard)?;
    if let Some(shown) = models.borrow_and_update().clone() {
        let shown = shown.into();
        lab.sampled(&shown.model);
        app.show_moment(shown);
    }
    let mut bundles = Bundles::new();
    let mut effect = Effect::Redraw;
    let mut listing = false;
    let mut blaming = BlameWanted::default();
    // Something changed that could not be drawn.
    let mut stale = false;
    loop {
        if effect == Effect::Quit {
            return Ok(Ended::Quit);
        }
        screen::send(&app.take_outbox());
        if let Effect::Lab(key) = effect {
            app.ask_lab(key, lab);
        }
        if listing != app.wants_connections() {
            listing = !listing;
            let _ = controls.send(Control::ListConnections(listing));
        }
        let wanted = app.wants_blame();
        if blaming != wanted {
            blaming = wanted;
            let _ = controls.send(Control::Blame(blaming.clone()));
        }
        stale = take_effect(effect, &mut app, (controls, &mut bundles), guard, stale)?;
        let held_until = keys.background.deadline();
        let turn = tokio::select! {
            changed = models.changed() => match changed {
                Ok(()) => {
                    let shown: Option<Shown> = models.borrow_and_update().clone().map(Into::into);
                    if let Some(Shown { model, past: None, .. }) = &shown {
                        lab.sampled(model);
                    }
                    let is_one = shown.is_some();
                    let effect = shown.map_or(Effect::None, |shown| app.show_moment(shown));
                    Turn::Continue(if is_one { keys.catch_up(&mut app, effect) } else { effect })
                }
                Err(_) => Turn::End(Ended::SourceEnded),
            },
            event = input.next() => match event {
                Some(event) => Turn::Continue(keys.on_events(&mut app, event?, &mut input)),
                None => Turn::End(Ended::TerminalLost),
            },
            () = tokio::time::sleep_until(held_until.unwrap_or_else(Instant::now).into()), if held_until.is_some() => {
                // On a busy machine the rest may have come, and wait to be looked at.
                if let Some(event) = input.ready() {
                    Turn::Continue(keys.on_events(&mut app, event, &mut input))
                } else {
                    let released = keys.background.release();
                    Turn::Continue(keys.act(&mut app, released))
                }
            }
            () = std::future::ready(()), if !keys.rest.is_empty() => Turn::Continue(keys.act(&mut app, Vec::new())),
            said = bundles.next() => {
                app.say(said);
                Turn::Continue(Effect::Redraw)
            }
            message = lab.next() => Turn::Continue(app.hear_lab(message)),
            () = screen::taken(), if stale => Turn::Continue(Effect::Redraw),
            _ = check.tick() => {
                if terminal::is_gone() { Turn::End(Ended::TerminalLost) } else { Turn::Continue(Effect::None) }
            }
            heard = signals.next() => on_signal(&heard, &mut app, guard)?,
        };
        match turn {
            Turn::Continue(next) => effect = next,
            Turn::End(ended) => return Ok(ended),
        }
    }
}

/// Does what the state requests, and draws unless nothing changed. A terminal that has not taken the last frame yet
/// gets no other: returns whether something is left to draw.
fn take_effect(
    effect: Effect,
    app: &mut App,
    (controls, bundles): (&mpsc::UnboundedSender<Control>, &mut Bundles),
    guard: &mut Guard,
    stale: bool,
) -> anyhow::Result<bool> {
    match effect {
        Effect::None | Effect::Quit | Effect::Redraw | Effect::Lab(_) => {}
        Effect::Suspend => guard.suspend()?,
        Effect::Bundle => {
            let said = bundles.begin(app, controls);
            app.say(said);
        }
        Effect::Travel(travel) => {
            let _ = controls.send(Control::Travel(travel));
        }
        Effect::SetLevel(level) => {
            let _ = controls.send(Control::SetLevel(level));
        }
        Effect::SetInterval(interval) => {
            // The receiver is gone only if the source is, and then the sender of models is dropped too.
            let _ = controls.send(Control::SetInterval(interval));
        }
    }
    if !Guard::is_taken() {
        anyhow::bail!("the dashboard ended because a part of listentop panicked");
    }
    if let Some(error) = screen::failure() {
        return Err(anyhow::Error::new(error).context("the terminal cannot be written"));
    }
    if effect == Effect::None {
        return Ok(stale);
    }
    if screen::is_busy() {
        return Ok(true);
    }
    guard.screen().draw(|frame| frame::draw(frame, app))?;
    Ok(false)
}

fn on_signal(heard: &Heard, app: &mut App, guard: &mut Guard) -> io::Result<Turn> {
    Ok(match heard {
        Heard::End(signal) => Turn::End(Ended::Signal(*signal)),
        Heard::Stop => Turn::Continue(Effect::Suspend),
        Heard::Resized => Turn::Continue(resize(app, guard)?),
        Heard::Resume => {
            // Stopped from outside (SIGSTOP) and continued: the shell had the terminal meanwhile.
            guard.retake()?;
            Turn::Continue(resize(app, guard)?)
        }
    })
}

/// Keys, and what stands between them and what they do.
struct Keys {
    background: Background,
    /// Keys that came before there was anything to show, and did nothing then.
    early: Vec<Event>,
    /// Keys behind one that has something done outside first.
    rest: VecDeque<Event>,
}

/// Keys that are kept until there is something to show.
const EARLY: usize = 64;

impl Keys {
    /// Handles keys and clicks: `first`, and those that arrived while a frame was drawn, such as a key held down.
    fn on_events(&mut self, app: &mut App, first: Event, input: &mut Input) -> Effect {
        let mut event = Some(first);
        let mut effect = Effect::None;
        while let Some(next) = event {
            let taken = self.background.take(next);
            if taken.light == Some(true) {
                app.set_palette(Palette::Light);
                effect = Effect::Redraw;
            }
            match self.act(app, taken.events) {
                Effect::None => {}
                Effect::Redraw => effect = Effect::Redraw,
                other => return other,
            }
            event = input.ready();
        }
        effect
    }

    /// There is something to show: does what was asked for before.
    fn catch_up(&mut self, app: &mut App, effect: Effect) -> Effect {
        let early = std::mem::take(&mut self.early);
        match self.act(app, early) {
            Effect::None => effect,
            other => other,
        }
    }

    /// Does what these events ask for.
    fn act(&mut self, app: &mut App, events: Vec<Event>) -> Effect {
        let mut effect = Effect::None;
        self.rest.extend(events);
        while let Some(event) = self.rest.pop_front() {
            // In their order: what follows a key that has to wait waits, too. But nobody has to wait for the end.
            let action = action(app, &event);
            if !self.early.is_empty() && action != Some(Action::Quit) {
                self.keep(event);
                continue;
            }
            let Some(action) = action else { continue };
            match app.update(action) {
                Effect::None if !app.has_model() => self.keep(event),
                Effect::None => {}
                Effect::Redraw => effect = Effect::Redraw,
                other => return other,
            }
        }
        effect
    }

    fn keep(&mut self, event: Event) {
        // A click points at what was drawn then.
        if self.early.len() < EARLY && matches!(event, Event::Key(_)) {
            self.early.push(event);
        }
    }
}

/// What an event of the terminal means.
fn action(app: &App, event: &Event) -> Option<Action> {
    match event {
        // Some terminals report releases too: a key acts when it is pressed.
        Event::Key(key) if key.kind != KeyEventKind::Release => app.action(*key),
        Event::Mouse(mouse) => match mouse.kind {
            MouseEventKind::Down(MouseButton::Left) => Some(Action::Click(mouse.column, mouse.row)),
            MouseEventKind::Down(MouseButton::Right) => Some(Action::Ask(mouse.column, mouse.row)),
            MouseEventKind::ScrollUp => Some(Action::ScrollUp),
            MouseEventKind::ScrollDown => Some(Action::ScrollDown),
            _ => None,
        },
        _ => None,
    }
}

fn resize(app: &mut App, guard: &mut Guard) -> io::Result<Effect> {
    let size = guard.screen().size()?;
    Ok(app.update(Action::Resize(size.width, size.height)))
}
