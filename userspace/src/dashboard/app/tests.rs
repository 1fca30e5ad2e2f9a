//! Actions on recorded machines, and what they do to the state.

use std::{sync::Arc, time::Duration};

use crossterm::event::{KeyCode, KeyModifiers};
use listentop_model::{
    fixtures,
    model::{GroupId, ListenerModel, Model},
    sample::Sample,
    tracker::Tracker,
};

mod reach;

use super::*;
use crate::dashboard::{column::Column, frame::picture, rows::RowId};

fn model(samples: &[Sample]) -> Model {
    let mut tracker = Tracker::new(&samples[0]);
    for sample in &samples[1..] {
        tracker.push(sample);
    }
    tracker.model().clone()
}

fn app(model: Model) -> App {
    let mut app = App::new(DashboardOptions::default());
    app.set_model(Arc::new(model));
    app
}

fn ports(app: &App) -> Vec<u16> {
    let model = app.state.model.as_ref().unwrap();
    app.state.rows.rows.iter().map(|&row| app.state.rows.item(row, model).figures().port).collect()
}

fn selected_port(app: &App) -> u16 {
    app.state.selected_item().unwrap().figures().port
}

/// The name of the view on the screen.
fn shown(app: &App) -> &'static str {
    app.declaration().name
}

fn group(app: &App) -> GroupId {
    app.state.rows.groups[0].id
}

fn press(app: &mut App, actions: &[Action]) {
    for &action in actions {
        app.update(action);
    }
}

#[test]
fn the_selection_stays_on_its_listener_when_the_order_changes() {
    let mut app = app(model(&fixtures::quiet()));
    assert_eq!(ports(&app), [22, 80, 6379]);
    press(&mut app, &[Action::Last]);
    assert_eq!(selected_port(&app), 6379);
    // Severity → address, ascending; reversed: the last becomes the first.
    press(&mut app, &[Action::SortNext, Action::SortReverse]);
    assert_eq!(ports(&app), [6379, 80, 22]);
    assert_eq!((selected_port(&app), app.state.cursor), (6379, 0));
}

#[test]
fn sorting_by_numbers_puts_the_largest_first() {
    let mut app = app(model(&fixtures::quiet()));
    while app.state.sort.column != Column::Accepts {
        app.update(Action::SortNext);
    }
    assert_eq!(ports(&app), [80, 6379, 22]);
    app.update(Action::SortPrevious);
    assert_ne!(app.state.sort.column, Column::Accepts);
}

#[test]
fn what_is_unknown_is_sorted_last() {
    let mut model = model(&fixtures::quiet());
    model.listeners[1].rate.accepts = None;
    let mut app = app(model);
    while app.state.sort.column != Column::Accepts {
        app.update(Action::SortNext);
    }
    assert_eq!(ports(&app), [6379, 22, 80]);
    app.update(Action::SortReverse);
    assert_eq!(ports(&app), [22, 6379, 80]);
}

#[test]
fn worst_findings_come_first() {
    let mut model = model(&fixtures::quiet());
    let finding = self::model(&fixtures::overflow()).listeners[0].findings[0].clone();
    model.listeners[2].findings.push(finding);
    assert_eq!(ports(&app(model)), [6379, 22, 80]);
}

#[test]
fn a_filter_works_while_it_is_typed_and_esc_drops_it() {
    let mut app = app(model(&fixtures::quiet()));
    press(&mut app, &[Action::FilterStart]);
    assert_eq!(app.scope().title, "Keys while typing a filter");
    for c in "NGINX 80".chars() {
        app.update(Action::FilterInput(c));
    }
    assert_eq!(ports(&app), [80]);
    assert_eq!(selected_port(&app), 80);
    press(&mut app, &[Action::FilterInput('x')]);
    assert!(ports(&app).is_empty() && app.state.selected_item().is_none());
    assert_eq!(app.update(Action::Open), Effect::None);
    press(&mut app, &[Action::FilterErase, Action::FilterAccept]);
    assert_eq!((app.scope().title, ports(&app)), ("Keys in the overview", vec![80]));
    press(&mut app, &[Action::FilterClear]);
    assert_eq!(ports(&app), [22, 80, 6379]);
}

