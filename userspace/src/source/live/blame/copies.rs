//! Stacks that were copied: what was unwound of them, and the charges for them.
//!
//! In the kernel each copy has a charge of its own. User space takes those that are complete out of the kernel's table,
//! and sums them by the functions that were found. What is charged is exact. Of a thread that sleeps very often only
//! some stacks are copied: what is charged without a copy is divided as that with copies was, of the same thread, in
//! the same state, at the same place in the kernel.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    time::Duration,
};

use aya::maps::{HashMap as BpfHashMap, MapData, MapError, RingBuf};
use listentop_abi::{
    blame::{Charge, ChargeKey, ThreadId},
    stack_copy::{BY_COPIES, BY_FRAME_POINTERS, FIRST_COPY, MAX_PROCESSES, NOT_COPIED},
};

pub(in crate::source::live) use super::unwind::Unwinder;
use super::{
    parts::{Callers, Cut, Part, for_lookup},
    sampling::Drawn,
    unwind::{Copy, Done, Unwinding, Unwound},
};

/// Stacks that differ, at most.
const MOST: usize = 16_384;
/// Numbers of the unwound stacks begin here, for those who ask for the addresses of a number.
const FIRST_UNWOUND: u32 = 1 << 24;
/// After so many stacks of a process that frame pointers show as well, no more of it are copied.
const ALIKE: u32 = 64;
/// After so many that they do not show, they are not looked at any more.
const UNLIKE: u32 = 3;

/// How long what was just copied is waited for: its functions are to be named while the process lives.
const SOON: Duration = Duration::from_millis(50);
/// How long the last copies are waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known of a copy.
#[derive(Debug, Clone, Copy)]
struct Known {
    found: Found,
    /// The look at which it was last of use.
    look: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Waiting,
    Stack(usize),
    /// It cannot be unwound, or there was no time.
    Nothing,
}

/// How a process was followed so far.
#[derive(Debug, Default)]
struct Followed {
    alike: u32,
    unlike: u32,
    decided: bool,
}

/// Copies, and charges for them.
pub(super) struct Copies {
    ring: RingBuf<MapData>,
    following: BpfHashMap<MapData, u32, u32>,
    unwinder: Unwinding,
    told: Told,
}

impl Copies {
    /// Has them unwound by this thread.
    pub(super) fn new(ring: RingBuf<MapData>, following: BpfHashMap<MapData, u32, u32>, unwinder: &Unwinder) -> Self {
        Self { ring, following, unwinder: unwinder.unwinding(), told: Told::default() }
    }

    /// Takes the copies out of the ring. `pid`: where /proc has a thread's process; `stack`: the addresses of a number
    /// of the kernel's.
    pub(super) fn collect(&mut self, pid: impl Fn(ThreadId) -> Option<u32>, stack: impl Fn(i32) -> Option<Vec<u64>>) {
        while let Some(item) = self.ring.next() {
            let Some(mut copy) = Copy::read(&item) else { continue };
            let id = (copy.thread, copy.number);
            copy.pid = pid(copy.thread).unwrap_or(0);
            copy.by_frame_pointers = stack(copy.kernel_number);
            let waits = copy.pid != 0 && self.unwinder.unwind(copy);
            self.told.dropped += u64::from(!waits);
            let found = if waits { Found::Waiting } else { Found::Nothing };
            self.told.known.insert(id, Known { found, look: self.told.looks });
        }
        self.unwinder.settle(SOON);
        self.note();
    }

    /// Waits for what is being unwound, at the end.
    pub(super) fn settle(&mut self) {
        self.unwinder.settle(PATIENCE);
        self.note();
    }

    fn note(&mut self) {
        for done in self.unwinder.results() {
            let process = done.process;
            if let Some(way) = self.told.note(done) {
                // If the table is full, both ways are gone.
                let _ = self.following.insert(&process, &way, 0);
            }
        }
    }

