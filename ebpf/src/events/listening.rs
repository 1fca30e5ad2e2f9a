//! A socket begins or stops to listen.

use listentop_abi::listener::{FLAG_MPTCP, FLAG_REUSEPORT, FLAG_V6ONLY, ListenerInfo, ListenerRef, NO_COOKIE};

use crate::{
    kernel::{AF_INET, RawSock, Sock},
    maps::{FREE_SLOTS, INFO, LISTENERS},
    stats,
};

/// Gives a listener its slot and tracks it; returns its records' place. `opened_ns` is 0 if it was found, not seen
/// opening. `None` if no slot is free, which the caller counts as a loss, once per listener.
///
/// Address and port are not read here: when the state changes an unbound socket has no port yet. The poll reads them.
#[inline(always)]
pub(crate) fn begin(sock: Sock, opened_ns: u64) -> Option<ListenerRef> {
    let key = sock.key();
    if let Some(known) = LISTENERS.get_ptr(&key) {
        return Some(unsafe { *known });
    }
    let Ok(Some(slot)) = FREE_SLOTS.pop() else { return None };
    let info = INFO.get_ptr_mut(slot)?;
    let cookie = identity(sock, slot, unsafe { (*info).generation });
    let drops = sock.drops();
    unsafe {
        (*info).opened_ns = opened_ns;
        (*info).noticed = 0;
        (*info).closed_ns = 0;
        (*info).first_drops = drops;
        (*info).socket_drops = drops;
        (*info).cookie = cookie;
    }
    let listener = ListenerRef { slot, generation: unsafe { (*info).generation } };
    if LISTENERS.insert(&key, &listener, 0).is_err() {
        // User space sizes the table to hold every slot, so this is not reached unless memory fails.
        unsafe { (*info).cookie = 0 };
        let _ = FREE_SLOTS.push(&slot, 0);
        return None;
    }
    Some(listener)
}

/// Its cookie. Where none can be made the one it has, or a number of our own, told by its highest bit.
#[inline(always)]
fn identity(sock: Sock, slot: u32, generation: u32) -> u64 {
    let mut cookie = sock.make_cookie();
    if cookie == 0 {
        cookie = RawSock(sock.key()).cookie();
    }
    if cookie == 0 { NO_COOKIE | u64::from(generation & 0x7fff_ffff) << 32 | u64::from(slot) } else { cookie }
}

/// Ends the tracking of a listener. Its slot stays until user space has read it and its connections are gone.
#[inline(always)]
pub(crate) fn end(sock: Sock) {
    let key = sock.key();
    let Some(listener) = LISTENERS.get_ptr(&key) else { return };
    let slot = unsafe { (*listener).slot };
    let raw = RawSock(key);
    if let Some(info) = INFO.get_ptr_mut(slot) {
        // A listener that opened and closed between two polls was never identified.
        identify(raw, info);
        unsafe { (*info).socket_drops = sock.drops() };
        forget(key, info, stats::now());
    }
}

/// Marks a listener's records as those of one that is closed, and takes it out of the table.
#[inline(always)]
pub(crate) fn forget(key: u64, info: *mut ListenerInfo, now: u64) {
    unsafe {
        (*info).depth = 0;
        (*info).syn_depth = 0;
        (*info).syn_young = 0;
        (*info).oldest_ns = 0;
        (*info).closed_ns = now;
    }
    let _ = LISTENERS.remove(&key);
}

/// Reads what identifies a listener.
#[inline(always)]
pub(crate) fn identify(raw: RawSock, info: *mut ListenerInfo) {
    let family = raw.family();
    let mut address = [0; 16];
    if family == AF_INET {
        let v4 = raw.v4_address();
        address[..4].copy_from_slice(&v4);
    } else {
        address = raw.v6_address();
    }
    let mut flags = 0;
    if raw.reuseport() {
        flags |= FLAG_REUSEPORT;
    }
    if raw.v6only() {
        flags |= FLAG_V6ONLY;
    }
    // An MPTCP listener's owner holds the socket above it.
    let above = raw.mptcp();
    if above.is_some() {
        flags |= FLAG_MPTCP;
    }
    let inode = above.unwrap_or(raw).inode();
    unsafe {
        (*info).family = family;
        (*info).address = address;
        (*info).port = raw.port();
        (*info).flags = flags;
        (*info).netns = raw.netns();
        if inode != 0 {
            (*info).inode = inode;
        }
        (*info).backlog = raw.backlog();
    }
}
