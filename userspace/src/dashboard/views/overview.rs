//! A row per listener or group. Only rows on the screen are put into words.

mod menu;
mod row;
mod selected;

use crossterm::event::KeyCode;
use listentop_model::{model::Model, words};
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use self::menu::Menu;

use crate::dashboard::{
    action::Action,
    column::Column,
    keymap::{Binding, Key::Ctrl, Key::Plain, Others, Scope, bind, char},
    layout::{Needs, Place, layout},
    state::State,
    theme::Theme,
    view::{Declaration, Entries, Outcome, View},
    widgets::text,
};

pub(super) static VIEW: Declaration = Declaration {
    name: "overview",
    tab: Some("Overview"),
    key: Some(bind(&[char('1')], Action::Show("overview"), "", "the overview")),
    over: false,
    scopes: &[&KEYS, &FILTER_KEYS, &menu::KEYS],
    explained: ("Columns of the overview", columns),
    lists_connections: false,
    needs_model: true,
    make: || Box::new(Overview::default()),
};

static KEYS: Scope = Scope { title: "Keys in the overview", others: Others::AsEverywhere, bindings: BINDINGS };

const BINDINGS: &[Binding] = &[
    bind(&[Plain(KeyCode::Enter)], Action::Open, "open", "open the selected listener; unfold a folded group"),
    bind(&[Plain(KeyCode::Up), char('k')], Action::Up, "", "one row up; from the first row to the verdict"),
    bind(&[Plain(KeyCode::Down), char('j')], Action::Down, "", "one row down"),
    bind(&[Plain(KeyCode::PageUp), Ctrl('b')], Action::PageUp, "", "one page up"),
    bind(&[Plain(KeyCode::PageDown), Ctrl('f')], Action::PageDown, "", "one page down"),
    bind(&[Plain(KeyCode::Home), char('g')], Action::First, "", "first row"),
    bind(&[Plain(KeyCode::End), char('G')], Action::Last, "", "last row"),
    bind(&[char(' ')], Action::ToggleFold, "fold", "fold or unfold the group of the selected row"),
    bind(&[char('l')], Action::Unfold, "", "unfold the selected group"),
    bind(&[char('L')], Action::Fold, "", "fold the group of the selected row"),
    bind(&[char('a')], Action::ToggleFoldAll, "", "unfold all groups, or fold all"),
    bind(&[char('<'), char(',')], Action::SortPrevious, "", "sort by the column before"),
    bind(&[char('>'), char('.')], Action::SortNext, "sort", "sort by the next column"),
    bind(&[char('r')], Action::SortReverse, "", "reverse the order"),
    bind(&[char('s')], Action::SortMenu, "", "choose what rows are sorted by"),
    bind(&[char('o')], Action::ColumnMenu, "", "choose the columns that are shown"),
    bind(&[char('m')], Action::Mark, "", "mark the row for the comparison (3), or take its mark away"),
    bind(
        &[char('/')],
        Action::FilterStart,
        "filter",
        "filter as you type: address, port, process, pid, service, container, network namespace, pattern, finding \
         (overflow), severity (critical). All words must match; OR between alternatives; NOT or - before what must not match",
    ),
    bind(&[Plain(KeyCode::Esc)], Action::FilterClear, "", "clear the filter"),
    bind(
        &[char('x')],
        Action::ToggleClosed,
        "",
        "show the listeners that closed in the interval, behind the others, or hide them",
    ),
];

pub(super) static FILTER_KEYS: Scope = Scope {
    title: "Keys while typing a filter",
    others: Others::Typed,
    bindings: &[
        bind(&[Plain(KeyCode::Enter)], Action::FilterAccept, "keep", "keep the filter and go back to the rows"),
        bind(&[Plain(KeyCode::Esc), Ctrl('u')], Action::FilterClear, "drop", "clear the filter"),
        bind(&[Plain(KeyCode::Backspace), Ctrl('h')], Action::FilterErase, "", "delete the last character"),
        bind(&[Ctrl('c')], Action::Quit, "", "quit"),
        bind(&[Plain(KeyCode::Up)], Action::Up, "", "one row up"),
        bind(&[Plain(KeyCode::Down)], Action::Down, "", "one row down"),
    ],
};

fn columns() -> Entries {
    Column::ALL.map(|column| (column.spec().name, column.spec().help)).to_vec()
}