    /// Takes charges of copies out of the kernel's table that nothing is added to any more. `current`: the copies on
    /// which threads sleep.
    pub(super) fn take(
        &mut self,
        charges: &mut BpfHashMap<MapData, ChargeKey, Charge>,
        current: &HashSet<(ThreadId, i32)>,
    ) -> Result<(), MapError> {
        let keys = charges.keys().filter(|key| key.as_ref().map_or(true, |key| key.user_stack >= FIRST_COPY));
        let keys: Vec<ChargeKey> = keys.collect::<Result<_, _>>()?;
        for key in self.told.over(&keys, current) {
            let charge = charges.get(&key, 0)?;
            charges.remove(&key)?;
            self.told.take(key, charge.wait_ns);
        }
        Ok(())
    }

    /// What is not in the kernel's table any more.
    pub(super) fn taken(&self) -> impl Iterator<Item = (ChargeKey, Drawn)> {
        self.told.taken.iter().map(|(key, drawn)| (*key, *drawn))
    }

    /// Copies that were not unwound because too many were made.
    pub(super) fn dropped(&self) -> u64 {
        self.told.dropped
    }

    /// Divides what one thread of a process is charged with.
    pub(super) fn divide(&self, process: u32, charges: HashMap<ChargeKey, Drawn>) -> Vec<Part> {
        self.told.divide(process, charges)
    }

    /// Unwound stacks that are new: process ids and numbers.
    pub(super) fn new_stacks(&mut self) -> Vec<(u32, u32)> {
        let told = &mut self.told;
        let numbers = std::mem::replace(&mut told.shown, told.stacks.len())..told.stacks.len();
        numbers.map(|index| (told.stacks[index].0, FIRST_UNWOUND + index as u32)).collect()
    }

    /// The stack of a number that `new_stacks` returned, or that a part has.
    pub(super) fn of_number(&self, number: u32) -> Option<Vec<u64>> {
        self.stack(number.checked_sub(FIRST_UNWOUND)? as usize).map(|(addresses, _)| addresses)
    }

    /// Addresses of an unwound stack, and why it is not complete.
    pub(super) fn stack(&self, index: usize) -> Option<(Vec<u64>, Option<Cut>)> {
        let (_, unwound) = self.told.stacks.get(index)?;
        Some((for_lookup(unwound.addresses.clone()), unwound.cut))
    }
}

/// What was found out, without the kernel.
#[derive(Debug, Default)]
struct Told {
    /// Looks at the kernel's table so far.
    looks: u64,
    stacks: Vec<(u32, Unwound)>,
    numbers: HashMap<(u32, Unwound), usize>,
    known: HashMap<(ThreadId, i32), Known>,
    /// Charges that are the kernel's no longer. The number of a stack is that of the unwound one: [`numbered`].
    taken: HashMap<ChargeKey, Drawn>,
    processes: HashMap<u32, Followed>,
    dropped: u64,
    shown: usize,
}

/// An unwound stack in the place of a number of the kernel's.
fn numbered(index: usize) -> i32 {
    i32::MIN + index as i32
}

/// Which one that is.
fn index_of(number: i32) -> Option<usize> {
    let index = number.wrapping_sub(i32::MIN) as u32 as usize;
    (index < MOST).then_some(index)
}

fn copy_of(key: &ChargeKey) -> (ThreadId, i32) {
    (ThreadId { start_ns: key.start_ns, tid: key.tid.into() }, key.user_stack)
}

impl Told {
    /// Notes what was unwound. Returns how to follow the process from now on, if that is decided.
    fn note(&mut self, mut done: Done) -> Option<u32> {
        let way = self.follow(&mut done);
        let found = if done.unwound.addresses.is_empty() { None } else { self.number(done.pid, done.unwound) };
        self.dropped += u64::from(found.is_none());
        if let Some(known) = self.known.get_mut(&(done.thread, done.number)) {
            known.found = found.map_or(Found::Nothing, Found::Stack);
        }
        way
    }

    fn number(&mut self, pid: u32, unwound: Unwound) -> Option<usize> {
        let next = self.stacks.len();
        match self.numbers.entry((pid, unwound)) {
            Entry::Occupied(entry) => Some(*entry.get()),
            Entry::Vacant(_) if next >= MOST => None,
            Entry::Vacant(entry) => {
                self.stacks.push(entry.key().clone());
                Some(*entry.insert(next))
            }
        }
    }

