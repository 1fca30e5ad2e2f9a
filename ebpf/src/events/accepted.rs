//! A thread accepts, or tries to.

use listentop_abi::listener::ListenerRef;

use crate::{
    account::{self, Account},
    config, connections,
    events::enqueued,
    kernel::RawSock,
    stats::{self, add, record_span},
};

/// `EINTR`: a signal came; not a failure of the accept.
const EINTR: i64 = 4;
/// `EAGAIN`.
pub(crate) const EAGAIN: i64 = 11;
/// `ECONNABORTED`: the client gave up while it was queued; not a failure of the accept.
const ECONNABORTED: i64 = 103;
/// `EINVAL`: the socket does not listen (any more).
const EINVAL: i64 = 22;
/// `ECANCELED`: an accept of io_uring was called off while it waited.
const ECANCELED: i64 = 125;

/// The current thread got a connection. Returns whether it is one that is tracked and was not accepted before.
#[inline(always)]
pub(crate) fn accepted(child: RawSock) -> bool {
    let Some(connection) = connections::find(child.0) else { return false };
    if unsafe { (*connection).accepted_ns } != 0 {
        return false;
    }
    let now = stats::now();
    let listener = unsafe { (*connection).listener };
    unsafe { (*connection).accepted_ns = now };
    let enqueued_ns = unsafe { (*connection).enqueued_ns };
    if enqueued_ns != 0
        && let Some(distributions) = stats::distributions(listener)
    {
        unsafe { record_span(&raw mut (*distributions).wait, enqueued_ns, now) };
    }
    charge(listener);
    true
}

/// An accept of the current thread returned this socket: counts the connection. `Err` with it, if it is in no table.
#[inline(always)]
pub(crate) fn returned(socket: Option<RawSock>) -> Result<(), Option<RawSock>> {
    if socket.is_some_and(accepted) {
        return Ok(());
    }
    // One that is closed already by another thread is gone, but was accepted.
    let Some(multipath) = socket.filter(|socket| socket.is_mptcp()) else { return Err(socket) };
    let subflow = multipath.first_subflow();
    if accepted(subflow) { Ok(()) } else { Err(Some(subflow)) }
}

/// The current thread got a connection from the listener that is in no table: count it all the same, and from here on
/// track it. How long it waited, and when what it holds arrived, is not known.
#[inline(always)]
pub(crate) fn accepted_unknown(listener: ListenerRef, child: Option<RawSock>) {
    if let Some(stats) = stats::of(listener) {
        unsafe { add(&raw mut (*stats).accepted_unknown, 1) };
        // One that has a record was taken over open at the start. Where there is no room, that was counted as a loss
        // before.
        if config::started()
            && let Some(child) = child
            && connections::find(child.0).is_none()
            && let Some(span) = child.receive_span()
            && let Some(arrived) = enqueued::track(listener, child, span, 0, stats::now(), 0, 0)
        {
            unsafe {
                add(&raw mut (*stats).inherited_open, 1);
                add(&raw mut (*stats).arrived_bytes, u64::from(arrived));
            }
        }
    }
    charge(listener);
}

#[inline(always)]
fn charge(listener: ListenerRef) {
    if let Some(account) = acceptor(listener) {
        unsafe { account.add(|work| &raw mut (*work).accepts, 1) };
    }
}

/// The current thread's account, sought first where the last acceptor's is.
#[inline(always)]
fn acceptor(listener: ListenerRef) -> Option<Account> {
    let stats = stats::of(listener)?;
    let remembered = unsafe { (*stats).acceptor } as u32;
    let (account, remember) = account::current(listener, remembered)?;
    if remember != remembered {
        unsafe { (*stats).acceptor = u64::from(remember) };
    }
    Some(account)
}

/// Whether an accept that failed with `errno` says something about the listener.
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
    unsafe {
        if errno == EAGAIN {
            account.add(|work| &raw mut (*work).would_block, 1);
        } else {
            account.add(|work| &raw mut (*work).accept_failed, 1);
        }
    }
}
