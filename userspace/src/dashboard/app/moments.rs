//! Moments of the past on the screen.

use std::sync::Arc;

use listentop_model::{fixtures, model::Model, tracker::Tracker};

use super::App;
use crate::{
    dashboard::{
        DashboardOptions, Moment, Shown, Travel,
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
    Shown { model: model(samples), past: Some(Moment { unix_ms, last_ms: unix_ms + 61_000 }) }
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
fn a_replay_stops_and_goes_on_and_lists_what_happens() {
    let mut app = App::new(DashboardOptions { is_replay: true, starts_paused: true, ..DashboardOptions::default() });
    app.update(Action::Resize(120, 40));
    app.show_moment(past(2));
    assert!(first_line(&app).contains("PAUSED 08:53:20 UTC"), "{}", first_line(&app));
    assert_eq!(app.update(Action::Pause), Effect::Travel(Travel::Pause(false)));
    assert!(first_line(&app).contains("replay 08:53:20 UTC"), "{}", first_line(&app));
    assert_eq!(app.update(Action::Pause), Effect::Travel(Travel::Pause(true)));
    assert_eq!(app.update(Action::Now), Effect::Travel(Travel::Now), "to its end");
    let first = app.state.log.total();
    (3..18).for_each(|samples| _ = app.show_moment(past(samples)));
    assert!(app.state.log.total() > first);
    app.show_moment(past(2));
    assert_eq!(app.state.log.total(), first, "it begins anew");
}
