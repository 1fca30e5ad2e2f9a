//! The dashboard drawn from recorded samples, against committed pictures: text only, because no meaning is in the colours.
//!
//! After a wanted change: `INSTA_UPDATE=always cargo test -p listentop --test dashboard_snapshots`, then look at every picture.

use std::sync::Arc;

use listentop::dashboard::{Action, App, DashboardOptions, Effect, draw};
use listentop_model::{fixtures, sample::Sample, tracker::Tracker};
use ratatui::{Terminal, backend::TestBackend};

/// The sizes at which every screen is drawn.
const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

fn options(color: bool) -> DashboardOptions {
    DashboardOptions {
        color,
        host: Some("demo".to_owned()),
        source: "replay".to_owned(),
        ..DashboardOptions::default()
    }
}

/// An app that has seen `samples` and then done `actions`.
fn app((columns, rows): (u16, u16), samples: &[Sample], actions: &[Action]) -> App {
    let mut app = App::new(options(true));
    app.update(Action::Resize(columns, rows));
    show(&mut app, samples);
    for &action in actions {
        app.update(action);
    }
    app
}

fn show(app: &mut App, samples: &[Sample]) {
    let mut tracker = Tracker::new(&samples[0]);
    for sample in &samples[1..] {
        tracker.push(sample);
    }
    app.set_model(Arc::new(tracker.model().clone()));
}

fn picture((columns, rows): (u16, u16), app: &App) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a test backend does not fail");
    terminal.draw(|frame| draw(frame, app)).expect("a test backend does not fail");
    let buffer = terminal.backend().buffer();
    let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..rows).map(row).collect::<Vec<_>>().join("\n")
}

/// Draws at every size.
fn assert_pictures(name: &str, samples: &[Sample], actions: &[Action]) {
    for size in SIZES {
        let text = picture(size, &app(size, samples, actions));
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), text);
        });
    }
}

#[test]
fn overview_quiet() {
    assert_pictures("overview_quiet", &fixtures::quiet(), &[]);
}

#[test]
fn overview_overflow() {
    assert_pictures("overview_overflow", &fixtures::overflow(), &[]);
}

#[test]
fn overview_group_folded() {
    assert_pictures("overview_group_folded", &fixtures::dead_shard(), &[]);
}

#[test]
fn overview_group_unfolded() {
    assert_pictures("overview_group_unfolded", &fixtures::dead_shard(), &[Action::ToggleFoldAll, Action::Down]);
}

#[test]
fn overview_unavailable() {
    assert_pictures("overview_unavailable", &fixtures::unavailable(), &[]);
}

#[test]
fn overview_many() {
    let actions = [&[Action::PageDown; 3][..], &[Action::SortNext]].concat();
    assert_pictures("overview_many", &fixtures::many(1_000), &actions);
}

#[test]
fn overview_filter() {
    let typed = "80".chars().map(Action::FilterInput);
    let actions: Vec<Action> = [Action::FilterStart].into_iter().chain(typed).collect();
    assert_pictures("overview_filter", &fixtures::quiet(), &actions);
}

#[test]
fn listener_overflow() {
    assert_pictures("listener_overflow", &fixtures::overflow(), &[Action::Open]);
}

#[test]
fn listener_distributions() {
    let actions = [Action::Open, Action::NextSection, Action::Down];
    assert_pictures("listener_distributions", &fixtures::overflow(), &actions);
}

#[test]
fn listener_over_time() {
    let actions = [Action::Open, Action::NextSection, Action::NextSection];
    assert_pictures("listener_over_time", &fixtures::overflow(), &actions);
}

#[test]
fn listener_threads() {
    assert_pictures("listener_threads", &fixtures::quiet(), &[Action::Down, Action::Open, Action::PreviousSection]);
}

#[test]
fn listener_group_and_shard() {
    let group = [Action::ToggleFoldAll, Action::Open];
    assert_pictures("listener_group", &fixtures::dead_shard(), &group);
    let shard = [Action::ToggleFoldAll, Action::Down, Action::Open];
    assert_pictures("listener_shard", &fixtures::dead_shard(), &shard);
}

#[test]
fn listener_unavailable() {
    assert_pictures("listener_unavailable", &fixtures::unavailable(), &[Action::Open]);
}

#[test]
fn help() {
    assert_pictures("help", &fixtures::quiet(), &[Action::Help]);
}

#[test]
fn help_to_the_end() {
    assert_pictures("help_end", &fixtures::quiet(), &[Action::Help, Action::Last]);
}

