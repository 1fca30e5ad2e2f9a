//! In a lab: what the clients of the selected server got, over the depth of its queue, on one time axis.

use crossterm::event::KeyCode;
use lab_control::{Client, Tick};
use listentop_model::{
    model::{Mark, Model},
    words,
};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
};

use crate::dashboard::{
    action::Action,
    caption::clients::{loads, moments, sums},
    keymap::{Binding, Key::Plain, Others, Scope, bind, char},
    state::State,
    theme::Theme,
    view::{Declaration, Outcome, View},
    widgets::{
        graph::{Graph, Point},
        text,
    },
};

pub(super) static VIEW: Declaration = Declaration {
    name: "clients",
    tab: None,
    key: Some(bind(&[char('C')], Action::Show("clients"), "", "in a lab: what clients get, over the server's queue")),
    over: true,
    scopes: &[&KEYS],
    explained: ("In the view of a lab's clients", || EXPLAINED.to_vec()),
    lists_connections: false,
    needs_model: false,
    make: || Box::new(Clients),
};

static KEYS: Scope = Scope { title: "Keys in the view of clients", others: Others::AsEverywhere, bindings: BINDINGS };

const BINDINGS: &[Binding] = &[
    bind(&[Plain(KeyCode::Esc), Plain(KeyCode::Backspace)], Action::Back, "back", "back"),
    bind(&[char('n')], Action::NextListener, "next", "the clients of the next server"),
    bind(&[char('b')], Action::PreviousListener, "", "the clients of the server before"),
];

const EXPLAINED: &[(&str, &str)] = &[
    (
        "answers",
        "Of those that came within half a second: half of them took so long at most, and above that 99 of 100. The first \
         one of a connection counts from the moment at which it was meant to start, so what a client waits for a connect \
         is a part of it.",
    ),
    (
        "SYN sent again",
        "Connects whose SYN was not answered: it is sent again after 1 s, and then after 2 s, before Linux 6.5 after 3 s.",
    ),
    ("failures", "Connections and requests that failed, by kind."),
];

/// Rows of a graph that shows anything.
const LEAST: u16 = 4;
/// Columns from which on two graphs stand side by side.
const WIDE: u16 = 160;

/// The clients of a lab.
#[derive(Debug)]
struct Clients;

impl View for Clients {
    fn scope(&self, _: &State) -> &'static Scope {
        &KEYS
    }

    fn update(&mut self, action: Action, state: &mut State) -> Outcome {
        match action {
            Action::NextListener => state.select_neighbour(1),
            Action::PreviousListener => state.select_neighbour(-1),
            _ => return Outcome::Unchanged,
        }
        Outcome::Changed
    }

    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, model: Option<&Model>) {
        let theme = state.theme;
        let loads = state.lesson.as_ref().map(|lesson| loads(lesson, state)).unwrap_or_default();
        let Some(first) = loads.first() else {
            let what = if state.lesson.is_some() {
                "No client has begun yet."
            } else {
                "There are clients in a lab only: `cargo xtask demo`."
            };
            text::rule(buf, area, "Clients", theme);
            text::left(buf, area.x + 2, area.y + 2, area.width.saturating_sub(3), what, theme.label());
            return;
        };
        text::rule(buf, area, &format!("Clients of port {}: the last half minute", first.port), theme);
        let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        let marks: Vec<Mark> = model.map(|model| marks(model, first.port)).unwrap_or_default();
        let columns = if area.width >= WIDE { 2 } else { 1 };
        let room = columns * usize::from(below.height / LEAST);
        let rows = rows(&loads, room);
        for (cell, row) in cells(below, rows.len(), columns).into_iter().zip(rows) {
            Graph {
                title: format!(" {}", words::fit(&row.title, usize::from(cell.width).saturating_sub(2))),
                points: row.points,
                limit: None,
                top: None,
                style: &|value| (row.style)(theme, value),
                nothing: "nothing yet",
                marks: &marks,
            }
            .draw(buf, cell, theme);
        }
    }
}