    fn follow(&mut self, done: &mut Done) -> Option<u32> {
        let by_frame_pointers = done.by_frame_pointers.take()?;
        if self.processes.len() >= MAX_PROCESSES as usize && !self.processes.contains_key(&done.process) {
            return None;
        }
        let followed = self.processes.entry(done.process).or_default();
        let way = if is_alike(&by_frame_pointers, &done.unwound) {
            followed.alike += 1;
            // As those that are not copied have it.
            done.unwound = Unwound { addresses: by_frame_pointers, cut: None };
            (followed.alike >= ALIKE && followed.unlike == 0).then_some(BY_FRAME_POINTERS)
        } else {
            followed.unlike += 1;
            (followed.unlike >= UNLIKE).then_some(BY_COPIES)
        };
        way.filter(|_| !std::mem::replace(&mut followed.decided, true))
    }

    /// Those of the keys that nothing is added to any more, if what was copied is known.
    fn over(&mut self, keys: &[ChargeKey], current: &HashSet<(ThreadId, i32)>) -> Vec<ChargeKey> {
        self.looks += 1;
        let looks = self.looks;
        for copy in current {
            if let Some(known) = self.known.get_mut(copy) {
                known.look = looks;
            }
        }
        let is_over = |key: &&ChargeKey| {
            // A look later: a CPU may just be adding to it.
            let known = self.known.get(&copy_of(key));
            known.is_some_and(|known| known.found != Found::Waiting && known.look + 1 < looks)
        };
        let over = keys.iter().filter(is_over).copied().collect();
        let charged: HashSet<(ThreadId, i32)> = keys.iter().map(copy_of).collect();
        self.known.retain(|copy, known| known.look + 2 >= looks || charged.contains(copy));
        over
    }

    fn take(&mut self, key: ChargeKey, wait_ns: u64) {
        let user_stack = match self.known.get(&copy_of(&key)).map(|known| known.found) {
            Some(Found::Stack(index)) => numbered(index),
            _ => NOT_COPIED,
        };
        // Each copy is that of one sleep, or of one sample.
        self.taken.entry(ChargeKey { user_stack, ..key }).or_default().add(Drawn::one(wait_ns));
    }

    /// The unwound stack of a key; `Err`: none, because it was not copied.
    fn unwound(&self, key: &ChargeKey) -> Option<Result<usize, ()>> {
        if let Some(index) = index_of(key.user_stack) {
            return Some(Ok(index));
        }
        match key.user_stack {
            NOT_COPIED => Some(Err(())),
            FIRST_COPY.. => match self.known.get(&copy_of(key)).map(|known| known.found) {
                Some(Found::Stack(index)) => Some(Ok(index)),
                _ => Some(Err(())),
            },
            _ => None,
        }
    }

    fn divide(&self, process: u32, charges: HashMap<ChargeKey, Drawn>) -> Vec<Part> {
        /// What is charged at one place in the kernel.
        #[derive(Default)]
        struct Place {
            copied: BTreeMap<usize, Drawn>,
            rest: Vec<(ChargeKey, Drawn)>,
            any: Option<ChargeKey>,
        }
        let leads_astray = self.processes.get(&process).is_some_and(|followed| followed.unlike > 0);
        let mut places: BTreeMap<(u32, i32, u32, u32), Place> = BTreeMap::new();
        let mut parts = Vec::new();
        for (key, drawn) in charges {
            let place = (key.state, key.kernel_stack, key.slot, key.generation);
            match self.unwound(&key) {
                Some(Ok(index)) => {
                    let place = places.entry(place).or_default();
                    place.any = Some(key);
                    place.copied.entry(index).or_default().add(drawn);
                }
                Some(Err(())) => places.entry(place).or_default().rest.push((key, drawn)),
                None if leads_astray && key.user_stack >= 0 => {
                    places.entry(place).or_default().rest.push((key, drawn));
                }
                None => parts.push(Part::whole(key, drawn)),
            }
        }
        for place in places.into_values() {
            let keys = place.rest.first().map(|(key, _)| *key).or(place.any);
            let Some(key) = keys else { continue };
            let mut all = Drawn::default();
            for (index, drawn) in &place.copied {
                all.add(*drawn);
                let (stack, callers) = (Some(*index), Callers::Unwound);
                parts.push(Part { stack, callers, ..Part::whole(key, *drawn) });
            }
            let rest: u64 = place.rest.iter().map(|(_, drawn)| drawn.wait_ns).sum();
            if all.wait_ns == 0 {
                let alone = place.rest.into_iter();
                parts.extend(alone.map(|(key, drawn)| Part::whole(key, drawn)));
                continue;
            }
            let weights: Vec<u64> = place.copied.values().map(|drawn| drawn.wait_ns).collect();
            for ((index, drawn), wait_ns) in place.copied.iter().zip(divided(rest, &weights)) {
                if wait_ns > 0 {
                    let whole = Part::whole(
                        key,
                        Drawn { wait_ns, squares: drawn.squares * wait_ns as f64 / drawn.wait_ns as f64 },
                    );
                    let variance = drawn.variance(all, rest);
                    parts.push(Part { stack: Some(*index), callers: Callers::Sampled, variance, ..whole });
                }
            }
        }
        parts
    }
}

