//! What a row shows: a listener, or the shards of a SO_REUSEPORT group as one.

use std::borrow::Cow;

use listentop_model::{
    histogram::Histogram,
    history::History,
    model::{Distributions, GroupId, GroupModel, ListenerModel, Model},
};

/// A group of which at least two shards are shown.
#[derive(Debug, Clone)]
pub struct Group {
    /// Which.
    pub id: GroupId,
    /// Its place among the model's groups.
    pub place: usize,
    /// How many shards it has, those included that closed long ago.
    pub shards: usize,
    /// The shards that are shown: index into the model's listeners, and number.
    pub members: Vec<(usize, usize)>,
}

impl Group {
    /// The group as one listener, with everything. `model` must be that which the rows were made of.
    #[must_use]
    pub fn full(&self, model: &Model) -> ListenerModel {
        model.groups[self.place].full(model)
    }
}

/// One row's listener or group.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// A listener, or a shard.
    One(&'a ListenerModel),
    /// A group.
    Group(&'a GroupModel, &'a Model),
}

impl<'a> Item<'a> {
    /// Everything but distributions, threads and history, which a group has no sums of here.
    #[must_use]
    pub fn figures(self) -> &'a ListenerModel {
        match self {
            Self::One(listener) => listener,
            Self::Group(group, _) => &group.sum,
        }
    }

    /// The listener whose accept queue is fullest: itself, or a group's fullest shard.
    #[must_use]
    pub fn fullest(self) -> &'a ListenerModel {
        match self {
            Self::One(listener) => listener,
            Self::Group(group, model) => group.fullest_shard(model),
        }
    }

    /// A recent distribution, merged over the shards of a group.
    #[must_use]
    pub fn recent(self, pick: fn(&Distributions) -> Option<&Histogram>) -> Option<Cow<'a, Histogram>> {
        match self {
            Self::One(listener) => pick(&listener.recent_distributions).map(Cow::Borrowed),
            Self::Group(group, model) => {
                group.distribution(model, |shard| pick(&shard.recent_distributions)).map(Cow::Owned)
            }
        }
    }

    /// The accept queue's history, summed over the shards of a group.
    #[must_use]
    pub fn history(self) -> Cow<'a, History> {
        match self {
            Self::One(listener) => Cow::Borrowed(&listener.history),
            Self::Group(group, model) => Cow::Owned(group.history(model)),
        }
    }
}