/// The marks of this server, on the clock of the ticks.
fn marks(model: &Model, port: u16) -> Vec<Mark> {
    let here = model.marks.iter().filter(|mark| mark.port.is_none_or(|of| of == port));
    here.map(|mark| Mark { at: seconds(mark.monotonic_ns), ..mark.clone() }).collect()
}

fn seconds(monotonic_ns: u64) -> f64 {
    monotonic_ns as f64 / 1e9
}

/// Where graphs are: below each other, in so many columns.
fn cells(area: Rect, count: usize, columns: usize) -> Vec<Rect> {
    let mut cells = Vec::new();
    for row in &*Layout::vertical(vec![Constraint::Fill(1); count.div_ceil(columns)]).split(area) {
        cells.extend_from_slice(&Layout::horizontal(vec![Constraint::Fill(1); columns]).spacing(2).split(*row));
    }
    cells.truncate(count);
    cells
}

/// A graph's part that is its own.
struct Row {
    title: String,
    points: Vec<Point>,
    style: fn(Theme, f64) -> Style,
}

/// What is drawn where there is room for so many graphs: answers of each load, what went wrong, and last the queue.
/// With little room what went wrong is one graph, and the first loads are shown alone.
fn rows(loads: &[&Client], room: usize) -> Vec<Row> {
    let details = details(loads);
    let wrong = if loads.len() + details.len() < room { details } else { vec![trouble(loads)] };
    let wrong = if room < 3 { Vec::new() } else { wrong };
    let most = room.saturating_sub(wrong.len() + 1).max(1);
    let mut rows: Vec<Row> = loads.iter().take(most).map(|load| answers(load)).collect();
    rows.extend(wrong);
    if room > 1 {
        rows.push(depth(loads));
    }
    rows
}

/// How long the answers took.
fn answers(load: &Client) -> Row {
    let point = |tick: &Tick| Point { at: seconds(tick.monotonic_ns), value: tick.p50_ms, peak: tick.p99_ms };
    let latest = load.ticks.iter().rev().find(|tick| tick.p50_ms.is_some());
    let time = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| words::duration((ms * 1000.0) as u64));
    let now = latest.map_or_else(String::new, |tick| format!(": {}, {}", time(tick.p50_ms), time(tick.p99_ms)));
    Row {
        title: format!("{}: answers in ms, p50 and p99 (▔){now}", words::clean(&load.name)),
        points: load.ticks.iter().map(point).collect(),
        style: |theme, _| theme.flow(),
    }
}

/// A count per half second, of all loads together.
fn counted(title: String, loads: &[&Client], of: &dyn Fn(&Tick) -> u64) -> Row {
    let points = moments(loads).iter().zip(sums(loads, of)).map(|(tick, sum)| at(tick, sum)).collect();
    Row { title, points, style: |theme, value| if value > 0.0 { theme.warning() } else { theme.label() } }
}

fn at(tick: &Tick, value: u64) -> Point {
    Point { at: seconds(tick.monotonic_ns), value: Some(value as f64), peak: None }
}

/// All that went wrong, in one graph.
fn trouble(loads: &[&Client]) -> Row {
    counted("SYN sent again, and failures, per half second".to_owned(), loads, &|tick| tick.trouble)
}

/// What went wrong, in a graph for each kind.
fn details(loads: &[&Client]) -> Vec<Row> {
    let sum = |of: &dyn Fn(&Client) -> u64| loads.iter().map(|load| of(load)).sum::<u64>();
    let again = sum(&|load| load.syn_again);
    let mut rows =
        vec![counted(format!("SYN sent again after 1 s: {}", words::grouped(again)), loads, &|tick| tick.syn_again)];
    let twice = sum(&|load| load.syn_twice);
    if twice > 0 {
        let title = format!("SYN sent again twice, after 2 s, before Linux 6.5 after 3 s: {}", words::grouped(twice));
        rows.push(counted(title, loads, &|tick| tick.syn_twice));
    }
    let mut kinds: Vec<&str> = loads.iter().flat_map(|load| &load.failed).map(|(kind, _)| kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let of = |failed: &[(String, u64)]| failed.iter().filter(|(one, _)| one == kind).map(|(_, count)| count).sum();
        let title = format!("failures: {}: {}", words::clean(kind), words::grouped(sum(&|load| of(&load.failed))));
        rows.push(counted(title, loads, &|tick| of(&tick.failed)));
    }
    rows
}

