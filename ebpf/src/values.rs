//! Values of maps: memory that programs on all CPUs share, with one another and with user space. What makes an access
//! to it sound is argued here, once.
//!
//! **Lifetime.** A program runs under RCU, and no map frees a value before all programs that looked it up have
//! returned. So a [`MapValue`] stays valid for the rest of the run. In a hash map the kernel may give the memory to
//! another key meanwhile: then the run sees that key's value, as it would have if it had looked a little later.
//!
//! **Races.** Map memory is no Rust allocation, and no program holds a reference to it, except to the blank record,
//! which nobody writes. Every access is either atomic or volatile. Rust defines volatile accesses outside of its
//! allocations, and the compiler makes one instruction of each: it neither splits, merges, repeats nor leaves out one.
//! A racing read of a word sees the old or the new value. The compiler keeps the order of volatile accesses; x86 keeps
//! the order of the stores as well.
//!
//! **Lost updates.** A volatile write excludes nobody. So each write follows one of four rules:
//! 1. *Atomic*: [`MapValue::add`]. Any program may do that at any time.
//! 2. *One side*: the field has one writer at a time. For a connection the kernel's socket lock, or its softirq
//!    processing of the socket, sees to that; `listentop_abi::connection` says which side writes which field. A
//!    thread's record is written by that thread's system calls only; a listener's when the kernel opens or closes it,
//!    and by the iterators, of which user space runs one at a time.
//! 3. *Own CPU*: the record belongs to this CPU, and no program that writes the same field can interrupt the writer
//!    (see [`crate::config::exclusive`] and the per-CPU maps).
//! 4. *Unpublished*: the run has claimed the record, and others cannot find it yet.
//!
//! Three fields may lose an update, which does no harm. The thread that a listener remembers and the place where a
//! search begins are hints, which their readers check. A queue's peak may lack one event's depth.

use core::intrinsics::{AtomicOrdering::Relaxed, atomic_xadd};

use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use listentop_abi::listener::ListenerRef;

/// Types for which any bytes are a valid value.
///
/// # Safety
/// The type has no padding and no invalid values.
pub(crate) unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($name:ty),*) => {
        // SAFETY: integers, and structures and arrays of them without padding.
        $(unsafe impl Plain for $name {})*
    };
}
plain!(u8, u16, u32, i32, u64, i64, [u8; 4], [u8; 8], [u8; 16]);

/// A value of a map, or a part of one: not null, aligned, and valid for the rest of the program's run.
pub(crate) struct MapValue<T>(*mut T);

impl<T> Clone for MapValue<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for MapValue<T> {}

/// A field of a record in a map: `field!(record.name)` is the [`MapValue`] of it.
macro_rules! field {
    ($value:ident.$($name:ident).+) => {{
        let record = $value.pointer();
        // SAFETY: `record` points to a whole map value, so the field lies in it. `&raw` reads nothing.
        unsafe { $crate::values::MapValue::new(&raw mut (*record).$($name).+) }
    }};
}
pub(crate) use field;

impl<T> MapValue<T> {
    /// # Safety
    /// The pointer is what the lookup in a map returned, and not null, or points to a part of that. It is aligned.
    #[inline(always)]
    pub(crate) const unsafe fn new(pointer: *mut T) -> Self {
        Self(pointer)
    }

    /// The address, for parts of it and for helpers.
    #[inline(always)]
    pub(crate) const fn pointer(self) -> *mut T {
        self.0
    }
}

impl<T: Plain> MapValue<T> {
    /// Reads it.
    #[inline(always)]
    pub(crate) fn get(self) -> T {
        // SAFETY: valid and aligned (see the type), any bytes are a value (`Plain`), and volatile (see the module).
        unsafe { self.0.read_volatile() }
    }

    /// Writes it, by rule 2, 3 or 4 of the module.
    #[inline(always)]
    pub(crate) fn set(self, value: T) {
        // SAFETY: as for `get`.
        unsafe { self.0.write_volatile(value) }
    }
}

impl<T, const N: usize> MapValue<[T; N]> {
    /// An element; `None` behind the last one.
    #[inline(always)]
    pub(crate) fn element(self, index: usize) -> Option<MapValue<T>> {
        // SAFETY: the element lies in the array, by the test.
        if index < N { Some(unsafe { MapValue::new(self.0.cast::<T>().add(index)) }) } else { None }
    }

