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

/// Where work is added up: the current thread's own record, or the listener's for work that no thread can be charged with.
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

/// The current thread's account with a listener. `remembered`: index + 1 of the record that is likely to be its; 0 if none is.
/// Returns with it the index + 1 to remember.
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
    let index = find_or_open(key.slot, key.tid, key.start_ns, listener.generation);
    if let Some(record) = THREADS.get_ptr_mut(index.wrapping_sub(1)) {
        return Some((Account { work: unsafe { &raw mut (*record).work }, own: true }, index));
    }
    stats::lost(Loss::Threads);
    let stats = stats::of(listener)?;
    Some((Account { work: unsafe { &raw mut (*stats).untracked }, own: false }, 0))
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

/// Index + 1 of the current thread's record with a listener, which it is given if it has none yet; 0 if none is free. A function of its own: it is
/// called once per connection or less, and would be in every program several times.
#[inline(never)]
fn find_or_open(slot: u32, tid: u32, start_ns: u64, generation: u32) -> u32 {
    let key = ThreadKey { slot, tid, start_ns };
    if let Some(index) = THREAD_INDEX.get_ptr(key) {
        return unsafe { *index } + 1;
    }
    let Ok(Some(index)) = FREE_THREADS.pop() else { return 0 };
    let Some(record) = THREADS.get_ptr_mut(index) else { return 0 };
    if THREAD_INDEX.insert(key, index, 0).is_err() {
        let _ = FREE_THREADS.push(index, 0);
        return 0;
    }
    let (pid, tid_here) = kernel::current_ids();
    let comm = bpf_get_current_comm().unwrap_or([0; 16]);
    unsafe {
        (*record).generation = generation;
        (*record).pid = pid;
        (*record).tid = tid_here;
        (*record).comm = comm;
        (*record).key.slot = slot;
        (*record).key.start_ns = start_ns;
        // Last: user space looks at records that have a thread id.
        core::ptr::write_volatile(&raw mut (*record).key.tid, tid);
    }
    index + 1
}
