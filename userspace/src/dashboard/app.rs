//! The state of the dashboard and how actions change it. No terminal, no clock: time is the model's.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use listentop_model::model::{GroupId, ListenerModel, Model};

use super::{
    DashboardOptions,
    action::{Action, Effect},
    column::Column,
    group::Item,
    keymap::Scope,
    rows::{Row, RowId, Rows, Sort, Wish},
    theme::Theme,
    views,
};

/// The refresh intervals that one key press goes through.
const INTERVALS_MS: [u64; 7] = [100, 250, 500, 1_000, 2_000, 5_000, 10_000];

/// How long a closed listener stays in the overview, in seconds, unless all are asked for: long enough to be noticed.
pub const CLOSED_SHOWN_SECONDS: f64 = 30.0;

/// What fills the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// A row per listener.
    Overview,
    /// One listener, or a group as one.
    Listener(RowId),
}

/// What lies over the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    /// The help.
    Help,
    /// The table of coverage.
    Coverage,
}

/// The parts of the listener view below the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Pattern and findings.
    Findings,
    /// Distributions.
    Distributions,
    /// Graphs over time.
    OverTime,
    /// Threads.
    Threads,
}

impl Section {
    /// In the order of the tabs.
    pub const ALL: [Self; 4] = [Self::Findings, Self::Distributions, Self::OverTime, Self::Threads];

    /// Its tab.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Findings => "Findings",
            Self::Distributions => "Distributions",
            Self::OverTime => "Over time",
            Self::Threads => "Threads",
        }
    }
}

/// The state.
#[derive(Debug)]
pub struct App {
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
    pub(super) show_closed: bool,
    /// When, in seconds of the interval, each closed listener was first seen closed.
    closed_at: HashMap<u64, f64>,
    pub(super) hidden: HashSet<u64>,
    selected: Option<RowId>,
    pub(super) cursor: usize,
    pub(super) offset: usize,
    pub(super) view: View,
    pub(super) overlay: Option<Overlay>,
    pub(super) overlay_scroll: usize,
    pub(super) section: Section,
    pub(super) section_scroll: usize,
    pub(super) distribution: usize,
    pub(super) recent_span: bool,
}

impl App {
    /// A dashboard that has seen nothing yet.
    #[must_use]
    pub fn new(options: DashboardOptions) -> Self {
        Self {
            theme: Theme::new(options.color),
            refresh: options.refresh,
            options,
            size: (80, 24),
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
            offset: 0,
            view: View::Overview,
            overlay: None,
            overlay_scroll: 0,
            section: Section::Findings,
            section_scroll: 0,
            distribution: 0,
            recent_span: false,
        }
    }

    /// Takes the newest model: shows it, or holds it back while paused.
    pub fn set_model(&mut self, model: Arc<Model>) -> Effect {
        if self.paused {
            self.held = Some(model);
            return Effect::None;
        }
        self.note_closed(&model);
        self.model = Some(model);
        self.rebuild();
        Effect::Redraw
    }

    fn note_closed(&mut self, model: &Model) {
        let now = model.interval.seconds;
        let closed: HashSet<u64> = model.listeners.iter().filter(|l| l.closed).map(|l| l.id).collect();
        self.closed_at.retain(|id, _| closed.contains(id));
        for id in closed {
            self.closed_at.entry(id).or_insert(now);
        }
    }

    /// Which keys hold.
    #[must_use]
    pub fn scope(&self) -> Scope {
        if views::is_too_small(self.size.0, self.size.1) {
            // Nothing is seen of what other keys would do.
            return Scope::TooSmall;
        }
        match (self.overlay, self.view) {
            (Some(_), _) => Scope::Text,
            (None, View::Overview) if self.typing => Scope::Filter,
            (None, View::Overview) => Scope::Overview,
            (None, View::Listener(_)) => Scope::Listener,
        }
    }

