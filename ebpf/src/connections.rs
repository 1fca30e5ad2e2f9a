//! The table of connections: every access goes through here.
//!
//! It is an array of sets, not one of the kernel's hash tables. Those take and give back an element for each
//! connection, under a lock, and put three cache lines between an address and its record. Here a connection that ends
//! leaves its place as it is. The kernel's allocator soon makes another connection at that address, which takes the
//! place over.
//!
//! A place is claimed by the one atomic operation that every kernel has, an addition. A program that adds to
//! [`Connection::claims`] and then reads 1 is alone. One that reads more withdraws and looks elsewhere.

use listentop_abi::connection::{Connection, LISTED, PLACES, STATE_SPILLED, Set};

use crate::{
    config,
    maps::{BLANK, CONNECTIONS, SPILLED, USED_SETS},
    values::{Lookup as _, MapValue, field},
};

/// The record of the connection whose `struct sock *` is `key`, if it is a tracked connection.
#[inline(always)]
pub(crate) fn find(key: u64) -> Option<MapValue<Connection>> {
    find_where(key, |connection| field!(connection.live).get() != 0)
}

/// As [`find`], for the softirq side: it does not touch the process side's cache line.
#[inline(always)]
pub(crate) fn find_for_arrival(key: u64) -> Option<MapValue<Connection>> {
    find_where(key, |connection| field!(connection.arriving).get() != 0)
}

#[inline(always)]
fn find_where(key: u64, live: impl Fn(MapValue<Connection>) -> bool) -> Option<MapValue<Connection>> {
    let set = set_of(key)?;
    for place in 0..PLACES {
        if field!(set.keys).wrapping(place).get() == key {
            let connection = connection(set, place);
            if live(connection) {
                return Some(connection);
            }
        }
    }
    if field!(set.spilled).get() != 0 {
        return SPILLED.value(&key);
    }
    None
}

/// Makes the record of a connection that has none; `false` if there is no room. The record may hold an earlier
/// connection's data, so `fill` must set every field, except those that say whether it is in use. It gets the bits that
/// `state` must have.
#[inline(always)]
pub(crate) fn insert(key: u64, fill: impl FnOnce(MapValue<Connection>, u32)) -> bool {
    let Some(set) = set_of(key) else { return false };
    let (connection, bits) = match claim(set, key) {
        Some(connection) => (connection, 0),
        None => match spill(set, key) {
            Some(connection) => (connection, STATE_SPILLED),
            None => return false,
        },
    };
    fill(connection, bits);
    field!(connection.live).set(1);
    field!(connection.arriving).set(1);
    true
}

/// Ends a record: from here on `key` is not found.
#[inline(always)]
pub(crate) fn end(key: u64, connection: MapValue<Connection>) {
    field!(connection.live).set(0);
    field!(connection.arriving).set(0);
    if field!(connection.state).get() & STATE_SPILLED == 0 {
        field!(connection.claims).add(-1);
        return;
    }
    let _ = SPILLED.remove(&key);
    if let Some(set) = set_of(key) {
        field!(set.spilled).add(-1);
    }
}

/// The set for an address. Sockets are aligned to cache lines; the rest of the address is mixed by multiplication
/// (Knuth, "The Art of Computer Programming", 6.4).
#[inline(always)]
fn set_of(key: u64) -> Option<MapValue<Set>> {
    CONNECTIONS.value(index_of(key))
}

/// Its place in the array.
#[inline(always)]
fn index_of(key: u64) -> u32 {
    let hash = (key >> 6).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    hash as u32 & config::set_mask()
}

/// Notes that the set for an address is in use.
#[inline(always)]
fn note_used(key: u64) {
    let index = index_of(key);
    if let Some(used) = USED_SETS.value(index / LISTED as u32) {
        let used = used.wrapping(index as usize);
        if used.get() == 0 {
            used.set(1);
        }
    }
}

/// From here on no other connection can take the record's place over, until [`release`].
#[inline(always)]
pub(crate) fn hold(connection: MapValue<Connection>) {
    field!(connection.claims).add(1);
}

/// Ends what [`hold`] began.
#[inline(always)]
pub(crate) fn release(connection: MapValue<Connection>) {
    field!(connection.claims).add(-1);
}

/// The sets in use among the [`LISTED`] at a place of [`USED_SETS`].
#[inline(always)]
pub(crate) fn each_used(place: u32, mut with: impl FnMut(MapValue<Set>)) {
    let Some(listed) = USED_SETS.value(place) else { return };
    for which in 0..LISTED {
        if listed.wrapping(which).get() != 0
            && let Some(set) = CONNECTIONS.value(place * LISTED as u32 + which as u32)
        {
            with(set);
        }
    }
}

/// The record at a place of a set, below [`PLACES`], and the address that it belongs to, or did last. `None` if it
/// never belonged to one.
#[inline(always)]
pub(crate) fn at(set: MapValue<Set>, place: usize) -> Option<(u64, MapValue<Connection>)> {
    let key = field!(set.keys).wrapping(place).get();
    if key == 0 { None } else { Some((key, connection(set, place))) }
}

/// The record at a place below [`PLACES`].
#[inline(always)]
fn connection(set: MapValue<Set>, place: usize) -> MapValue<Connection> {
    let lines = field!(set.lines).pointer().cast::<u64>();
    // SAFETY: a record at this offset ends within `lines`, which `listentop_abi::connection` asserts, and is aligned as
    // those are. Records of different places share no word.
    unsafe { MapValue::new(lines.add(Set::offset(place)).cast()) }
}

/// Claims a place in the set: the one that the address had before, else one that no connection has.
#[inline(always)]
fn claim(set: MapValue<Set>, key: u64) -> Option<MapValue<Connection>> {
    for place in 0..PLACES {
        if field!(set.keys).wrapping(place).get() == key {
            let connection = connection(set, place);
            // Another address may have taken it since its key was read.
            if try_claim(connection) {
                if field!(set.keys).wrapping(place).get() == key {
                    return Some(connection);
                }
                field!(connection.claims).add(-1);
            }
        }
    }
    let start = field!(set.next).get();
    for step in 0..8 {
        // In turn, so that addresses in use displace unused ones and not one another.
        let place = core::hint::black_box(start.wrapping_add(step) as usize % 8);
        let Some(kept) = field!(set.keys).element(place) else { continue };
        let connection = connection(set, place);
        if field!(connection.claims).get() == 0 && try_claim(connection) {
            field!(set.next).set(place as u32 + 1);
            kept.set(key);
            note_used(key);
            return Some(connection);
        }
    }
    None
}

#[inline(always)]
fn try_claim(connection: MapValue<Connection>) -> bool {
    let claims = field!(connection.claims);
    claims.add(1);
    if claims.get() == 1 {
        return true;
    }
    claims.add(-1);
    false
}

/// A record for a connection whose set is full.
#[inline(always)]
fn spill(set: MapValue<Set>, key: u64) -> Option<MapValue<Connection>> {
    let blank = BLANK.get(0)?;
    field!(set.spilled).add(1);
    if SPILLED.insert(&key, blank, 0).is_ok()
        && let Some(connection) = SPILLED.value(&key)
    {
        return Some(connection);
    }
    field!(set.spilled).add(-1);
    None
}
