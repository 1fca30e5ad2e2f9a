//! Which rows the overview has, and in what order: folding, filter, sorting. Indices are sorted, nothing is copied.

mod facts;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use listentop_model::{
    model::{GroupId, GroupModel, Model, Severity},
    words::verdict::Standing,
};

use self::facts::Facts;
use super::{
    column::{Column, Key},
    filter::Filter,
    group::{Group, Item},
};

/// A row of the overview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// A listener on its own, by index into the model's listeners.
    Listener(usize),
    /// A group, by index into [`Rows::groups`].
    Group(usize),
    /// A shard of an unfolded group.
    Shard {
        /// Index into the model's listeners.
        index: usize,
        /// Index into [`Rows::groups`].
        group: usize,
        /// Its number in the group, from 1.
        number: usize,
        /// It is the last row of its group.
        last: bool,
    },
}

/// The identity of a row, which stays the same when the order changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowId {
    /// A listener's id.
    Listener(u64),
    /// A group.
    Group(GroupId),
}

/// Order of the overview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// By which column.
    pub column: Column,
    /// Largest first.
    pub descending: bool,
}

/// What the user asked to see.
#[derive(Debug)]
pub struct RowQuery<'a> {
    /// Order.
    pub sort: Sort,
    /// What a row has to have.
    pub filter: &'a Filter,
    /// Groups that are unfolded.
    pub unfolded: &'a HashSet<GroupId>,
    /// Listeners that closed are shown, too, behind the others.
    pub closed: bool,
}

/// How many findings there are of each severity, worst first.
pub type Findings = Vec<(Severity, usize)>;

/// The rows.
#[derive(Debug, Default)]
pub struct Rows {
    /// In order.
    pub rows: Vec<Row>,
    /// The groups that rows refer to, whether they pass the filter or not.
    pub groups: Vec<Group>,
    /// Listeners that the filter lets through.
    pub listeners: usize,
    /// Listeners that closed in the interval.
    pub closed: usize,
    /// How many findings of each severity hold, worst first.
    pub findings: Findings,
    /// How many findings have passed.
    pub passed: usize,
    /// Columns that the widest address takes.
    pub address_width: usize,
    /// Columns that the widest process takes.
    pub process_width: usize,
    /// Columns that the widest container takes; 0 if no process runs in one.
    pub container_width: usize,
    /// Columns that depth and limit of the longest accept queue take.
    pub numbers_width: usize,
    /// What is known of each listener of the model, in its order.
    facts: Vec<Facts>,
    /// By which column their keys are.
    keyed_by: Option<Column>,
    /// The groups of the last model.
    seen: Vec<Arc<GroupModel>>,
}

/// The groups of which at least two shards are shown, each with the first of those in the model's order.
fn shown_groups(model: &Model, is_shown: impl Fn(usize) -> bool) -> HashMap<GroupId, (usize, Group)> {
    let shown = |(place, group): (usize, &GroupModel)| {
        let numbered = group.places.iter().copied().zip(1..);
        let members: Vec<_> = numbered.filter(|&(at, _)| is_shown(at)).collect();
        let first = members.iter().map(|&(at, _)| at).min().filter(|_| members.len() > 1)?;
        Some((group.id, (first, Group { id: group.id, place, shards: group.shards.len(), members })))
    };
    model.groups.iter().enumerate().filter_map(shown).collect()
}

impl Rows {
    /// The rows of `model` in order.
    #[must_use]
    pub fn new(model: &Model, query: &RowQuery<'_>) -> Self {
        let mut rows = Self::default();
        rows.update(model, query, true);
        rows
    }

    /// Puts the rows of the next model in order. Only listeners that changed are looked at; if none did, and the query
    /// is the same (`asked` is false), nothing is done. Returns whether anything was.
    pub fn update(&mut self, model: &Model, query: &RowQuery<'_>, asked: bool) -> bool {
        let changed = self.learn(model, query.sort.column);
        if changed || asked {
            self.arrange(model, query);
        }
        changed || asked
    }

