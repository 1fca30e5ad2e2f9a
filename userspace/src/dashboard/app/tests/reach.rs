//! Mouse, menus, the clipboard and the bell.

use super::*;

#[test]
fn a_click_selects_opens_sorts_and_changes_the_view() {
    let mut app = app(model(&fixtures::quiet()));
    let at = |app: &App, text: &str| {
        let picture = picture(app);
        let found = picture.lines().zip(0_u16..).find_map(|(line, y)| {
            let byte = line.find(text)?;
            Some((line[..byte].chars().count() as u16, y))
        });
        found.unwrap_or_else(|| panic!("no {text:?} in:\n{picture}"))
    };
    let click = |app: &mut App, text: &str| {
        let (x, y) = at(app, text);
        app.update(Action::Click(x, y))
    };
    assert_eq!(click(&mut app, "127.0.0.1:6379"), Effect::Redraw);
    assert_eq!((selected_port(&app), shown(&app)), (6379, "overview"));
    click(&mut app, "127.0.0.1:6379");
    assert_eq!(shown(&app), "listener");
    picture(&app);
    click(&mut app, "Overview");
    assert_eq!(shown(&app), "overview");
    click(&mut app, "PROCESS");
    assert_eq!((app.state.sort.column, app.state.sort.descending), (Column::Process, false));
    click(&mut app, "PROCESS");
    assert!(app.state.sort.descending);
    click(&mut app, "? help");
    assert_eq!(shown(&app), "help");
    assert_eq!(app.update(Action::Click(0, 20)), Effect::None);
}

#[test]
fn the_wheel_scrolls() {
    let mut app = app(model(&fixtures::many(100)));
    press(&mut app, &[Action::ScrollDown, Action::ScrollDown, Action::ScrollUp]);
    assert_eq!(app.state.cursor, 3);
    press(&mut app, &[Action::Show("help")]);
    let top = picture(&app);
    press(&mut app, &[Action::ScrollDown]);
    assert_ne!(picture(&app), top);
}

#[test]
fn menus_sort_and_choose_columns() {
    let mut app = app(model(&fixtures::quiet()));
    press(&mut app, &[Action::SortMenu]);
    assert!(picture(&app).contains("› findings ▼"), "{}", picture(&app));
    let lines = Column::ALL.into_iter().filter(|column| column.sortable());
    let accepts = lines.clone().position(|column| column == Column::Accepts).unwrap();
    press(&mut app, &vec![Action::Down; accepts]);
    press(&mut app, &[Action::Open]);
    assert_eq!((app.state.sort.column, ports(&app)), (Column::Accepts, vec![80, 6379, 22]));
    // Columns: always, never, if they fit.
    press(&mut app, &[Action::ColumnMenu, Action::First]);
    for (how, wanted) in [("always  process", true), ("never   process", false), ("if fit  process", true)] {
        press(&mut app, &[Action::Open]);
        assert!(picture(&app).contains(how), "{}", picture(&app));
        assert_eq!(picture(&app).contains("PROCESS"), wanted, "{how}");
    }
    press(&mut app, &[Action::CloseMenu]);
    assert!(!picture(&app).contains("Columns"));
}

#[test]
fn the_command_that_shows_the_cause_is_copied() {
    let mut machine = model(&fixtures::dead_shard());
    let mut app = app(machine.clone());
    press(&mut app, &[Action::Copy]);
    let written = String::from_utf8(app.take_outbox()).unwrap();
    assert!(written.starts_with("\x1b]52;c;") && app.take_outbox().is_empty(), "{written:?}");
    assert!(picture(&app).contains("copied: strace -f -p 3300"), "{}", picture(&app));
    // The next key takes the message away.
    assert_eq!(app.update(Action::Up), Effect::Redraw);
    assert!(!picture(&app).contains("copied"));
    machine.listeners.retain(|_| false);
    machine.regroup();
    let mut empty = self::app(machine);
    press(&mut empty, &[Action::Copy]);
    assert_eq!(empty.take_outbox(), b"");
}

#[test]
fn the_bell_rings_once_for_each_listener_that_becomes_critical() {
    let quiet = model(&fixtures::quiet());
    let mut ill = quiet.clone();
    ill.listeners[2].findings.push(model(&fixtures::overflow()).listeners[0].findings[0].clone());
    for (bell, rung) in [(false, &b""[..]), (true, b"\x07")] {
        let mut app = App::new(DashboardOptions { bell, ..DashboardOptions::default() });
        app.set_model(Arc::new(quiet.clone()));
        assert_eq!(app.take_outbox(), b"");
        app.set_model(Arc::new(ill.clone()));
        app.set_model(Arc::new(ill.clone()));
        assert_eq!(app.take_outbox(), rung);
    }
}