    /// What the listener view is about; `None` if it is not open or what it was about is gone.
    #[must_use]
    pub fn listener(&self) -> Option<Cow<'_, ListenerModel>> {
        let (View::Listener(id), Some(model)) = (self.view, &self.model) else { return None };
        match id {
            RowId::Listener(id) => model.listeners.iter().find(|l| l.id == id).map(Cow::Borrowed),
            RowId::Group(id) => self.rows.groups.iter().find(|g| g.id == id).map(|g| Cow::Owned(g.full(model))),
        }
    }

    /// The selected row.
    #[must_use]
    pub fn selected_row(&self) -> Option<Row> {
        self.rows.rows.get(self.cursor).copied()
    }

    /// What the selected row shows.
    #[must_use]
    pub fn selected_item(&self) -> Option<Item<'_>> {
        Some(self.rows.item(self.selected_row()?, self.model.as_deref()?))
    }

    /// Whether a group is unfolded.
    #[must_use]
    pub fn is_unfolded(&self, group: GroupId) -> bool {
        self.unfolded.contains(&group)
    }

    /// Does what `action` asks for.
    pub fn update(&mut self, action: Action) -> Effect {
        let before = self.visible_state();
        match action {
            Action::Quit => return Effect::Quit,
            Action::Suspend => return Effect::Suspend,
            Action::Resize(columns, rows) => {
                self.size = (columns, rows);
                self.keep_in_sight();
                return Effect::Redraw;
            }
            Action::Faster | Action::Slower => return self.change_refresh(action == Action::Faster),
            Action::Pause => {
                self.paused = !self.paused;
                if let Some(model) = self.held.take() {
                    self.set_model(model);
                }
                return Effect::Redraw;
            }
            Action::Help => self.toggle_overlay(Overlay::Help),
            Action::Coverage => self.toggle_overlay(Overlay::Coverage),
            Action::Back if self.overlay.is_some() => self.overlay = None,
            Action::Back => self.view = View::Overview,
            Action::Up | Action::Down | Action::PageUp | Action::PageDown | Action::First | Action::Last => {
                self.travel(action);
            }
            Action::Open => self.open(),
            Action::NextListener => self.neighbour(1),
            Action::PreviousListener => self.neighbour(-1),
            Action::NextSection => self.change_section(1),
            Action::PreviousSection => self.change_section(-1),
            Action::ToggleSpan => self.recent_span = !self.recent_span,
            Action::Unfold => self.fold(Some(true)),
            Action::Fold => self.fold(Some(false)),
            Action::ToggleFold => self.fold(None),
            Action::ToggleFoldAll => self.fold_all(),
            Action::SortNext => self.sort_by(self.sort.column.beside(1)),
            Action::SortPrevious => self.sort_by(self.sort.column.beside(-1)),
            Action::SortReverse => {
                self.sort.descending = !self.sort.descending;
                self.rebuild();
            }
            Action::FilterStart => self.typing = true,
            Action::FilterAccept => self.typing = false,
            Action::FilterInput(c) => {
                self.filter.push(c);
                self.rebuild();
            }
            Action::FilterErase => {
                self.filter.pop();
                self.rebuild();
            }
            Action::FilterClear => {
                self.filter.clear();
                self.typing = false;
                self.rebuild();
            }
            Action::ToggleClosed => {
                self.show_closed = !self.show_closed;
                self.rebuild();
            }
        }
        if before == self.visible_state() { Effect::None } else { Effect::Redraw }
    }

    /// What an action can change on the screen, to tell a key that did nothing.
    fn visible_state(&self) -> impl PartialEq + use<> {
        (
            (self.cursor, self.offset, self.selected, self.view, self.overlay, self.overlay_scroll),
            (self.section, self.section_scroll, self.distribution, self.recent_span),
            (
                self.sort,
                self.filter.clone(),
                self.typing,
                self.show_closed,
                self.rows.rows.len(),
                self.unfolded.clone(),
            ),
        )
    }

    fn change_refresh(&mut self, faster: bool) -> Effect {
        let now = self.refresh.as_millis() as u64;
        let next = if faster {
            INTERVALS_MS.iter().rev().find(|&&ms| ms < now)
        } else {
            INTERVALS_MS.iter().find(|&&ms| ms > now)
        };
        match next {
            Some(&ms) => {
                self.refresh = Duration::from_millis(ms);
                Effect::SetInterval(self.refresh)
            }
            None => Effect::None,
        }
    }

    fn toggle_overlay(&mut self, overlay: Overlay) {
        self.overlay = if self.overlay == Some(overlay) { None } else { Some(overlay) };
        self.overlay_scroll = 0;
    }

    fn travel(&mut self, action: Action) {
        let step = |at: usize, page: usize, last: usize| match action {
            Action::Up => at.saturating_sub(1),
            Action::Down => at + 1,
            Action::PageUp => at.saturating_sub(page),
            Action::PageDown => at + page,
            Action::First => 0,
            _ => last,
        };
        match (self.overlay, self.view) {
            (Some(_), _) => {
                let (page, last) = views::overlay_extent(self);
                self.overlay_scroll = step(self.overlay_scroll, page, last).min(last);
            }
            (None, View::Overview) => {
                let last = self.rows.rows.len().saturating_sub(1);
                self.cursor = step(self.cursor, views::overview::visible_rows(self), last).min(last);
                self.select_cursor();
            }
            (None, View::Listener(_)) if views::listener::chooses_distribution(self) => {
                let last = views::distributions::ALL.len() - 1;
                self.distribution = step(self.distribution, last, last).min(last);
            }
            (None, View::Listener(_)) => {
                let (page, last) = views::listener::section_extent(self);
                self.section_scroll = step(self.section_scroll, page, last).min(last);
            }
        }
    }

    fn select_cursor(&mut self) {
        if let (Some(row), Some(model)) = (self.selected_row(), &self.model) {
            self.selected = Some(self.rows.id(row, model));
        }
        self.keep_in_sight();
    }

    /// Scrolls as little as possible, so that the cursor is on the screen.
    fn keep_in_sight(&mut self) {
        let visible = views::overview::visible_rows(self).max(1);
        self.offset = self.offset.min(self.rows.rows.len().saturating_sub(visible));
        self.offset = self.offset.clamp((self.cursor + 1).saturating_sub(visible), self.cursor);
    }

    fn open(&mut self) {
        let (Some(row), Some(model)) = (self.selected_row(), &self.model) else { return };
        if let Row::Group(group) = row
            && !self.is_unfolded(self.rows.groups[group].id)
        {
            return self.fold(Some(true));
        }
        self.view = View::Listener(self.rows.id(row, model));
        self.section_scroll = 0;
    }

    fn neighbour(&mut self, step: isize) {
        let last = self.rows.rows.len().saturating_sub(1);
        self.cursor = self.cursor.saturating_add_signed(step).min(last);
        self.select_cursor();
        if let Some(id) = self.selected {
            self.view = View::Listener(id);
            self.section_scroll = 0;
        }
    }

    /// Goes to the tab that is `step` further, round the end.
    fn change_section(&mut self, step: isize) {
        let tabs = views::listener::tabs(self);
        let at = tabs.iter().position(|&s| s == self.section).unwrap_or(0);
        self.section = tabs[(at as isize + step).rem_euclid(tabs.len() as isize) as usize];
        self.section_scroll = 0;
    }

    /// Folds or unfolds the group of the selected row; `None`: the other way round.
    fn fold(&mut self, unfold: Option<bool>) {
        let Some(group) = self.selected_row().and_then(|row| self.rows.group_of(row)) else { return };
        if unfold.unwrap_or(!self.is_unfolded(group)) {
            self.unfolded.insert(group);
        } else {
            self.unfolded.remove(&group);
            self.selected = Some(RowId::Group(group));
        }
        self.rebuild();
    }

    fn fold_all(&mut self) {
        let all: HashSet<GroupId> = self.rows.groups.iter().map(|g| g.id).collect();
        if all.is_subset(&self.unfolded) {
            self.unfolded.clear();
            self.selected =
                self.selected_row().and_then(|row| self.rows.group_of(row)).map(RowId::Group).or(self.selected);
        } else {
            self.unfolded.extend(all);
        }
        self.rebuild();
    }

    fn sort_by(&mut self, column: Column) {
        self.sort = Sort { column, descending: column.descending_first() };
        self.rebuild();
    }

    /// Puts the rows in order anew, and keeps the selection on its listener.
    fn rebuild(&mut self) {
        let Some(model) = self.model.clone() else { return };
        self.hidden.clear();
        if !self.show_closed {
            let now = model.interval.seconds;
            self.hidden
                .extend(self.closed_at.iter().filter(|(_, at)| now - **at > CLOSED_SHOWN_SECONDS).map(|(id, _)| *id));
        }
        let wish = Wish { sort: self.sort, filter: &self.filter, unfolded: &self.unfolded, hidden: &self.hidden };
        self.rows = Rows::new(&model, &wish);
        match self.selected.and_then(|id| self.rows.position(id, &model)) {
            Some(at) => self.cursor = at,
            None => self.cursor = self.cursor.min(self.rows.rows.len().saturating_sub(1)),
        }
        self.select_cursor();
    }
}

#[cfg(test)]
mod tests;