#[test]
fn coverage() {
    assert_pictures("coverage", &fixtures::unavailable(), &[Action::Coverage]);
}

#[test]
fn too_small() {
    for size in [(79, 24), (80, 23), (20, 5), (1, 1)] {
        let text = picture(size, &app(size, &fixtures::quiet(), &[]));
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(format!("too_small_{}x{}", size.0, size.1), text);
        });
    }
}

#[test]
fn before_the_first_sample() {
    let mut waiting = App::new(options(true));
    waiting.update(Action::Resize(80, 24));
    assert!(picture((80, 24), &waiting).contains("Waiting for the first sample"));
    assert_eq!(waiting.update(Action::Open), Effect::None);
}

#[test]
fn losses_stand_in_every_view() {
    let mut samples = fixtures::overflow();
    let last = samples.last_mut().unwrap();
    last.losses.connections = 12_345;
    for actions in [vec![], vec![Action::Open], vec![Action::Help], vec![Action::Coverage]] {
        let text = picture((80, 24), &app((80, 24), &samples, &actions));
        assert!(text.contains("LOST, numbers are too low: 12,345 connections (table full)"), "{text}");
        assert!(text.contains("quit"), "the footer is pushed out:\n{text}");
    }
    let last = samples.last_mut().unwrap();
    (last.losses.connections, last.losses.missed_runs) = (0, 7);
    let text = picture((80, 24), &app((80, 24), &samples, &[]));
    assert!(text.contains("numbers may be too low: 7 probe runs skipped") && !text.contains("LOST"), "{text}");
}

/// Coverage and own cost are in sight in every view, pausing says so.
#[test]
fn coverage_cost_and_pause_stand_in_every_view() {
    for size in SIZES {
        for actions in [vec![], vec![Action::Open], vec![Action::Help], vec![Action::Coverage]] {
            let actions = [actions, vec![Action::Pause]].concat();
            let text = picture(size, &app(size, &fixtures::overflow(), &actions));
            for word in ["20 measured, 3 sampled", "probes 0.36%", "20MiB", "PAUSED"] {
                assert!(text.contains(word), "no {word:?} in:\n{text}");
            }
        }
    }
}

/// Whatever is coloured is also a word or a symbol: without colour the same text is there, and no cell has a colour.
#[test]
fn no_color_loses_nothing() {
    let size = (120, 40);
    for (samples, actions) in [
        (fixtures::overflow(), vec![]),
        (fixtures::overflow(), vec![Action::Open]),
        (fixtures::unavailable(), vec![Action::Coverage]),
    ] {
        let coloured = app(size, &samples, &actions);
        let mut plain = App::new(options(false));
        plain.update(Action::Resize(size.0, size.1));
        show(&mut plain, &samples);
        for &action in &actions {
            plain.update(action);
        }
        assert_eq!(picture(size, &plain), picture(size, &coloured));
        let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
        terminal.draw(|frame| draw(frame, &plain)).unwrap();
        for cell in &terminal.backend().buffer().content {
            assert_eq!((cell.fg, cell.bg), (ratatui::style::Color::Reset, ratatui::style::Color::Reset));
        }
    }
    let overview = picture(size, &app(size, &fixtures::overflow(), &[]));
    for word in ["critical", "›", "accept full/SYN", "measured", "█"] {
        assert!(overview.contains(word), "{word} is told by colour only:\n{overview}");
    }
    for (samples, state) in [
        (fixtures::unavailable(), "✗ unavailable"),
        (fixtures::quiet(), "✓ measured"),
        (fixtures::quiet(), "~ sampled"),
    ] {
        let coverage = picture((120, 60), &app((120, 60), &samples, &[Action::Coverage]));
        assert!(coverage.contains(state), "{state}:\n{coverage}");
    }
}

/// A screen of any size is drawn without panic, in every view.
#[test]
fn no_size_panics() {
    let machines = [fixtures::overflow(), fixtures::dead_shard(), fixtures::unavailable()];
    for samples in &machines {
        let mut app = app((80, 24), samples, &[Action::ToggleFoldAll]);
        for enter in
            [vec![], vec![Action::Open], vec![Action::NextSection], vec![Action::NextSection], vec![Action::Help]]
        {
            for action in enter {
                app.update(action);
            }
            for (columns, rows) in
                [(1, 1), (80, 24), (81, 25), (100, 30), (113, 37), (160, 44), (300, 100), (400, 24), (80, 200)]
            {
                app.update(Action::Resize(columns, rows));
                picture((columns, rows), &app);
                // A frame may come between a resize and its event.
                picture((80, 24), &app);
            }
        }
    }
}
