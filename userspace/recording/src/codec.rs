//! Samples as frames: whole ones now and then, and in between what changed.
//!
//! A sample is turned into CBOR with named fields, as serde describes it: a reader of another version finds each field
//! by its name. Changes are between two such values ([`crate::patch`]), so the code knows no field of a listener.

use std::{collections::HashMap, sync::Arc};

use ciborium::Value;
use listentop_model::{
    blame::Blame,
    connections::Listing,
    coverage::Coverage,
    sample::{Cost, Host, ListenerSample, Losses, MarkSample, NamespaceSample, Sample},
    shared::{Shared, shared_option},
};
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned, ser::Error as _};

use crate::{
    frame::{self, FrameError, Header, Kind, Stamp},
    patch,
    tape::{At, NoTape, Tape},
};

/// Frames after which a whole sample comes again, at the earliest: damage costs no more than that.
const KEY_AFTER: u64 = 60;
/// At the latest, where whole samples are much larger than changes.
const KEY_AT_LATEST: u64 = 300;
/// The most listeners of a sample, as many as listentop tracks at most, with those that closed.
const MOST_LISTENERS: usize = 1 << 21;

/// A sample without its listeners.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rest {
    monotonic_ns: u64,
    unix_ms: u64,
    host: Host,
    coverage: Vec<Coverage>,
    cost: Cost,
    losses: Losses,
    namespaces: Vec<NamespaceSample>,
    #[serde(default)]
    listing: Option<Listing>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "shared_option::serialize",
        deserialize_with = "shared_option::deserialize"
    )]
    blame: Option<Arc<Blame>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    marks: Vec<MarkSample>,
}

impl Rest {
    fn of(sample: &Sample) -> Self {
        let Sample {
            monotonic_ns,
            unix_ms,
            host,
            coverage,
            cost,
            losses,
            namespaces,
            listing,
            blame,
            marks,
            listeners: _,
        } = sample.clone();
        Self { monotonic_ns, unix_ms, host, coverage, cost, losses, namespaces, listing, blame, marks }
    }

    fn with(self, listeners: Shared<ListenerSample>) -> Sample {
        let Self { monotonic_ns, unix_ms, host, coverage, cost, losses, namespaces, listing, blame, marks } = self;
        Sample { monotonic_ns, unix_ms, host, coverage, cost, losses, namespaces, listeners, listing, blame, marks }
    }
}

/// A whole sample.
#[derive(Debug, Deserialize)]
struct Whole {
    sample: Value,
    listeners: Vec<Value>,
}

/// The same to be written. A listener becomes a value when its turn comes and is dropped behind it: a value
/// has every name as a text of its own, so those of ten thousand listeners at once would take much memory.
#[derive(Serialize)]
struct WholeOf<'a> {
    sample: &'a Value,
    listeners: Vec<ByValue<'a>>,
}

/// Written as the value that it becomes: changes are to the places in it.
struct ByValue<'a>(&'a ListenerSample);

