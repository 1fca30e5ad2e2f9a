//! A socket begins or stops to listen.

use listentop_abi::listener::{FLAG_MPTCP, FLAG_REUSEPORT, FLAG_V6ONLY, ListenerInfo, ListenerRef, NO_COOKIE};

use crate::{
    events::handshake,
    kernel::{self, AF_INET, LiveSocket, MaybeGone},
    maps::{FREE_SLOTS, INFO, LISTENERS, listener_at},
    stats,
    values::{Lookup as _, MapValue, field},
};

/// Gives a listener its slot and tracks it; returns the place of its records. `opened_ns` is 0 for a listener that was
/// found after it had opened. `None` if no slot is free, which the caller counts as a loss, once per listener.
///
/// Address and port are not read here: when the state changes, an unbound socket has no port yet. The poll reads them.
#[inline(always)]
pub(crate) fn begin(sock: LiveSocket, opened_ns: u64) -> Option<ListenerRef> {
    let key = sock.key();
    if let Some(known) = listener_at(key) {
        return Some(known);
    }
    let Ok(Some(slot)) = FREE_SLOTS.pop() else { return None };
    let info = INFO.value(slot)?;
    let generation = field!(info.generation).get();
    let cookie = identity(sock, slot, generation);
    let drops = sock.drops();
    field!(info.opened_ns).set(opened_ns);
    field!(info.noticed).set(0);
    field!(info.asked).set(0);
    field!(info.closed_ns).set(0);
    field!(info.first_drops).set(drops);
    field!(info.socket_drops).set(drops);
    field!(info.cookie).set(cookie);
    let listener = ListenerRef { slot, generation };
    if LISTENERS.insert(&key, &listener, 0).is_err() {
        // The table holds every slot, so this is reached only if memory runs out.
        field!(info.cookie).set(0);
        let _ = FREE_SLOTS.push(&slot, 0);
        return None;
    }
    Some(listener)
}

/// Notes the listen(2) by which a socket begins to listen, in the thread that calls it.
#[inline(always)]
pub(crate) fn called(sock: LiveSocket, listener: ListenerRef) {
    let Some(asked) = kernel::current_backlog() else { return };
    let Some(info) = INFO.value(listener.slot) else { return };
    field!(info.asked_backlog).set(asked);
    field!(info.first_backlog).set(sock.backlog());
    field!(info.asked).set(1);
}

/// Its cookie. Where a program cannot have one made, the one that it has, or a number of our own, marked by its highest
/// bit.
#[inline(always)]
fn identity(sock: LiveSocket, slot: u32, generation: u32) -> u64 {
    let mut cookie = sock.make_cookie();
    if cookie == 0 {
        cookie = sock.address().cookie();
    }
    if cookie == 0 { NO_COOKIE | u64::from(generation & 0x7fff_ffff) << 32 | u64::from(slot) } else { cookie }
}

/// Ends the tracking of a listener. Its slot stays until user space has read it and its connections are gone.
#[inline(always)]
pub(crate) fn end(sock: LiveSocket) {
    let key = sock.key();
    let Some(listener) = listener_at(key) else { return };
    if let Some(info) = INFO.value(listener.slot) {
        if !sock.has_listened() {
            // listen(2) fails. Nobody could find the socket, so its records are untouched.
            field!(info.cookie).set(0);
            let _ = LISTENERS.remove(&key);
            let _ = FREE_SLOTS.push(&listener.slot, 0);
            return;
        }
        // A listener that opened and closed between two polls was never identified.
        identify(sock.address(), info);
        field!(info.socket_drops).set(sock.drops());
        if !sock.address().has_heirs() {
            // What waits in its SYN queue has nobody to complete it.
            handshake::requests_given_up(listener, sock.address().qlen());
        }
        forget(key, info, stats::now());
    }
}

/// Marks a listener's records as those of one that is closed, and takes it out of the table.
#[inline(always)]
pub(crate) fn forget(key: u64, info: MapValue<ListenerInfo>, now: u64) {
    field!(info.depth).set(0);
    field!(info.syn_depth).set(0);
    field!(info.syn_young).set(0);
    field!(info.oldest_ns).set(0);
    field!(info.closed_ns).set(now);
    let _ = LISTENERS.remove(&key);
}

/// Reads what identifies a listener.
#[inline(always)]
pub(crate) fn identify(raw: MaybeGone, info: MapValue<ListenerInfo>) {
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
    // The owner of an MPTCP listener holds the socket above it.
    let above = raw.mptcp();
    if above.is_some() {
        flags |= FLAG_MPTCP;
    }
    let inode = above.unwrap_or(raw).inode();
    field!(info.family).set(family);
    field!(info.address).set_bytes(address);
    field!(info.port).set(raw.port());
    field!(info.flags).set(flags);
    field!(info.netns).set(raw.netns());
    field!(info.net_cookie).set(raw.net_cookie());
    field!(info.device).set(raw.device());
    if inode != 0 {
        field!(info.inode).set(inode);
    }
    field!(info.backlog).set(raw.backlog());
    field!(info.somaxconn).set(raw.somaxconn());
}
