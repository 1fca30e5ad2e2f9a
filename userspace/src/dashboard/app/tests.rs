//! Actions on recorded machines, and what they do to the state.

use std::{sync::Arc, time::Duration};

use listentop_model::{
    fixtures,
    model::{GroupId, Model},
    sample::Sample,
    tracker::Tracker,
};

use super::*;

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
    let model = app.model.as_ref().unwrap();
    app.rows.rows.iter().map(|&row| app.rows.item(row, model).figures().port).collect()
}

fn selected_port(app: &App) -> u16 {
    app.selected_item().unwrap().figures().port
}

fn group(app: &App) -> GroupId {
    app.rows.groups[0].id
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
    assert_eq!((selected_port(&app), app.cursor), (6379, 0));
}

#[test]
fn sorting_by_numbers_puts_the_largest_first() {
    let mut app = app(model(&fixtures::quiet()));
    while app.sort.column != Column::Accepts {
        app.update(Action::SortNext);
    }
    assert_eq!(ports(&app), [80, 6379, 22]);
    app.update(Action::SortPrevious);
    assert_ne!(app.sort.column, Column::Accepts);
}

#[test]
fn what_is_unknown_is_sorted_last() {
    let mut model = model(&fixtures::quiet());
    model.listeners[1].rate.accepts = None;
    let mut app = app(model);
    while app.sort.column != Column::Accepts {
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
    assert_eq!(app.scope(), Scope::Filter);
    for c in "NGINX 80".chars() {
        app.update(Action::FilterInput(c));
    }
    assert_eq!(ports(&app), [80]);
    assert_eq!(selected_port(&app), 80);
    press(&mut app, &[Action::FilterInput('x')]);
    assert!(ports(&app).is_empty() && app.selected_item().is_none());
    assert_eq!(app.update(Action::Open), Effect::None);
    press(&mut app, &[Action::FilterErase, Action::FilterAccept]);
    assert_eq!((app.scope(), ports(&app)), (Scope::Overview, vec![80]));
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
    assert_eq!(app.rows.rows.len(), 1);
    press(&mut app, &[Action::Open]);
    assert_eq!((app.rows.rows.len(), app.view), (5, View::Overview));
    // From a shard, folding takes the selection back to the group.
    press(&mut app, &[Action::Last, Action::Fold]);
    assert_eq!((app.rows.rows.len(), app.selected), (1, Some(RowId::Group(group(&app)))));
    press(&mut app, &[Action::ToggleFold, Action::ToggleFold]);
    assert_eq!(app.rows.rows.len(), 1);
    press(&mut app, &[Action::ToggleFoldAll, Action::Open]);
    assert_eq!(app.view, View::Listener(RowId::Group(group(&app))));
    press(&mut app, &[Action::Back, Action::ToggleFoldAll]);
    assert_eq!(app.rows.rows.len(), 1);
}

#[test]
fn a_group_is_the_sum_of_its_shards() {
    let app = app(model(&fixtures::dead_shard()));
    let model = app.model.as_ref().unwrap();
    let item = app.selected_item().unwrap();
    let sum = item.figures();
    assert_eq!(sum.now.accept_depth, model.listeners.iter().map(|l| l.now.accept_depth).sum::<u32>());
    assert_eq!(sum.total.accepts, Some(model.listeners.iter().filter_map(|l| l.total.accepts).sum()));
    assert_eq!(sum.now.accept_peak, model.listeners.iter().filter_map(|l| l.now.accept_peak).max());
    assert_eq!(sum.drops.total, Some(260));
    assert_eq!(item.fullest().now.accept_depth, 65);
    let full = app.rows.groups[0].full(model);
    let waits = |l: &ListenerModel| l.distributions.accept_wait.as_ref().unwrap().count();
    assert_eq!(waits(&full), model.listeners.iter().map(waits).sum::<u64>());
    assert_eq!(full.threads.len(), 4);
    let points = |l: &ListenerModel| l.history.points(&model.timeline).count();
    assert_eq!(points(&full), points(&model.listeners[0]));
    let last = |l: &ListenerModel| l.history.latest().unwrap().accept_depth;
    assert_eq!(last(&full), model.listeners.iter().map(last).sum::<u32>());
}

/// Shards that each have a process of their own, and all that one which made them still holds.
#[test]
fn a_group_is_held_by_who_holds_its_shards() {
    let mut model = model(&fixtures::dead_shard());
    for (listener, worker) in model.listeners.iter_mut().zip(3301..) {
        listener.holders = vec![3300, worker];
    }
    model.regroup();
    let app = app(model);
    let sum = app.selected_item().unwrap().figures();
    assert_eq!(sum.holders, [3300, 3301, 3302, 3303, 3304]);
    assert_eq!(crate::dashboard::format::process(sum), "envoy[3300]+4");
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
    let sum = app.selected_item().unwrap().figures();
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
fn a_thousand_rows_scroll_and_the_cursor_stays_in_sight() {
    let mut app = app(model(&fixtures::many(1_000)));
    let visible = views::overview::visible_rows(&app);
    assert!(visible >= 10);
    let in_sight = |app: &App| (app.offset..app.offset + visible).contains(&app.cursor);
    press(&mut app, &[Action::Last]);
    assert_eq!((app.cursor, app.offset), (999, 1_000 - visible));
    press(&mut app, &[Action::PageUp, Action::Up, Action::Up]);
    assert!(in_sight(&app));
    assert_eq!(app.cursor, 997 - visible);
    press(&mut app, &[Action::Resize(200, 60), Action::Resize(80, 24), Action::PageDown]);
    assert!(in_sight(&app));
    press(&mut app, &[Action::First, Action::Up]);
    assert_eq!((app.cursor, app.offset), (0, 0));
    assert_eq!(app.update(Action::Up), Effect::None, "a key that changes nothing draws nothing");
}

#[test]
fn neighbours_are_those_of_the_overview() {
    let mut app = app(model(&fixtures::quiet()));
    press(&mut app, &[Action::Open, Action::NextListener]);
    assert_eq!(app.listener().unwrap().port, 80);
    press(&mut app, &[Action::NextListener, Action::NextListener]);
    assert_eq!(app.listener().unwrap().port, 6379);
    press(&mut app, &[Action::PreviousListener, Action::Back]);
    assert_eq!((app.view, selected_port(&app)), (View::Overview, 80));
}

#[test]
fn a_listener_that_vanished_is_not_shown_as_another() {
    let mut app = app(model(&fixtures::quiet()));
    press(&mut app, &[Action::Open]);
    app.set_model(Arc::new(model(&fixtures::overflow())));
    assert!(app.listener().is_none());
    press(&mut app, &[Action::Down, Action::NextSection, Action::Back]);
    assert_eq!(selected_port(&app), 8080);
}

#[test]
fn closed_listeners_stay_for_a_while_and_can_be_had_back() {
    let mut machine = model(&fixtures::quiet());
    machine.listeners[0].closed = true;
    let at = |machine: &Model, seconds: f64| {
        let mut machine = machine.clone();
        machine.interval.seconds = seconds;
        Arc::new(machine)
    };
    let mut app = app(machine.clone());
    let seen = machine.interval.seconds;
    app.set_model(at(&machine, seen + CLOSED_SHOWN_SECONDS));
    assert_eq!(ports(&app), [22, 80, 6379]);
    app.set_model(at(&machine, seen + CLOSED_SHOWN_SECONDS + 1.0));
    assert_eq!(ports(&app), [80, 6379]);
    press(&mut app, &[Action::ToggleClosed]);
    assert_eq!(ports(&app), [22, 80, 6379]);
}

#[test]
fn help_and_coverage_scroll_no_further_than_their_end() {
    let mut app = app(model(&fixtures::unavailable()));
    for overlay in [Action::Help, Action::Coverage] {
        press(&mut app, &[overlay, Action::Last]);
        let last = app.overlay_scroll;
        assert!(last > 0);
        press(&mut app, &[Action::Down, Action::PageDown]);
        assert_eq!(app.overlay_scroll, last);
        assert_eq!(app.scope(), Scope::Text);
        press(&mut app, &[Action::First]);
        assert_eq!(app.overlay_scroll, 0);
        press(&mut app, &[Action::Back]);
        assert_eq!(app.scope(), Scope::Overview);
    }
}

#[test]
fn tabs_go_round_and_leave_out_what_is_in_sight() {
    use Section::{Distributions, Findings, OverTime, Threads};
    for ((columns, rows), tabs) in [
        ((80, 24), &[Findings, Distributions, OverTime, Threads][..]),
        ((120, 40), &[Findings, Distributions, Threads]),
        ((200, 60), &[Findings, Threads]),
    ] {
        let mut app = app(model(&fixtures::overflow()));
        press(&mut app, &[Action::Resize(columns, rows), Action::Open]);
        assert_eq!(views::listener::tabs(&app), tabs);
        let mut went = |step| -> Vec<Section> {
            let step = |_| {
                app.update(step);
                app.section
            };
            tabs.iter().map(step).collect()
        };
        let forwards: Vec<Section> = tabs.iter().copied().cycle().skip(1).take(tabs.len()).collect();
        assert_eq!(went(Action::NextSection), forwards, "{columns}x{rows}");
        let backwards: Vec<Section> = tabs.iter().rev().copied().collect();
        assert_eq!(went(Action::PreviousSection), backwards, "{columns}x{rows}");
    }
}
