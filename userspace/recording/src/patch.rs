//! What changed between two values of the same kind, as a value.
//!
//! | patch | means |
//! |---|---|
//! | an integer | the number grew by it |
//! | a map | entries changed: the place of each, and its own patch. In a list, also new items and a new length |
//! | a list of one item | it is this now |
//!
//! In a list, a place past its end is a new item. [`LENGTH`] in the place of one has the new length, if it is shorter.
//!
//! Entries of a map are named by their place in the value before, which reader and writer both have. So a patch is as
//! small as if there were no names, and yet nobody must know them in advance.

use ciborium::Value;

use crate::tape::{At, Items, Kind};

/// In the patch of a list: how long it is now, if it became shorter.
const LENGTH: i64 = -1;

/// A patch that does not fit the value that it is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a change does not fit what it changes")]
pub(crate) struct Misfit;

/// What makes `new` of `old`; `None` if they are equal.
#[must_use]
pub(crate) fn diff(old: At<'_>, new: At<'_>) -> Option<Value> {
    match (old.kind(), new.kind()) {
        (Kind::Integer(before), Kind::Integer(now)) => {
            let grown = now - before;
            (grown != 0).then(|| grown.try_into().map_or_else(|_| replacement(new), Value::Integer))
        }
        (Kind::Map(before), Kind::Map(now)) if same_names(&before, &now) => some_entries(diff_of_maps(before, now)),
        (Kind::List(before), Kind::List(now)) => some_entries(diff_of_lists(before, now)),
        _ if old.is(new) => None,
        _ => Some(replacement(new)),
    }
}

fn some_entries(entries: Vec<(Value, Value)>) -> Option<Value> {
    (!entries.is_empty()).then_some(Value::Map(entries))
}

/// A place or length as a value.
fn number(place: usize) -> Value {
    Value::from(place as u64)
}

fn replacement(new: At<'_>) -> Value {
    Value::Array(vec![new.value()])
}

fn same_names(before: &Items<'_>, now: &Items<'_>) -> bool {
    let mut names = before.clone().step_by(2).zip(now.clone().step_by(2));
    before.left() == now.left() && names.all(|(before, now)| before.is(now))
}

fn diff_of_maps(before: Items<'_>, now: Items<'_>) -> Vec<(Value, Value)> {
    let pairs = before.skip(1).step_by(2).zip(now.skip(1).step_by(2)).enumerate();
    pairs.filter_map(|(at, (before, now))| Some((number(at), diff(before, now)?))).collect()
}

fn diff_of_lists(mut before: Items<'_>, now: Items<'_>) -> Vec<(Value, Value)> {
    let mut entries = Vec::new();
    if now.left() < before.left() {
        entries.push((Value::from(LENGTH), number(now.left())));
    }
    for (at, now) in now.enumerate() {
        match before.next() {
            Some(before) => entries.extend(diff(before, now).map(|patch| (number(at), patch))),
            None => entries.push((number(at), replacement(now))),
        }
    }
    entries
}

/// Makes the new value of the old one. After an error the value is of no use.
///
/// # Errors
/// The patch is of another value.
pub(crate) fn apply(value: &mut Value, patch: Value) -> Result<(), Misfit> {
    match (patch, value) {
        (Value::Integer(grown), Value::Integer(number)) => {
            let sum = i128::from(*number) + i128::from(grown);
            *number = sum.try_into().map_err(|_| Misfit)?;
            Ok(())
        }
        (Value::Array(mut new), value) if new.len() == 1 => {
            *value = new.pop().ok_or(Misfit)?;
            Ok(())
        }
        (Value::Map(entries), Value::Map(values)) => entries.into_iter().try_for_each(|(at, patch)| {
            let at: usize = place(&at)?;
            apply(&mut values.get_mut(at).ok_or(Misfit)?.1, patch)
        }),
        (Value::Map(entries), Value::Array(items)) => {
            entries.into_iter().try_for_each(|(at, patch)| apply_to_item(items, &at, patch))
        }
        _ => Err(Misfit),
    }
}

