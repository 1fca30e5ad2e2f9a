//! Connections one by one: those that wait longest to be accepted, those whose bytes wait longest to be read, and those
//! whose handshakes take longest. They are listed while this view is on the screen.

mod line;

use std::net::IpAddr;

use crossterm::event::KeyCode;
use listentop_model::{
    coverage::{Measure, Status},
    model::Model,
    words::{self, connections::Sort},
};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::Line,
};

use self::line::{COLUMNS, Place, Sought, column_places, draw_line, in_order, sentence};
use super::overview::FILTER_KEYS;
use crate::dashboard::{
    action::Action,
    filter::Filter,
    keymap::{Binding, Key::Ctrl, Key::Plain, Others, Scope, bind, char},
    state::State,
    theme::Theme,
    view::{Declaration, Outcome, View},
    widgets::text,
};

pub(super) static VIEW: Declaration = Declaration {
    name: "connections",
    tab: Some("Conns"),
    key: Some(bind(
        &[char('7')],
        Action::Show("connections"),
        "",
        "connections one by one: those that wait longest to be accepted or read, and half-open ones, with their clients",
    )),
    over: false,
    scopes: &[&KEYS, &FILTER_KEYS],
    explained: ("In the list of connections", || COLUMNS.map(|column| (column.name, column.help)).to_vec()),
    lists_connections: true,
    needs_model: true,
    make: || Box::new(Connections::default()),
};

static KEYS: Scope =
    Scope { title: "Keys in the list of connections", others: Others::AsEverywhere, bindings: BINDINGS };

const BINDINGS: &[Binding] = &[
    bind(&[Plain(KeyCode::Esc), Plain(KeyCode::Backspace)], Action::Back, "back", "back"),
    bind(&[Plain(KeyCode::Enter)], Action::Open, "open", "open the listener that the connection came through"),
    bind(
        &[Plain(KeyCode::Tab)],
        Action::NextSection,
        "kind",
        "all; those to be accepted; those to be read; half-open ones",
    ),
    bind(&[Plain(KeyCode::BackTab)], Action::PreviousSection, "", "the same backwards"),
    bind(&[char('>'), char('.')], Action::SortNext, "", "sort by the next column"),
    bind(&[char('<'), char(',')], Action::SortPrevious, "", "sort by the column before"),
    bind(&[char('r')], Action::SortReverse, "", "reverse the order"),
    bind(
        &[char('/')],
        Action::FilterStart,
        "filter",
        "filter as you type: client, listener, process, accept, read or ack, closed or reset. Operators as in the overview",
    ),
    bind(&[char('x')], Action::FilterClear, "", "clear the filter"),
    bind(&[Plain(KeyCode::Up), char('k')], Action::Up, "", "one line up"),
    bind(&[Plain(KeyCode::Down), char('j')], Action::Down, "", "one line down"),
    bind(&[Plain(KeyCode::PageUp), Ctrl('b')], Action::PageUp, "", "one page up"),
    bind(&[Plain(KeyCode::PageDown), Ctrl('f')], Action::PageDown, "", "one page down"),
    bind(&[Plain(KeyCode::Home), char('g')], Action::First, "", "first line"),
    bind(&[Plain(KeyCode::End), char('G')], Action::Last, "", "last line"),
];

/// Which connection: its listener, what it waits for, its client.
type Id = (u64, Sort, IpAddr, u16);

/// Rows about the chosen connection, below the list.
const BELOW: u16 = 4;

/// The list, and where the user is in it.
#[derive(Debug, Default)]
struct Connections {
    /// In order.
    places: Vec<Place>,
    /// One sort only.
    only: Option<Sort>,
    /// The column that they are sorted by, and whether the other way round.
    by: usize,
    reversed: bool,
    filter: Filter,
    typing: bool,
    at: usize,
    /// The connection that is chosen; `None`: the first, whichever that is.
    chosen: Option<Id>,
}

/// Rows of the list with its heads, and of what is known of the chosen line.
fn parts(body: Rect) -> [Rect; 2] {
    Layout::vertical([Constraint::Min(0), Constraint::Length(BELOW)]).areas(body)
}

/// Lines of connections in a body.
fn visible_lines(body: Rect) -> usize {
    usize::from(parts(body)[0].height).saturating_sub(2)
}

impl Connections {
    fn choose(&mut self, at: usize, state: &State) {
        self.at = at.min(self.places.len().saturating_sub(1));
        let place = self.places.get(self.at).zip(state.model.as_deref());
        self.chosen = place.and_then(|(place, model)| place.id(model));
    }

    fn open_chosen(&mut self, state: &mut State) -> Outcome {
        self.choose(self.at, state);
        match self.chosen {
            Some((listener, ..)) if state.select_listener(listener) => Outcome::Show("listener"),
            Some(_) => {
                state.message = Some("this listener is hidden: by the filter of the overview".to_owned());
                Outcome::Changed
            }
            None => Outcome::Unchanged,
        }
    }