#[test]
fn filters_match_process_pid_namespace_and_pattern() {
    let machine = model(&fixtures::quiet());
    let redis = &machine.listeners[2];
    assert_eq!(redis.port, 6379);
    let pattern = redis.pattern.name.name();
    for (filter, found) in
        [("redis", vec![6379]), ("1402", vec![6379]), (pattern, vec![6379]), ("host", vec![22, 80, 6379])]
    {
        let mut app = app(machine.clone());
        filter.chars().for_each(|c| {
            app.update(Action::FilterInput(c));
        });
        assert_eq!(ports(&app), found, "{filter}");
    }
}

#[test]
fn groups_fold_and_unfold() {
    let mut app = app(model(&fixtures::dead_shard()));
    assert_eq!(app.state.rows.rows.len(), 1);
    press(&mut app, &[Action::Open]);
    assert_eq!((app.state.rows.rows.len(), shown(&app)), (5, "overview"));
    // From a shard, folding takes the selection back to the group.
    press(&mut app, &[Action::Last, Action::Fold]);
    assert_eq!((app.state.rows.rows.len(), app.state.selected_id()), (1, Some(RowId::Group(group(&app)))));
    for rows in [5, 1] {
        press(&mut app, &[Action::ToggleFold]);
        assert_eq!(app.state.rows.rows.len(), rows);
    }
    press(&mut app, &[Action::ToggleFoldAll, Action::Open]);
    assert_eq!((shown(&app), app.state.selected_id()), ("listener", Some(RowId::Group(group(&app)))));
    assert!(picture(&app).contains("×4 shards"));
    press(&mut app, &[Action::Back, Action::ToggleFoldAll]);
    assert_eq!(app.state.rows.rows.len(), 1);
}

#[test]
fn a_group_is_the_sum_of_its_shards() {
    let app = app(model(&fixtures::dead_shard()));
    let model = app.state.model.as_ref().unwrap();
    let item = app.state.selected_item().unwrap();
    let sum = item.figures();
    assert_eq!(sum.now.accept_depth, model.listeners.iter().map(|l| l.now.accept_depth).sum::<u32>());
    assert_eq!(sum.total.accepts, Some(model.listeners.iter().filter_map(|l| l.total.accepts).sum()));
    assert_eq!(sum.now.accept_peak, model.listeners.iter().filter_map(|l| l.now.accept_peak).max());
    assert_eq!(sum.drops.total, Some(260));
    assert_eq!(item.fullest().now.accept_depth, 65);
    let full = app.state.rows.groups[0].full(model);
    let waits = |l: &ListenerModel| l.distributions.accept_wait.as_ref().unwrap().count();
    assert_eq!(waits(&full), model.listeners.iter().map(waits).sum::<u64>());
    assert_eq!(full.threads.len(), 4);
    let points = |l: &ListenerModel| l.history.points(&model.timeline).count();
    assert_eq!(points(&full), points(&model.listeners[0]));
    let last = |l: &ListenerModel| l.history.latest().unwrap().accept_depth;
    assert_eq!(last(&full), model.listeners.iter().map(last).sum::<u32>());
}

/// Shards with a process each. The process that made them still holds them all.
#[test]
fn a_group_is_held_by_who_holds_its_shards() {
    let mut model = model(&fixtures::dead_shard());
    for (listener, worker) in model.listeners.iter_mut().zip(3301..) {
        listener.holders = vec![3300, worker];
    }
    model.regroup();
    let app = app(model);
    let sum = app.state.selected_item().unwrap().figures();
    assert_eq!(sum.holders, [3300, 3301, 3302, 3303, 3304]);
    assert_eq!(words::process(sum), "envoy[3300]+4");
}