/// A whole in parts of these weights, which add up to it.
fn divided(whole: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let (mut seen, mut given) = (0_u128, 0_u64);
    let part = |weight: &u64| {
        seen += u128::from(*weight);
        let until = (u128::from(whole) * seen).checked_div(sum).unwrap_or(0) as u64;
        until - std::mem::replace(&mut given, until)
    };
    weights.iter().map(part).collect()
}

/// Whether frame pointers show the callers that unwinding shows, but for the outermost.
fn is_alike(by_frame_pointers: &[u64], unwound: &Unwound) -> bool {
    let both = by_frame_pointers.iter().zip(&unwound.addresses).all(|(one, other)| one == other);
    let missing = unwound.addresses.len().saturating_sub(by_frame_pointers.len());
    both && (missing == 0 || (missing == 1 && by_frame_pointers.len() > 2))
}

#[cfg(test)]
mod tests {
    use listentop_abi::blame::ASLEEP;

    use super::*;

    const THREAD: ThreadId = ThreadId { start_ns: 5, tid: 70 };

    fn key(kernel_stack: i32, user_stack: i32) -> ChargeKey {
        ChargeKey { start_ns: 5, tid: 70, state: ASLEEP, kernel_stack, user_stack, ..Default::default() }
    }

    fn unwound(addresses: &[u64]) -> Unwound {
        Unwound { addresses: addresses.to_vec(), cut: None }
    }

    fn done(number: i32, by_frame_pointers: Option<&[u64]>, addresses: &[u64]) -> Done {
        let by_frame_pointers = by_frame_pointers.map(<[u64]>::to_vec);
        Done { thread: THREAD, number, process: 7, pid: 7, by_frame_pointers, unwound: unwound(addresses) }
    }

    /// Copies with these numbers are known, and unwound to these stacks.
    fn told(copies: &[(i32, &[u64])]) -> Told {
        let mut told = Told::default();
        for (number, addresses) in copies {
            told.known.insert((THREAD, *number), Known { found: Found::Waiting, look: 0 });
            assert_eq!(told.note(done(*number, None, addresses)), None);
        }
        told
    }

    /// What each stack is charged with, and how.
    fn charged(told: &Told, charges: &[(ChargeKey, u64)]) -> Vec<(Option<Vec<u64>>, Callers, u64)> {
        let parts = told.divide(7, charges.iter().map(|(key, wait_ns)| (*key, Drawn::one(*wait_ns))).collect());
        let addresses = |part: &Part| part.stack.map(|index| told.stacks[index].1.addresses.clone());
        let mut all: Vec<_> = parts.iter().map(|part| (addresses(part), part.callers, part.wait_ns)).collect();
        all.sort();
        all
    }

