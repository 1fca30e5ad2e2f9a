//! In a lab: what the lesson is about now, what it expects, and keys that act on it.
//!
//! The caption is the last part of the header. What it shows comes from the lab (docs/lab-control.md), and what its
//! keys request goes there.

use crossterm::event::{KeyCode, KeyEvent};
use lab_control::{Act, Client, Expected, State as Lesson, Tick};
use listentop_model::words;
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{action::Action, state::State, widgets::text};

/// What a key requests of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LabKey {
    /// Stall the selected server, or release it.
    Stall,
    /// Less load.
    Less,
    /// More load.
    More,
    /// Half the backlog of the selected server.
    Halve,
    /// Twice the backlog.
    Double,
    /// One more acceptor, or one more shard, for the selected server.
    Add,
    /// The next value of tcp_syncookies.
    Cookies,
    /// The next step.
    Next,
    /// The lesson from its beginning.
    Repeat,
    /// The menu of lessons.
    Course,
}

/// The function keys, each with a word, and with words where there is room. F1 and F11 belong to many terminals.
const KEYS: [(u8, LabKey, &str, &str); 10] = [
    (2, LabKey::Stall, "stall", "stall, release"),
    (3, LabKey::Less, "less", "less load"),
    (4, LabKey::More, "more", "more load"),
    (5, LabKey::Halve, "half", "half the backlog"),
    (6, LabKey::Double, "twice", "twice"),
    (7, LabKey::Add, "add", "add an acceptor"),
    (8, LabKey::Cookies, "cookie", "cookies "),
    (9, LabKey::Next, "next", "next step"),
    (10, LabKey::Course, "course", "course"),
    (12, LabKey::Repeat, "repeat", "repeat"),
];

/// The key that opens the view of the clients; it stands before their line.
const CLIENTS: &str = "C";

/// Columns from which on there is room for words.
const WIDE: u16 = 130;

/// The shares of the lesson's load, in percent, that two keys go through.
const RATES: [u32; 10] = [10, 25, 50, 75, 100, 125, 150, 200, 300, 500];

/// Rows of a terminal from which on there is room for several expectations, and for the clients over time.
const TALL: u16 = 36;
/// Rows that expectations take: on a terminal that is not tall enough for two for one long sentence or two short ones.
const FEW_ROWS: usize = 2;
const MANY_ROWS: usize = 4;

/// What a key means in a lab, apart from its meaning elsewhere.
pub(super) fn action(event: KeyEvent) -> Option<Action> {
    let KeyCode::F(number) = event.code else { return None };
    KEYS.iter().find(|(key, ..)| *key == number).map(|(_, key, ..)| Action::Lab(*key))
}

/// What to ask the lab for. `None`: it means nothing now.
pub(super) fn act(key: LabKey, state: &State) -> Option<Act> {
    let lesson = state.lesson.as_ref()?;
    let selected = state.selected_item();
    let port = selected.as_ref().map(|item| item.figures().port);
    let server = port.map(|port| port.to_string());
    let backlog = selected.as_ref().map(|item| item.figures().now.backlog);
    let rate = |more: bool| {
        let mut rates = RATES.iter().copied();
        let next = if more { rates.find(|rate| *rate > lesson.rate) } else { rates.rfind(|rate| *rate < lesson.rate) };
        next.map(|percent| Act::Rate { load: None, percent })
    };
    Some(match key {
        LabKey::Stall if port.is_some_and(|port| lesson.stalled.contains(&port)) => Act::Release { server },
        LabKey::Stall => Act::Stall { server },
        LabKey::Less => rate(false)?,
        LabKey::More => rate(true)?,
        LabKey::Halve => Act::Backlog { server, backlog: (backlog? / 2).max(1) },
        LabKey::Double => Act::Backlog { server, backlog: backlog?.saturating_mul(2).max(1) },
        LabKey::Add => Act::AddAcceptor { server },
        LabKey::Cookies => Act::Cookies { value: (lesson.cookies + 1) % 3 },
        LabKey::Next => Act::NextStep,
        LabKey::Repeat => Act::Repeat,
        LabKey::Course => Act::Course,
    })
}