#[test]
fn unknown_sums_stay_unknown() {
    let mut model = model(&fixtures::dead_shard());
    for listener in &mut model.listeners {
        listener.rate.drops = None;
    }
    model.listeners[0].rate.reads = None;
    model.regroup();
    let app = app(model);
    let sum = app.state.selected_item().unwrap().figures();
    assert_eq!(sum.rate.drops, None);
    assert!(sum.rate.reads.is_some());
}

#[test]
fn pausing_freezes_what_is_shown_and_loses_nothing() {
    let mut app = app(model(&fixtures::quiet()));
    press(&mut app, &[Action::Pause]);
    let later = Arc::new(model(&fixtures::overflow()));
    assert_eq!(app.set_model(later.clone()), Effect::None);
    assert_eq!(ports(&app), [22, 80, 6379]);
    press(&mut app, &[Action::Pause]);
    assert_eq!(ports(&app), [8080]);
}

#[test]
fn the_refresh_interval_goes_through_its_steps_and_stops_at_the_ends() {
    let mut app = app(model(&fixtures::quiet()));
    assert_eq!(app.update(Action::Faster), Effect::SetInterval(Duration::from_millis(100)));
    assert_eq!(app.update(Action::Faster), Effect::None);
    for ms in [250, 500, 1_000, 2_000, 5_000, 10_000] {
        assert_eq!(app.update(Action::Slower), Effect::SetInterval(Duration::from_millis(ms)));
    }
    assert_eq!(app.update(Action::Slower), Effect::None);
}

#[test]
fn neighbours_are_selected_in_the_overview_too() {
    let mut app = app(model(&fixtures::quiet()));
    press(&mut app, &[Action::Open, Action::NextListener, Action::NextListener, Action::PreviousListener]);
    assert!(picture(&app).contains("── [::]:80") || picture(&app).contains("── *:80"), "{}", picture(&app));
    press(&mut app, &[Action::Back]);
    assert_eq!((shown(&app), selected_port(&app)), ("overview", 80));
}

#[test]
fn a_listener_that_vanished_is_not_shown_as_another() {
    let mut app = app(model(&fixtures::quiet()));
    press(&mut app, &[Action::Open]);
    app.set_model(Arc::new(model(&fixtures::overflow())));
    assert!(picture(&app).contains("does not exist any more"), "{}", picture(&app));
    press(&mut app, &[Action::Down, Action::NextSection, Action::Back]);
    assert_eq!(selected_port(&app), 8080);
}

#[test]
fn closed_listeners_are_hidden_and_a_key_shows_them_behind_the_others() {
    let mut machine = model(&fixtures::quiet());
    machine.listeners[0].closed = true;
    let mut app = app(machine);
    assert_eq!(ports(&app), [80, 6379]);
    assert!(picture(&app).contains("2 listeners, 1 closed hidden (x)"), "{}", picture(&app));
    press(&mut app, &[Action::ToggleClosed]);
    assert_eq!(ports(&app), [80, 6379, 22]);
}

/// Until a key selects a row, the worst one is selected, whichever that is.
#[test]
fn the_selection_follows_the_top_until_the_first_key() {
    let quiet = model(&fixtures::quiet());
    let mut ill = quiet.clone();
    ill.listeners[2].findings.push(model(&fixtures::overflow()).listeners[0].findings[0].clone());
    let mut app = app(quiet.clone());
    assert_eq!(selected_port(&app), 22);
    app.set_model(Arc::new(ill.clone()));
    assert_eq!((selected_port(&app), app.state.cursor), (6379, 0));
    // Enter opens what is at the top, and from then on the selection stays.
    press(&mut app, &[Action::Open]);
    assert!(picture(&app).contains("── 127.0.0.1:6379"), "{}", picture(&app));
    press(&mut app, &[Action::Back]);
    app.set_model(Arc::new(quiet));
    assert_eq!(selected_port(&app), 6379);
    // Sorting shows the top again.
    press(&mut app, &[Action::SortNext, Action::SortPrevious]);
    assert_eq!(app.state.cursor, 0);
    app.set_model(Arc::new(ill));
    assert_eq!((selected_port(&app), app.state.cursor), (6379, 0));
}

