//! A thread accepts, or tries to.

use listentop_abi::{
    connection::STATE_PRESUMED,
    listener::{FLAG_MPTCP, ListenerRef},
};

use crate::{
    account::{self, Account},
    config, connections,
    kernel::{CLOSE, CLOSE_WAIT, MaybeGone},
    maps::INFO,
    record,
    stats::{self, record_span},
    values::{Lookup as _, field},
};

/// `EINTR`: a signal came; not a failure of the accept.
const EINTR: i64 = 4;
/// `EAGAIN`.
pub(crate) const EAGAIN: i64 = 11;
/// `ECONNABORTED`: the client gave up while it was queued; not a failure of the accept.
const ECONNABORTED: i64 = 103;
/// `EMFILE`: the process has no descriptor left.
const EMFILE: i64 = 24;
/// `ENFILE`: the machine has none left.
const ENFILE: i64 = 23;
/// `ENOMEM`.
const ENOMEM: i64 = 12;
/// `ENOBUFS`.
const ENOBUFS: i64 = 105;
/// `EINVAL`: the socket does not listen (any more).
const EINVAL: i64 = 22;
/// `EFAULT`: the address could not be passed. By then the connection has left the queue, and it is closed.
const EFAULT: i64 = 14;
/// `ECANCELED`: an accept of io_uring was cancelled while it waited.
const ECANCELED: i64 = 125;

/// The current thread got a connection. Returns whether it is a tracked connection that was not accepted before.
#[inline(always)]
pub(crate) fn accepted(child: MaybeGone) -> bool {
    note(child, true)
}

/// The current thread uses a connection whose accept no hook saw (io_uring's fixed files): it happened before now.
#[inline(always)]
pub(crate) fn accepted_before(child: MaybeGone) {
    note(child, false);
}

/// `at_once`: the accept returns at this moment.
#[inline(always)]
fn note(child: MaybeGone, at_once: bool) -> bool {
    let Some(connection) = record::of(child) else { return false };
    let listener = field!(connection.listener).get();
    if field!(connection.accepted_ns).get() != 0 {
        let state = field!(connection.state).get();
        if state & STATE_PRESUMED == 0 || !at_once {
            return false;
        }
        // Its accept was under way when it was counted for no thread. Now it is known which: one less of those, modulo
        // 2^64.
        field!(connection.state).set(state & !STATE_PRESUMED);
        if let Some(stats) = stats::of(listener) {
            field!(stats.untracked.accepts).add(u64::MAX);
        }
    }
    let now = stats::now();
    field!(connection.accepted_ns).set(now);
    let enqueued_ns = field!(connection.enqueued_ns).get();
    if enqueued_ns != 0
        && let Some(distributions) = stats::distributions(listener)
    {
        record_span(field!(distributions.wait), enqueued_ns, now);
    }
    if at_once
        && client_is_gone(listener, child)
        && enqueued_ns != 0
        && let Some(distributions) = stats::distributions(listener)
    {
        record_span(field!(distributions.client_gone_wait), enqueued_ns, now);
    }
    charge(listener, now);
    true
}

/// Whether the client had gone when the connection was accepted; counts it then.
#[inline(always)]
fn client_is_gone(listener: ListenerRef, child: MaybeGone) -> bool {
    let state = child.state();
    if state != CLOSE_WAIT && state != CLOSE {
        return false;
    }
    if let Some(stats) = stats::handshakes(listener) {
        let counter = if state == CLOSE { field!(stats.client_reset) } else { field!(stats.client_closed) };
        counter.add(1);
    }
    true
}

/// An accept of the current thread returned this socket: counts the connection. `Err` with the socket, if it is in no
/// table.
#[inline(always)]
pub(crate) fn returned(socket: Option<MaybeGone>) -> Result<(), Option<MaybeGone>> {
    if socket.is_some_and(accepted) {
        return Ok(());
    }
    let Some(multipath) = socket.filter(|socket| socket.is_mptcp()) else { return Err(socket) };
    let subflow = multipath.first_subflow();
    if accepted(subflow) { Ok(()) } else { Err(Some(subflow)) }
}

/// The current thread got a connection from the listener that is in no table. Counts it, and tracks it from here on.
/// Its wait, and the arrival times of the bytes that it holds, are unknown. `None`: another thread has closed it
/// already.
#[inline(always)]
pub(crate) fn accepted_unknown(listener: ListenerRef, child: Option<MaybeGone>) {
    let now = stats::now();
    charge(listener, now);
    let Some(stats) = stats::of(listener) else { return };
    let Some(child) = child else {
        // Its end counts it as accepted (`events::destroyed`), for no thread: one less of those, modulo 2^64.
        field!(stats.untracked.accepts).add(u64::MAX);
        return;
    };
    field!(stats.accepted_unknown).add(1);
    client_is_gone(listener, child);
    // One that has a record was open when it was taken over at the start. If there is no room, that was counted as a
    // loss before.
    if config::started()
        && connections::find(child.0).is_none()
        && let Some(position) = child.position()
        && let Some(arrived) = record::track(listener, child, position, 0, now, 0, 0)
    {
        field!(stats.inherited_open).add(1);
        field!(stats.arrived_bytes).add(u64::from(arrived));
    }
}

#[inline(always)]
fn charge(listener: ListenerRef, now: u64) {
    if let Some(account) = acceptor(listener) {
        account.accepted(now);
    }
}

/// The current thread's account. The one of the last acceptor is tried first.
#[inline(always)]
fn acceptor(listener: ListenerRef) -> Option<Account> {
    let stats = stats::of(listener)?;
    let remembered = field!(stats.acceptor).get() as u32;
    let (account, remember) = account::current(listener, remembered)?;
    if remember != remembered {
        field!(stats.acceptor).set(u64::from(remember));
    }
    Some(account)
}

/// An accept that no other hook shows failed with `errno`. It may have taken a connection off the queue even so: that
/// counts as accepted. Its end counts it for no thread, see `accepted_unknown`. (Functions count it where it leaves the
/// queue.)
#[inline(always)]
pub(crate) fn failed_with_connection(listener: ListenerRef, errno: i64) {
    if errno == EFAULT
        && let Some(info) = INFO.value(listener.slot)
        && field!(info.flags).get() & FLAG_MPTCP == 0
    {
        accepted_unknown(listener, None);
    }
}

/// Whether an accept that failed with `errno` is a failure of the listener.
#[inline(always)]
pub(crate) fn is_failure(errno: i64) -> bool {
    // The kernel's own restart codes (512 and up) are interruptions that user space never sees.
    errno != EINTR && errno != ECONNABORTED && errno != EINVAL && errno != ECANCELED && errno < 512
}

/// An accept from the listener failed with `errno`.
#[inline(always)]
pub(crate) fn failed(listener: ListenerRef, errno: i64) {
    if !is_failure(errno) {
        return;
    }
    let Some(account) = acceptor(listener) else { return };
    if errno == EAGAIN {
        account.add(|work| field!(work.would_block), 1);
    } else {
        account.add(|work| field!(work.accept_failed), 1);
        failed_for_want(listener, errno);
    }
}

/// Counts the failures that say what is used up.
#[inline(always)]
fn failed_for_want(listener: ListenerRef, errno: i64) {
    let Some(stats) = stats::handshakes(listener) else { return };
    match errno {
        EMFILE => field!(stats.accept_failed_emfile).add(1),
        ENFILE => field!(stats.accept_failed_enfile).add(1),
        ENOMEM | ENOBUFS => field!(stats.accept_failed_nomem).add(1),
        _ => {}
    }
}
