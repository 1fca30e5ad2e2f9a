//! A row per listener or group. Only rows on the screen are put into words.

use crossterm::event::KeyCode;
use listentop_model::{
    coverage::Measure,
    model::{ListenerModel, Model, depth},
    words,
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
};

use crate::dashboard::{
    action::Action,
    column::Column,
    group::Item,
    keymap::{Binding, Key::Ctrl, Key::Plain, Others, Scope, bind, char},
    layout::{Needs, Place, layout},
    rows::Row,
    state::State,
    theme::Theme,
    view::{Declaration, Entries, Outcome, View},
    widgets::{queue_bar, sparkline, text},
};

pub(super) static VIEW: Declaration = Declaration {
    name: "overview",
    key: None,
    scopes: &[&KEYS, &FILTER_KEYS],
    explained: ("Columns of the overview", columns),
    needs_model: true,
    make: || Box::new(Overview::default()),
};

static KEYS: Scope = Scope { title: "Keys in the overview", others: Others::AsEverywhere, bindings: BINDINGS };

const BINDINGS: &[Binding] = &[
    bind(&[Plain(KeyCode::Enter)], Action::Open, "open", "open the selected listener; unfold a folded group"),
    bind(&[Plain(KeyCode::Up), char('k')], Action::Up, "", "one row up"),
    bind(&[Plain(KeyCode::Down), char('j')], Action::Down, "", "one row down"),
    bind(&[Plain(KeyCode::PageUp), Ctrl('b')], Action::PageUp, "", "one page up"),
    bind(&[Plain(KeyCode::PageDown), Ctrl('f')], Action::PageDown, "", "one page down"),
    bind(&[Plain(KeyCode::Home), char('g')], Action::First, "", "first row"),
    bind(&[Plain(KeyCode::End), char('G')], Action::Last, "", "last row"),
    bind(&[char(' ')], Action::ToggleFold, "fold", "fold or unfold the group of the selected row"),
    bind(&[Plain(KeyCode::Right), char('l')], Action::Unfold, "", "unfold the selected group"),
    bind(&[Plain(KeyCode::Left)], Action::Fold, "", "fold the group of the selected row"),
    bind(&[char('a')], Action::ToggleFoldAll, "", "unfold all groups, or fold all"),
    bind(&[char('<'), char(',')], Action::SortPrevious, "", "sort by the column before"),
    bind(&[char('>'), char('.')], Action::SortNext, "sort", "sort by the next column"),
    bind(&[char('r')], Action::SortReverse, "", "reverse the order"),
    bind(
        &[char('/')],
        Action::FilterStart,
        "filter",
        "filter as you type: address, port, process, pid, network namespace, pattern; all words must match",
    ),
    bind(&[Plain(KeyCode::Esc)], Action::FilterClear, "", "clear the filter"),
    bind(
        &[char('x')],
        Action::ToggleClosed,
        "",
        "show every listener that closed in the interval, or only those of the last 30 s",
    ),
];

static FILTER_KEYS: Scope = Scope {
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

/// Rows about the selected listener: more where there is room.
const fn details(height: u16) -> u16 {
    if height < 30 { 4 } else { 7 }
}

/// How many rows of listeners a body of this height shows.
fn visible_rows(height: u16) -> usize {
    height.saturating_sub(HEADS + details(height)).into()
}

/// The overview: which row is the first on the screen.
#[derive(Debug, Default)]
struct Overview {
    offset: usize,
}

impl View for Overview {
    /// Scrolls as little as possible, so that the cursor is on the screen.
    fn arrange(&mut self, state: &State) {
        let visible = visible_rows(state.body().height).max(1);
        let furthest = (state.last_row() + 1).saturating_sub(visible);
        self.offset = self.offset.min(furthest).clamp((state.cursor + 1).saturating_sub(visible), state.cursor);
    }

    fn scope(&self, state: &State) -> &'static Scope {
        if state.typing { &FILTER_KEYS } else { &KEYS }
    }

    fn update(&mut self, action: Action, state: &mut State) -> Outcome {
        let before = (self.offset, state.visible());
        match action {
            Action::Open if state.is_folded_group() => state.fold(Some(true)),
            Action::Open if state.selected_row().is_some() => return Outcome::Show("listener"),
            Action::Unfold => state.fold(Some(true)),
            Action::Fold => state.fold(Some(false)),
            Action::ToggleFold => state.fold(None),
            Action::ToggleFoldAll => state.fold_all(),
            Action::SortNext => state.sort_by(state.sort.column.beside(1)),
            Action::SortPrevious => state.sort_by(state.sort.column.beside(-1)),
            Action::SortReverse => state.reverse(),
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
                let page = visible_rows(state.body().height);
                state.select(movement.travel(state.cursor, page, state.last_row()));
            }
        }
        self.arrange(state);
        Outcome::changed_if(before != (self.offset, state.visible()))
    }

    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, model: Option<&Model>) {
        if let Some(model) = model {
            draw(buf, area, self.offset, state, model);
        }
    }
}