/// The loads of the selected server, or of the first one that has any.
pub(super) fn loads<'a>(lesson: &'a Lesson, state: &State) -> Vec<&'a Client> {
    let port = state.selected_item().map(|item| item.figures().port);
    let of = |port| lesson.clients.iter().filter(|client| client.port == port).collect::<Vec<_>>();
    let clients = port.map(of).unwrap_or_default();
    if clients.is_empty() { lesson.clients.first().map(|first| of(first.port)).unwrap_or_default() } else { clients }
}

/// What the clients of the selected server got: one line for all of its loads; where there is room, one for each, and
/// the last half minute over the depth of the server's queue, on one time axis.
fn clients(lesson: &Lesson, state: &State, room: usize) -> Vec<String> {
    let clients = loads(lesson, state);
    let tall = state.size.1 >= TALL;
    let mut lines = match &clients[..] {
        [] => return Vec::new(),
        [client] => vec![of_client(None, client, room)],
        several if tall => several.iter().map(|client| of_client(Some(&client.name), client, room)).collect(),
        several => vec![of_several(several, room)],
    };
    if tall {
        let row = |label: &str, of: fn(&Tick) -> u64, unit: &str| {
            let values = together(&clients, of);
            let most = values.iter().copied().max().unwrap_or(0);
            format!("{label:<20} {} at most {most}{unit}", bars(&values, most))
        };
        lines.push(row("retries, failures", |tick| tick.trouble, " in half a second"));
        let depths: Vec<u64> = clients[0].ticks.iter().map(|tick| tick.depth).collect();
        let most = depths.iter().copied().max().unwrap_or(0);
        lines.push(format!("{:<20} {} at most {most} connections", "accept queue", bars(&depths, most)));
    }
    lines
}

/// The sums over loads at each moment. Those that began later have fewer moments.
fn together(clients: &[&Client], of: fn(&Tick) -> u64) -> Vec<u64> {
    let moments = clients.iter().map(|client| client.ticks.len()).max().unwrap_or(0);
    let mut sums = vec![0; moments];
    for client in clients {
        for (sum, tick) in sums.iter_mut().rev().zip(client.ticks.iter().rev()) {
            *sum += of(tick);
        }
    }
    sums
}

/// What the clients of several loads got, in one line.
fn of_several(clients: &[&Client], room: usize) -> String {
    let joined = |of: &dyn Fn(&Client) -> String| {
        let parts: Vec<String> = clients.iter().map(|client| of(client)).collect();
        words::clean(&parts.join("; "))
    };
    let served = |client: &Client| {
        if client.served == 0 && client.answers > 0 {
            format!("{} answers", words::grouped(client.answers))
        } else {
            format!("{}/{} served", words::grouped(client.served), words::grouped(client.due))
        }
    };
    let lines = [
        joined(&|client| {
            let (p50, p99) = (time(client.p50_ms), time(client.p99_ms));
            format!("{}: {}, answer p50 {p50} p99 {p99}{}", client.name, served(client), failed(client))
        }),
        joined(&|client| format!("{}: {}, p50 {}{}", client.name, served(client), time(client.p50_ms), failed(client))),
        joined(&|client| format!("{}: {}, p50 {}", client.name, served(client), time(client.p50_ms))),
        joined(&|client| format!("{}: {}", client.name, served(client))),
    ];
    let fits = lines.iter().find(|line| words::width(line) <= room).unwrap_or(&lines[lines.len() - 1]);
    words::fit(fits, room)
}

fn time(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| words::duration((ms * 1000.0) as u64))
}

fn failed(client: &Client) -> String {
    let kinds = client.failed.iter().map(|(kind, count)| format!(", {kind} {}", words::grouped(*count)));
    kinds.collect()
}

