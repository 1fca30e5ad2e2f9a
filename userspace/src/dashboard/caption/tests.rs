use std::sync::Arc;

use crossterm::event::KeyModifiers;
use lab_control::{Client, Tick};
use listentop_model::{fixtures, sample::MarkSample, tracker::Tracker};
use ratatui::style::Modifier;

use super::{clients::of_client, *};
use crate::dashboard::{App, DashboardOptions, action::Effect, frame::picture, still::still};

fn expected(what: &str, bounds: &str, holds: Option<bool>) -> Expected {
    Expected { what: what.to_owned(), bounds: bounds.to_owned(), value: holds.map(|_| "8".to_owned()), holds }
}

fn lesson() -> Lesson {
    Lesson {
        lesson: "overflow".to_owned(),
        step: "overload".to_owned(),
        number: 1,
        steps: 2,
        left: Some(9),
        watch:
            "The accept queue stays full at 9. Drops go up: SYNs and final ACKs that found no room. The server sleeps \
                most of the time, and nobody sees it."
                .to_owned(),
        expected: vec![
            expected("the largest depth", "9 to 10", Some(true)),
            expected("the share of retries", "at least 10 %", Some(false)),
            expected("the finding", "1", None),
        ],
        clients: vec![Client {
            port: 8080,
            due: 480,
            served: 301,
            p50_ms: Some(180.0),
            p99_ms: Some(3200.0),
            syn_again: 41,
            syn_twice: 12,
            failed: vec![("timeout".to_owned(), 9)],
            ticks: vec![
                Tick { answers: 25, depth: 3, ..Tick::default() },
                Tick { answers: 25, trouble: 16, depth: 9, ..Tick::default() },
            ],
            ..Client::default()
        }],
        rate: 100,
        ..Lesson::default()
    }
}

fn app(size: (u16, u16)) -> App {
    app_of(size, lesson())
}

/// An application of this size in a lesson, whose only server is on port 8080.
pub(in crate::dashboard) fn app_of(size: (u16, u16), lesson: Lesson) -> App {
    let samples = fixtures::overflow();
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|sample| tracker.push(sample));
    let mut app = App::new(DashboardOptions::default());
    app.update(Action::Resize(size.0, size.1));
    app.set_model(Arc::new(tracker.model().clone()));
    app.set_lesson(lesson);
    app
}

fn press(app: &mut App, number: u8) -> Effect {
    let action = app.action(KeyEvent::new(KeyCode::F(number), KeyModifiers::NONE));
    action.map_or(Effect::None, |action| app.update(action))
}

#[test]
fn it_says_what_to_watch_and_what_is_expected() {
    let small = picture(&app((80, 24)));
    for part in [
        "overflow  1/2 overload  9 s left",
        "[so far; 1 of 3]",
        "stays full at 9",
        "nobody sees it.",
        "✗ the share of retries: at least 10 % | now 8",
        "? the finding: 1 | not known yet",
        "301/480 served, answer p50 180ms p99 3.2s, SYN again 41, twice 12, timeout 9",
        "F2stall",
        "F12repeat",
    ] {
        assert!(small.contains(part), "{part} is not in\n{small}");
    }
    assert!(!small.contains("the largest depth"), "there is room for two:\n{small}");
    let large = picture(&app((120, 40)));
    for part in [
        "✓ the largest depth",
        "? the finding: 1 | not known yet",
        "SYN again 41, twice 12, timeout 9",
        "retries, failures     █ at most 16 in half a second",
        "accept queue         ▃█ at most 9 connections",
    ] {
        assert!(large.contains(part), "{part} is not in\n{large}");
    }
}

