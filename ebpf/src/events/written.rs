//! A thread writes to a connection.

use listentop_abi::connection::Connection;

use crate::{
    account,
    events::accepted,
    kernel::MaybeGone,
    stats::{self, record_span},
    values::{MapValue, field},
};

/// The current thread gave the kernel `bytes` (above 0) to send. `sent_ns` yields when.
#[inline(always)]
pub(crate) fn written(connection: MapValue<Connection>, key: u64, bytes: u32, sent_ns: impl FnOnce() -> u64) {
    if field!(connection.accepted_ns).get() == 0 {
        accepted::accepted_before(MaybeGone(key));
    }
    let listener = field!(connection.listener).get();
    let asked_ns = field!(connection.asked_ns).get();
    if asked_ns != 0 {
        field!(connection.asked_ns).set(0);
        if let Some(distributions) = stats::distributions(listener) {
            record_span(field!(distributions.answer), asked_ns, sent_ns());
        }
    }
    let remembered = field!(connection.writer).get();
    if let Some((account, remember)) = account::current(listener, remembered) {
        field!(connection.writer).set(remember);
        account.add(|work| field!(work.writes), 1);
        account.add(|work| field!(work.write_bytes), u64::from(bytes));
    }
}