/// What the clients of one load got, in a line. Where that has no room, the line says less, but cuts nothing. It names
/// the load if there are others.
fn of_client(name: Option<&str>, client: &Client, room: usize) -> String {
    let (long, short) = name.map_or(("clients: ".to_owned(), String::new()), |name| {
        let named = format!("{name}: ");
        (named.clone(), named)
    });
    let (due, served) = (words::grouped(client.due), words::grouped(client.served));
    // Subscribers are served as long as they stay.
    let [of, brief] = if client.served == 0 && client.answers > 0 {
        let of = format!("{due} connected, {} answers", words::grouped(client.answers));
        [of.clone(), of]
    } else {
        [format!("{served} of {due} served"), format!("{served}/{due} served")]
    };
    let times = format!("p50 {} p99 {}", time(client.p50_ms), time(client.p99_ms));
    let again = (client.syn_again > 0).then(|| format!(", SYN again {}", words::grouped(client.syn_again)));
    let again = again.unwrap_or_default();
    let twice = if again.is_empty() { String::new() } else { format!(", twice {}", words::grouped(client.syn_twice)) };
    let failed = failed(client);
    let lines = [
        format!("{long}{of}, first answer {times}{again}{twice}{failed}"),
        format!("{long}{of}, answer {times}{again}{twice}{failed}"),
        format!("{short}{brief}, answer {times}{again}{twice}{failed}"),
        format!("{short}{of}, answer {times}{again}{failed}"),
        format!("{short}{of}{again}{failed}"),
    ];
    let lines = lines.map(|line| words::clean(&line));
    let fits = lines.iter().find(|line| words::width(line) <= room).unwrap_or(&lines[lines.len() - 1]);
    words::fit(fits, room)
}

/// A bar for each value.
fn bars(values: &[u64], most: u64) -> String {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |value: &u64| EIGHTHS[(value * 8).div_ceil(most.max(1)).min(8) as usize];
    values.iter().map(bar).collect()
}

/// Rows that the caption takes: none outside of a lab.
pub(super) fn height(state: &State) -> u16 {
    state.lesson.as_ref().map_or(0, |lesson| lines(lesson, state).len() as u16 + 1)
}

/// A line of the caption.
struct Line {
    mark: &'static str,
    text: String,
    style: Style,
}

/// Its lines but the last, which has the keys.
fn lines(lesson: &Lesson, state: &State) -> Vec<Line> {
    let (columns, rows) = state.size;
    let room = usize::from(columns).saturating_sub(4);
    let mut lines = vec![Line { mark: "", text: head(lesson, room + 2), style: state.theme.title() }];
    let watch = words::wrap(&words::clean(&lesson.watch), room);
    lines.extend(watch.into_iter().take(3).map(|text| Line { mark: "", text, style: state.theme.strong() }));
    let most = if rows < TALL { FEW_ROWS } else { MANY_ROWS };
    lines.extend(expectations(&lesson.expected, state, room, most));
    let marks = std::iter::once(CLIENTS).chain(std::iter::repeat(" "));
    let of_clients = marks.zip(clients(lesson, state, room));
    lines.extend(of_clients.map(|(mark, text)| Line { mark, text, style: Style::new() }));
    lines
}

/// Lesson, step and how many expectations hold.
fn head(lesson: &Lesson, room: usize) -> String {
    let left = match lesson.left {
        Some(seconds) => format!("{seconds} s left"),
        // The load waits until this dashboard measures.
        None if lesson.number == 0 => "begins soon".to_owned(),
        None => "over: q shows the outcome".to_owned(),
    };
    let load = if lesson.rate == 100 { String::new() } else { format!("  load {} %", lesson.rate) };
    let name = format!("{}  {}/{} {}  {left}{load}", lesson.lesson, lesson.number, lesson.steps, lesson.step);
    let (holding, of) = (lesson.holding(), lesson.expected.len());
    let all = if holding == of { "holds so far" } else { "so far" };
    let score = format!("[{all}; {holding} of {of}]");
    // What was done last, where there is room for it.
    let act = lesson.last_act.as_ref().map_or(String::new(), |act| format!("  {}", words::clean(act)));
    let name = words::fit(&(name + &act), room.saturating_sub(words::width(&score) + 1));
    let gap = room.saturating_sub(words::width(&name) + words::width(&score)).max(1);
    format!("{name}{}{score}", " ".repeat(gap))
}