fn draw(buf: &mut Buffer, area: Rect, offset: usize, state: &State, model: &Model) {
    let needs = Needs {
        address: state.rows.address_width,
        process: state.rows.process_width,
        namespaces: model.namespaces.len() > 1,
        sort: state.sort.column,
    };
    // The first column is the cursor's, the last one the scroll bar's.
    let places: Vec<Place> =
        layout(area.width - 2, needs).into_iter().map(|place| Place { x: area.x + place.x + 1, ..place }).collect();
    let details = details(area.height);
    let rows = Rect { y: area.y + HEADS, height: area.height - HEADS - details, ..area };
    group_heads(buf, area, &places, state.theme);
    heads(buf, area, &places, state);
    let height = usize::from(rows.height);
    // Again for this frame: one may be drawn between a change of size and its event.
    let offset = offset.clamp((state.cursor + 1).saturating_sub(height), state.cursor);
    for (y, (at, &row)) in (rows.y..rows.bottom()).zip(state.rows.rows.iter().enumerate().skip(offset)) {
        draw_row(buf, (area, y), &places, row, at == state.cursor, state, model);
    }
    if state.rows.rows.is_empty() {
        let why = if state.filter.is_empty() && state.options.filters.is_empty() {
            "No listening sockets."
        } else {
            "No listener passes the filter."
        };
        text::left(buf, rows.x + 1, rows.y + 1, rows.width - 1, why, state.theme.strong());
    }
    text::scrollbar(buf, rows, state.rows.rows.len(), offset, state.theme);
    let selected = Rect { y: rows.bottom(), height: details, ..area };
    draw_selected(buf, selected, &places, state, model);
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

/// The second row of heads: a name per column, and the mark of the order.
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

fn draw_row(
    buf: &mut Buffer,
    (area, y): (Rect, u16),
    places: &[Place],
    row: Row,
    selected: bool,
    state: &State,
    model: &Model,
) {
    let item = state.rows.item(row, model);
    let closed = item.figures().closed;
    for place in places {
        match place.column {
            Column::AcceptQueue => accept_queue(buf, *place, y, item, state, model),
            Column::Trend => trend(buf, *place, y, item, state, model),
            Column::Listener => {
                let prefix = prefix(row, state);
                let room = usize::from(place.width).saturating_sub(words::width(&prefix));
                let name = match row {
                    Row::Shard { number, .. } => format!("shard {number}"),
                    _ => words::fit_middle(&Column::Listener.text(item, model), room),
                };
                let count = match row {
                    Row::Group(group) => format!(" ×{}", state.rows.groups[group].members.len()),
                    _ => String::new(),
                };
                text::left(buf, place.x, y, place.width, &format!("{prefix}{name}{count}"), Style::new());
            }
            Column::Process => {
                let words = words::process_within(item.figures(), place.width.into());
                text::left(buf, place.x, y, place.width, &words, Style::new());
            }
            column => {
                let words = column.text(item, model);
                let style = style(column, item, state);
                place_text(buf, *place, y, &words, style);
            }
        }
    }
    let line = Rect { y, height: 1, width: area.width - 1, ..area };
    if closed {
        buf.set_style(line, Modifier::DIM);
    }
    if selected {
        text::put(buf, area.x, y, 1, "›", state.theme.strong());
        buf.set_style(line, state.theme.selected());
    }
}

fn prefix(row: Row, state: &State) -> String {
    match row {
        Row::Listener(_) => String::new(),
        Row::Group(group) if state.is_unfolded(state.rows.groups[group].id) => "▾ ".to_owned(),
        Row::Group(_) => "▸ ".to_owned(),
        Row::Shard { last: true, .. } => "  └ ".to_owned(),
        Row::Shard { .. } => "  ├ ".to_owned(),
    }
}

fn style(column: Column, item: Item<'_>, state: &State) -> Style {
    let figures = item.figures();
    match column {
        Column::Severity | Column::Finding => {
            figures.findings.iter().map(|f| f.severity).max().map_or(Style::new(), |s| state.theme.severity(s))
        }
        Column::Drops if figures.rate.drops.is_some_and(|r| r > 0.0) => state.theme.critical(),
        _ => Style::new(),
    }
}

fn accept_queue(buf: &mut Buffer, place: Place, y: u16, item: Item<'_>, state: &State, model: &Model) {
    if item.figures().closed {
        return text::right(buf, place.x, y, place.width, "closed", state.theme.strong());
    }
    let numbers = Column::AcceptQueue.text(item, model);
    let room = words::width(&numbers).max(state.rows.numbers_width) as u16;
    let fullest = &item.fullest().now;
    let peak = fullest.recent_accept_peak.map(|p| f64::from(p) / f64::from(fullest.limit.max(1)));
    queue_bar::draw(buf, (place.x, y), place.width.saturating_sub(room + 1), (fullest.fill(), peak), state.theme);
    text::right(buf, place.x, y, place.width, &numbers, state.theme.fill(item.figures().now.fill()));
}

fn trend(buf: &mut Buffer, place: Place, y: u16, item: Item<'_>, state: &State, model: &Model) {
    let limit = f64::from(item.fullest().now.limit);
    let history = item.history();
    let points = history.last(place.width.into(), &model.timeline);
    let values = points.map(|p| f64::from(p.accept_peak.unwrap_or(p.accept_depth)));
    let line = sparkline::sparkline(values, limit, place.width.into());
    text::left(buf, place.x, y, place.width, &line, state.theme.flow());
}

/// The selected row in words: what has no place in the table, and its findings.
fn draw_selected(buf: &mut Buffer, area: Rect, places: &[Place], state: &State, model: &Model) {
    let theme = state.theme;
    let Some(item) = state.selected_item() else { return text::rule(buf, area, "", theme) };
    text::rule(buf, area, &selected_title(item, state, model), theme);
    let mut y = area.y + 1;
    for line in broken(&missing(item, places, theme, model), area.width).into_iter().take(2) {
        text::line(buf, Rect { y, height: 1, ..area }, line);
        y += 1;
    }
    let lines = findings(item.figures(), area, theme);
    for (y, (words, style)) in (y..area.bottom()).zip(&lines) {
        text::left(buf, area.x + 1, y, area.width - 2, words, *style);
    }
}

fn selected_title(item: Item<'_>, state: &State, model: &Model) -> String {
    let figures = item.figures();
    let shard = match state.selected_row() {
        Some(Row::Shard { number, .. }) => format!(" shard {number}"),
        _ => String::new(),
    };
    let netns = if model.namespaces.len() > 1 { format!(" netns {}", words::netns(figures)) } else { String::new() };
    let fits = match figures.pattern.confidence {
        confidence if confidence > 0.0 => format!(", fits {}", words::whole_percent(confidence)),
        _ => String::new(),
    };
    let fullest = match item {
        Item::Group(group, _) => {
            let fullest = &item.fullest().now;
            let (depth, limit) = (words::short(fullest.accept_depth.into()), words::short(fullest.limit.into()));
            format!(" · fullest shard {}: {depth} of {limit}", group.fullest + 1)
        }
        Item::One(_) => String::new(),
    };
    let (endpoint, process) = (words::listener_endpoint(figures), words::process(figures));
    format!("{endpoint}{shard}{netns} {process} {}{fits}{fullest}", figures.pattern.name.name())
}

/// The figures that the table has no column for on this screen.
fn missing(item: Item<'_>, places: &[Place], theme: Theme, model: &Model) -> Vec<Span<'static>> {
    let missing = Column::ALL.into_iter().filter(|c| {
        let drawn = places.iter().any(|p| p.column == *c);
        !drawn && !matches!(c, Column::Trend | Column::Finding | Column::Pattern | Column::Netns | Column::Process)
    });
    let mut spans: Vec<Span<'static>> = missing
        .flat_map(|column| text::fact(column.spec().name, column.text(item, model), theme.strong(), theme))
        .collect();
    let status = words::status(model, Measure::QueuedBytes);
    let unread = words::marked(item.figures().now.queued_bytes.map(words::bytes), status);
    spans.extend(text::fact("unread", unread, theme.strong(), theme));
    spans
}

/// The findings: with their advice where there is room.
fn findings(figures: &ListenerModel, area: Rect, theme: Theme) -> Vec<(String, Style)> {
    let width = usize::from(area.width);
    let mut lines: Vec<(String, Style)> = Vec::new();
    for (at, finding) in figures.findings.iter().enumerate() {
        let (mark, when) = (words::severity_mark(finding.severity), words::finding_time(finding));
        let style = theme.severity(finding.severity);
        let margin = "  ".repeat(depth(&figures.findings, at));
        let text = format!("{margin}{mark} {}{when}: {}", finding.severity.name(), words::clean(&finding.summary));
        if area.height <= 4 {
            lines.push((text, style));
            continue;
        }
        lines.extend(words::wrap(&text, width - 2).into_iter().map(|line| (line, style)));
        if finding.follows_from.is_some() {
            continue; // what to do stands there
        }
        let advice = words::wrap(&words::clean(&finding.advice), width - 4).into_iter();
        lines.extend(advice.map(|line| (format!("  {line}"), Style::new())));
    }
    if lines.is_empty() {
        lines.push(("no findings".to_owned(), theme.label()));
    }
    lines
}

/// Facts of four spans each, in lines of at most `width`.
fn broken(spans: &[Span<'static>], width: u16) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = Vec::new();
    for fact in spans.chunks(4) {
        let wide: usize = fact.iter().map(Span::width).sum();
        match lines.last_mut() {
            Some(line) if line.width() + wide <= usize::from(width) + 1 => line.spans.extend_from_slice(fact),
            _ => {
                let mut line = Line::raw(" ");
                line.spans.extend_from_slice(fact);
                lines.push(line);
            }
        }
    }
    lines
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
        assert_eq!([20, 29, 30, 56].map(visible_rows), [14, 23, 21, 47]);
        assert_eq!(visible_rows(5), 0);
    }

    #[test]
    fn a_thousand_rows_scroll_and_the_cursor_stays_in_sight() {
        let (mut overview, mut state) = many(1_000);
        let visible = visible_rows(state.body().height);
        assert_eq!(visible, 14);
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
        assert_eq!(overview.offset, 86);
        state.size = (80, 60);
        overview.arrange(&state);
        assert_eq!(overview.offset, 100 - visible_rows(state.body().height));
        state.size = (80, 200);
        overview.arrange(&state);
        assert_eq!((overview.offset, state.cursor), (0, 99));
    }

    #[test]
    fn a_key_that_changes_nothing_draws_nothing() {
        let (mut overview, mut state) = many(3);
        for action in [Action::Up, Action::First, Action::PageUp, Action::NextSection, Action::FilterErase] {
            assert_eq!(overview.update(action, &mut state), Outcome::Unchanged, "{action:?}");
        }
        for action in [Action::Down, Action::SortReverse, Action::FilterStart, Action::FilterInput('x')] {
            assert_eq!(overview.update(action, &mut state), Outcome::Changed, "{action:?}");
        }
    }
}