    /// Learns about the listeners that changed; whether any did.
    fn learn(&mut self, model: &Model, column: Column) -> bool {
        let (handles, rekey) = (model.listeners.handles(), self.keyed_by != Some(column));
        let mut changed = self.facts.len() != handles.len();
        self.facts.truncate(handles.len());
        for (at, handle) in handles.iter().enumerate() {
            match self.facts.get_mut(at) {
                Some(facts) if facts.are_of(handle) => {
                    if rekey {
                        facts.set_key(column, at);
                    }
                }
                Some(facts) => {
                    facts.renew(handle, column, at);
                    changed = true;
                }
                None => self.facts.push(Facts::of(handle, column, at)),
            }
        }
        self.keyed_by = Some(column);
        let groups = model.groups.handles();
        let same = groups.len() == self.seen.len() && groups.iter().zip(&self.seen).all(|(a, b)| Arc::ptr_eq(a, b));
        if !same {
            self.seen = groups.to_vec();
        }
        changed || !same
    }

    /// How each listener of the model stands, in its order; `None` for one that closed.
    pub fn standings(&self) -> impl Iterator<Item = Option<Standing>> {
        self.facts.iter().map(|facts| (!facts.closed).then_some(facts.standing))
    }

    fn arrange(&mut self, model: &Model, query: &RowQuery<'_>) {
        let facts = std::mem::take(&mut self.facts);
        self.count(&facts);
        let shown = |at: usize| query.closed || !facts[at].closed;
        let groups = shown_groups(model, shown);
        let visible = |at: usize| shown(at) && (query.filter.is_empty() || query.filter.passes(facts[at].text()));
        let mut top = Vec::with_capacity(facts.len());
        for (at, fact) in facts.iter().enumerate() {
            match fact.group().and_then(|id| groups.get(&id)) {
                // The first shard stands for all.
                Some((first, group)) => {
                    if *first == at && group.members.iter().any(|&(shard, _)| visible(shard)) {
                        self.listeners += group.members.len();
                        self.measure(fact, format!("▸ ×{}", group.members.len()).chars().count() + 1);
                        top.push(Row::Group(self.groups.len()));
                        self.groups.push(group.clone());
                    }
                }
                None if visible(at) => {
                    self.listeners += 1;
                    self.measure(fact, 0);
                    top.push(Row::Listener(at));
                }
                None => {}
            }
        }
        self.sort(&mut top, &facts, model, query.sort);
        self.rows.reserve(top.len());
        for row in top {
            self.rows.push(row);
            if let Row::Group(group) = row
                && query.unfolded.contains(&self.groups[group].id)
            {
                let members = self.groups[group].members.iter();
                let mut shards: Vec<Row> =
                    members.map(|&(index, number)| Row::Shard { index, group, number, last: false }).collect();
                self.sort(&mut shards, &facts, model, query.sort);
                if let Some(Row::Shard { last, .. }) = shards.last_mut() {
                    *last = true;
                }
                self.rows.append(&mut shards);
            }
        }
        self.facts = facts;
    }

    /// Begins anew, and counts what does not depend on the query.
    fn count(&mut self, facts: &[Facts]) {
        self.rows.clear();
        self.groups.clear();
        (self.listeners, self.closed) = (0, 0);
        (self.address_width, self.process_width, self.numbers_width) = (8, 7, 5);
        self.container_width = 0;
        self.passed = 0;
        self.findings = [Severity::Critical, Severity::Warning, Severity::Info].map(|severity| (severity, 0)).to_vec();
        for fact in facts {
            self.closed += usize::from(fact.closed);
            self.passed += usize::from(fact.passed);
            for ((_, sum), count) in self.findings.iter_mut().zip(fact.findings) {
                *sum += usize::from(count);
            }
        }
    }

    fn measure(&mut self, facts: &Facts, extra: usize) {
        self.numbers_width = self.numbers_width.max(facts.numbers_width.into());
        self.address_width = self.address_width.max(usize::from(facts.address_width) + extra);
        self.process_width = self.process_width.max(facts.process_width.into());
        self.container_width = self.container_width.max(facts.container_width.into());
    }