/// The server's accept queue at the same moments.
fn depth(loads: &[&Client]) -> Row {
    Row {
        title: "accept queue depth of the server".to_owned(),
        points: moments(loads).iter().map(|tick| at(tick, tick.depth)).collect(),
        style: |theme, _| theme.flow(),
    }
}

#[cfg(test)]
mod tests {
    use lab_control::State as Lesson;

    use super::*;
    use crate::dashboard::{App, DashboardOptions, caption::tests::app_of, frame::picture};

    fn load() -> Client {
        let tick = |number: u64, syn_again, failed: &[(&str, u64)]| Tick {
            monotonic_ns: 1_000_000_000 + number * 500_000_000,
            answers: 20,
            p50_ms: Some(3.0),
            p99_ms: Some(40.0 + number as f64),
            syn_again,
            syn_twice: syn_again / 2,
            failed: failed.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
            trouble: syn_again + failed.iter().map(|(_, count)| count).sum::<u64>(),
            depth: number,
        };
        Client {
            name: "clients_here".to_owned(),
            port: 8080,
            syn_again: 14,
            syn_twice: 7,
            failed: vec![("reset".to_owned(), 5), ("timeout".to_owned(), 9)],
            ticks: vec![tick(1, 6, &[]), tick(2, 8, &[("timeout", 9)]), tick(3, 0, &[("reset", 5)])],
            ..Client::default()
        }
    }

    fn shown(size: (u16, u16), clients: Vec<Client>) -> String {
        let mut app = app_of(size, Lesson { clients, ..Lesson::default() });
        app.update(Action::Show("clients"));
        picture(&app)
    }

    #[test]
    fn every_kind_has_its_time_line_where_there_is_room() {
        for size in [(120, 40), (200, 60)] {
            let text = shown(size, vec![load()]);
            for part in [
                "Clients of port 8080",
                "clients_here: answers in ms, p50 and p99 (▔): 3.0ms, 43ms",
                "SYN sent again after 1 s: 14",
                "SYN sent again twice, after 2 s, before Linux 6.5 after 3 s: 7",
                "failures: reset: 5",
                "failures: timeout: 9",
                "accept queue depth of the server",
                "1 s ago",
            ] {
                assert!(text.contains(part), "{part} is not in\n{text}");
            }
        }
    }

    #[test]
    fn little_room_has_what_matters() {
        let text = shown((80, 24), vec![load()]);
        for part in ["clients_here: answers", "SYN sent again, and failures", "accept queue depth"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let loads = vec![Client { name: "first".to_owned(), ..load() }, Client { name: "second".to_owned(), ..load() }];
        assert!(shown((120, 40), loads).contains("second: answers"));
        for rows in 0..40 {
            shown((80, rows), vec![load(), load(), load()]);
            shown((17, rows), vec![load()]);
        }
    }

    #[test]
    fn loads_are_summed_and_aligned_at_the_end() {
        let late = Client { ticks: load().ticks[1..].to_vec(), ..load() };
        let loads = [&load(), &late];
        let values = |row: Row| row.points.iter().map(|point| point.value.unwrap_or(-1.0)).collect::<Vec<_>>();
        assert_eq!(values(trouble(&loads)), [6.0, 34.0, 10.0]);
        let kinds: Vec<Vec<f64>> = details(&loads).into_iter().map(values).collect();
        assert_eq!(kinds, [[6.0, 16.0, 0.0], [3.0, 8.0, 0.0], [0.0, 0.0, 10.0], [0.0, 18.0, 0.0]]);
    }

    #[test]
    fn without_clients_it_says_so() {
        assert!(shown((80, 24), Vec::new()).contains("No client has begun yet."));
        let mut app = App::new(DashboardOptions::default());
        app.update(Action::Resize(80, 24));
        app.update(Action::Show("clients"));
        assert!(picture(&app).contains("There are clients in a lab only"), "{}", picture(&app));
    }
}
