//! What all views show: the model, the rows in their order, the selection. No terminal, no clock: time is the model's.

use std::{borrow::Cow, cell::RefCell, collections::HashSet, sync::Arc, time::Duration};

use listentop_model::{
    coverage::Status,
    episodes::{Episodes, now_ms},
    model::{Finding, GroupId, ListenerModel, Model},
    words::{
        self,
        verdict::{self, Harm, Verdict},
    },
};
use ratatui::layout::Rect;

use super::{
    DashboardOptions, Moment,
    action::{Effect, Travel},
    clipboard,
    column::Column,
    filter::Filter,
    geometry,
    group::Item,
    hits::Hits,
    layout::Columns,
    log::Log,
    rows::{Row, RowId, RowQuery, Rows, Sort},
    theme::Theme,
};
use crate::source::live::{Level, Levels};

/// The refresh intervals that one key press goes through.
const INTERVALS_MS: [u64; 7] = [100, 250, 500, 1_000, 2_000, 5_000, 10_000];

/// Where the level cannot change.
const FIXED_LEVEL: &str = "how much is measured cannot change here: it takes probes, and no recording";

/// Rows that can be compared.
pub(super) const MARKED: usize = 8;

/// BEL.
const BELL: u8 = 7;

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
    /// The moment of the model, if it is one of the past.
    pub(super) moment: Option<Moment>,
    pub(super) verdict: Verdict,
    pub(super) rows: Rows,
    pub(super) sort: Sort,
    pub(super) filter: Filter,
    pub(super) typing: bool,
    unfolded: HashSet<GroupId>,
    pub(super) show_closed: bool,
    /// Columns that the user asked for, and those that he does not want.
    pub(super) wanted: Columns,
    pub(super) unwanted: Columns,
    /// What happened since the start, or in the whole recording.
    pub(super) log: Arc<Log>,
    episodes: Episodes,
    /// To be selected when this moment is shown, by its id.
    wanted_listener: Option<(u64, u64)>,
    /// Rows that are to be compared.
    pub(super) marked: Vec<RowId>,
    selected: Option<RowId>,
    pub(super) cursor: usize,
    /// The selection is the first row, whichever that is: until a key selects one.
    following: bool,
    /// Keys act on the verdict, above the rows.
    pub(super) on_verdict: bool,
    /// Where the mouse can click on the last frame, and what that does.
    pub(super) hits: RefCell<Hits>,
    /// How the lab's lesson stands, if this is a lab.
    pub(super) lesson: Option<lab_control::State>,
    /// How much is measured, and which levels there are; `None` if that cannot change.
    pub(super) levels: Option<Levels>,
    /// Said at the bottom until the next key.
    pub(super) message: Option<String>,
    /// What is to be written to the terminal besides frames.
    pub(super) outbox: Vec<u8>,
    /// How many listeners had a critical finding: one more rings the bell.
    alarmed: usize,
}

impl State {
    /// Before the first model.
    pub(super) fn new(options: DashboardOptions) -> Self {
        Self {
            theme: Theme::new(options.palette).with_charset(options.charset),
            refresh: options.refresh,
            size: (geometry::MIN_COLUMNS, geometry::MIN_ROWS),
            model: None,
            held: None,
            paused: options.starts_paused,
            moment: None,
            verdict: Verdict::default(),
            rows: Rows::default(),
            sort: Sort { column: Column::Severity, descending: true },
            filter: Filter::default(),
            typing: false,
            unfolded: HashSet::new(),
            show_closed: false,
            wanted: options.wanted,
            unwanted: options.unwanted,
            log: Arc::default(),
            episodes: Episodes::default(),
            wanted_listener: None,
            marked: Vec::new(),
            selected: None,
            cursor: 0,
            following: true,
            on_verdict: false,
            hits: RefCell::default(),
            lesson: None,
            levels: None,
            message: None,
            outbox: Vec::new(),
            alarmed: 0,
            options,
        }
    }

    /// Whether what is shown is not what is measured now.
    pub(super) const fn is_past(&self) -> bool {
        self.moment.is_some() && !self.options.is_replay
    }

    /// Whether a lab's lesson is about this finding.
    pub(super) fn expects(&self, finding: &Finding) -> bool {
        self.lesson.as_ref().is_some_and(|lesson| lesson.findings.iter().any(|id| id == finding.id))
    }

