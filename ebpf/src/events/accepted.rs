//! A thread accepts, or tries to.

use listentop_abi::listener::ListenerRef;

use crate::{
    account::{self, Account},
    connections,
    kernel::{self, RawSock},
    maps::LISTENERS,
    stats::{self, add, record_span},
};

/// `EINTR`: a signal came; not a failure of the accept.
const EINTR: i64 = 4;
/// `EAGAIN`.
const EAGAIN: i64 = 11;
/// `ECONNABORTED`: the client gave up while it was queued; not a failure of the accept.
const ECONNABORTED: i64 = 103;
/// `EINVAL`: the socket does not listen (any more).
const EINVAL: i64 = 22;

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

/// The current thread got a connection from the listening socket `fd` that is in no table: count it all the same.
#[inline(always)]
pub(crate) fn accepted_unknown(fd: u32) {
    let Some(listener) = listener_behind(fd) else { return };
    if let Some(stats) = stats::of(listener) {
        unsafe { add(&raw mut (*stats).accepted_unknown, 1) };
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

/// An accept on the listening socket `fd` failed with `errno`.
#[inline(always)]
pub(crate) fn failed(fd: u32, errno: i64) {
    // The kernel's own restart codes (512 and up) are interruptions that user space never sees.
    if errno == EINTR || errno == ECONNABORTED || errno == EINVAL || errno >= 512 {
        return;
    }
    let Some(listener) = listener_behind(fd) else { return };
    let Some(account) = acceptor(listener) else { return };
    unsafe {
        if errno == EAGAIN {
            account.add(|work| &raw mut (*work).would_block, 1);
        } else {
            account.add(|work| &raw mut (*work).accept_failed, 1);
        }
    }
}

#[inline(always)]
fn listener_behind(fd: u32) -> Option<ListenerRef> {
    let socket = kernel::current_socket(fd)?;
    LISTENERS.get_ptr(socket.0).map(|listener| unsafe { *listener })
}
