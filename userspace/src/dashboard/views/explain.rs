//! What a figure is, how it is measured here, what the selected listener has, and what is normal.

use crossterm::event::KeyCode;
use listentop_model::{
    coverage::{Measure, Status},
    model::Model,
    words,
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use crate::dashboard::{
    action::Action,
    column::Column,
    group::Item,
    keymap::{Binding, Key::Plain, Others, Scope, bind, char},
    state::State,
    theme::Theme,
    view::{Declaration, Outcome, View},
    widgets::text,
};

pub(super) static VIEW: Declaration = Declaration {
    name: "explain",
    tab: Some("Explain"),
    key: Some(bind(
        &[char('6')],
        Action::Show("explain"),
        "",
        "what a figure is, how it is measured here, and what is normal",
    )),
    over: false,
    scopes: &[&KEYS],
    explained: ("In the explanations", Vec::new),
    lists_connections: false,
    needs_model: true,
    make: || Box::new(Explain::default()),
};

static KEYS: Scope = Scope { title: "Keys in the explanations", others: Others::AsEverywhere, bindings: BINDINGS };

const BINDINGS: &[Binding] = &[
    bind(&[Plain(KeyCode::Esc), Plain(KeyCode::Backspace)], Action::Back, "back", "back"),
    bind(&[Plain(KeyCode::Up), char('k')], Action::Up, "choose", "the figure above"),
    bind(&[Plain(KeyCode::Down), char('j')], Action::Down, "", "the figure below"),
    bind(&[Plain(KeyCode::PageUp)], Action::PageUp, "", "one page up"),
    bind(&[Plain(KeyCode::PageDown)], Action::PageDown, "", "one page down"),
    bind(&[Plain(KeyCode::Home), char('g')], Action::First, "", "the first figure"),
    bind(&[Plain(KeyCode::End), char('G')], Action::Last, "", "the last figure"),
    bind(&[char('n')], Action::NextListener, "next", "the same of the next listener"),
    bind(&[char('b')], Action::PreviousListener, "", "the same of the listener before"),
];

/// A figure that is explained.
struct Entry {
    name: &'static str,
    what: &'static str,
    normal: &'static str,
    measure: Option<Measure>,
    column: Option<Column>,
}

/// Figures that are no column of the overview.
const OTHERS: [Entry; 9] = [
    other(
        "handshake",
        "From the SYN-ACK until the final ACK: about one round trip to the client.",
        "The network's round trip to your clients: under 1 ms in a data centre, tens of milliseconds across the internet.",
        Measure::Handshake,
    ),
    other(
        "enqueued/s",
        "Handshakes completed: connections put on the accept queue per second.",
        "As many as are accepted. More: the queue grows.",
        Measure::Enqueued,
    ),
    other(
        "SYN-ACK again",
        "SYN-ACKs that were sent again: the final ACK was late, lost or refused.",
        "0 on a local network; a little where clients are far away or lose packets.",
        Measure::SynackRetransmits,
    ),
    other(
        "would-block",
        "Accepts per second that returned EAGAIN: a thread was woken and found no connection.",
        "About one for each time the queue is emptied. Many per accept: several threads wake up for each connection.",
        Measure::WouldBlock,
    ),
    other(
        "client gone",
        "Accepts that went to clients that had closed or reset the connection while they waited.",
        "0. Some where clients give up soon, such as health checks. Many: clients wait too long to be accepted.",
        Measure::ClientGone,
    ),
    other(
        "first byte",
        "From accept until the client's first byte arrives.",
        "<1µs where clients send at once; long where they keep connections open in advance. The server cannot change it.",
        Measure::FirstByte,
    ),
    other(
        "first read",
        "From accept until the server's first read.",
        "Little more than first byte. Much more: the server is slow to look.",
        Measure::FirstRead,
    ),
    other(
        "unread",
        "Bytes that arrived on open connections and are not read yet.",
        "Near 0, with short peaks. Staying high: readers are stuck, or wait for something else.",
        Measure::QueuedBytes,
    ),
    other(
        "answer",
        "From the arrival of the first unread byte until the first write after it was read: the server's own time.",
        "What your service promises. It is residency and the work on the request together.",
        Measure::Answer,
    ),
];

const fn other(name: &'static str, what: &'static str, normal: &'static str, measure: Measure) -> Entry {
    Entry { name, what, normal, measure: Some(measure), column: None }
}

/// Every figure that is explained: the columns first.
fn entries() -> impl Iterator<Item = Entry> {
    let column = |column: Column| {
        let spec = column.spec();
        Entry { name: spec.name, what: spec.help, normal: spec.normal, measure: spec.measure, column: Some(column) }
    };
    Column::ALL.into_iter().map(column).chain(OTHERS)
}

/// The figure that is chosen.
#[derive(Debug, Default)]
struct Explain {
    at: usize,
}

/// Columns of the names.
const NAMES: u16 = 24;

impl View for Explain {
    fn scope(&self, _: &State) -> &'static Scope {
        &KEYS
    }

    fn update(&mut self, action: Action, state: &mut State) -> Outcome {
        let last = entries().count() - 1;
        let before = (self.at, state.selected_id());
        match action {
            Action::PickLine(at) => self.at = at.min(last),
            Action::PickColumn(column) => self.at = column as usize,
            Action::NextListener => state.select_neighbour(1),
            Action::PreviousListener => state.select_neighbour(-1),
            movement => self.at = movement.travel(self.at, state.body().height.saturating_sub(1).into(), last),
        }
        Outcome::changed_if(before != (self.at, state.selected_id()))
    }

    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, model: Option<&Model>) {
        let (Some(model), theme) = (model, state.theme) else { return };
        text::rule(buf, area, "What the figures are, how they are measured here, and what is normal", theme);
        let names = Rect { x: area.x, y: area.y + 1, width: NAMES, height: area.height - 1 };
        let first = (self.at + 1).saturating_sub(names.height.into());
        for (y, (at, entry)) in (names.y..names.bottom()).zip(entries().enumerate().skip(first)) {
            let line = Rect { y, height: 1, ..names };
            text::left(buf, line.x + 2, y, NAMES - 2, entry.name, Style::new());
            if at == self.at {
                text::put(buf, line.x, y, 1, "›", theme.strong());
                theme.select(buf, line);
            }
            state.hits.borrow_mut().add(line, Action::PickLine(at));
        }
        let Some(entry) = entries().nth(self.at) else { return };
        let place = Rect { x: names.right() + 2, width: area.width.saturating_sub(NAMES + 3), ..names };
        let lines = explanation(&entry, state, model, place.width);
        for (y, line) in (place.y..place.bottom()).zip(lines) {
            text::line(buf, Rect { y, height: 1, ..place }, line);
        }
    }
}