impl Serialize for ByValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Value::serialized(self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// What changed since the sample before.
#[derive(Debug, Serialize, Deserialize)]
struct Change {
    /// Of everything but the listeners.
    sample: Value,
    /// Where the listeners come from, if not all are the same in the same order: pairs of a place in the sample before
    /// and how many from there on. [`NEW`] as the place takes so many from `new`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<Vec<(i64, u64)>>,
    /// Pairs of a place among these listeners and what changed there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changed: Vec<(u64, Value)>,
    /// Listeners that were not in the sample before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    new: Vec<Value>,
}

/// In the place of a place: a new listener.
const NEW: i64 = -1;

/// As a value; nothing in a sample has no CBOR.
fn value(content: &impl Serialize) -> Result<Value, FrameError> {
    Value::serialized(content).map_err(|error| FrameError::Content(error.to_string()))
}

fn content<T: DeserializeOwned>(value: &Value) -> Result<T, FrameError> {
    value.deserialized().map_err(|error| FrameError::Content(error.to_string()))
}

/// Makes frames of samples.
#[derive(Debug, Default)]
pub struct Encoder {
    /// The last sample: what the next changes are to.
    before: Option<(Tape, Shared<ListenerSample>)>,
    /// A listener before and now, for one after the other.
    tapes: [Tape; 2],
    serial: u64,
    /// Frames since the last whole sample, and their size.
    since_key: (u64, usize),
    key_size: usize,
}

impl Encoder {
    /// Begins with a whole sample, which gets this number.
    #[must_use]
    pub fn from_serial(serial: u64) -> Self {
        Self { serial, ..Self::default() }
    }

    /// The number of the next sample.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Has the next sample written whole: a new file begins with it, or the last frame was not written.
    pub fn restart(&mut self) {
        self.before = None;
    }

    /// The frame of the next sample.
    ///
    /// # Errors
    /// The sample is too large.
    pub fn encode(&mut self, sample: &Sample) -> Result<Vec<u8>, FrameError> {
        let stamp = Stamp { serial: self.serial, unix_ms: sample.unix_ms, monotonic_ns: sample.monotonic_ns };
        let mut rest = Tape::default();
        rest.record(&Rest::of(sample))?;
        let (frames, size) = self.since_key;
        let due = frames >= KEY_AT_LATEST || frames >= KEY_AFTER && size >= self.key_size;
        let frame = if let Some((old, listeners)) = self.before.take().filter(|_| !due) {
            let rests = [old.whole(), rest.whole()];
            let change = change(rests, &listeners, &sample.listeners, &mut self.tapes)?;
            let frame = frame::frame(Kind::Delta, stamp, &change)?;
            self.since_key = (frames + 1, size + frame.len());
            frame
        } else {
            let listeners = sample.listeners.iter().map(ByValue).collect();
            let frame = frame::frame(Kind::Key, stamp, &WholeOf { sample: &rest.whole().value(), listeners })?;
            self.since_key = (1, 0);
            self.key_size = frame.len();
            frame
        };
        self.before = Some((rest, sample.listeners.clone()));
        self.serial += 1;
        Ok(frame)
    }
}

impl From<NoTape> for FrameError {
    fn from(error: NoTape) -> Self {
        Self::Content(error.to_string())
    }
}

/// What makes the new sample of the old one: the rests of both, and the listeners.
fn change(
    [old_rest, rest]: [At<'_>; 2],
    old: &Shared<ListenerSample>,
    new: &Shared<ListenerSample>,
    [tape_before, tape_now]: &mut [Tape; 2],
) -> Result<Change, FrameError> {
    let sample = patch::diff(old_rest, rest).unwrap_or_else(|| Value::Map(Vec::new()));
    let mut change = Change { sample, order: None, changed: Vec::new(), new: Vec::new() };
    let places = places(old, new);
    for (at, (listener, place)) in new.handles().iter().zip(&places).enumerate() {
        let Some(before) = place.map(|place| &old.handles()[place]) else {
            change.new.push(value(&**listener)?);
            continue;
        };
        if Arc::ptr_eq(before, listener) || before == listener {
            continue;
        }
        tape_before.record(&**before)?;
        tape_now.record(&**listener)?;
        if let Some(patch) = patch::diff(tape_before.whole(), tape_now.whole()) {
            change.changed.push((at as u64, patch));
        }
    }
    let same = old.len() == new.len() && places.iter().enumerate().all(|(at, place)| *place == Some(at));
    change.order = (!same).then(|| order(&places));
    Ok(change)
}

/// Where each of the new listeners was.
fn places(old: &Shared<ListenerSample>, new: &Shared<ListenerSample>) -> Vec<Option<usize>> {
    let same_place = |at: usize| {
        let (before, now) = (&old.handles()[at], &new.handles()[at]);
        Arc::ptr_eq(before, now) || is_same(before, now)
    };
    if old.len() == new.len() && (0..new.len()).all(same_place) {
        return (0..new.len()).map(Some).collect();
    }
    // A socket that listened twice is there twice, so not by its id alone.
    let mut index: HashMap<(u64, Option<u64>), usize> = HashMap::with_capacity(old.len());
    old.iter().enumerate().for_each(|(at, listener)| {
        index.entry((listener.id, listener.opened_ns)).or_insert(at);
    });
    new.iter().map(|listener| index.remove(&(listener.id, listener.opened_ns))).collect()
}

fn is_same(one: &ListenerSample, other: &ListenerSample) -> bool {
    (one.id, one.opened_ns) == (other.id, other.opened_ns)
}

/// The same, as runs.
fn order(places: &[Option<usize>]) -> Vec<(i64, u64)> {
    let mut runs: Vec<(i64, u64)> = Vec::new();
    for place in places {
        let place = place.map_or(NEW, |place| place as i64);
        match runs.last_mut() {
            Some((from, count)) if place == NEW && *from == NEW => *count += 1,
            Some((from, count)) if *from != NEW && place == *from + *count as i64 => *count += 1,
            _ => runs.push((place, 1)),
        }
    }
    runs
}

/// A listener as it was read: as the recording has it, and as this version understands it.
#[derive(Debug, Clone)]
struct Known {
    value: Arc<Value>,
    sample: Arc<ListenerSample>,
}

impl Known {
    fn of(value: Value) -> Result<Self, FrameError> {
        let sample = Arc::new(content(&value)?);
        Ok(Self { value: Arc::new(value), sample })
    }
}

/// Makes samples of frames.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The last sample; `None` before the first whole one, and after damage.
    known: Option<(Value, Vec<Known>)>,
}

impl Decoder {
    /// Whether it can read changes: it has the sample that they are to.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.known.is_some()
    }

    /// Forgets the last sample: the next one is not the one after it.
    pub fn restart(&mut self) {
        self.known = None;
    }

    /// The sample of a frame. Without the sample before it, that of changes is `None`.
    ///
    /// # Errors
    /// The frame is damaged. Changes cannot be read until the next whole sample.
    pub fn decode(&mut self, header: &Header, payload: &[u8]) -> Result<Option<Sample>, FrameError> {
        let known = self.known.take();
        let (rest, listeners) = match (header.kind, known) {
            (Kind::Start, known) => {
                self.known = known;
                return Ok(None);
            }
            (Kind::Key, _) => {
                let whole: Whole = header.open(payload)?;
                (whole.sample, whole.listeners.into_iter().map(Known::of).collect::<Result<_, _>>()?)
            }
            (Kind::Delta, None) => return Ok(None),
            (Kind::Delta, Some((rest, listeners))) => apply(rest, listeners, header.open(payload)?)?,
        };
        let sample: Rest = content(&rest)?;
        let sample = sample.with(listeners.iter().map(|known| known.sample.clone()).collect());
        self.known = Some((rest, listeners));
        Ok(Some(sample))
    }
}

