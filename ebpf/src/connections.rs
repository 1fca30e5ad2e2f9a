//! The table of connections: every access goes through here.
//!
//! It is an array of sets rather than one of the kernel's hash tables: those take and give back an element for each
//! connection, under a lock, and put three cache lines between an address and its record. Here a connection that ends
//! leaves its place as it is, and the next one at that address, which the kernel's allocator sees to soon, takes it
//! over in place.
//!
//! A place is taken with the one atomic operation that every kernel has, an addition: who adds to
//! [`Connection::claims`] and then reads 1 was alone. Whoever reads more withdraws and looks elsewhere.

use core::ptr::{read_volatile, write_volatile};

use listentop_abi::connection::{Connection, PLACES, Set};

use crate::{
    config,
    maps::{BLANK, CONNECTIONS, SPILLED},
    stats,
};

/// The record of the connection whose `struct sock *` is `key`, if it is one and tracked.
#[inline(always)]
pub(crate) fn find(key: u64) -> Option<*mut Connection> {
    find_where(key, |connection| unsafe { read_volatile(&raw const (*connection).live) } != 0)
}

/// As [`find`], for the softirq side: it does not touch the process side's cache line.
#[inline(always)]
pub(crate) fn find_for_arrival(key: u64) -> Option<*mut Connection> {
    find_where(key, |connection| unsafe { read_volatile(&raw const (*connection).arriving) } != 0)
}

#[inline(always)]
fn find_where(key: u64, live: impl Fn(*mut Connection) -> bool) -> Option<*mut Connection> {
    let set = set_of(key)?;
    for place in 0..PLACES {
        if key_of(set, place) == key {
            let connection = connection(set, place);
            if live(connection) {
                return Some(connection);
            }
        }
    }
    if unsafe { (*set).spilled } != 0 {
        return SPILLED.get_ptr_mut(&key);
    }
    None
}

/// Makes the record of a connection that has none. `fill` must set every field but those that say whose the record is:
/// it may hold an earlier connection's. `false` if there is no room.
#[inline(always)]
pub(crate) fn insert(key: u64, fill: impl FnOnce(*mut Connection)) -> bool {
    let Some(set) = set_of(key) else { return false };
    let (connection, spilled) = match claim(set, key) {
        Some(connection) => (connection, 0),
        None => match spill(set, key) {
            Some(connection) => (connection, 1),
            None => return false,
        },
    };
    fill(connection);
    unsafe {
        (*connection).spilled = spilled;
        write_volatile(&raw mut (*connection).live, 1);
        write_volatile(&raw mut (*connection).arriving, 1);
    }
    true
}

/// Ends a record: from here on `key` is not found.
#[inline(always)]
pub(crate) fn end(key: u64, connection: *mut Connection) {
    unsafe {
        write_volatile(&raw mut (*connection).live, 0);
        write_volatile(&raw mut (*connection).arriving, 0);
        if (*connection).spilled == 0 {
            stats::add32(&raw mut (*connection).claims, -1);
            return;
        }
    }
    let _ = SPILLED.remove(&key);
    if let Some(set) = set_of(key) {
        unsafe { stats::add32(&raw mut (*set).spilled, -1) };
    }
}

/// The set for an address. Sockets are aligned to cache lines; the rest of the address is mixed by multiplication
/// (Knuth, "The Art of Computer Programming", 6.4).
#[inline(always)]
fn set_of(key: u64) -> Option<*mut Set> {
    let hash = (key >> 6).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    CONNECTIONS.get_ptr_mut(hash as u32 & config::set_mask())
}

#[inline(always)]
fn key_of(set: *const Set, place: usize) -> u64 {
    unsafe { read_volatile((&raw const (*set).keys).cast::<u64>().add(place)) }
}

#[inline(always)]
fn connection(set: *mut Set, place: usize) -> *mut Connection {
    unsafe { (&raw mut (*set).lines).cast::<u64>().add(Set::offset(place)).cast() }
}

/// A place in the set: the one that the address had before, else one that no connection has.
#[inline(always)]
fn claim(set: *mut Set, key: u64) -> Option<*mut Connection> {
    for place in 0..PLACES {
        if key_of(set, place) == key {
            let connection = connection(set, place);
            // Another address may have taken it since its key was read.
            if try_claim(connection) {
                if key_of(set, place) == key {
                    return Some(connection);
                }
                unsafe { stats::add32(&raw mut (*connection).claims, -1) };
            }
        }
    }
    let start = unsafe { (*set).next };
    for step in 0..8 {
        // In turn, so that addresses that are in use drive out those that are not, and not one another.
        let place = core::hint::black_box(start.wrapping_add(step) as usize % 8);
        if place >= PLACES {
            continue;
        }
        let connection = connection(set, place);
        if unsafe { read_volatile(&raw const (*connection).claims) } == 0 && try_claim(connection) {
            unsafe {
                (*set).next = place as u32 + 1;
                write_volatile((&raw mut (*set).keys).cast::<u64>().add(place), key);
            }
            return Some(connection);
        }
    }
    None
}

#[inline(always)]
fn try_claim(connection: *mut Connection) -> bool {
    unsafe {
        let claims = &raw mut (*connection).claims;
        stats::add32(claims, 1);
        if read_volatile(claims) == 1 {
            return true;
        }
        stats::add32(claims, -1);
    }
    false
}

/// A record for a connection whose set is full.
#[inline(always)]
fn spill(set: *mut Set, key: u64) -> Option<*mut Connection> {
    let blank = BLANK.get_ptr(0)?;
    unsafe { stats::add32(&raw mut (*set).spilled, 1) };
    #[expect(clippy::needless_borrows_for_generic_args, reason = "by value it would be copied onto the stack")]
    if SPILLED.insert(&key, unsafe { &*blank }, 0).is_ok()
        && let Some(connection) = SPILLED.get_ptr_mut(&key)
    {
        return Some(connection);
    }
    unsafe { stats::add32(&raw mut (*set).spilled, -1) };
    None
}
