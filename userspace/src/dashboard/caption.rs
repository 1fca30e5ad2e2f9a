//! In a lab: what the lesson is about now, what it expects, and keys that act on it.
//!
//! The caption is the last part of the header. What it shows comes from the lab (docs/lab-control.md), and what its
//! keys request goes there.

use crossterm::event::{KeyCode, KeyEvent};
use lab_control::{Act, Expected, State as Lesson};
use listentop_model::words;
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{action::Action, state::State, widgets::text};

pub(super) mod clients;

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
    let of_clients = marks.zip(clients::lines(lesson, state, room));
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
pub(super) mod tests;
