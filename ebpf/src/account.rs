//! Charging work to the thread that does it.

use aya_ebpf::helpers::bpf_get_current_comm;
use listentop_abi::{
    listener::{ListenerRef, Work},
    loss::Loss,
    thread::{ThreadKey, ThreadRecord},
};

use crate::{
    kernel,
    maps::{FREE_THREADS, THREAD_INDEX, THREADS},
    stats,
};

/// Where work is added up: the current thread's own record, or the listener's for work that no thread can be charged
/// with.
#[derive(Clone, Copy)]
pub(crate) struct Account {
    work: *mut Work,
    own: bool,
}

impl Account {
    /// Adds to one of its counters. Only the thread itself writes its own record, so that takes no atomic operation.
    #[inline(always)]
    pub(crate) unsafe fn add(self, counter: impl Fn(*mut Work) -> *mut u64, value: u64) {
        let counter = counter(self.work);
        unsafe {
            if self.own {
                *counter += value;
            } else {
                stats::add(counter, value);
            }
        }
    }
}

/// The current thread's account with a listener. `remembered`: index + 1 of the record that is likely to be its; 0 if
/// none is. Returns with it the index + 1 to remember.
#[inline(always)]
pub(crate) fn current(listener: ListenerRef, remembered: u32) -> Option<(Account, u32)> {
    let (tid, start_ns) = kernel::current_thread();
    let key = ThreadKey { slot: listener.slot, tid, start_ns };
    if remembered != 0
        && let Some(record) = THREADS.get_ptr_mut(remembered - 1)
        && is(record, key, listener)
    {
        return Some((Account { work: unsafe { &raw mut (*record).work }, own: true }, remembered));
    }
    if let Some(index) = THREAD_INDEX.get_ptr(&key) {
        let index = unsafe { *index };
        let record = THREADS.get_ptr_mut(index)?;
        return Some((Account { work: unsafe { &raw mut (*record).work }, own: true }, index + 1));
    }
    open(key, listener)
}

#[inline(always)]
fn is(record: *const ThreadRecord, key: ThreadKey, listener: ListenerRef) -> bool {
    unsafe {
        (*record).key.tid == key.tid
            && (*record).key.slot == key.slot
            && (*record).key.start_ns == key.start_ns
            && (*record).generation == listener.generation
    }
}

/// Opens an account. Once per listener and thread.
#[inline(always)]
fn open(key: ThreadKey, listener: ListenerRef) -> Option<(Account, u32)> {
    if let Ok(Some(index)) = FREE_THREADS.pop() {
        let record = THREADS.get_ptr_mut(index)?;
        if THREAD_INDEX.insert(&key, &index, 0).is_ok() {
            let (pid, tid) = kernel::current_ids();
            let comm = bpf_get_current_comm().unwrap_or([0; 16]);
            unsafe {
                (*record).generation = listener.generation;
                (*record).pid = pid;
                (*record).tid = tid;
                (*record).comm = comm;
                (*record).key.slot = key.slot;
                (*record).key.start_ns = key.start_ns;
                // Last: user space looks at records that have a thread id.
                core::ptr::write_volatile(&raw mut (*record).key.tid, key.tid);
                return Some((Account { work: &raw mut (*record).work, own: true }, index + 1));
            }
        }
        let _ = FREE_THREADS.push(&index, 0);
    }
    stats::lost(Loss::Threads);
    let stats = stats::of(listener)?;
    Some((Account { work: unsafe { &raw mut (*stats).untracked }, own: false }, 0))
}
