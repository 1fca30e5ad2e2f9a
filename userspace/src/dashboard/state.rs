//! What all views show: the model, the rows in their order, the selection. No terminal, no clock: time is the model's.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use listentop_model::model::{GroupId, ListenerModel, Model};
use ratatui::layout::Rect;

use super::{
    DashboardOptions,
    column::Column,
    geometry,
    group::Item,
    rows::{Row, RowId, RowQuery, Rows, Sort},
    theme::Theme,
};

/// The refresh intervals that one key press goes through.
const INTERVALS_MS: [u64; 7] = [100, 250, 500, 1_000, 2_000, 5_000, 10_000];

/// How long a closed listener stays in the overview, in seconds, unless all are shown: long enough to be noticed.
pub(super) const CLOSED_SHOWN_SECONDS: f64 = 30.0;

/// What all views show.
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: DashboardOptions,
    pub(super) theme: Theme,
    pub(super) size: (u16, u16),
    pub(super) refresh: Duration,
    pub(super) model: Option<Arc<Model>>,
    /// The newest model, held back while paused.
    held: Option<Arc<Model>>,
    pub(super) paused: bool,
    pub(super) rows: Rows,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) typing: bool,
    unfolded: HashSet<GroupId>,
    show_closed: bool,
    /// When, in seconds of the interval, each closed listener was first seen closed.
    closed_at: HashMap<u64, f64>,
    pub(super) hidden: HashSet<u64>,
    selected: Option<RowId>,
    pub(super) cursor: usize,
}

impl State {
    /// Before the first model.
    pub(super) fn new(options: DashboardOptions) -> Self {
        Self {
            theme: Theme::new(options.color).with_charset(options.charset),
            refresh: options.refresh,
            options,
            size: (geometry::MIN_COLUMNS, geometry::MIN_ROWS),
            model: None,
            held: None,
            paused: false,
            rows: Rows::default(),
            sort: Sort { column: Column::Severity, descending: true },
            filter: String::new(),
            typing: false,
            unfolded: HashSet::new(),
            show_closed: false,
            closed_at: HashMap::new(),
            hidden: HashSet::new(),
            selected: None,
            cursor: 0,
        }
    }

    /// Takes the newest model, or holds it back while paused. Returns whether it is shown.
    pub(super) fn set_model(&mut self, model: Arc<Model>) -> bool {
        if self.paused {
            self.held = Some(model);
            return false;
        }
        self.note_closed(&model);
        self.model = Some(model);
        self.rebuild();
        true
    }

    fn note_closed(&mut self, model: &Model) {
        let now = model.interval.seconds;
        let closed: HashSet<u64> = model.listeners.iter().filter(|l| l.closed).map(|l| l.id).collect();
        self.closed_at.retain(|id, _| closed.contains(id));
        for id in closed {
            self.closed_at.entry(id).or_insert(now);
        }
    }

    /// Freezes what is shown, or shows the newest model again.
    pub(super) fn toggle_pause(&mut self) {
        self.paused = !self.paused;
        if let Some(model) = self.held.take() {
            self.set_model(model);
        }
    }

    /// Takes the next refresh interval, and returns it; `None` at the end of the steps.
    pub(super) fn change_refresh(&mut self, faster: bool) -> Option<Duration> {
        let now = self.refresh.as_millis() as u64;
        let next = if faster {
            INTERVALS_MS.iter().rev().find(|&&ms| ms < now)
        } else {
            INTERVALS_MS.iter().find(|&&ms| ms > now)
        };
        self.refresh = Duration::from_millis(*next?);
        Some(self.refresh)
    }

    /// Whether the screen has no room for the dashboard.
    pub(super) const fn is_too_small(&self) -> bool {
        geometry::is_too_small(self.size.0, self.size.1)
    }

    /// The part of the screen that the view fills.
    pub(super) fn body(&self) -> Rect {
        let (columns, rows) = self.size;
        geometry::parts(Rect::new(0, 0, columns, rows), geometry::header_height(self.model.as_deref()))[1]
    }