/// The expectations that say most: those that do not hold, then those that are not known, then the others. As many as
/// have room in this many rows, each whole. All rows are taken, so that nothing below jumps.
fn expectations(expected: &[Expected], state: &State, room: usize, rows: usize) -> Vec<Line> {
    if expected.is_empty() {
        return Vec::new();
    }
    let mut shown: Vec<&Expected> = expected.iter().collect();
    shown.sort_by_key(|expected| match expected.holds {
        Some(false) => 0,
        None => 1,
        Some(true) => 2,
    });
    let rows = rows.min(expected.len().max(FEW_ROWS));
    let mut lines = Vec::new();
    for expected in shown {
        let (mark, style) = match expected.holds {
            Some(true) => ("✓", state.theme.flow()),
            Some(false) => ("✗", state.theme.warning()),
            None => ("?", state.theme.label()),
        };
        let value = expected.value.as_ref().map_or_else(|| "not known yet".to_owned(), |value| format!("now {value}"));
        // Bounds and value stay whole.
        let value = format!(": {} | {value}", words::clean(&expected.bounds));
        let what = words::clean(&expected.what);
        let mut texts = words::wrap(&format!("{what}{value}"), room);
        if texts.len() > rows {
            let left = (rows * room).saturating_sub(words::width(&value) + room / 2);
            texts = words::wrap(&(words::fit(&what, left) + &value), room);
            texts.truncate(rows);
        }
        if lines.len() + texts.len() <= rows {
            let marks = std::iter::once(mark).chain(std::iter::repeat(" "));
            lines.extend(marks.zip(texts).map(|(mark, text)| Line { mark, text, style }));
        }
    }
    lines.resize_with(rows, || Line { mark: "", text: String::new(), style: Style::new() });
    lines
}

/// Draws it into the last rows of the header.
pub(super) fn draw(buf: &mut Buffer, header: Rect, state: &State) {
    let Some(lesson) = &state.lesson else { return };
    let height = height(state).min(header.height);
    let mut y = header.bottom() - height;
    for line in lines(lesson, state) {
        if y + 1 >= header.bottom() {
            break;
        }
        let style = if line.mark == CLIENTS { state.theme.strong() } else { line.style };
        text::put(buf, header.x + 1, y, 1, line.mark, style);
        if line.mark == CLIENTS {
            state.hits.borrow_mut().add(Rect { y, height: 1, ..header }, Action::Show("clients"));
        }
        let indent = if line.mark.is_empty() { 1 } else { 3 };
        text::put(buf, header.x + indent, y, header.width.saturating_sub(indent + 1), &line.text, line.style);
        y += 1;
    }
    draw_keys(buf, Rect { y, height: 1, ..header }, lesson, state);
}

/// The keys, each of which can be clicked, with the values that they change.
fn draw_keys(buf: &mut Buffer, area: Rect, lesson: &Lesson, state: &State) {
    let theme = state.theme;
    let mut x = area.x + 1;
    for (number, key, word, words) in KEYS {
        let mut word = if area.width < WIDE { word } else { words }.to_owned();
        if key == LabKey::Cookies {
            word += &lesson.cookies.to_string();
        }
        let name = format!("F{number}");
        let width = (name.len() + words::width(&word)) as u16;
        if x + width > area.right() {
            return;
        }
        text::put(buf, x, area.y, width, &name, theme.strong());
        text::put(buf, x + name.len() as u16, area.y, width, &word, theme.label());
        state.hits.borrow_mut().add(Rect { x, y: area.y, width, height: 1 }, Action::Lab(key));
        x += width + 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crossterm::event::KeyModifiers;
    use lab_control::Client;
    use listentop_model::{fixtures, sample::MarkSample, tracker::Tracker};
    use ratatui::style::Modifier;

    use super::*;
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
            watch: "The accept queue stays full at 9. Drops go up: SYNs and final ACKs that found no room. The server sleeps \
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
        let samples = fixtures::overflow();
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        let mut app = App::new(DashboardOptions::default());
        app.update(Action::Resize(size.0, size.1));
        app.set_model(Arc::new(tracker.model().clone()));
        app.set_lesson(lesson());
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
        app.set_lesson(Lesson {
            expected: vec![expected(&longest, bounds, None), expected("b", "1", None)],
            ..lesson()
        });
        let small = picture(&app);
        assert!(small.contains("…: 120 to 260") && small.contains("more for busy CPUs | not known yet"), "{small}");
        assert_eq!(height_of(&app), before, "nothing jumps");

        let many =
            Client { due: 1_815, served: 1_430, syn_again: 1_448, syn_twice: 1_329, ..lesson().clients[0].clone() };
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
        let with = |size| {
            let mut app = app(size);
            let clients = vec![old.clone(), new.clone(), elsewhere.clone()];
            app.set_lesson(Lesson { clients, ..lesson() });
            picture(&app)
        };
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
}
