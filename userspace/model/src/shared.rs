//! Lists that share their items.

use std::{
    ops::{Index, IndexMut},
    slice,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A list whose copies share their items until one is changed.
///
/// A copy costs a pointer per item. Two lists that share an item need not compare it. In JSON it is a plain list.
#[derive(Debug, PartialEq)]
pub struct Shared<T>(Vec<Arc<T>>);

impl<T> Shared<T> {
    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The item at this place.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&T> {
        self.0.get(at).map(Arc::as_ref)
    }

    /// The items in order.
    pub fn iter(&self) -> Iter<'_, T> {
        self.0.iter().map(Arc::as_ref)
    }

    /// The shared items.
    #[must_use]
    pub fn handles(&self) -> &[Arc<T>] {
        &self.0
    }

    /// The shared items, to put them into another order.
    pub(crate) fn handles_mut(&mut self) -> &mut Vec<Arc<T>> {
        &mut self.0
    }

    /// Adds an item, or a share in one.
    pub fn push(&mut self, item: impl Into<Arc<T>>) {
        self.0.push(item.into());
    }

    /// Removes an item and returns it.
    ///
    /// # Panics
    /// If there is none at this place.
    pub fn remove(&mut self, at: usize) -> Arc<T> {
        self.0.remove(at)
    }

    /// Keeps only the items for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.0.retain(|item| keep(item));
    }
}

impl<T: Clone> Shared<T> {
    /// The items in order, to be changed. A shared item is copied first.
    pub fn iter_mut(&mut self) -> IterMut<'_, T> {
        self.0.iter_mut().map(Arc::make_mut)
    }

    /// The same of those for which `wanted` is true.
    pub fn iter_mut_where(&mut self, mut wanted: impl FnMut(&T) -> bool) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().filter(move |item| wanted(item)).map(Arc::make_mut)
    }
}

/// Iterator over the items of a [`Shared`] list.
pub type Iter<'a, T> = std::iter::Map<slice::Iter<'a, Arc<T>>, fn(&'a Arc<T>) -> &'a T>;

/// Iterator over the items of a [`Shared`] list, to be changed.
pub type IterMut<'a, T> = std::iter::Map<slice::IterMut<'a, Arc<T>>, fn(&'a mut Arc<T>) -> &'a mut T>;

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Index<usize> for Shared<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        &self.0[at]
    }
}

impl<T: Clone> IndexMut<usize> for Shared<T> {
    /// The item, to be changed. A shared item is copied first.
    fn index_mut(&mut self, at: usize) -> &mut T {
        Arc::make_mut(&mut self.0[at])
    }
}

impl<'a, T> IntoIterator for &'a Shared<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T: Clone> IntoIterator for &'a mut Shared<T> {
    type Item = &'a mut T;
    type IntoIter = IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<T> From<Vec<T>> for Shared<T> {
    fn from(items: Vec<T>) -> Self {
        items.into_iter().collect()
    }
}

impl<T, I: Into<Arc<T>>> FromIterator<I> for Shared<T> {
    fn from_iter<A: IntoIterator<Item = I>>(items: A) -> Self {
        Self(items.into_iter().map(Into::into).collect())
    }
}

impl<T, I: Into<Arc<T>>> Extend<I> for Shared<T> {
    fn extend<A: IntoIterator<Item = I>>(&mut self, items: A) {
        self.0.extend(items.into_iter().map(Into::into));
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(|items: Vec<T>| items.into())
    }
}

/// Serde's two halves for something shared that may be missing: it is written as if it were not shared.
pub mod shared_option {
    use super::{Arc, Deserialize, Deserializer, Serialize, Serializer};

    /// Writes it.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<T: Serialize, S: Serializer>(item: &Option<Arc<T>>, serializer: S) -> Result<S::Ok, S::Error> {
        item.as_deref().serialize(serializer)
    }

    /// Reads it.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<T>>, D::Error> {
        Option::<T>::deserialize(deserializer).map(|item| item.map(Arc::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_until_one_is_changed() {
        let first = Shared::from(vec![1, 2]);
        let mut second = first.clone();
        second[1] = 3;
        assert_eq!((first[1], second[1]), (2, 3));
        assert!(Arc::ptr_eq(&first.handles()[0], &second.handles()[0]));
        assert!(!Arc::ptr_eq(&first.handles()[1], &second.handles()[1]));
    }

    #[test]
    fn it_is_written_as_a_plain_list() {
        let list = Shared::from(vec![1, 2]);
        let text = serde_json::to_string(&list).unwrap();
        assert_eq!(text, "[1,2]");
        assert_eq!(serde_json::from_str::<Shared<i32>>(&text).unwrap(), list);
    }
}