    /// The listener, or the group as one; `None` if the model no longer has it.
    pub(super) fn listener(&self, id: RowId) -> Option<Cow<'_, ListenerModel>> {
        let model = self.model.as_ref()?;
        match id {
            RowId::Listener(id) => model.listeners.iter().find(|l| l.id == id).map(Cow::Borrowed),
            RowId::Group(id) => self.rows.groups.iter().find(|g| g.id == id).map(|g| Cow::Owned(g.full(model))),
        }
    }

    /// The selected row.
    pub(super) fn selected_row(&self) -> Option<Row> {
        self.rows.rows.get(self.cursor).copied()
    }

    /// What the selected row is about.
    pub(super) const fn selected_id(&self) -> Option<RowId> {
        self.selected
    }

    /// What the selected row shows.
    pub(super) fn selected_item(&self) -> Option<Item<'_>> {
        Some(self.rows.item(self.selected_row()?, self.model.as_deref()?))
    }

    /// The group of the selected row, if it has one.
    fn selected_group(&self) -> Option<GroupId> {
        self.rows.group_of(self.selected_row()?)
    }

    /// The last row.
    pub(super) const fn last_row(&self) -> usize {
        self.rows.rows.len().saturating_sub(1)
    }

    /// Selects the row at `at`, or the last one.
    pub(super) fn select(&mut self, at: usize) {
        self.cursor = at.min(self.last_row());
        if let (Some(row), Some(model)) = (self.selected_row(), &self.model) {
            self.selected = Some(self.rows.id(row, model));
        }
    }

    /// Selects the row that is `step` further down, or up if negative.
    pub(super) fn select_neighbour(&mut self, step: isize) {
        self.select(self.cursor.saturating_add_signed(step));
    }

    /// Whether a group is unfolded.
    pub(super) fn is_unfolded(&self, group: GroupId) -> bool {
        self.unfolded.contains(&group)
    }

    /// Whether the selected row is a group that is folded.
    pub(super) fn is_folded_group(&self) -> bool {
        matches!(self.selected_row(), Some(Row::Group(group)) if !self.is_unfolded(self.rows.groups[group].id))
    }

    /// Folds or unfolds the group of the selected row; `None` toggles it.
    pub(super) fn fold(&mut self, unfold: Option<bool>) {
        let Some(group) = self.selected_group() else { return };
        if unfold.unwrap_or(!self.is_unfolded(group)) {
            self.unfolded.insert(group);
        } else {
            self.unfolded.remove(&group);
            self.selected = Some(RowId::Group(group));
        }
        self.rebuild();
    }

    /// Unfolds every group, or folds all if all are unfolded.
    pub(super) fn fold_all(&mut self) {
        let all: HashSet<GroupId> = self.rows.groups.iter().map(|g| g.id).collect();
        if all.is_subset(&self.unfolded) {
            self.unfolded.clear();
            self.selected = self.selected_group().map(RowId::Group).or(self.selected);
        } else {
            self.unfolded.extend(all);
        }
        self.rebuild();
    }

    /// Sorts by a column, in its own first order.
    pub(super) fn sort_by(&mut self, column: Column) {
        self.sort = Sort { column, descending: column.descending_first() };
        self.rebuild();
    }

    /// Reverses the order.
    pub(super) fn reverse(&mut self) {
        self.sort.descending = !self.sort.descending;
        self.rebuild();
    }

    /// Changes the filter.
    pub(super) fn edit_filter(&mut self, edit: impl FnOnce(&mut String)) {
        edit(&mut self.filter);
        self.rebuild();
    }

    /// Shows every listener that closed in the interval, or only those that closed lately.
    pub(super) fn toggle_closed(&mut self) {
        self.show_closed = !self.show_closed;
        self.rebuild();
    }

    /// Makes the rows again, and keeps the selection on its listener.
    fn rebuild(&mut self) {
        let Some(model) = self.model.clone() else { return };
        self.hidden.clear();
        if !self.show_closed {
            let now = model.interval.seconds;
            self.hidden
                .extend(self.closed_at.iter().filter(|(_, at)| now - **at > CLOSED_SHOWN_SECONDS).map(|(id, _)| *id));
        }
        let query = RowQuery { sort: self.sort, filter: &self.filter, unfolded: &self.unfolded, hidden: &self.hidden };
        self.rows = Rows::new(&model, &query);
        let at = self.selected.and_then(|id| self.rows.position(id, &model)).unwrap_or(self.cursor);
        self.select(at);
    }

    /// What an action can change on the screen: compared before and after, it shows whether a key did something.
    pub(super) fn visible(&self) -> impl PartialEq + use<> {
        (
            (self.cursor, self.selected, self.sort, self.filter.clone(), self.typing),
            (self.show_closed, self.rows.rows.len(), self.unfolded.clone()),
        )
    }
}