fn apply_to_item(items: &mut Vec<Value>, at: &Value, patch: Value) -> Result<(), Misfit> {
    if *at == Value::from(LENGTH) {
        let length = place(&patch)?;
        if length > items.len() {
            return Err(Misfit);
        }
        items.truncate(length);
        return Ok(());
    }
    let at = place(at)?;
    if let Some(item) = items.get_mut(at) {
        return apply(item, patch);
    }
    match patch {
        Value::Array(mut new) if new.len() == 1 && at == items.len() => {
            items.push(new.pop().ok_or(Misfit)?);
            Ok(())
        }
        _ => Err(Misfit),
    }
}

fn place(value: &Value) -> Result<usize, Misfit> {
    value.as_integer().and_then(|number| number.try_into().ok()).ok_or(Misfit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tape::Tape;

    fn diff(old: &Value, new: &Value) -> Option<Value> {
        let tape = |value| {
            let mut tape = Tape::default();
            tape.record(value).expect("it has a tape");
            tape
        };
        super::diff(tape(old).whole(), tape(new).whole())
    }

    /// The same by the values themselves: what earlier versions wrote.
    fn diff_of_values(old: &Value, new: &Value) -> Option<Value> {
        let replacement = || Value::Array(vec![new.clone()]);
        match (old, new) {
            _ if old == new => None,
            (Value::Integer(before), Value::Integer(now)) => {
                let grown = i128::from(*now) - i128::from(*before);
                Some(grown.try_into().map_or_else(|_| replacement(), Value::Integer))
            }
            (Value::Map(before), Value::Map(now))
                if before.len() == now.len() && before.iter().zip(now).all(|(before, now)| before.0 == now.0) =>
            {
                let pairs = before.iter().zip(now).enumerate();
                let changed =
                    pairs.filter_map(|(at, (before, now))| Some((number(at), diff_of_values(&before.1, &now.1)?)));
                Some(Value::Map(changed.collect()))
            }
            (Value::Array(before), Value::Array(now)) => {
                let mut entries = Vec::new();
                if now.len() < before.len() {
                    entries.push((Value::from(LENGTH), number(now.len())));
                }
                let changed = before.iter().zip(now).enumerate();
                entries
                    .extend(changed.filter_map(|(at, (before, now))| Some((number(at), diff_of_values(before, now)?))));
                let added = now.iter().enumerate().skip(before.len());
                entries.extend(added.map(|(at, item)| (number(at), Value::Array(vec![item.clone()]))));
                Some(Value::Map(entries))
            }
            _ => Some(replacement()),
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-3i64..4).prop_map(Value::from),
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 3.0)),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::vec(("[a-b]", inner), 0..4)
                    .prop_map(|map| Value::Map(map.into_iter().map(|(name, value)| (name.into(), value)).collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_patch_of_two_values_makes_the_second_of_the_first(old in value(), new in value()) {
            let mut changed = old.clone();
            match diff(&old, &new) {
                None => prop_assert_eq!(&old, &new),
                Some(patch) => {
                    prop_assert_eq!(Some(patch.clone()), diff_of_values(&old, &new));
                    prop_assert_ne!(&old, &new);
                    apply(&mut changed, patch).expect("it fits");
                    prop_assert_eq!(&changed, &new);
                }
            }
        }

        #[test]
        fn a_patch_of_another_value_does_not_panic(value in value(), patch in value()) {
            let mut changed = value;
            let _ = apply(&mut changed, patch);
        }
    }

    #[test]
    fn a_counter_that_grows_is_a_small_number() {
        let of = |n: u64| Value::Map(vec![("a".into(), Value::Null), ("b".into(), n.into())]);
        let patch = diff(&of(1 << 60), &of((1 << 60) + 7)).expect("they differ");
        assert_eq!(patch, Value::Map(vec![(1.into(), 7.into())]));
    }

    #[test]
    fn extremes_of_numbers_are_replaced() {
        let (old, new) = (Value::from(u64::MAX), Value::from(i64::MIN));
        let mut changed = old.clone();
        apply(&mut changed, diff(&old, &new).expect("they differ")).expect("it fits");
        assert_eq!(changed, new);
    }
}