    /// The level above, or below; `None` if there is none, which is said.
    pub(super) fn next_level(&mut self, more: bool) -> Option<Level> {
        let Some(levels) = &self.levels else {
            self.message = Some(FIXED_LEVEL.to_owned());
            return None;
        };
        let at = Level::ALL.iter().position(|level| *level == levels.level)?;
        let next = if more { Level::ALL.get(at + 1) } else { at.checked_sub(1).map(|at| &Level::ALL[at]) };
        if next.is_none() {
            let end = if more { "everything is measured already" } else { "less cannot be measured" };
            self.message = Some(format!("{end}: {}", levels.level.name()));
        }
        next.copied()
    }

    /// Asks for a level, unless it is known that it cannot be had: then that is said, with what would help.
    pub(super) fn ask_level(&mut self, level: Level) -> Effect {
        let said = match &self.levels {
            None => FIXED_LEVEL.to_owned(),
            Some(levels) if levels.level == level => format!("that is measured: {}", level.name()),
            Some(levels) => match levels.refusal(level) {
                Some(why) => words::clean(why),
                None => return Effect::SetLevel(level),
            },
        };
        self.message = Some(said);
        Effect::Redraw
    }

    /// Asks for another moment.
    pub(super) fn travel(&mut self, travel: Travel) -> Effect {
        let is_here = travel == Travel::Now && !self.options.is_replay && !self.is_past();
        if is_here || self.model.is_none() { Effect::None } else { Effect::Travel(travel) }
    }

    /// Shows a model of the past, paused or not.
    pub(super) fn set_past(&mut self, model: Arc<Model>, moment: Moment, events: Option<Arc<Log>>) {
        if let Some(events) = events {
            self.log = events;
        }
        self.moment = Some(moment);
        self.held = None;
        let bell = std::mem::take(&mut self.options.bell);
        self.show(model);
        self.options.bell = bell;
        if let Some(id) = self.wanted_listener.take_if(|(at, _)| *at == moment.unix_ms) {
            self.select_listener(id.1);
        }
    }

    /// Goes to a moment of a recording, stays there, and selects a listener that it has, if one is wanted.
    pub(super) fn stop_at(&mut self, moment: u64, listener: Option<u64>) -> Travel {
        self.paused = true;
        self.wanted_listener = listener.map(|listener| (moment, listener));
        Travel::At(moment)
    }

    /// Takes the newest model, or holds it back while paused. Returns whether it is shown.
    pub(super) fn set_model(&mut self, model: Arc<Model>) -> bool {
        let (events, now) = (self.episodes.push(&model), now_ms(&model));
        if !events.is_empty() {
            let log = Arc::make_mut(&mut self.log);
            events.into_iter().for_each(|event| log.add(&model, event, now));
        }
        // Whoever comes back from the past wants to see it.
        if self.moment.take().is_some() {
            self.paused = false;
        }
        if self.paused {
            self.held = Some(model);
        } else {
            self.show(model);
        }
        !self.paused
    }

    fn show(&mut self, model: Arc<Model>) {
        self.model = Some(model);
        self.rebuild(false);
        let alarming = self.rows.standings().flatten().filter(|standing| standing.harm >= Harm::Waiting).count();
        if alarming > self.alarmed && self.options.bell {
            self.outbox.push(BELL);
        }
        self.alarmed = alarming;
    }

    /// Copies `text`, or else the command that shows the cause at the selected listener, or what was found there.
    pub(super) fn copy(&mut self, text: Option<String>) {
        let text = text.or_else(|| Some(verdict::line_to_copy(self.selected_item()?.figures())));
        let Some(text) = text else { return };
        self.message = Some(format!("copied: {text}"));
        self.outbox.extend_from_slice(clipboard::sequence(&text).as_bytes());
    }

    /// Columns that are not shown: the user does not want them, or what they show cannot be measured here.
    pub(super) fn hidden_columns(&self, model: &Model) -> Columns {
        let is_hidden = |column: &Column| {
            let measure = column.spec().measure;
            self.unwanted.contains(*column)
                || measure.is_some_and(|measure| words::status(model, measure) == Status::Unavailable)
        };
        Column::ALL.into_iter().filter(is_hidden).collect()
    }