#[test]
fn the_verdict_is_opened_by_a_key_wherever_one_is() {
    let mut machine = model(&fixtures::quiet());
    let ill = model(&fixtures::overflow()).listeners[0].clone();
    machine.listeners.push(ill);
    let mut app = app(machine);
    press(&mut app, &[Action::Last, Action::Show("help"), Action::OpenWorst]);
    assert!(picture(&app).contains("── 0.0.0.0:8080"), "{}", picture(&app));
    press(&mut app, &[Action::NextListener, Action::OpenWorst]);
    assert!(picture(&app).contains("── 0.0.0.0:8080"), "{}", picture(&app));
    let mut quiet = self::app(model(&fixtures::quiet()));
    assert_eq!(quiet.update(Action::OpenWorst), Effect::None);
}

#[test]
fn enter_on_the_verdict_opens_it() {
    let mut machine = model(&fixtures::quiet());
    machine.listeners.push(model(&fixtures::overflow()).listeners[0].clone());
    let mut app = app(machine);
    let marked = |app: &App| picture(app).lines().filter(|line| line.starts_with('›')).map(str::to_owned).collect();
    // By address, the worst is the last row.
    press(&mut app, &[Action::SortNext, Action::Up]);
    let lines: Vec<String> = marked(&app);
    assert!(lines.len() == 1 && lines[0].starts_with("›! 1 of 4 listeners refuses clients"), "{lines:?}");
    assert_eq!(app.update(Action::Up), Effect::None);
    press(&mut app, &[Action::Down]);
    let lines: Vec<String> = marked(&app);
    assert!(lines.len() == 1 && lines[0].contains("0.0.0.0:22"), "{lines:?}");
    press(&mut app, &[Action::Up, Action::Open]);
    assert!(picture(&app).contains("── 0.0.0.0:8080"), "{}", picture(&app));
    // Without a verdict there is nothing to go to.
    let mut quiet = self::app(model(&fixtures::quiet()));
    assert_eq!(quiet.update(Action::Up), Effect::None);
}

#[test]
fn findings_are_jumped_to() {
    let mut machine = model(&fixtures::many(10));
    let ill = model(&fixtures::overflow()).listeners[0].findings.clone();
    for at in [3, 7] {
        machine.listeners[at].findings.clone_from(&ill);
    }
    let mut app = app(machine);
    press(&mut app, &[Action::SortNext]);
    let mut went = Vec::new();
    for action in [Action::NextFinding, Action::NextFinding, Action::NextFinding, Action::PreviousFinding] {
        app.update(action);
        went.push(app.state.cursor);
    }
    assert_eq!(went, [3, 7, 3, 7]);
    press(&mut app, &[Action::Open, Action::NextFinding]);
    assert_eq!((shown(&app), app.state.cursor), ("listener", 3));
}

#[test]
fn help_and_coverage_scroll_no_further_than_their_end() {
    let mut app = app(model(&fixtures::unavailable()));
    for name in ["help", "coverage"] {
        press(&mut app, &[Action::Show(name)]);
        let top = picture(&app);
        press(&mut app, &[Action::Last]);
        let end = picture(&app);
        assert_ne!(top, end);
        assert_eq!((app.update(Action::Down), app.update(Action::PageDown)), (Effect::None, Effect::None));
        assert_eq!((app.scope().title, picture(&app)), ("Keys in help and coverage", end));
        press(&mut app, &[Action::First]);
        assert_eq!(picture(&app), top);
        // It opens at the top again.
        press(&mut app, &[Action::Last, Action::Back]);
        assert_eq!(app.scope().title, "Keys in the overview");
        press(&mut app, &[Action::Show(name)]);
        assert_eq!(picture(&app), top);
        press(&mut app, &[Action::Back]);
    }
}

