//! Which rows the overview has, and in what order: folding, filter, sorting. Indices are sorted, nothing is copied.

use std::collections::{HashMap, HashSet};

use listentop_model::{
    model::{GroupId, GroupModel, ListenerModel, Model},
    words,
};

use super::{
    column::{Column, Key},
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
    /// Words that a row has to contain.
    pub filter: &'a str,
    /// Groups that are unfolded.
    pub unfolded: &'a HashSet<GroupId>,
    /// Listeners that are no longer shown: they closed too long ago.
    pub hidden: &'a HashSet<u64>,
}

/// The rows.
#[derive(Debug, Default)]
pub struct Rows {
    /// In order.
    pub rows: Vec<Row>,
    /// The groups that rows refer to, whether they pass the filter or not.
    pub groups: Vec<Group>,
    /// Listeners that the filter lets through.
    pub listeners: usize,
    /// Columns that the widest address takes.
    pub address_width: usize,
    /// Columns that the widest process takes.
    pub process_width: usize,
    /// Columns that depth and limit of the longest accept queue take.
    pub numbers_width: usize,
}

/// The groups of which at least two shards are not `hidden`, each with the first of those in the model's order.
fn shown_groups(model: &Model, hidden: &HashSet<u64>) -> HashMap<GroupId, (usize, Group)> {
    let shown = |(place, group): (usize, &GroupModel)| {
        let numbered = group.places.iter().copied().zip(1..);
        let members: Vec<_> = numbered.filter(|&(at, _)| !hidden.contains(&model.listeners[at].id)).collect();
        let first = members.iter().map(|&(at, _)| at).min().filter(|_| members.len() > 1)?;
        Some((group.id, (first, Group { id: group.id, place, shards: group.shards.len(), members })))
    };
    model.groups.iter().enumerate().filter_map(shown).collect()
}

impl Rows {
    /// Puts the rows of `model` in order.
    #[must_use]
    pub fn new(model: &Model, query: &RowQuery<'_>) -> Self {
        let words: Vec<String> = query.filter.split_whitespace().map(str::to_lowercase).collect();
        let visible = |l: &ListenerModel| !query.hidden.contains(&l.id) && (words.is_empty() || matches(l, &words));
        let groups = shown_groups(model, query.hidden);

        let mut rows = Self { address_width: 8, process_width: 7, numbers_width: 5, ..Self::default() };
        let mut top = Vec::with_capacity(model.listeners.len());
        for (i, listener) in model.listeners.iter().enumerate() {
            match listener.group.and_then(|id| groups.get(&id)) {
                // The first shard stands for all.
                Some((first, group)) => {
                    if *first == i && group.members.iter().any(|&(shard, _)| visible(&model.listeners[shard])) {
                        rows.listeners += group.members.len();
                        rows.measure(listener, format!("▸ ×{}", group.members.len()).chars().count() + 1);
                        top.push(Row::Group(rows.groups.len()));
                        rows.groups.push(group.clone());
                    }
                }
                None if visible(listener) => {
                    rows.listeners += 1;
                    rows.measure(listener, 0);
                    top.push(Row::Listener(i));
                }
                None => {}
            }
        }
        rows.sort(&mut top, model, query.sort);
        rows.rows.reserve(top.len());
        for row in top {
            rows.rows.push(row);
            if let Row::Group(group) = row
                && query.unfolded.contains(&rows.groups[group].id)
            {
                let count = rows.groups[group].members.len();
                let members = rows.groups[group].members.iter();
                let mut shards: Vec<Row> =
                    members.map(|&(index, number)| Row::Shard { index, group, number, last: false }).collect();
                rows.sort(&mut shards, model, query.sort);
                if let Some(Row::Shard { last, .. }) = shards.get_mut(count - 1) {
                    *last = true;
                }
                rows.rows.append(&mut shards);
            }
        }
        rows
    }

    fn measure(&mut self, listener: &ListenerModel, extra: usize) {
        let digits = |n: u32| n.checked_ilog10().unwrap_or(0) as usize + 1;
        // A group's limit is a sum: room for one more digit each.
        let numbers = 2 * digits(listener.now.limit).min(4) + 1 + 2 * usize::from(extra > 0);
        self.numbers_width = self.numbers_width.max(numbers.min(9));
        let address = words::endpoint_width(listener.address, listener.port, listener.v6only, listener.device.as_ref());
        self.address_width = self.address_width.max(address + extra);
        if let Some(process) = &listener.process {
            let holders = match listener.holders.len() {
                0 | 1 => 0,
                more => 1 + digits(more as u32 - 1),
            };
            self.process_width =
                self.process_width.max(words::width(&words::clean(&process.comm)) + 2 + digits(process.pid) + holders);
        }
    }

    /// Sorts stably: equal rows stay in the model's order. Unknown is last in both orders.
    fn sort(&self, rows: &mut Vec<Row>, model: &Model, sort: Sort) {
        let mut keyed: Vec<(Key<'_>, usize, Row)> =
            rows.iter().zip(0..).map(|(&row, i)| (sort.column.key(self.item(row, model), i), i, row)).collect();
        keyed.sort_unstable_by(|a, b| Key::compare(&a.0, &b.0, sort.descending).then(a.1.cmp(&b.1)));
        *rows = keyed.into_iter().map(|(_, _, row)| row).collect();
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
}

/// Whether each word is in a name, address or id of the listener.
fn matches(listener: &ListenerModel, words: &[String]) -> bool {
    let text = format!(
        "{} {} {} {} {}",
        words::listener_endpoint(listener),
        words::process(listener),
        words::netns(listener),
        listener.pattern.name.name(),
        if listener.closed { "closed" } else { "" },
    )
    .to_lowercase();
    words.iter().all(|word| text.contains(word.as_str()))
}

#[cfg(test)]
mod tests {
    use listentop_model::{
        fixtures,
        histogram::Histogram,
        model::{Distributions, Drops, Finding, PatternName, Severity},
        tracker::Tracker,
    };

    use super::*;

    /// The order of four listeners, by their place in the model, when sorted by each column. Every order is different,
    /// so that no column can sort by what another shows.
    const ORDERS: [(Column, [usize; 4]); 17] = [
        (Column::Severity, [0, 1, 3, 2]),
        (Column::Listener, [0, 1, 2, 3]),
        (Column::Process, [0, 2, 1, 3]),
        (Column::Netns, [0, 2, 3, 1]),
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
                listener.recent_drops = drops;
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
                let query = RowQuery { sort, filter: "", unfolded: &HashSet::new(), hidden: &HashSet::new() };
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

    #[test]
    fn a_group_with_one_shard_left_to_show_is_a_listener() {
        let samples = fixtures::dead_shard();
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        let (model, shards) = (tracker.model(), &tracker.model().groups[0].shards);
        let sort = Sort { column: Column::Listener, descending: false };
        let rows = |hidden: &[u64]| {
            let hidden = hidden.iter().copied().collect();
            Rows::new(model, &RowQuery { sort, filter: "", unfolded: &HashSet::new(), hidden: &hidden }).rows
        };
        let groups = |rows: &[Row]| rows.iter().filter(|row| !matches!(row, Row::Listener(_))).count();
        let (two_left, one_left) = (rows(&shards[2..]), rows(&shards[1..]));
        assert_eq!((groups(&two_left), groups(&one_left)), (1, 0));
        assert_eq!(two_left.len(), one_left.len());
    }
}