    fn edit_filter(&mut self, edit: impl FnOnce(&mut String)) {
        let mut typed = self.filter.typed().to_owned();
        edit(&mut typed);
        self.filter = Filter::new(&typed);
    }

    fn sort_by(&mut self, column: usize) {
        self.reversed = column == self.by && !self.reversed;
        self.by = column;
        // Whoever sorts wants to see the top.
        (self.chosen, self.at) = (None, 0);
    }

    fn show_only(&mut self, forwards: bool) {
        // All stand before the first sort and behind the last.
        let at = self.only.map_or(0, |only| 1 + Sort::ALL.iter().position(|sort| *sort == only).unwrap_or(0));
        let step = if forwards { 1 } else { Sort::ALL.len() };
        self.only = ((at + step) % (Sort::ALL.len() + 1)).checked_sub(1).map(|at| Sort::ALL[at]);
    }
}

impl View for Connections {
    /// Follows the model, and stays with the connection that is chosen.
    fn arrange(&mut self, state: &State) {
        let Some(model) = state.model.as_deref() else { return };
        let sought = Sought { only: self.only, filter: &self.filter, by: self.by, reversed: self.reversed };
        self.places = in_order(model, &sought);
        let chosen = |place: &Place| place.id(model) == self.chosen;
        let at = match self.chosen {
            Some(_) => self.places.iter().position(chosen).unwrap_or(self.at),
            None => 0,
        };
        self.at = at.min(self.places.len().saturating_sub(1));
    }

    fn scope(&self, _: &State) -> &'static Scope {
        if self.typing { &FILTER_KEYS } else { &KEYS }
    }

    fn update(&mut self, action: Action, state: &mut State) -> Outcome {
        let columns = COLUMNS.len();
        match action {
            Action::Open => return self.open_chosen(state),
            Action::PickLine(at) if at == self.at && self.chosen.is_some() => return self.open_chosen(state),
            Action::PickLine(at) => self.choose(at, state),
            Action::NextSection | Action::PreviousSection => self.show_only(action == Action::NextSection),
            Action::SortNext => self.sort_by((self.by + 1) % columns),
            Action::SortPrevious => self.sort_by((self.by + columns - 1) % columns),
            Action::SortReverse => self.sort_by(self.by),
            Action::PickSection(column) if column < columns => self.sort_by(column),
            Action::FilterStart => self.typing = true,
            Action::FilterAccept => self.typing = false,
            Action::FilterInput(c) => self.edit_filter(|filter| filter.push(c)),
            Action::FilterErase => self.edit_filter(|filter| _ = filter.pop()),
            Action::FilterClear => {
                self.typing = false;
                self.edit_filter(String::clear);
            }
            movement => {
                let before = self.at;
                let last = self.places.len().saturating_sub(1);
                let to = movement.travel(self.at, visible_lines(state.body()), last);
                if to != before {
                    self.choose(to, state);
                }
                return Outcome::changed_if(before != self.at);
            }
        }
        self.arrange(state);
        Outcome::Changed
    }

    fn copies(&self, state: &State) -> Option<String> {
        sentence(self.places.get(self.at)?, state.model.as_deref()?)
    }

    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, model: Option<&Model>) {
        let (Some(model), theme) = (model, state.theme) else { return };
        let [list, below] = parts(area);
        text::rule(buf, list, &self.title(model), theme);
        let rows = Rect { y: list.y + 2, height: list.height.saturating_sub(2), ..list };
        if self.places.is_empty() {
            let room = usize::from(rows.width).saturating_sub(2);
            let lines = words::wrap(&self.nothing(state, model), room);
            for (y, line) in (rows.y..rows.bottom()).zip(lines) {
                text::left(buf, rows.x + 1, y, rows.width - 1, &line, theme.strong());
            }
            return;
        }
        let columns = column_places(model, &self.places, list);
        self.draw_heads(buf, list, &columns, state);
        let visible = usize::from(rows.height);
        let first = (self.at + 1).saturating_sub(visible);
        for (y, (at, place)) in (rows.y..rows.bottom()).zip(self.places.iter().enumerate().skip(first)) {
            let line = Rect { y, height: 1, width: rows.width - 1, ..rows };
            draw_line(buf, line, &columns, (model, place), theme);
            text::highlight(buf, line, self.filter.words(), theme.matched());
            if at == self.at {
                text::put(buf, line.x, y, 1, "›", theme.strong());
                theme.select(buf, line);
                draw_chosen(buf, below, model, place, theme);
            }
            state.hits.borrow_mut().add(line, Action::PickLine(at));
        }
        text::scrollbar(buf, rows, self.places.len(), first, theme);
    }
}