/// Rows of column heads.
const HEADS: u16 = 2;

/// The most rows about the selected listener: two findings with their advice.
const MOST_DETAILS: u16 = 22;

/// Rows about the selected listener: more where there is room, and what `rows` listeners leave free. Not as many as
/// they need: nothing jumps when another one is selected, or something is found.
fn details(height: u16, rows: usize) -> u16 {
    let least = if height < 30 { 4 } else { 7 };
    // Without any, why that is so takes some.
    let taken = HEADS.saturating_add(u16::try_from(rows.max(3)).unwrap_or(u16::MAX));
    height.saturating_sub(taken).min(MOST_DETAILS).max(least)
}

/// How many rows of listeners a body of this height shows, of so many.
fn visible_rows(height: u16, rows: usize) -> usize {
    height.saturating_sub(HEADS + details(height, rows)).into()
}

/// The overview: which row is the first on the screen, and the menu that is open.
#[derive(Debug, Default)]
struct Overview {
    offset: usize,
    menu: Option<Menu>,
}

impl Overview {
    /// Handles an action while a menu is open.
    fn update_menu(&mut self, mut menu: Menu, action: Action, state: &mut State) -> Outcome {
        self.menu = match action {
            Action::SortMenu | Action::ColumnMenu | Action::CloseMenu => None,
            Action::PickRow(_) => None,
            _ => menu.update(action, state).then_some(menu),
        };
        self.arrange(state);
        Outcome::Changed
    }
}

impl View for Overview {
    /// Scrolls as little as possible, so that the cursor is on the screen.
    fn arrange(&mut self, state: &State) {
        let visible = visible_rows(state.body().height, state.rows.rows.len()).max(1);
        let furthest = (state.last_row() + 1).saturating_sub(visible);
        self.offset = self.offset.min(furthest).clamp((state.cursor + 1).saturating_sub(visible), state.cursor);
    }

    fn scope(&self, state: &State) -> &'static Scope {
        match &self.menu {
            _ if state.typing => &FILTER_KEYS,
            Some(_) => &menu::KEYS,
            None => &KEYS,
        }
    }

    fn update(&mut self, action: Action, state: &mut State) -> Outcome {
        if let Some(menu) = self.menu.take() {
            return self.update_menu(menu, action, state);
        }
        let before = (self.offset, state.visible());
        match action {
            Action::Open if state.on_verdict => {
                let worst = state.verdict.listener;
                if worst.is_some_and(|id| state.select_listener(id)) {
                    return Outcome::Show("listener");
                }
            }
            Action::Up if state.go_to_verdict() => {}
            Action::Down if state.on_verdict => state.select(0),
            Action::Open | Action::PickRow(_) => {
                let picked = if let Action::PickRow(at) = action { at } else { state.cursor };
                let again = action == Action::Open || picked == state.cursor;
                state.select(picked);
                match (again, state.selected_row()) {
                    (true, Some(_)) if state.is_folded_group() => state.fold(Some(true)),
                    (true, Some(_)) => return Outcome::Show("listener"),
                    _ => {}
                }
            }
            Action::Unfold => state.fold(Some(true)),
            Action::Fold => state.fold(Some(false)),
            Action::ToggleFold => state.fold(None),
            Action::ToggleFoldAll => state.fold_all(),
            Action::SortNext => state.sort_by(state.sort.column.beside(1)),
            Action::SortPrevious => state.sort_by(state.sort.column.beside(-1)),
            Action::PickColumn(column) if column == state.sort.column => state.reverse(),
            Action::PickColumn(column) => state.sort_by(column),
            Action::SortReverse => state.reverse(),
            Action::SortMenu => return self.open_menu(Menu::of_orders(state)),
            Action::ColumnMenu => return self.open_menu(Menu::of_columns()),
            Action::Mark => return Outcome::changed_if(state.mark()),
            Action::FilterStart => state.typing = true,
            Action::FilterAccept => state.typing = false,
            Action::FilterInput(c) => state.edit_filter(|filter| filter.push(c)),
            Action::FilterErase => state.edit_filter(|filter| _ = filter.pop()),
            Action::FilterClear => {
                state.typing = false;
                state.edit_filter(String::clear);
            }
            Action::ToggleClosed => state.toggle_closed(),
            movement => {
                let page = visible_rows(state.body().height, state.rows.rows.len());
                let to = movement.travel(state.cursor, page, state.last_row());
                if to != state.cursor {
                    state.select(to);
                }
            }
        }
        self.arrange(state);
        Outcome::changed_if(before != (self.offset, state.visible()))
    }

    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, model: Option<&Model>) {
        let Some(model) = model else { return };
        draw(buf, area, self.offset, state, model);
        if let Some(menu) = &self.menu {
            menu.draw(buf, area, state);
        }
    }
}

