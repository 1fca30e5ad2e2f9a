//! Measuring more than before: iterators that bring the records of connections up to date, of which a lower level saw
//! less.
//!
//! The first two run before the hooks are attached that the lower level did without. Nothing else writes then what they
//! write. The third runs behind it, for what happened in between. It visits sockets, which the kernel locks for it
//! (Linux 5.15) or keeps from ending.

use listentop_abi::connection::PLACES;

use super::iterators::{TcpSocket, walk};
use crate::{
    connections,
    kernel::MaybeGone,
    maps::{CONNECTIONS, SPILLED},
    record,
    values::Lookup as _,
};

walk! {
    /// Walks over the sets of connections.
    resume, resume_one: u32 => resume_set
}

#[inline(always)]
fn resume_set<const ONE: bool>(index: u32) {
    let Some(set) = CONNECTIONS.value(index) else { return };
    for place in 0..PLACES {
        if let Some((key, connection)) = connections::at(set, place) {
            connections::hold(connection);
            record::resume(MaybeGone(key), connection);
            connections::release(connection);
        }
    }
}

walk! {
    /// The same for [`SPILLED`].
    resume_spilled, resume_spilled_one: u64 => resume_one_spilled
}

#[inline(always)]
fn resume_one_spilled<const ONE: bool>(key: u64) {
    if let Some(connection) = SPILLED.value(&key) {
        record::resume(MaybeGone(key), connection);
    }
}

/// Visits the sockets of one namespace.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub(crate) extern "C" fn catch_up(ctx: &TcpSocket) -> i32 {
    let Some(sock) = ctx.get() else { return 0 };
    let raw = sock.address();
    if let Some(connection) = record::of(raw) {
        record::catch_up(raw, connection);
    }
    0
}
