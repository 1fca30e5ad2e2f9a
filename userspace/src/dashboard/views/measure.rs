//! The menu of levels: how much is measured, what that shows, and which level cannot be had.

use crossterm::event::KeyCode;
use listentop_model::{model::Model, words};
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use crate::{
    dashboard::{
        action::Action,
        keymap::{Binding, Key::Plain, Others, Scope, bind, char},
        state::State,
        view::{Declaration, Outcome, View},
        widgets::text,
    },
    source::live::{Level, Levels},
};

pub(super) static VIEW: Declaration = Declaration {
    name: "measure",
    tab: None,
    key: Some(bind(&[char('M')], Action::Show("measure"), "", "how much is measured: take another level")),
    over: true,
    scopes: &[&KEYS],
    explained: ("In the menu of levels", Vec::new),
    lists_connections: false,
    needs_model: false,
    make: || Box::new(Measure::default()),
};

static KEYS: Scope = Scope { title: "Keys in the menu of levels", others: Others::AsEverywhere, bindings: BINDINGS };

const BINDINGS: &[Binding] = &[
    bind(&[Plain(KeyCode::Enter), char(' ')], Action::Open, "take", "measure so much from now on"),
    bind(&[Plain(KeyCode::Esc), Plain(KeyCode::Backspace)], Action::Back, "back", "back"),
    bind(&[Plain(KeyCode::Up), char('k')], Action::Up, "choose", "the level below"),
    bind(&[Plain(KeyCode::Down), char('j')], Action::Down, "", "the level above"),
    bind(&[Plain(KeyCode::Home), char('g')], Action::First, "", "the lowest level"),
    bind(&[Plain(KeyCode::End), char('G')], Action::Last, "", "the highest level"),
];

/// What a level shows, and what it traces.
const fn about(level: Level) -> &'static str {
    match level {
        Level::Queues => {
            "Accept and SYN queues, handshakes and refused attempts. No system call, read or write is traced."
        }
        Level::Accepts => "Accepts as well: accept waits, and the threads that accept. No read or write is traced.",
        Level::All => "Reads and writes as well: residency, what waits unread, answers. It costs most.",
    }
}

/// What a change means.
const CHANGE: &str = "What every level measures goes on exactly. What a higher level brings begins when it is taken: \
    connections that are open by then count as those do that were open at the start. What a lower level leaves out is \
    unknown from then on. Events, graphs and recordings keep when the level changed.";

/// The level that is chosen; `None`: the one that holds.
#[derive(Debug, Default)]
struct Measure {
    at: Option<usize>,
}

impl Measure {
    fn chosen(&self, state: &State) -> usize {
        let held = state.levels.as_ref().map_or(Level::All, |levels| levels.level);
        self.at.unwrap_or_else(|| Level::ALL.iter().position(|level| *level == held).unwrap_or(0))
    }
}

impl View for Measure {
    fn open(&mut self, _: &State) {
        self.at = None;
    }

    fn scope(&self, _: &State) -> &'static Scope {
        &KEYS
    }

    fn update(&mut self, action: Action, state: &mut State) -> Outcome {
        let before = self.chosen(state);
        let taken = match action {
            Action::Open => before,
            Action::PickLine(at) => at,
            movement => {
                let at = movement.travel(before, Level::ALL.len(), Level::ALL.len() - 1);
                self.at = Some(at);
                return Outcome::changed_if(at != before);
            }
        };
        self.at = Some(taken);
        Level::ALL.get(taken).map_or(Outcome::Unchanged, |level| Outcome::Level(*level))
    }

    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, _: Option<&Model>) {
        let theme = state.theme;
        text::rule(buf, area, "Measure: how much", theme);
        let width = area.width.saturating_sub(4);
        let mut y = area.y + 2;
        let mut paragraph = |buf: &mut Buffer, indent: u16, words: &str, style: Style| {
            for line in words::wrap(words, usize::from(width.saturating_sub(indent))) {
                if y < area.bottom() {
                    text::left(buf, area.x + 2 + indent, y, width.saturating_sub(indent), &line, style);
                }
                y += 1;
            }
            y
        };
        let mut top = area.y + 2;
        for (at, level) in Level::ALL.into_iter().enumerate() {
            let held = state.levels.as_ref().is_some_and(|levels| levels.level == level);
            let mark = if at == self.chosen(state) { "› " } else { "  " };
            let now = if held { "  (measured now)" } else { "" };
            paragraph(buf, 0, &format!("{mark}{}{now}", level.name()), theme.strong());
            let mut next = paragraph(buf, 4, about(level), Style::new());
            if let Some(why) = state.levels.as_ref().and_then(|levels| levels.refusal(level)) {
                next = paragraph(buf, 4, &format!("Not here: {}", words::clean(why)), theme.warning());
            }
            if at == self.chosen(state) && top < area.bottom() {
                theme.select(buf, Rect { x: area.x + 1, y: top, width: area.width.saturating_sub(2), height: 1 });
            }
            let height = next.min(area.bottom()).saturating_sub(top);
            state.hits.borrow_mut().add(Rect { y: top, height, ..area }, Action::PickLine(at));
            top = paragraph(buf, 0, " ", Style::new());
        }
        let below = match &state.levels {
            None => "How much is measured cannot change here: that takes probes, and a recording is what it is.",
            Some(Levels { .. }) => CHANGE,
        };
        paragraph(buf, 0, below, theme.label());
    }
}
