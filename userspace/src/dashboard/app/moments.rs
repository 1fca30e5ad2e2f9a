//! Moments of the past on the screen.

use std::sync::Arc;

use listentop_model::{
    episodes::{Episodes, now_ms},
    fixtures,
    model::Model,
    tracker::Tracker,
};

use super::App;
use crate::{
    dashboard::{
        DashboardOptions, Log, Moment, Shown, Travel,
        action::{Action, Effect},
        frame::picture,
    },
    past::Turn,
};

fn model(samples: usize) -> Arc<Model> {
    let all = fixtures::overflow();
    let mut tracker = Tracker::new(&all[0]);
    all[1..samples].iter().for_each(|sample| tracker.push(sample));
    Arc::new(tracker.model().clone())
}

fn past(samples: usize) -> Shown {
    let unix_ms = fixtures::overflow()[samples - 1].unix_ms;
    Shown { model: model(samples), past: Some(Moment { unix_ms, last_ms: unix_ms + 61_000 }), ..model(samples).into() }
}

/// What the first line of the screen says.
fn first_line(app: &App) -> String {
    picture(app).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn keys_ask_for_moments() {
    let mut app = App::new(DashboardOptions::default());
    assert_eq!(app.update(Action::Earlier), Effect::None, "there is nothing yet");
    app.set_model(model(10));
    for (action, turn) in [
        (Action::Earlier, Turn::Samples(-1)),
        (Action::Later, Turn::Samples(1)),
        (Action::MinuteEarlier, Turn::Time(-60_000)),
        (Action::MinuteLater, Turn::Time(60_000)),
        (Action::PreviousEvent, Turn::PreviousEvent),
        (Action::NextEvent, Turn::NextEvent),
    ] {
        assert_eq!(app.update(action), Effect::Travel(Travel::To(turn)));
    }
    assert_eq!(app.update(Action::Now), Effect::None, "it is now");
}

#[test]
fn the_past_is_shown_paused_or_not_and_the_present_comes_back() {
    for paused in [false, true] {
        let mut app = App::new(DashboardOptions::default());
        app.update(Action::Resize(120, 40));
        app.set_model(model(17));
        if paused {
            app.update(Action::Pause);
        }
        assert_eq!(app.show_moment(past(3)), Effect::Redraw);
        assert_eq!(app.state.model.as_deref(), Some(&*model(3)));
        assert!(first_line(&app).contains("UTC, 00:01:01 ago (0)"), "{}", first_line(&app));
        // Both keys go on.
        assert_eq!(app.update(Action::Pause), Effect::Travel(Travel::Now));
        assert_eq!(app.update(Action::Now), Effect::Travel(Travel::Now));
        assert_eq!(app.show_moment(model(17).into()), Effect::Redraw);
        assert_eq!(app.state.model.as_deref(), Some(&*model(17)));
        assert!(first_line(&app).contains("live 00:00:04 250ms"), "{}", first_line(&app));
    }
}

#[test]
fn what_happened_in_the_past_is_no_news() {
    let mut app = App::new(DashboardOptions { bell: true, ..DashboardOptions::default() });
    app.set_model(model(2));
    app.take_outbox();
    let before = app.state.log.total();
    app.show_moment(past(17));
    assert_eq!(app.take_outbox(), Vec::<u8>::new(), "it rings for the present only");
    assert_eq!(app.state.log.total(), before);
}

#[test]
fn a_replay_stops_and_goes_on() {
    let mut app = App::new(DashboardOptions { is_replay: true, starts_paused: true, ..DashboardOptions::default() });
    app.update(Action::Resize(120, 40));
    app.show_moment(past(2));
    assert!(first_line(&app).contains("PAUSED 08:53:20 UTC"), "{}", first_line(&app));
    assert_eq!(app.update(Action::Pause), Effect::Travel(Travel::Pause(false)));
    assert!(first_line(&app).contains("replay 08:53:20 UTC"), "{}", first_line(&app));
    assert_eq!(app.update(Action::Pause), Effect::Travel(Travel::Pause(true)));
    assert_eq!(app.update(Action::Now), Effect::Travel(Travel::Now), "to its end");
}

/// What happens in all of the recording: of the overflow, and that its listener closes.
fn all_events() -> Arc<Log> {
    let samples = fixtures::overflow();
    let mut log = Log::of_recording(100);
    let mut episodes = Episodes::default();
    for (at, sample) in samples.iter().enumerate() {
        let model = model(at + 1);
        episodes.push(&model).into_iter().for_each(|event| log.add(&model, event, sample.unix_ms));
    }
    let mut closed = Model::clone(&model(samples.len()));
    closed.interval.seconds += 5.0;
    closed.listeners[0].closed = true;
    episodes.push(&closed).into_iter().for_each(|event| log.add(&closed, event, now_ms(&closed)));
    log.end();
    Arc::new(log)
}

/// All of a recording is listed, whatever was played; a line marks the moment, and Enter goes to another.
#[test]
fn a_replay_lists_all_that_happens_and_goes_there() {
    let mut app = App::new(DashboardOptions { is_replay: true, ..DashboardOptions::default() });
    app.update(Action::Resize(120, 40));
    let events = all_events();
    let show = |app: &mut App, samples: usize| {
        app.show_moment(Shown { events: Some(events.clone()), ..past(samples) });
    };
    show(&mut app, 1);
    app.update(Action::Show("events"));
    let rows = |app: &App| -> Vec<String> {
        picture(app).lines().skip(6).take_while(|l| !l.trim().is_empty()).map(str::to_owned).collect()
    };
    let at = |app: &App, says: &str| rows(app).iter().position(|row| row.contains(says)).expect(says);
    let text = picture(&app);
    assert!(text.contains(&format!("Events: {} in the recording, the newest first", events.total())), "{text}");
    assert_eq!(at(&app, "◀ shown"), rows(&app).len() - 1, "everything is still to come:\n{text}");
    let began = at(&app, "overflow began");
    let moment = events.newest(began).expect("it is there").moment;
    // Down from the last line to that.
    app.update(Action::First);
    (0..began).for_each(|_| _ = app.update(Action::Down));
    assert_eq!(app.update(Action::Open), Effect::Travel(Travel::At(moment)));
    assert!(app.state.paused);
    let samples = fixtures::overflow().iter().position(|sample| sample.unix_ms == moment).expect("a sample") + 1;
    show(&mut app, samples);
    assert_eq!(at(&app, "◀ shown"), events.after(moment), "what it shows is below:\n{}", picture(&app));
    assert!(at(&app, "◀ shown") < at(&app, "overflow began"));
    assert!(rows(&app)[at(&app, "overflow began")].starts_with('›'), "{}", picture(&app));
    // Once more: the listener.
    app.update(Action::Open);
    assert!(picture(&app).contains("── 0.0.0.0:8080"), "{}", picture(&app));
    // The line follows what is played.
    app.update(Action::Show("events"));
    show(&mut app, 1);
    assert_eq!(at(&app, "◀ shown"), rows(&app).len() - 1);
    // As text without a sign that ASCII lacks.
    let ascii = listentop_model::words::Charset::Ascii.of_text(&picture(&app)).into_owned();
    assert!(ascii.contains("< shown -"), "{ascii}");
}

#[test]
fn while_a_recording_is_read_the_list_says_so() {
    let mut app = App::new(DashboardOptions { is_replay: true, ..DashboardOptions::default() });
    app.update(Action::Show("events"));
    let mut log = Log::of_recording(10);
    app.show_moment(Shown { events: Some(Arc::new(log.clone())), ..past(1) });
    assert!(picture(&app).contains("so far: the recording is being read"), "{}", picture(&app));
    log.read_until(fixtures::overflow()[5].unix_ms);
    app.show_moment(Shown { events: Some(Arc::new(log.clone())), ..past(1) });
    assert!(picture(&app).contains("Events: 0 until 08:53:21 UTC, reading on"), "{}", picture(&app));
    log.end();
    app.show_moment(Shown { events: Some(Arc::new(log)), ..past(1) });
    assert!(picture(&app).contains("Nothing began or ended in this recording."), "{}", picture(&app));
}
