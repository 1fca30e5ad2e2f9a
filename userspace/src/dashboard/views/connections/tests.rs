//! What is listed, in which order, and what is said where nothing is.

use std::sync::Arc;

use listentop_model::{coverage::Status, fixtures, model::Model, sample::Sample, tracker::Tracker};

use crate::dashboard::{Action, App, DashboardOptions, frame::picture};

fn model(samples: &[Sample]) -> Model {
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|sample| tracker.push(sample));
    tracker.model().clone()
}

fn opened(model: Model, size: (u16, u16)) -> App {
    let mut app = App::new(DashboardOptions::default());
    app.update(Action::Resize(size.0, size.1));
    app.set_model(Arc::new(model));
    app.update(Action::Show("connections"));
    app
}

/// The clients on the screen, from the top: their ports, which differ.
fn ports(app: &App) -> Vec<u16> {
    const ALL: [u16; 11] = [41_002, 50_123, 60_999, 51_515, 41_004, 33_001, 40_001, 40_002, 40_003, 20_001, 20_002];
    let text = picture(app);
    // Below the list stands the sentence about the chosen one.
    let lines = text.lines().skip_while(|line| !line.contains("CLIENT")).take_while(|line| !line.starts_with("──"));
    lines.flat_map(|line| ALL.into_iter().filter(|port| line.contains(&format!(":{port}")))).collect()
}

