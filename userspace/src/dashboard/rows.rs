//! Which rows the overview has, and in what order: folding, filter, sorting. Indices are sorted, nothing is copied.

use std::collections::{HashMap, HashSet};

use listentop_model::model::{GroupId, ListenerModel, Model};

use super::{
    column::{Column, Key},
    format,
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

/// What a row stays the same by when the order changes.
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
pub struct Wish<'a> {
    /// Order.
    pub sort: Sort,
    /// Words that a row has to contain.
    pub filter: &'a str,
    /// Groups that are unfolded.
    pub unfolded: &'a HashSet<GroupId>,
    /// Listeners that closed so long ago that they are not shown any more.
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

impl Rows {
    /// Puts the rows of `model` in order.
    #[must_use]
    pub fn new(model: &Model, wish: &Wish<'_>) -> Self {
        let words: Vec<String> = wish.filter.split_whitespace().map(str::to_lowercase).collect();
        let visible = |l: &ListenerModel| !wish.hidden.contains(&l.id) && (words.is_empty() || matches(l, &words));
        let mut members: HashMap<GroupId, Vec<usize>> = HashMap::new();
        for (i, listener) in model.listeners.iter().enumerate() {
            if let Some(group) = listener.group
                && !wish.hidden.contains(&listener.id)
            {
                members.entry(group).or_default().push(i);
            }
        }
        members.retain(|_, m| m.len() > 1);

        let mut rows = Self { address_width: 8, process_width: 7, numbers_width: 5, ..Self::default() };
        let mut top = Vec::with_capacity(model.listeners.len());
        for (i, listener) in model.listeners.iter().enumerate() {
            match listener.group.and_then(|id| members.get(&id).map(|shards| (id, shards))) {
                // The first shard stands for all.
                Some((id, shards)) if shards[0] == i && shards.iter().any(|&s| visible(&model.listeners[s])) => {
                    let mut shards = shards.clone();
                    shards.sort_by_key(|&s| model.listeners[s].id);
                    rows.listeners += shards.len();
                    rows.measure(listener, format!("▸ ×{}", shards.len()).chars().count() + 1);
                    top.push(Row::Group(rows.groups.len()));
                    rows.groups.push(Group::new(id, shards, model));
                }
                None if visible(listener) => {
                    rows.listeners += 1;
                    rows.measure(listener, 0);
                    top.push(Row::Listener(i));
                }
                _ => {}
            }
        }
        rows.sort(&mut top, model, wish.sort);
        rows.rows.reserve(top.len());
        for row in top {
            rows.rows.push(row);
            if let Row::Group(group) = row
                && wish.unfolded.contains(&rows.groups[group].id)
            {
                let count = rows.groups[group].members.len();
                let mut shards: Vec<Row> = (rows.groups[group].members.iter().zip(1..))
                    .map(|(&index, number)| Row::Shard { index, group, number, last: false })
                    .collect();
                rows.sort(&mut shards, model, wish.sort);
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
        let address = format::endpoint_width(listener.address, listener.port, listener.v6only);
        self.address_width = self.address_width.max(address + extra);
        if let Some(process) = &listener.process {
            let holders = if listener.holders > 1 { 1 + digits(listener.holders - 1) } else { 0 };
            self.process_width = self.process_width.max(process.comm.len() + 2 + digits(process.pid) + holders);
        }
    }

    /// Sorts stably: rows that are equal stay in the model's order. Unknown comes last either way.
    fn sort(&self, rows: &mut Vec<Row>, model: &Model, sort: Sort) {
        let mut keyed: Vec<(Key<'_>, usize, Row)> =
            rows.iter().zip(0..).map(|(&row, i)| (sort.column.key(self.item(row, model), i), i, row)).collect();
        keyed.sort_unstable_by(|a, b| Key::compare(&a.0, &b.0, sort.descending).then(a.1.cmp(&b.1)));
        *rows = keyed.into_iter().map(|(_, _, row)| row).collect();
    }

    /// What a row shows. The row must be of these rows, and `model` that which they were made of.
    #[must_use]
    pub fn item<'a>(&'a self, row: Row, model: &'a Model) -> Item<'a> {
        match row {
            Row::Listener(index) | Row::Shard { index, .. } => Item::One(&model.listeners[index]),
            Row::Group(group) => Item::Group(&self.groups[group], model),
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

/// Whether every word is somewhere in what identifies the listener.
fn matches(listener: &ListenerModel, words: &[String]) -> bool {
    let text = format!(
        "{} {} {} {} {}",
        format::listener_endpoint(listener),
        format::process(listener),
        format::netns(listener),
        listener.pattern.name.name(),
        if listener.closed { "closed" } else { "" },
    )
    .to_lowercase();
    words.iter().all(|word| text.contains(word.as_str()))
}