    #[test]
    fn what_was_not_copied_is_divided_as_what_was() {
        let told = told(&[(FIRST_COPY, &[1, 2]), (FIRST_COPY + 2, &[1, 3]), (FIRST_COPY + 4, &[1, 3])]);
        let charges = [
            (key(9, FIRST_COPY), 10),
            (key(9, FIRST_COPY + 2), 15),
            (key(9, FIRST_COPY + 4), 15),
            (key(9, NOT_COPIED), 81),
        ];
        let (two, three) = (Some(vec![1, 2]), Some(vec![1, 3]));
        let parts = charged(&told, &charges);
        let wanted = [
            (two.clone(), Callers::Unwound, 10),
            (two, Callers::Sampled, 20),
            (three.clone(), Callers::Unwound, 30),
            (three, Callers::Sampled, 61),
        ];
        assert_eq!(parts, wanted);
    }

    #[test]
    fn elsewhere_in_the_kernel_it_is_not_known() {
        let told = told(&[(FIRST_COPY, &[1, 2])]);
        let parts = charged(&told, &[(key(9, FIRST_COPY), 10), (key(8, NOT_COPIED), 5)]);
        assert_eq!(parts, [(None, Callers::FramePointers, 5), (Some(vec![1, 2]), Callers::Unwound, 10)]);
    }

    #[test]
    fn parts_add_up() {
        for (whole, weights) in [(100, vec![1, 1, 1]), (7, vec![0, 5]), (u64::MAX, vec![u64::MAX, 1]), (5, vec![0, 0])]
        {
            let sum = if weights.iter().all(|weight| *weight == 0) { 0 } else { whole };
            assert_eq!(divided(whole, &weights).iter().sum::<u64>(), sum, "{weights:?}");
        }
    }

    #[test]
    fn a_charge_is_taken_when_nobody_adds_to_it() {
        let mut told = told(&[(FIRST_COPY, &[1, 2]), (FIRST_COPY + 2, &[1, 3])]);
        told.known.insert((THREAD, FIRST_COPY + 4), Known { found: Found::Waiting, look: 0 });
        let keys: Vec<ChargeKey> = [0, 2, 4].map(|number| key(9, FIRST_COPY + number)).to_vec();
        // The thread sleeps on the second one.
        let current = HashSet::from([(THREAD, FIRST_COPY + 2)]);
        assert_eq!(told.over(&keys, &current), []);
        assert_eq!(told.over(&keys, &current), [keys[0]], "the third one is not unwound yet");
        told.take(keys[0], 10);
        assert_eq!(
            charged(&told, &told.taken.iter().map(|(key, drawn)| (*key, drawn.wait_ns)).collect::<Vec<_>>()),
            [(Some(vec![1, 2]), Callers::Unwound, 10)]
        );
        // Without a charge it is forgotten.
        assert_eq!(told.over(&keys[1..], &current), []);
        assert!(!told.known.contains_key(&(THREAD, FIRST_COPY)), "{:?}", told.known);
        assert_eq!(told.known.len(), 2);
    }

    #[test]
    fn frame_pointers_are_followed_where_they_show_the_same() {
        let mut right = Told::default();
        let ways: Vec<_> = (0..=ALIKE).map(|_| right.note(done(0, Some(&[1, 2, 3]), &[1, 2, 3, 4]))).collect();
        assert_eq!(ways.iter().flatten().collect::<Vec<_>>(), [&BY_FRAME_POINTERS]);
        assert_eq!(ways[ALIKE as usize - 1], Some(BY_FRAME_POINTERS));
        let mut astray = Told::default();
        assert_eq!(astray.note(done(0, Some(&[1, 2, 3]), &[1, 2, 3, 4])), None);
        let ways: Vec<_> = (0..UNLIKE).map(|_| astray.note(done(0, Some(&[1, 3]), &[1, 2, 3, 4]))).collect();
        assert_eq!(ways, [None, None, Some(BY_COPIES)]);
    }

    #[test]
    fn numbers_of_unwound_stacks_are_no_others() {
        for other in [0, FIRST_COPY, i32::MAX, NOT_COPIED, -14, -1000, -1001] {
            assert_eq!(index_of(other), None, "{other}");
        }
        assert_eq!((index_of(numbered(0)), index_of(numbered(MOST - 1))), (Some(0), Some(MOST - 1)));
    }
}