    /// Freezes what is shown, or shows the newest model again.
    pub(super) fn toggle_pause(&mut self) {
        self.paused = !self.paused;
        if let Some(model) = self.held.take() {
            self.show(model);
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
        geometry::parts(Rect::new(0, 0, columns, rows), geometry::header_height(self))[1]
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

    /// Selects the row at `at`, or the last one, and stays with it.
    pub(super) fn select(&mut self, at: usize) {
        (self.following, self.on_verdict) = (false, false);
        self.point_at(at);
    }

    /// Goes up from the first row to the verdict, if that is about a listener; whether it did.
    pub(super) fn go_to_verdict(&mut self) -> bool {
        let goes = self.cursor == 0 && !self.on_verdict && self.verdict.listener.is_some();
        self.on_verdict |= goes;
        goes
    }

    fn point_at(&mut self, at: usize) {
        self.cursor = at.min(self.last_row());
        if let (Some(row), Some(model)) = (self.selected_row(), &self.model) {
            self.selected = Some(self.rows.id(row, model));
        }
    }

    /// Selects the row that is `step` further down, or up if negative.
    pub(super) fn select_neighbour(&mut self, step: isize) {
        self.select(self.cursor.saturating_add_signed(step));
    }

    /// Selects the listener, or the group that hides it; whether there is such a row.
    pub(super) fn select_listener(&mut self, id: u64) -> bool {
        let Some(model) = self.model.clone() else { return false };
        let group = model.listeners.iter().find(|listener| listener.id == id).and_then(|listener| listener.group);
        let at = self.rows.position(RowId::Listener(id), &model);
        let at = at.or_else(|| self.rows.position(RowId::Group(group?), &model));
        if let Some(at) = at {
            self.select(at);
        }
        at.is_some()
    }

    /// Selects the next row that a finding is about, from the selected one on and then from the top; or the one before.
    pub(super) fn select_finding(&mut self, forwards: bool) {
        let count = self.rows.rows.len();
        let step =
            |back: usize| if forwards { (self.cursor + back) % count } else { (self.cursor + count - back) % count };
        if let Some(at) = (1..=count).map(step).find(|&at| self.rows.is_found(self.rows.rows[at])) {
            self.select(at);
        }
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
        self.following = false;
        if unfold.unwrap_or(!self.is_unfolded(group)) {
            self.unfolded.insert(group);
        } else {
            self.unfolded.remove(&group);
            self.selected = Some(RowId::Group(group));
        }
        self.rebuild(true);
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
        self.rebuild(true);
    }

    /// Sorts by a column, in its own first order, and shows the top.
    pub(super) fn sort_by(&mut self, column: Column) {
        self.sort = Sort { column, descending: column.descending_first() };
        self.following = true;
        self.rebuild(true);
    }

    /// Reverses the order, and shows the top.
    pub(super) fn reverse(&mut self) {
        self.following = true;
        self.sort.descending = !self.sort.descending;
        self.rebuild(true);
    }

    /// Changes the filter.
    pub(super) fn edit_filter(&mut self, edit: impl FnOnce(&mut String)) {
        let mut typed = self.filter.typed().to_owned();
        edit(&mut typed);
        self.filter = Filter::new(&typed);
        self.rebuild(true);
    }

    /// Shows a column always; never; or if there is room, by turns.
    pub(super) fn cycle_column(&mut self, column: Column) {
        let (wanted, unwanted) = match (self.wanted.contains(column), self.unwanted.contains(column)) {
            (true, _) => (false, true),
            (false, true) => (false, false),
            (false, false) => (true, false),
        };
        self.wanted.set(column, wanted);
        self.unwanted.set(column, unwanted);
    }

    /// Marks the selected row for the comparison, or takes its mark away; whether that was possible.
    pub(super) fn mark(&mut self) -> bool {
        let Some(id) = self.selected else { return false };
        self.following = false;
        if let Some(at) = self.marked.iter().position(|marked| *marked == id) {
            self.marked.remove(at);
        } else if self.marked.len() == MARKED {
            self.message = Some(format!("at most {MARKED} rows can be compared"));
        } else {
            self.marked.push(id);
        }
        true
    }

    /// Shows the listeners that closed in the interval, or hides them.
    pub(super) fn toggle_closed(&mut self) {
        self.show_closed = !self.show_closed;
        self.rebuild(true);
    }

    /// Makes the rows again, and keeps the selection on its listener. `asked`: something else than the model changed.
    fn rebuild(&mut self, asked: bool) {
        let Some(model) = self.model.clone() else { return };
        let query =
            RowQuery { sort: self.sort, filter: &self.filter, unfolded: &self.unfolded, closed: self.show_closed };
        if !self.rows.update(&model, &query, asked) {
            return;
        }
        self.verdict = verdict::judge(&model, self.rows.standings());
        self.on_verdict &= self.verdict.listener.is_some();
        let at = match self.selected {
            Some(id) if !self.following => self.rows.position(id, &model).unwrap_or(self.cursor),
            _ => 0,
        };
        self.point_at(at);
    }

    /// What an action can change on the screen: compared before and after, it shows whether a key did something.
    pub(super) fn visible(&self) -> impl PartialEq + use<> {
        (
            (self.cursor, self.selected, self.sort, self.filter.clone(), self.typing, self.on_verdict),
            (self.show_closed, self.rows.rows.len(), self.unfolded.clone(), self.wanted, self.unwanted),
        )
    }
}