impl Connections {
    /// How many there are, how many of them are listed, and the filter.
    fn title(&self, model: &Model) -> String {
        let count = |sort: Sort| {
            let lists = || model.listeners.iter().filter_map(|listener| listener.connections.as_ref());
            let lists = lists().map(|lists| sort.of(lists));
            lists.fold((0, 0), |(listed, total), list| (listed + list.connections.len() as u64, total + list.total))
        };
        let part = |sort, what: &str, beyond: u64| {
            let (listed, total) = count(sort);
            let total = total + beyond;
            let of = if listed < total { format!("{} of ", words::grouped(listed)) } else { String::new() };
            format!("{of}{} {what}", words::grouped(total))
        };
        let unlisted = model.listing.map_or(0, |listing| listing.unlisted);
        let of_sort = |sort| match sort {
            Sort::Waiting => part(sort, "to be accepted", 0),
            Sort::Unread => part(sort, "to be read", unlisted),
            Sort::HalfOpen => part(sort, "half open", 0),
        };
        let shown = match self.only {
            _ if model.listing.is_none() => String::new(),
            Some(only) => format!(": {}", of_sort(only)),
            None => format!(": {}", Sort::ALL.map(of_sort).join(", ")),
        };
        let filter = match (self.typing, self.filter.typed()) {
            (true, typed) => format!(" · filter: {typed}▏"),
            (false, "") => String::new(),
            (false, typed) => format!(" · filter: {typed} (x clears)"),
        };
        format!("Connections{shown}{filter}")
    }

    /// Why none is shown.
    fn nothing(&self, state: &State, model: &Model) -> String {
        let unavailable = |measure| words::status(model, measure) == Status::Unavailable;
        let why = |measure| {
            let entry = model.coverage.iter().find(|entry| entry.measure == measure);
            entry.map_or_else(|| "not in what was recorded".to_owned(), |entry| words::clean(&entry.reason))
        };
        let of_sort = |sort| match sort {
            Sort::Waiting => (Measure::WaitingConnections, "Accept queues are"),
            Sort::Unread => (Measure::UnreadConnections, "Unread bytes are"),
            Sort::HalfOpen => (Measure::HalfOpenConnections, "Half-open connections are"),
        };
        let sought: Vec<_> = Sort::ALL.into_iter().filter(|sort| self.only.is_none_or(|only| only == *sort)).collect();
        let unknown: Vec<_> =
            sought.iter().map(|sort| of_sort(*sort)).filter(|(measure, _)| unavailable(*measure)).collect();
        if Sort::ALL.into_iter().all(|sort| unavailable(of_sort(sort).0)) {
            return format!("Connections cannot be listed here: {}.", why(Measure::WaitingConnections));
        }
        if model.listing.is_none() {
            let text = match () {
                () if state.options.is_replay => {
                    "The recording has no connections here: 'listentop record --connections N' lists them."
                }
                () if state.is_past() => {
                    "Connections are listed while this view is open: they were not at that moment."
                }
                () if state.paused => "Paused: connections are listed when it goes on (p).",
                () => "Reading the connections…",
            };
            return text.to_owned();
        }
        let waits = match self.only {
            _ if !self.filter.is_empty() => "No connection passes the filter.".to_owned(),
            Some(Sort::Waiting) => "No connection waits to be accepted.".to_owned(),
            Some(Sort::Unread) => "No accepted connection has unread bytes.".to_owned(),
            Some(Sort::HalfOpen) => "No connection is half open.".to_owned(),
            None => "No connection waits, neither to be accepted nor to be read, and none is half open.".to_owned(),
        };
        // What is not known is not denied.
        let waits = if sought.len() == unknown.len() { String::new() } else { waits + " " };
        let unknown = unknown.iter().map(|(measure, what)| format!("{what} not known here: {}.", why(*measure)));
        format!("{waits}{}", unknown.collect::<Vec<_>>().join(" ")).trim_end().to_owned()
    }

    fn draw_heads(&self, buf: &mut Buffer, list: Rect, columns: &[(u16, u16)], state: &State) {
        let y = list.y + 1;
        for (at, (column, &(x, width))) in COLUMNS.iter().zip(columns).enumerate().filter(|(_, (_, c))| c.1 > 0) {
            let is_sorted = at == self.by;
            let style = if is_sorted { state.theme.strong() } else { state.theme.label() };
            let mark = match (is_sorted, self.reversed) {
                (true, false) => "▼",
                (true, true) => "▲",
                (false, _) => "",
            };
            let head = format!("{}{mark}", column.name);
            let put = if column.right { text::right } else { text::left };
            put(buf, x, y, width, &head, style);
            state.hits.borrow_mut().add(Rect { x, y, width, height: 1 }, Action::PickSection(at));
        }
    }
}

/// The chosen connection in a sentence.
fn draw_chosen(buf: &mut Buffer, area: Rect, model: &Model, place: &Place, theme: Theme) {
    text::rule(buf, area, "", theme);
    let room = usize::from(area.width).saturating_sub(3);
    let lines = sentence(place, model).map(|text| words::wrap(&text, room)).unwrap_or_default();
    for (y, line) in (area.y + 1..area.bottom()).zip(lines) {
        text::line(buf, Rect { y, height: 1, ..area }, Line::styled(format!(" {line}"), Style::new()));
    }
}

#[cfg(test)]
mod tests;