fn apply(mut rest: Value, listeners: Vec<Known>, change: Change) -> Result<(Value, Vec<Known>), FrameError> {
    let misfit = |misfit: patch::Misfit| FrameError::Content(misfit.to_string());
    patch::apply(&mut rest, change.sample).map_err(misfit)?;
    let mut listeners = match change.order {
        None => listeners,
        // The old list goes at once: what only one has is changed in place.
        Some(order) => arrange(&{ listeners }, &order, change.new)?,
    };
    for (at, patch) in change.changed {
        let place = usize::try_from(at).ok().and_then(|at| listeners.get_mut(at));
        let known = place.ok_or_else(|| misfit(patch::Misfit))?;
        patch::apply(Arc::make_mut(&mut known.value), patch).map_err(misfit)?;
        known.sample = Arc::new(content(&known.value)?);
    }
    Ok((rest, listeners))
}

fn arrange(before: &[Known], order: &[(i64, u64)], new: Vec<Value>) -> Result<Vec<Known>, FrameError> {
    let misfit = || FrameError::Content(patch::Misfit.to_string());
    let mut new = new.into_iter();
    let mut listeners = Vec::new();
    for &(from, count) in order {
        let count = usize::try_from(count).map_err(|_| misfit())?;
        if listeners.len().saturating_add(count) > MOST_LISTENERS {
            return Err(FrameError::TooLarge);
        }
        if from == NEW {
            for value in new.by_ref().take(count) {
                listeners.push(Known::of(value)?);
            }
        } else {
            let from = usize::try_from(from).map_err(|_| misfit())?;
            let run = before.get(from..).and_then(|rest| rest.get(..count)).ok_or_else(misfit)?;
            listeners.extend_from_slice(run);
        }
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use listentop_model::fixtures;

    use super::*;

    /// All kinds of parts that serde knows.
    #[derive(Serialize)]
    struct Parts {
        natural: u64,
        signed: (i8, i64),
        float: f32,
        letter: char,
        text: String,
        some: Option<bool>,
        none: Option<bool>,
        unit: (),
        address: std::net::IpAddr,
        unit_variant: Variants,
        variants: Vec<Variants>,
        map: std::collections::BTreeMap<u16, Vec<u8>>,
        empty: Vec<u8>,
        last: &'static str,
    }

    #[derive(Serialize)]
    enum Variants {
        Unit,
        One(u8),
        Two(u8, Option<String>),
        Named { one: u8, two: Vec<i16> },
    }

    #[test]
    fn a_tape_is_the_same_value() {
        let parts = Parts {
            natural: u64::MAX,
            signed: (-1, i64::MIN),
            float: 0.1,
            letter: 'ß',
            text: "ünd".to_owned(),
            some: Some(true),
            none: None,
            unit: (),
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            unit_variant: Variants::Unit,
            variants: vec![
                Variants::One(1),
                Variants::Two(2, Some("text".to_owned())),
                Variants::Named { one: 1, two: vec![-2, 2] },
            ],
            map: [(1, vec![1, 2]), (2, vec![])].into(),
            empty: Vec::new(),
            last: "last",
        };
        let mut tape = Tape::default();
        tape.record(&parts).expect("it has a tape");
        assert_eq!(tape.whole().value(), value(&parts).expect("it has a value"));
        // A tape that is used again has nothing of before.
        let fixtures = [
            fixtures::quiet(),
            fixtures::distinct(),
            fixtures::unavailable(),
            fixtures::per_connection(),
            fixtures::connections(),
            fixtures::blamed(),
        ];
        for sample in fixtures.into_iter().flatten() {
            tape.record(&Rest::of(&sample)).expect("it has a tape");
            assert_eq!(tape.whole().value(), value(&Rest::of(&sample)).expect("it has a value"));
            for listener in &sample.listeners {
                tape.record(listener).expect("it has a tape");
                assert_eq!(tape.whole().value(), value(listener).expect("it has a value"));
            }
        }
    }

    /// A reader of any version sees no difference.
    #[test]
    fn listeners_are_written_one_by_one_as_all_at_once_would_be() {
        let sample = fixtures::quiet().pop().expect("there is one");
        let rest = value(&Rest::of(&sample)).expect("it has a value");
        let values: Vec<Value> = sample.listeners.iter().map(|l| value(l).expect("it has a value")).collect();
        assert!(values.len() > 1);
        let name = |name: &str| Value::from(name);
        let at_once = Value::Map(vec![(name("sample"), rest.clone()), (name("listeners"), Value::Array(values))]);
        let listeners = sample.listeners.iter().map(ByValue).collect();
        let (mut expected, mut written) = (Vec::new(), Vec::new());
        ciborium::into_writer(&at_once, &mut expected).expect("written");
        ciborium::into_writer(&WholeOf { sample: &rest, listeners }, &mut written).expect("written");
        assert_eq!(written, expected);
    }
}