/// A smaller screen wraps the text into more lines, a larger one shows more of it.
#[test]
fn help_follows_the_size() {
    let mut app = app(model(&fixtures::quiet()));
    press(&mut app, &[Action::Show("help"), Action::Last, Action::Resize(200, 60)]);
    let last = picture(&app);
    assert_eq!(app.update(Action::Last), Effect::None, "it is at its end on the larger screen, too");
    press(&mut app, &[Action::Resize(80, 24), Action::Last]);
    assert!(last.contains("Closed listeners") && picture(&app).contains("Closed listeners"));
}

#[test]
fn views_that_a_key_opens_lie_over_the_view_and_replace_each_other() {
    let mut app = app(model(&fixtures::quiet()));
    let (help, coverage) = (Action::Show("help"), Action::Show("coverage"));
    for (actions, view) in [
        (vec![help], "help"),
        (vec![help], "overview"),
        (vec![help, coverage], "coverage"),
        (vec![Action::Back], "overview"),
        (vec![Action::Back], "overview"),
        (vec![Action::Open, coverage, help], "help"),
        (vec![Action::Back], "listener"),
        (vec![coverage, coverage], "listener"),
        (vec![Action::Back], "overview"),
    ] {
        press(&mut app, &actions);
        assert_eq!(shown(&app), view, "{actions:?}");
    }
    assert_eq!(app.update(Action::Back), Effect::None);
    assert_eq!(app.update(Action::Show("no such view")), Effect::None);
    assert_eq!((app.update(help), app.update(help)), (Effect::Redraw, Effect::Redraw));
}

#[test]
fn a_small_screen_has_its_own_keys() {
    let mut app = app(model(&fixtures::quiet()));
    press(&mut app, &[Action::Show("help"), Action::Resize(79, 24)]);
    assert_eq!(app.scope().title, "Keys while the terminal is too small");
    press(&mut app, &[Action::Resize(80, 24)]);
    assert_eq!(app.scope().title, "Keys in help and coverage");
}

#[test]
fn keys_become_actions_of_the_view_on_the_screen() {
    let mut app = app(model(&fixtures::quiet()));
    let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
    let enter = key(KeyCode::Enter);
    assert_eq!(app.action(enter), Some(Action::Open));
    press(&mut app, &[Action::FilterStart]);
    assert_eq!(app.action(enter), Some(Action::FilterAccept));
    press(&mut app, &[Action::FilterAccept, Action::Open]);
    assert_eq!(app.action(enter), None);
    assert_eq!(app.action(key(KeyCode::Char('c'))), Some(Action::Show("coverage")));
}

#[test]
fn actions_of_the_loop_come_back_as_effects() {
    let mut app = app(model(&fixtures::quiet()));
    assert_eq!(app.update(Action::Quit), Effect::Quit);
    assert_eq!(app.update(Action::Suspend), Effect::Suspend);
    assert_eq!(app.update(Action::Pause), Effect::Redraw);
    assert_eq!(app.update(Action::Resize(100, 30)), Effect::Redraw);
    assert_eq!(app.state.body(), ratatui::layout::Rect::new(0, 5, 100, 24));
}

/// The overview shows the selection after it changed elsewhere.
#[test]
fn the_overview_follows_what_the_listener_view_selected() {
    let mut app = app(model(&fixtures::many(100)));
    press(&mut app, &[Action::Open]);
    press(&mut app, &[Action::NextListener; 50]);
    press(&mut app, &[Action::Back]);
    assert_eq!(app.state.cursor, 50);
    assert!(picture(&app).contains('›'), "{}", picture(&app));
}

/// The footer shows the keys of the view, then those that hold everywhere.
#[test]
fn the_footer_is_of_the_view_on_the_screen() {
    let mut app = app(model(&fixtures::quiet()));
    let ends = |app: &App| {
        let keys: Vec<(String, &str)> = app.footer().map(|(key, word, _)| (key, word)).collect();
        (keys[0].clone(), keys[keys.len() - 1].clone())
    };
    let quit = ("q".to_owned(), "quit");
    assert_eq!(ends(&app), (("Enter".to_owned(), "open"), quit.clone()));
    press(&mut app, &[Action::Open]);
    assert_eq!(ends(&app), (("Esc".to_owned(), "back"), quit));
}
