//! Charging work to the thread that does it.

use listentop_abi::{
    listener::{ListenerRef, Work},
    loss::Loss,
    thread::{ThreadKey, ThreadRecord},
};

use crate::{
    kernel,
    maps::{FREE_THREADS, THREAD_INDEX, THREADS},
    stats,
    values::{Lookup as _, MapValue, field},
};

/// Where work is added up: in the current thread's own record, or with the listener if the thread has no record.
#[derive(Clone, Copy)]
pub(crate) struct Account {
    work: MapValue<Work>,
    /// The thread's own record.
    record: Option<MapValue<ThreadRecord>>,
}

impl Account {
    /// The account in a thread's own record.
    #[inline(always)]
    fn of(record: MapValue<ThreadRecord>) -> Self {
        Self { work: field!(record.work), record: Some(record) }
    }

    /// Adds to one of its counters. Only the thread itself writes its own record, so that takes no atomic operation.
    #[inline(always)]
    pub(crate) fn add(self, counter: impl Fn(MapValue<Work>) -> MapValue<u64>, value: u64) {
        let counter = counter(self.work);
        if self.record.is_some() {
            counter.add_alone(value);
        } else {
            counter.add(value);
        }
    }

    /// Counts a connection that the thread accepted.
    #[inline(always)]
    pub(crate) fn accepted(self, now: u64) {
        self.add(|work| field!(work.accepts), 1);
        if let Some(record) = self.record {
            field!(record.last_accept_ns).set(now);
            if field!(record.first_accept_ns).get() == 0 {
                field!(record.first_accept_ns).set(now);
            }
        }
    }
}

/// The current thread's account with a listener, and the index + 1 of its record to remember for the next time.
/// `remembered` is the index + 1 of the record that is probably the thread's; 0 if none is remembered.
#[inline(always)]
pub(crate) fn current(listener: ListenerRef, remembered: u32) -> Option<(Account, u32)> {
    let (tid, start_ns) = kernel::current_thread();
    let key = ThreadKey { slot: listener.slot, tid, start_ns };
    if remembered != 0
        && let Some(record) = THREADS.value(remembered - 1)
        && is(record, key, listener)
    {
        return Some((Account::of(record), remembered));
    }
    if let Some(index) = THREAD_INDEX.value(&key) {
        let index = index.get();
        return Some((Account::of(THREADS.value(index)?), index + 1));
    }
    open(key, listener)
}

#[inline(always)]
fn is(record: MapValue<ThreadRecord>, key: ThreadKey, listener: ListenerRef) -> bool {
    field!(record.key.tid).get() == key.tid
        && field!(record.key.slot).get() == key.slot
        && field!(record.key.start_ns).get() == key.start_ns
        && field!(record.generation).get() == listener.generation
}

/// Opens an account: once per listener and thread.
#[inline(always)]
fn open(key: ThreadKey, listener: ListenerRef) -> Option<(Account, u32)> {
    if let Ok(Some(index)) = FREE_THREADS.pop() {
        let record = THREADS.value(index)?;
        if THREAD_INDEX.insert(&key, &index, 0).is_ok() {
            let (pid, tid) = kernel::current_ids();
            field!(record.generation).set(listener.generation);
            field!(record.pid).set(pid);
            field!(record.tid).set(tid);
            field!(record.initial_pid).set(kernel::current_process());
            field!(record.comm).set_words(kernel::current_name());
            field!(record.key.slot).set(key.slot);
            field!(record.key.start_ns).set(key.start_ns);
            // Last: user space looks at records that have a thread id.
            field!(record.key.tid).set(key.tid);
            return Some((Account::of(record), index + 1));
        }
        let _ = FREE_THREADS.push(&index, 0);
    }
    stats::lost(Loss::Threads);
    let stats = stats::of(listener)?;
    Some((Account { work: field!(stats.untracked), record: None }, 0))
}