    /// Sorts stably: equal rows stay in the model's order. Unknown is last in both orders, and what has closed behind
    /// all that is open.
    fn sort(&self, rows: &mut Vec<Row>, facts: &[Facts], model: &Model, sort: Sort) {
        let key = |row: Row| match row {
            Row::Listener(at) | Row::Shard { index: at, .. } => (facts[at].closed, facts[at].key()),
            Row::Group(group) => {
                let item = self.item(row, model);
                let first = self.groups[group].members.first().map_or(0, |&(at, _)| at);
                (item.figures().closed, sort.column.key(item, first))
            }
        };
        let mut keyed: Vec<((bool, Key<'_>), Row)> = rows.iter().map(|&row| (key(row), row)).collect();
        keyed.sort_by(|a, b| a.0.0.cmp(&b.0.0).then_with(|| Key::compare(&a.0.1, &b.0.1, sort.descending)));
        *rows = keyed.into_iter().map(|(_, row)| row).collect();
    }

    /// What a row shows. The row must be one of these, and `model` the one that they were made from.
    #[must_use]
    pub fn item<'a>(&'a self, row: Row, model: &'a Model) -> Item<'a> {
        match row {
            Row::Listener(index) | Row::Shard { index, .. } => Item::One(&model.listeners[index]),
            Row::Group(group) => Item::Group(&model.groups[self.groups[group].place], model),
        }
    }

    /// Identity of a row.
    #[must_use]
    pub fn id(&self, row: Row, model: &Model) -> RowId {
        match row {
            Row::Listener(index) | Row::Shard { index, .. } => RowId::Listener(model.listeners[index].id),
            Row::Group(group) => RowId::Group(self.groups[group].id),
        }
    }

    /// The group that a row is or belongs to.
    #[must_use]
    pub fn group_of(&self, row: Row) -> Option<GroupId> {
        match row {
            Row::Listener(_) => None,
            Row::Group(group) | Row::Shard { group, .. } => Some(self.groups[group].id),
        }
    }

    /// Where the row `id` is.
    #[must_use]
    pub fn position(&self, id: RowId, model: &Model) -> Option<usize> {
        self.rows.iter().position(|&row| self.id(row, model) == id)
    }

    /// Whether a finding that holds, worse than worth knowing, is about a row.
    #[must_use]
    pub fn is_found(&self, row: Row) -> bool {
        let found = |at: usize| self.facts[at].standing.severity > Some(Severity::Info);
        match row {
            Row::Listener(at) | Row::Shard { index: at, .. } => found(at),
            Row::Group(group) => self.groups[group].members.iter().any(|&(at, _)| found(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use listentop_model::{
        fixtures,
        histogram::Histogram,
        model::{Distributions, Drops, Finding, ListenerModel, PatternName, Severity},
        tracker::Tracker,
    };

    use super::*;

    /// The order of four listeners, by their place in the model, when sorted by each column. Every order is different,
    /// so that no column can sort by what another shows.
    const ORDERS: [(Column, [usize; 4]); 18] = [
        (Column::Severity, [0, 1, 3, 2]),
        (Column::Listener, [0, 1, 2, 3]),
        (Column::Process, [0, 2, 1, 3]),
        (Column::Netns, [0, 2, 3, 1]),
        (Column::Container, [2, 3, 1, 0]),
        (Column::SynQueue, [0, 3, 1, 2]),
        (Column::AcceptQueue, [0, 3, 2, 1]),
        (Column::Peak, [1, 0, 2, 3]),
        (Column::Accepts, [1, 0, 3, 2]),
        (Column::WaitP50, [1, 2, 0, 3]),
        (Column::WaitP99, [1, 2, 3, 0]),
        (Column::Oldest, [1, 3, 0, 2]),
        (Column::Drops, [1, 3, 2, 0]),
        (Column::Cause, [2, 0, 1, 3]),
        (Column::Reads, [2, 0, 3, 1]),
        (Column::ResidencyP99, [2, 1, 0, 3]),
        (Column::Open, [2, 1, 3, 0]),
        (Column::Pattern, [2, 3, 0, 1]),
    ];

    /// Gives a listener the figures that put it at `place` in the order of `column`: numbers are sorted from the
    /// largest, names from the first.
    fn put(listener: &mut ListenerModel, column: Column, place: usize, severities: &[Vec<Finding>; 4]) {
        let n = 4 - place as u32;
        let (number, rate) = (Some(u64::from(n)), Some(f64::from(n)));
        let name = ["a", "b", "c", "d"][place];
        // Nine of ten values, and the slowest.
        let add = |histogram: &mut Option<Histogram>, us: u64, times: usize| {
            let more = Histogram::of_units(std::iter::repeat_n(us * 1_000 / 128, times));
            histogram.get_or_insert_default().merge(&more);
        };
        let (now, recent) = (&mut listener.now, &mut listener.recent_distributions);
        match column {
            Column::Severity => listener.findings = severities[place].clone(),
            // The model's own order is that of the addresses.
            Column::Listener => {}
            Column::Process => listener.process.as_mut().expect("it has one").comm = name.to_owned(),
            Column::Netns => listener.netns_name = Some(name.to_owned()),
            Column::Container => {
                listener.process.as_mut().expect("it has one").container = Some(name.to_owned());
            }
            Column::SynQueue => now.syn_depth = Some(n),
            Column::AcceptQueue => (now.accept_depth, now.limit) = (10, 120 / n),
            Column::Peak => now.accept_peak = Some(n),
            Column::Accepts => listener.rate.accepts = rate,
            Column::WaitP50 => add(&mut recent.accept_wait, 100 * u64::from(n), 90),
            Column::WaitP99 => add(&mut recent.accept_wait, 10_000 * u64::from(n), 10),
            Column::Oldest => now.oldest_waiting_us = number,
            Column::Drops => listener.rate.drops = rate,
            Column::Cause => {
                let mut drops = Drops::default();
                // In the order of their names, in which capitals come first.
                match place {
                    0 => drops.syn_queue_full = Some(1),
                    1 => drops.accept_queue_full_on_ack = Some(1),
                    2 => drops.accept_queue_full_on_syn = Some(1),
                    _ => drops.unexplained = Some(1),
                }
                // What was refused a moment ago is wrong now.
                listener.drops = drops;
            }
            Column::Reads => listener.rate.reads = rate,
            Column::ResidencyP99 => {
                add(&mut recent.residency, 100, 90);
                add(&mut recent.residency, 10_000 * u64::from(n), 10);
            }
            Column::Open => now.open = number,
            Column::Pattern => {
                use PatternName::{AcceptorReaders, MultiAcceptor, SingleThread, Unknown};
                listener.pattern.name = [AcceptorReaders, MultiAcceptor, SingleThread, Unknown][place];
            }
            Column::Trend | Column::Finding => unreachable!("rows are not sorted by it"),
        }
    }

    #[test]
    fn every_column_sorts_by_what_it_shows() {
        let model = |samples: &[listentop_model::sample::Sample]| {
            let mut tracker = Tracker::new(&samples[0]);
            samples[1..].iter().for_each(|sample| tracker.push(sample));
            tracker.model().clone()
        };
        let finding = model(&fixtures::overflow()).listeners[0].findings[0].clone();
        let with = |severity| vec![Finding { severity, ..finding.clone() }];
        let severities = [with(Severity::Critical), with(Severity::Warning), with(Severity::Info), Vec::new()];
        let mut model = model(&fixtures::many(4));
        for listener in &mut model.listeners {
            listener.recent_distributions = Distributions::default();
        }
        for (column, order) in ORDERS {
            for (place, &at) in order.iter().enumerate() {
                put(&mut model.listeners[at], column, place, &severities);
            }
        }
        for (i, (column, order)) in ORDERS.iter().enumerate() {
            assert!(ORDERS[..i].iter().all(|(_, other)| other != order), "{column:?} has no order of its own");
            let ordered = |descending| -> Vec<usize> {
                let sort = Sort { column: *column, descending };
                let query = RowQuery { sort, filter: &Filter::default(), unfolded: &HashSet::new(), closed: false };
                let rows = Rows::new(&model, &query).rows;
                let place = |row: &Row| match row {
                    Row::Listener(at) => *at,
                    other => panic!("no listener on its own: {other:?}"),
                };
                rows.iter().map(place).collect()
            };
            assert_eq!(ordered(column.descending_first()), order, "{column:?}");
            let reversed: Vec<usize> = order.iter().rev().copied().collect();
            assert_eq!(ordered(!column.descending_first()), reversed, "{column:?}, reversed");
        }
        let sortable: Vec<Column> = Column::ALL.into_iter().filter(|column| column.sortable()).collect();
        assert_eq!(ORDERS.map(|(column, _)| column).to_vec(), sortable);
    }

    /// What has passed was critical; what holds is a warning. The verdict names the one that holds, and it comes first.
    #[test]
    fn the_first_row_is_the_one_that_the_verdict_names() {
        let samples = fixtures::many(3);
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        let mut model = tracker.model().clone();
        let mut overflow = Tracker::new(&fixtures::overflow()[0]);
        fixtures::overflow()[1..].iter().for_each(|sample| overflow.push(sample));
        let finding = overflow.model().listeners[0].findings[0].clone();
        let passed =
            Finding { severity: Severity::Critical, until_unix_ms: Some(finding.since_unix_ms + 1), ..finding.clone() };
        let holds = |severity| Finding { severity, until_unix_ms: None, ..finding.clone() };
        for (findings, first) in [
            ([vec![passed.clone()], vec![], vec![holds(Severity::Warning)]], 2),
            ([vec![passed.clone()], vec![holds(Severity::Critical)], vec![holds(Severity::Warning)]], 1),
        ] {
            for (listener, findings) in model.listeners.iter_mut().zip(findings) {
                listener.findings = findings;
            }
            let sort = Sort { column: Column::Severity, descending: true };
            let query = RowQuery { sort, filter: &Filter::default(), unfolded: &HashSet::new(), closed: false };
            let rows = Rows::new(&model, &query).rows;
            assert_eq!(rows[0], Row::Listener(first));
            let named = listentop_model::words::verdict::of(&model).listener;
            assert_eq!(named, Some(model.listeners[first].id));
        }
    }

    #[test]
    fn a_group_with_one_shard_left_to_show_is_a_listener() {
        let samples = fixtures::dead_shard();
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        let sort = Sort { column: Column::Listener, descending: false };
        let rows = |closed: usize| {
            let mut model = tracker.model().clone();
            model.listeners.iter_mut().take(closed).for_each(|listener| listener.closed = true);
            let query = RowQuery { sort, filter: &Filter::default(), unfolded: &HashSet::new(), closed: false };
            Rows::new(&model, &query).rows
        };
        let groups = |rows: &[Row]| rows.iter().filter(|row| !matches!(row, Row::Listener(_))).count();
        let (two_left, one_left) = (rows(2), rows(3));
        assert_eq!((groups(&two_left), groups(&one_left)), (1, 0));
        assert_eq!(two_left.len(), one_left.len());
    }

    #[test]
    fn what_closed_is_hidden_or_behind_all_that_is_open() {
        let mut model = fixtures::distinct_model();
        let samples = fixtures::quiet();
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        model.listeners = tracker.model().listeners.clone();
        model.groups = listentop_model::shared::Shared::default();
        model.listeners[0].closed = true;
        for descending in [false, true] {
            for column in Column::ALL.into_iter().filter(|column| column.sortable()) {
                let sort = Sort { column, descending };
                let rows = |closed| {
                    let query = RowQuery { sort, filter: &Filter::default(), unfolded: &HashSet::new(), closed };
                    Rows::new(&model, &query)
                };
                assert_eq!((rows(false).rows.len(), rows(false).closed), (2, 1));
                assert_eq!(rows(true).rows.last(), Some(&Row::Listener(0)), "{column:?}");
            }
        }
    }

    /// Only what changed is looked at again, and the rows are the same as if all were.
    #[test]
    fn rows_follow_the_model_as_if_they_were_made_anew() {
        let samples = fixtures::many(50);
        let mut tracker = Tracker::new(&samples[0]);
        let sort = Sort { column: Column::Accepts, descending: true };
        let (filter, unfolded) = (Filter::default(), HashSet::new());
        let query = RowQuery { sort, filter: &filter, unfolded: &unfolded, closed: true };
        let mut kept = Rows::default();
        for sample in &samples[1..] {
            tracker.push(sample);
            let model = tracker.model();
            kept.update(model, &query, false);
            assert_eq!(kept.rows, Rows::new(model, &query).rows);
            assert!(!kept.update(model, &query, false), "nothing changed since");
        }
        let reversed = RowQuery { sort: Sort { descending: false, ..sort }, ..query };
        assert!(kept.update(tracker.model(), &reversed, true));
        assert_eq!(kept.rows, Rows::new(tracker.model(), &reversed).rows);
    }
}
