//! Menus over the table: what rows are sorted by, and which columns are shown.

use crossterm::event::KeyCode;
use listentop_model::words;
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::HEADS;
use crate::dashboard::{
    action::Action,
    column::Column,
    keymap::{Key::Ctrl, Key::Plain, Others, Scope, bind, char},
    state::State,
    widgets::text,
};

/// The keys while a menu is open.
pub(super) static KEYS: Scope = Scope {
    title: "Keys in a menu",
    others: Others::Nothing,
    bindings: &[
        bind(&[Plain(KeyCode::Enter), char(' ')], Action::Open, "take", "take the chosen line"),
        bind(&[Plain(KeyCode::Esc), char('s'), char('o'), char('q')], Action::CloseMenu, "close", "close the menu"),
        bind(&[Plain(KeyCode::Up), char('k')], Action::Up, "", "one line up"),
        bind(&[Plain(KeyCode::Down), char('j')], Action::Down, "", "one line down"),
        bind(&[Plain(KeyCode::PageUp)], Action::PageUp, "", "one page up"),
        bind(&[Plain(KeyCode::PageDown)], Action::PageDown, "", "one page down"),
        bind(&[Plain(KeyCode::Home), char('g')], Action::First, "", "first line"),
        bind(&[Plain(KeyCode::End), char('G')], Action::Last, "", "last line"),
        bind(&[Ctrl('c')], Action::Quit, "", "quit"),
        bind(&[Ctrl('z')], Action::Suspend, "", "suspend; fg brings it back"),
    ],
};

/// What a menu is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What rows are sorted by.
    Orders,
    /// Which columns are shown.
    Columns,
}

/// A menu that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Menu {
    kind: Kind,
    at: usize,
}

impl Menu {
    /// What rows are sorted by.
    pub(super) fn of_orders(state: &State) -> Self {
        let lines = Kind::Orders.columns();
        let at = lines.iter().position(|column| *column == state.sort.column).unwrap_or(0);
        Self { kind: Kind::Orders, at }
    }

    /// Which columns are shown.
    pub(super) const fn of_columns() -> Self {
        Self { kind: Kind::Columns, at: 0 }
    }

    /// Handles an action; whether the menu stays open.
    pub(super) fn update(&mut self, action: Action, state: &mut State) -> bool {
        let columns = self.kind.columns();
        let picked = match action {
            Action::Open => self.at,
            Action::PickLine(at) => at,
            movement => {
                let page = usize::from(state.body().height.saturating_sub(HEADS)).saturating_sub(BORDER);
                self.at = movement.travel(self.at, page, columns.len() - 1);
                return true;
            }
        };
        let Some(&column) = columns.get(picked) else { return true };
        self.at = picked;
        match self.kind {
            Kind::Orders if column == state.sort.column => state.reverse(),
            Kind::Orders => state.sort_by(column),
            Kind::Columns => {
                state.cycle_column(column);
                return true;
            }
        }
        false
    }

    /// Draws it over the table.
    pub(super) fn draw(&self, buf: &mut Buffer, body: Rect, state: &State) {
        let columns = self.kind.columns();
        let lines: Vec<String> = columns.iter().map(|column| self.kind.line(*column, state)).collect();
        let width = lines.iter().map(|line| words::width(line)).chain([self.kind.title().len()]).max().unwrap_or(0);
        // The heads of the columns stay in sight.
        let body = Rect { y: body.y + HEADS, height: body.height.saturating_sub(HEADS), ..body };
        let height = (lines.len() + BORDER).min(body.height.into()) as u16;
        let area = Rect { x: body.x + 2, y: body.y, width: (width as u16 + 6).min(body.width - 2), height };
        text::frame(buf, area, self.kind.title(), state.theme);
        let visible = usize::from(height).saturating_sub(BORDER);
        let first = (self.at + 1).saturating_sub(visible);
        let inner = Rect { x: area.x + 1, y: area.y + 1, width: area.width - 2, height: visible as u16 };
        for (y, (at, line)) in (inner.y..inner.bottom()).zip(lines.iter().enumerate().skip(first)) {
            let row = Rect { y, height: 1, ..inner };
            let mark = if at == self.at { "› " } else { "  " };
            text::left(buf, row.x, y, row.width, &format!("{mark}{line}"), Style::new());
            if at == self.at {
                state.theme.select(buf, row);
            }
            state.hits.borrow_mut().add(row, Action::PickLine(at));
        }
    }
}

/// Rows of a frame.
const BORDER: usize = 2;

impl Kind {
    const fn title(self) -> &'static str {
        match self {
            Self::Orders => "Sort by (again: reverse)",
            Self::Columns => "Columns",
        }
    }

    /// The columns that its lines are about.
    fn columns(self) -> Vec<Column> {
        let is_fixed = |column: Column| matches!(column, Column::Severity | Column::Listener);
        Column::ALL.into_iter().filter(|c| if self == Self::Orders { c.sortable() } else { !is_fixed(*c) }).collect()
    }

    fn line(self, column: Column, state: &State) -> String {
        let name = column.spec().name;
        match self {
            Self::Orders if column != state.sort.column => name.to_owned(),
            Self::Orders => format!("{name} {}", if state.sort.descending { "▼" } else { "▲" }),
            Self::Columns => {
                let how = match (state.wanted.contains(column), state.unwanted.contains(column)) {
                    (true, _) => "always",
                    (_, true) => "never ",
                    _ => "if fit",
                };
                format!("{how}  {name}")
            }
        }
    }
}