impl Overview {
    fn open_menu(&mut self, menu: Menu) -> Outcome {
        self.menu = Some(menu);
        Outcome::Changed
    }
}

/// The columns on a screen of this width, with their places.
fn places(area: Rect, state: &State, model: &Model) -> Vec<Place> {
    let needs = Needs {
        address: state.rows.address_width,
        process: state.rows.process_width,
        container: state.rows.container_width,
        namespaces: model.namespaces.len() > 1,
        sort: state.sort.column,
        wanted: state.wanted,
        hidden: state.hidden_columns(model),
    };
    // The first column is the cursor's, the last one the scroll bar's.
    layout(area.width - 2, needs).into_iter().map(|place| Place { x: area.x + place.x + 1, ..place }).collect()
}

fn draw(buf: &mut Buffer, area: Rect, offset: usize, state: &State, model: &Model) {
    let places = places(area, state, model);
    let details = details(area.height, state.rows.rows.len());
    let rows = Rect { y: area.y + HEADS, height: area.height - HEADS - details, ..area };
    for place in &places {
        let figures = Rect { x: place.x, width: place.width, height: HEADS + rows.height, ..area };
        state.hits.borrow_mut().add_figures(figures, place.column);
    }
    group_heads(buf, area, &places, state.theme);
    heads(buf, area, &places, state);
    let height = usize::from(rows.height);
    // Again for this frame: one may be drawn between a change of size and its event.
    let offset = offset.clamp((state.cursor + 1).saturating_sub(height), state.cursor);
    for (y, (at, &row)) in (rows.y..rows.bottom()).zip(state.rows.rows.iter().enumerate().skip(offset)) {
        let is_selected = at == state.cursor && !state.on_verdict;
        row::draw(buf, (area, y), &places, (row, is_selected), state, model);
        state.hits.borrow_mut().add(Rect { y, height: 1, ..area }, Action::PickRow(at));
    }
    if state.rows.rows.is_empty() {
        let why = match (state.filter.is_empty() && state.options.filters.is_empty(), state.rows.closed) {
            (false, _) => "No listener passes the filter.".to_owned(),
            (true, 0) => "No listening sockets.".to_owned(),
            (true, closed) => format!("No listening sockets; {closed} closed (x shows them)."),
        };
        text::left(buf, rows.x + 1, rows.y + 1, rows.width - 1, &why, state.theme.strong());
    }
    text::scrollbar(buf, rows, state.rows.rows.len(), offset, state.theme);
    let selected = Rect { y: rows.bottom(), height: details, ..area };
    selected::draw(buf, selected, &places, state, model);
}

/// The first row of heads: names that neighbouring columns share.
fn group_heads(buf: &mut Buffer, area: Rect, places: &[Place], theme: Theme) {
    for neighbours in places.chunk_by(|a, b| a.column.spec().group == b.column.spec().group) {
        if let (Some(first), Some(last)) = (neighbours.first(), neighbours.last()) {
            group_head(buf, area.y, last.x + last.width - first.x, *first, theme);
        }
    }
}

/// A name over `width` columns from the place of the `first` one on.
fn group_head(buf: &mut Buffer, y: u16, width: u16, first: Place, theme: Theme) {
    let (x, spec) = (first.x, first.column.spec());
    if spec.group.is_empty() {
        return;
    }
    // Over a single narrow column the last word must be enough: WAIT for ACCEPT WAIT.
    let last_word = spec.group.rsplit(' ').next().unwrap_or(spec.group);
    let group = if words::width(spec.group) <= width.into() { spec.group } else { last_word };
    let is_alone = width == first.width;
    if is_alone && spec.right {
        return text::right(buf, x, y, width, group, theme.label());
    }
    text::left(buf, x, y, width, group, theme.label());
    let used = words::width(group) as u16 + 1;
    if width > used {
        text::put(buf, x + used, y, width - used, &"─".repeat((width - used).into()), theme.label());
    }
}