    /// The element at `index` modulo the length.
    #[inline(always)]
    pub(crate) fn wrapping(self, index: usize) -> MapValue<T> {
        // SAFETY: the element lies in the array, by the modulo.
        unsafe { MapValue::new(self.0.cast::<T>().add(index % N)) }
    }
}

impl MapValue<ListenerRef> {
    /// Reads slot and generation by one load, so they belong together.
    #[inline(always)]
    pub(crate) fn get(self) -> ListenerRef {
        let word = MapValue(self.0.cast::<u64>()).get();
        let (low, high) = (word as u32, (word >> 32) as u32);
        let (slot, generation) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
        ListenerRef { slot, generation }
    }

    /// Writes both by one store, by rule 2, 3 or 4 of the module.
    #[inline(always)]
    pub(crate) fn set(self, listener: ListenerRef) {
        let (slot, generation) = (u64::from(listener.slot), u64::from(listener.generation));
        let word = if cfg!(target_endian = "little") { slot | generation << 32 } else { slot << 32 | generation };
        MapValue(self.0.cast::<u64>()).set(word);
    }
}

impl MapValue<[u8; 16]> {
    /// Writes all bytes, by rule 2, 3 or 4 of the module: as two words, since byte by byte it would be 16 stores.
    ///
    /// For a field at a multiple of 8 bytes in its record, which `listentop_abi` asserts.
    #[inline(always)]
    pub(crate) fn set_words(self, words: [u64; 2]) {
        let halves = self.halves();
        halves.wrapping(0).set(words[0]);
        halves.wrapping(1).set(words[1]);
    }

    /// Reads all bytes, as two words.
    #[inline(always)]
    pub(crate) fn words(self) -> [u64; 2] {
        let halves = self.halves();
        [halves.wrapping(0).get(), halves.wrapping(1).get()]
    }

    #[inline(always)]
    fn halves(self) -> MapValue<[u64; 2]> {
        #[expect(
            clippy::cast_ptr_alignment,
            reason = "map values are aligned to 8 bytes, and so is the field in its record"
        )]
        MapValue(self.0.cast::<[u64; 2]>())
    }

    /// The same, from bytes.
    #[inline(always)]
    pub(crate) fn set_bytes(self, bytes: [u8; 16]) {
        let whole = u128::from_ne_bytes(bytes);
        let (first, second) = if cfg!(target_endian = "little") { (whole, whole >> 64) } else { (whole >> 64, whole) };
        self.set_words([first as u64, second as u64]);
    }
}

impl MapValue<u64> {
    /// Adds atomically.
    #[inline(always)]
    pub(crate) fn add(self, value: u64) {
        // SAFETY: valid and aligned (see the type).
        unsafe { atomic_xadd::<u64, u64, { Relaxed }>(self.0, value) };
    }

    /// Adds where nobody else writes, by rule 2 or 3 of the module. An atomic addition waits for all earlier stores,
    /// such as those to a cache line that another CPU has; this one does not.
    #[inline(always)]
    pub(crate) fn add_alone(self, value: u64) {
        self.set(self.get().wrapping_add(value));
    }
}

impl MapValue<u32> {
    /// Adds atomically.
    #[inline(always)]
    pub(crate) fn add(self, value: i32) {
        // SAFETY: valid and aligned (see the type).
        unsafe { atomic_xadd::<u32, u32, { Relaxed }>(self.0, value as u32) };
    }

    /// As for 64 bits.
    #[inline(always)]
    pub(crate) fn add_alone(self, value: u32) {
        self.set(self.get().wrapping_add(value));
    }
}

/// Looking up values.
pub(crate) trait Lookup<K, V> {
    /// The value of a key, if there is one.
    fn value(&self, key: K) -> Option<MapValue<V>>;
}

macro_rules! lookup {
    ($([$($key:ident)?] $map:ty, $by:ty;)*) => {
        $(impl<$($key,)? V> Lookup<$by, V> for $map {
            #[inline(always)]
            fn value(&self, key: $by) -> Option<MapValue<V>> {
                // SAFETY: what a lookup returned, and not null. The kernel aligns values to 8 bytes.
                self.get_ptr_mut(key).map(|value| unsafe { MapValue::new(value) })
            }
        })*
    };
}
lookup! {
    [] Array<V>, u32;
    [] PerCpuArray<V>, u32;
    [K] HashMap<K, V>, &K;
    [K] LruHashMap<K, V>, &K;
}