/// What is said about a figure, in lines of this width.
fn explanation(entry: &Entry, state: &State, model: &Model, width: u16) -> Vec<Line<'static>> {
    let theme = state.theme;
    let mut lines = vec![Line::styled(entry.name, theme.title())];
    let mut paragraph = |title: &'static str, text: &str, style: Style| {
        lines.push(Line::raw(""));
        lines.push(Line::from(Span::styled(title, theme.label())));
        lines.extend(words::wrap(text, width.into()).into_iter().map(|line| Line::styled(line, style)));
    };
    paragraph("What it is", entry.what, Style::new());
    if let Some((item, column)) = state.selected_item().zip(entry.column)
        && column != Column::Trend
    {
        let endpoint = words::listener_endpoint(item.figures());
        paragraph("Now", &format!("{endpoint}: {}", now(column, item, model)), theme.strong());
    }
    if let Some(measure) = entry.measure {
        let (words, style) = measured(measure, model, theme);
        paragraph("How it is measured here", &words, style);
    }
    paragraph("What is normal", entry.normal, Style::new());
    lines
}

fn now(column: Column, item: Item<'_>, model: &Model) -> String {
    let text = column.text(item, model);
    if text.is_empty() { words::NOTHING.to_owned() } else { words::clean(&text) }
}

/// By which hooks a measure is taken, and why not better.
fn measured(measure: Measure, model: &Model, theme: Theme) -> (String, Style) {
    let Some(coverage) = model.coverage.iter().find(|coverage| coverage.measure == measure) else {
        return ("not at all: the source does not know it".to_owned(), theme.warning());
    };
    let (how, style) = match coverage.status {
        Status::Measured => ("Every event is counted", Style::new()),
        Status::Sampled => {
            ("Sampled: seen at intervals, inferred, or a bound; ~ stands before the number", theme.warning())
        }
        Status::Unavailable => ("Not available here; n/a stands for the number", theme.warning()),
    };
    let via = if coverage.via.is_empty() { String::new() } else { format!(", by {}", coverage.via) };
    let reason = if coverage.reason.is_empty() { String::new() } else { format!(": {}", coverage.reason) };
    (words::clean(&format!("{how}{via}{reason}.")), style)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use listentop_model::{fixtures, tracker::Tracker};

    use super::*;
    use crate::dashboard::{App, DashboardOptions, frame::picture};

    #[test]
    fn every_figure_has_a_sentence_of_what_it_is_and_what_is_normal() {
        for entry in entries() {
            assert!(entry.what.ends_with('.') && entry.normal.ends_with('.'), "{}", entry.name);
            assert!(words::width(entry.name) < usize::from(NAMES) - 2, "{}", entry.name);
        }
        let names: Vec<&str> = entries().map(|entry| entry.name).collect();
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name), "{name} is explained twice");
        }
    }

    #[test]
    fn a_figure_is_explained_with_its_hook_and_its_value() {
        let samples = fixtures::overflow();
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        let mut app = App::new(DashboardOptions::default());
        app.set_model(Arc::new(tracker.model().clone()));
        app.update(Action::Show("explain"));
        app.update(Action::PickColumn(Column::AcceptQueue));
        let text = picture(&app);
        for says in ["0.0.0.0:8080: 129/129", "Every event is counted, by tp_btf/sk_data_ready", "What is normal"] {
            assert!(text.contains(says), "no {says:?} in:\n{text}");
        }
        app.update(Action::Last);
        assert!(picture(&app).contains("What your service promises"), "{}", picture(&app));
    }
}