#[test]
fn nothing_is_cut_that_another_row_or_fewer_words_can_say() {
    let mut app = app((80, 24));
    let long = "half of the connections wait this long in the queue: 9 places, 20 ms each";
    let bounds = "120 to 260 ms, 75.7 ms more for busy CPUs";
    let height_of = |app: &App| height(&app.state);
    let before = height_of(&app);
    app.set_lesson(Lesson {
        expected: vec![expected("another", "1", Some(true)), expected(long, bounds, Some(false))],
        ..lesson()
    });
    let small = picture(&app);
    assert!(
        small.contains("✗ half of the connections")
            && small.contains("   120 to 260 ms, 75.7 ms more for busy CPUs | now 8"),
        "{small}"
    );
    assert!(!small.contains("another"), "{small}");
    assert_eq!(height_of(&app), before, "nothing jumps");
    let longest = long.repeat(3);
    app.set_lesson(Lesson { expected: vec![expected(&longest, bounds, None), expected("b", "1", None)], ..lesson() });
    let small = picture(&app);
    assert!(small.contains("…: 120 to 260") && small.contains("more for busy CPUs | not known yet"), "{small}");
    assert_eq!(height_of(&app), before, "nothing jumps");

    let many = Client { due: 1_815, served: 1_430, syn_again: 1_448, syn_twice: 1_329, ..lesson().clients[0].clone() };
    assert_eq!(
        of_client(None, &many, 104),
        "clients: 1,430 of 1,815 served, first answer p50 180ms p99 3.2s, SYN again 1,448, twice 1,329, timeout 9"
    );
    assert_eq!(
        of_client(None, &many, 78),
        "1,430 of 1,815 served, answer p50 180ms p99 3.2s, SYN again 1,448, timeout 9"
    );
    assert_eq!(of_client(None, &many, 60), "1,430 of 1,815 served, SYN again 1,448, timeout 9");
    let calm = Client { syn_again: 0, failed: Vec::new(), ..many };
    assert_eq!(of_client(None, &calm, 78), "clients: 1,430 of 1,815 served, first answer p50 180ms p99 3.2s");
}

#[test]
fn each_load_of_a_server_is_named() {
    let one = lesson().clients.remove(0);
    let old = Client { name: "old_clients".to_owned(), due: 10, served: 0, answers: 4_321, ..one.clone() };
    let old = Client { p50_ms: Some(1.2), p99_ms: Some(3.0), syn_again: 0, failed: Vec::new(), ..old };
    let new = Client { name: "new_clients".to_owned(), ticks: one.ticks[1..].to_vec(), ..one };
    let elsewhere = Client { name: "elsewhere".to_owned(), port: 9, ..new.clone() };
    let clients = vec![old, new, elsewhere];
    let with = |size| picture(&app_of(size, Lesson { clients: clients.clone(), ..lesson() }));
    let small = with((80, 24));
    assert!(small.contains("C old_clients: 4,321 answers; new_clients: 301/480 served"), "{small}");
    let large = with((120, 40));
    for part in [
        "old_clients: 10 connected, 4,321 answers, first answer p50 1.2ms p99 3.0ms",
        "new_clients: 301 of 480 served, first answer p50 180ms p99 3.2s, SYN again 41, twice 12, timeout 9",
        "retries, failures     █ at most 32 in half a second",
        "accept queue         ▃█ at most 9 connections",
    ] {
        assert!(large.contains(part), "{part} is not in\n{large}");
    }
    assert!(!(small + &large).contains("elsewhere"));
}

#[test]
fn a_lesson_that_has_not_begun_is_not_over() {
    let mut app = app((80, 24));
    app.set_lesson(Lesson { number: 0, left: None, step: String::new(), ..lesson() });
    assert!(picture(&app).contains("begins soon"), "{}", picture(&app));
    app.set_lesson(Lesson { left: None, ..lesson() });
    assert!(picture(&app).contains("over: q shows the outcome"), "{}", picture(&app));
}

#[test]
fn the_last_act_is_shown() {
    let mut app = app((80, 24));
    app.set_lesson(Lesson { last_act: Some("12 s: backlog 64 slow_acceptor".to_owned()), ..lesson() });
    let small = picture(&app);
    assert!(small.contains("12 s: backlog 64 slo") && small.contains("[so far; 1 of 3]"), "{small}");
}

/// The same with what the lab did lately, and with what its lesson is about.
fn app_with_marks(size: (u16, u16)) -> App {
    let mut samples = fixtures::overflow();
    for _ in 0..60 {
        let mut next = samples[samples.len() - 1].clone();
        next.monotonic_ns += 250_000_000;
        next.unix_ms += 250;
        samples.push(next);
    }
    let (netns, port) = (samples[0].listeners[0].netns, Some(samples[0].listeners[0].port));
    for (at, what) in [(50, "stall it"), (70, "load 50%")] {
        let monotonic_ns = samples[at].monotonic_ns;
        samples[at].marks = vec![MarkSample { monotonic_ns, what: what.to_owned(), netns, port }];
    }
    let mut tracker = Tracker::new(&samples[0]);
    let mut app = App::new(DashboardOptions::default());
    app.update(Action::Resize(size.0, size.1));
    for sample in &samples[1..] {
        tracker.push(sample);
        app.set_model(Arc::new(tracker.model().clone()));
    }
    app.set_lesson(Lesson { findings: vec!["accept_queue_overflow".to_owned()], ..lesson() });
    app
}