#[test]
fn the_longest_waiting_come_first_whatever_they_wait_for() {
    let mut app = opened(model(&fixtures::connections()), (120, 40));
    let by_age = [41_002, 20_001, 40_001, 50_123, 60_999, 51_515, 41_004, 20_002, 40_002, 40_003, 33_001];
    assert_eq!(ports(&app), by_age, "{}", picture(&app));
    let text = picture(&app);
    assert!(text.contains("Connections: 6 of 129 to be accepted, 3 of 5 to be read, 2 of 14 half open"), "{text}");
    for part in ["~9.3s", "≥6.5s", "n/a", "reset", "closed", "web[900/907]", "web[900]", "517B"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    app.update(Action::SortReverse);
    assert_eq!(ports(&app), by_age.into_iter().rev().collect::<Vec<_>>());
    app.update(Action::NextSection);
    assert_eq!(ports(&app), [33_001, 41_004, 51_515, 60_999, 50_123, 41_002]);
    assert!(picture(&app).contains("Connections: 6 of 129 to be accepted ─"), "{}", picture(&app));
    app.update(Action::NextSection);
    assert_eq!(ports(&app), [40_003, 40_002, 40_001]);
    assert!(!picture(&app).contains("AGAIN"), "none is half open");
    app.update(Action::NextSection);
    assert_eq!(ports(&app), [20_002, 20_001]);
    let text = picture(&app);
    assert!(text.contains("Connections: 2 of 14 half open ─") && text.contains("AGAIN"), "{text}");
    assert!(text.contains(" acked ") && text.contains(" syn "), "{text}");
    app.update(Action::PreviousSection);
    assert_eq!(ports(&app).len(), 3);
    app.update(Action::NextSection);
    app.update(Action::NextSection);
    assert_eq!(ports(&app).len(), 11);
}

#[test]
fn every_column_sorts() {
    let mut app = opened(model(&fixtures::connections()), (200, 60));
    let mut orders = vec![ports(&app)];
    for _ in 1..super::COLUMNS.len() {
        app.update(Action::SortNext);
        orders.push(ports(&app));
    }
    let client = [40_001, 40_002, 40_003, 41_002, 41_004, 33_001, 50_123, 20_001, 20_002, 60_999, 51_515];
    let waiting = [41_002, 50_123, 60_999, 51_515, 41_004, 33_001, 40_001, 40_002, 40_003, 20_001, 20_002];
    assert_eq!((&orders[1][..], &orders[2][..]), (&waiting[..], &client[..]));
    assert_eq!(orders[4][..2], [50_123, 60_999], "who is gone");
    assert_eq!(orders[5][..3], [40_001, 41_004, 60_999], "most bytes");
    assert_eq!(orders[6][..2], [20_001, 20_002], "most SYN-ACKs");
    assert_eq!(orders[8][..2], [40_001, 40_002], "open for longest");
    app.update(Action::SortNext);
    assert_eq!(ports(&app), orders[0], "round");
    app.update(Action::SortPrevious);
    assert_eq!(ports(&app), orders[8]);
    // By mouse: the head of the bytes.
    let text = picture(&app);
    let (y, line) = text.lines().enumerate().find(|(_, line)| line.contains("CLIENT")).expect(&text);
    let x = line.chars().collect::<String>().find("UNREAD").map(|at| line[..at].chars().count()).expect(&text);
    app.update(Action::Click(x as u16, y as u16));
    assert_eq!(ports(&app), orders[5]);
    app.update(Action::Click(x as u16, y as u16));
    assert_eq!(ports(&app)[8..], [60_999, 41_004, 40_001], "{}", picture(&app));
}

#[test]
fn what_is_typed_filters() {
    let mut app = opened(model(&fixtures::connections()), (120, 40));
    app.update(Action::FilterStart);
    for c in "reset OR web[900/".chars() {
        app.update(Action::FilterInput(c));
    }
    assert!(picture(&app).contains("filter: reset OR web[900/▏"), "{}", picture(&app));
    assert_eq!(ports(&app), [50_123, 40_002]);
    app.update(Action::FilterAccept);
    assert!(picture(&app).contains("filter: reset OR web[900/ (x clears)"), "{}", picture(&app));
    app.update(Action::FilterClear);
    assert_eq!(ports(&app).len(), 11);
    app.update(Action::FilterStart);
    for c in "10.1.0.8z".chars() {
        app.update(Action::FilterInput(c));
    }
    assert!(picture(&app).contains("No connection passes the filter."), "{}", picture(&app));
    app.update(Action::FilterErase);
    assert_eq!(ports(&app), [33_001]);
}

#[test]
fn the_chosen_connection_stays_is_said_and_copied() {
    let machine = model(&fixtures::connections());
    let mut app = opened(machine.clone(), (160, 40));
    (0..4).for_each(|_| _ = app.update(Action::Down));
    assert!(picture(&app).contains("192.168.100.200:60999 waits for 4.1s to be accepted by"), "{}", picture(&app));
    assert!(picture(&app).contains("its client has closed."), "{}", picture(&app));
    // Those before it are accepted.
    let mut later = machine;
    let lists = later.listeners.iter_mut().find_map(|listener| listener.connections.as_mut()).expect("some");
    lists.waiting.connections.drain(..2);
    app.set_model(Arc::new(later));
    let line = picture(&app).lines().find(|line| line.starts_with('›')).map(str::to_owned).expect("one is chosen");
    assert!(line.contains(":60999"), "{line}");
    app.update(Action::Copy);
    let outbox = app.take_outbox();
    assert!(outbox.starts_with(b"\x1b]52;"), "{outbox:?}");
    assert!(picture(&app).contains("copied: 192.168.100.200:60999 waits for"), "{}", picture(&app));
    app.update(Action::Open);
    assert!(picture(&app).contains("[Listener]"), "{}", picture(&app));
    assert!(!app.wants_connections());
    app.update(Action::Back);
    assert!(app.wants_connections());
}

#[test]
fn they_are_listed_while_the_view_is_seen() {
    let mut app = App::new(DashboardOptions::default());
    app.set_model(Arc::new(model(&fixtures::connections())));
    assert!(!app.wants_connections());
    app.update(Action::Show("connections"));
    assert!(app.wants_connections());
    // Under the help it is seen still, or will be again.
    app.update(Action::Show("help"));
    assert!(app.wants_connections());
    app.update(Action::Show("help"));
    app.update(Action::Show("overview"));
    assert!(!app.wants_connections());
}

#[test]
fn where_nothing_is_listed_it_says_why() {
    let nothing = |model: Model, options: DashboardOptions| {
        let mut app = App::new(options);
        app.update(Action::Resize(200, 40));
        app.set_model(Arc::new(model));
        app.update(Action::Show("connections"));
        picture(&app)
    };
    let unasked = model(&fixtures::overflow());
    let text = nothing(unasked.clone(), DashboardOptions::default());
    assert!(text.contains("Reading the connections…"), "{text}");
    let text = nothing(unasked.clone(), DashboardOptions { is_replay: true, ..DashboardOptions::default() });
    assert!(text.contains("'listentop record --connections N' lists them"), "{text}");
    let mut asked = model(&fixtures::connections());
    asked.listeners.iter_mut().for_each(|listener| listener.connections = None);
    let text = nothing(asked.clone(), DashboardOptions::default());
    let none = "No connection waits, neither to be accepted nor to be read, and none is half open.";
    assert!(text.contains(none), "{text}");
    for entry in asked.coverage.iter_mut().filter(|entry| entry.measure.name() == "unread_connections") {
        (entry.status, entry.reason) = (Status::Unavailable, "left out; --measure all has it".to_owned());
    }
    let text = nothing(asked, DashboardOptions::default());
    assert!(text.contains("Unread bytes are not known here: left out; --measure all has it."), "{text}");
    let mut blind = unasked;
    let listed = ["waiting_connections", "unread_connections", "half_open_connections"];
    for entry in blind.coverage.iter_mut().filter(|entry| listed.contains(&entry.measure.name())) {
        (entry.status, entry.reason) = (Status::Unavailable, "connections cannot be listed: EPERM".to_owned());
    }
    let text = nothing(blind, DashboardOptions::default());
    assert!(text.contains("Connections cannot be listed here: connections cannot be listed: EPERM."), "{text}");
}

#[test]
fn widening_removes_nothing_and_ports_are_never_cut() {
    let machine = model(&fixtures::connections());
    let shown = |columns| {
        let text = picture(&opened(machine.clone(), (columns, 40)));
        let heads = text.lines().find(|line| line.contains("CLIENT")).expect("heads").to_owned();
        let heads = super::COLUMNS.iter().filter(|column| heads.contains(column.name)).count();
        let whole = [":51515", ":60999", ":41002"].iter().all(|port| text.contains(port));
        (heads, whole)
    };
    let mut before = 0;
    for columns in 80..=200 {
        let (heads, whole) = shown(columns);
        assert!(heads >= before && heads >= 8 && whole, "{columns}: {heads}, {whole}");
        before = heads;
    }
    assert_eq!(before, 9);
}