/// The second row of heads: a name per column, and the mark of the order. A click sorts.
fn heads(buf: &mut Buffer, area: Rect, places: &[Place], state: &State) {
    for place in places {
        let spec = place.column.spec();
        let sorted = place.column == state.sort.column;
        let arrow = match (sorted, state.sort.descending) {
            (false, _) => "",
            (true, true) => "▼",
            (true, false) => "▲",
        };
        let style = if sorted { state.theme.strong() } else { state.theme.label() };
        place_text(buf, *place, area.y + 1, &format!("{}{arrow}", spec.label), style);
        if place.column.sortable() {
            let head = Rect { x: place.x, y: area.y, width: place.width, height: HEADS };
            state.hits.borrow_mut().add(head, Action::PickColumn(place.column));
        }
    }
}

/// Text in its column, at the left or at the right.
fn place_text(buf: &mut Buffer, place: Place, y: u16, words: &str, style: Style) {
    if place.column.spec().right {
        text::right(buf, place.x, y, place.width, words, style);
    } else {
        text::left(buf, place.x, y, place.width, words, style);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use listentop_model::{fixtures, tracker::Tracker};

    use super::*;
    use crate::dashboard::DashboardOptions;

    fn many(count: usize) -> (Overview, State) {
        let samples = fixtures::many(count);
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        let mut state = State::new(DashboardOptions::default());
        state.set_model(Arc::new(tracker.model().clone()));
        let mut overview = Overview::default();
        overview.arrange(&state);
        (overview, state)
    }

    #[test]
    fn details_leave_room_for_rows() {
        let of = |rows| [18, 20, 29, 30, 56].map(|height| visible_rows(height, rows));
        assert_eq!(of(1_000), [12, 14, 23, 21, 47]);
        assert_eq!(visible_rows(5, 1_000), 0);
        // What a few rows leave free is theirs, up to a point. Each has its row still.
        assert_eq!(of(4), [4, 4, 5, 6, 32]);
        assert_eq!([18, 30, 56].map(|height| details(height, 4)), [12, 22, 22]);
        assert!((0..60).all(|rows| of(rows).iter().zip(of(1_000)).all(|(here, most)| *here >= rows.min(most))));
    }

    #[test]
    fn a_thousand_rows_scroll_and_the_cursor_stays_in_sight() {
        let (mut overview, mut state) = many(1_000);
        let visible = visible_rows(state.body().height, 1_000);
        assert_eq!(visible, 12);
        let mut press = |actions: &[Action]| {
            for &action in actions {
                overview.update(action, &mut state);
            }
            (overview.offset, state.cursor)
        };
        assert_eq!(press(&[Action::Last]), (1_000 - visible, 999));
        assert_eq!(press(&[Action::PageUp]), (1_000 - visible - 1, 999 - visible));
        assert_eq!(press(&[Action::Up, Action::Up]), (997 - visible, 997 - visible));
        assert_eq!(press(&[Action::Down]), (997 - visible, 998 - visible));
        assert_eq!(press(&[Action::PageDown]), (999 - visible, 998));
        assert_eq!(press(&[Action::First, Action::Up]), (0, 0));
        assert_eq!(press(&[Action::PageDown]), (1, visible));
    }

    #[test]
    fn a_larger_screen_shows_no_empty_rows_at_the_end() {
        let (mut overview, mut state) = many(100);
        overview.update(Action::Last, &mut state);
        assert_eq!(overview.offset, 88);
        state.size = (80, 60);
        overview.arrange(&state);
        assert_eq!(overview.offset, 100 - visible_rows(state.body().height, 100));
        state.size = (80, 200);
        overview.arrange(&state);
        assert_eq!((overview.offset, state.cursor), (0, 99));
    }

    #[test]
    fn a_key_that_changes_nothing_draws_nothing() {
        let (mut overview, mut state) = many(3);
        for action in [Action::Up, Action::First, Action::PageUp, Action::NextSection] {
            assert_eq!(overview.update(action, &mut state), Outcome::Unchanged, "{action:?}");
        }
        for action in [Action::Down, Action::SortReverse, Action::FilterStart, Action::FilterInput('x')] {
            assert_eq!(overview.update(action, &mut state), Outcome::Changed, "{action:?}");
        }
    }
}