#[test]
fn what_the_lab_did_stands_on_every_time_line() {
    let mut app = app_with_marks((120, 60));
    app.update(Action::Show("listener"));
    let text = picture(&app);
    assert!(text.contains("┴stall it") && text.contains("load 50%┴") && text.contains('┊'), "{text}");
    assert_eq!(text.matches("┴stall it").count(), 2, "{text}");
    // The waits have their own tab on a screen like this.
    [(); 2].iter().for_each(|()| _ = app.update(Action::NextSection));
    let text = picture(&app);
    assert_eq!(text.matches("┴stall it").count(), 3, "{text}");
    app.update(Action::Show("compare"));
    assert!(picture(&app).contains("┴stall it"), "{}", picture(&app));
    app.update(Action::Show("events"));
    let text = picture(&app);
    let line = text.lines().find(|line| line.contains("stall it")).expect("it is an event");
    assert!(line.contains("┊ 0.0.0.0:8080"), "{line}");
    app.update(Action::Show("overview"));
    app.update(Action::Resize(200, 60));
    let drawn = still(&app);
    let marked = drawn.content.iter().filter(|cell| cell.modifier.contains(Modifier::UNDERLINED)).count();
    assert!(marked > 0, "in the trend of the only listener:\n{}", picture(&app));
}

#[test]
fn what_the_lesson_is_about_is_expected_everywhere() {
    let mut app = app_with_marks((160, 60));
    let overview = picture(&app);
    assert!(overview.contains("✓accept queue overflow:"), "{overview}");
    assert!(overview.contains("warning (expected by the lesson), 08:53:20"), "{overview}");
    for (view, words) in [
        ("listener", "warning (expected by the lesson), 08:53:20"),
        ("findings", "✓accept queue overflow:"),
        ("findings", "warning (expected by the lesson), 08:53:20"),
    ] {
        app.update(Action::Show(view));
        assert!(picture(&app).contains(words), "{view}: {}", picture(&app));
    }
    app.set_lesson(lesson());
    assert!(!picture(&app).contains("expected by the lesson"), "{}", picture(&app));
}

#[test]
fn outside_of_a_lab_there_is_nothing() {
    let mut app = app((80, 24));
    app.state.lesson = None;
    assert_eq!(height(&app.state), 0);
    assert!(!picture(&app).contains("F2stall"));
    assert_eq!(press(&mut app, 2), Effect::None);
}

#[test]
fn keys_act_on_the_selected_server() {
    let mut app = app((80, 24));
    for (number, key) in KEYS.map(|(number, key, ..)| (number, key)) {
        assert_eq!(press(&mut app, number), Effect::Lab(key));
    }
    assert_eq!(press(&mut app, 11), Effect::None);
    let item = app.state.selected_item().expect("a listener is selected");
    let (port, backlog) = (item.figures().port, item.figures().now.backlog);
    let server = Some(port.to_string());
    let act = |app: &App, key| act(key, &app.state);
    assert_eq!(act(&app, LabKey::Stall), Some(Act::Stall { server: server.clone() }));
    assert_eq!(act(&app, LabKey::Double), Some(Act::Backlog { server: server.clone(), backlog: 2 * backlog }));
    assert_eq!(act(&app, LabKey::More), Some(Act::Rate { load: None, percent: 125 }));
    assert_eq!(act(&app, LabKey::Less), Some(Act::Rate { load: None, percent: 75 }));
    assert_eq!(act(&app, LabKey::Cookies), Some(Act::Cookies { value: 1 }));
    let end = Lesson { stalled: vec![port], rate: 500, cookies: 2, ..lesson() };
    app.set_lesson(end);
    assert_eq!(act(&app, LabKey::Stall), Some(Act::Release { server }));
    assert_eq!(act(&app, LabKey::More), None, "there is no more");
    assert_eq!(act(&app, LabKey::Cookies), Some(Act::Cookies { value: 0 }));
}

#[test]
fn each_key_can_be_clicked() {
    let app = app((80, 24));
    picture(&app);
    let hits = app.state.hits.borrow();
    for (_, key, ..) in KEYS {
        assert!(hits.all().iter().any(|(_, action)| *action == Action::Lab(key)), "{key:?}");
    }
}
