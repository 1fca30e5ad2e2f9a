//! Measuring more than before: iterators that bring the records of connections up to date, of which a lower level saw
//! less.
//!
//! The first two run before the hooks are attached that the lower level did without. Nothing else writes then what they
//! write. The third runs behind it, for what happened in between. It visits sockets, which the kernel locks for it
//! (Linux 5.15) or keeps from ending.

use listentop_abi::connection::PLACES;

use super::iterators::{Element, TcpSocket};
use crate::{
    connections,
    kernel::MaybeGone,
    maps::{CONNECTIONS, SPILLED},
    record,
    values::Lookup as _,
};

/// Walks over the sets of connections.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
pub(crate) extern "C" fn resume(ctx: &Element<u32>) -> i32 {
    let Some(set) = ctx.key().and_then(|index| CONNECTIONS.value(index)) else { return 0 };
    for place in 0..PLACES {
        if let Some((key, connection)) = connections::at(set, place) {
            connections::hold(connection);
            record::resume(MaybeGone(key), connection);
            connections::release(connection);
        }
    }
    0
}

/// The same for [`SPILLED`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
pub(crate) extern "C" fn resume_spilled(ctx: &Element<u64>) -> i32 {
    let Some(key) = ctx.key() else { return 0 };
    if let Some(connection) = SPILLED.value(&key) {
        record::resume(MaybeGone(key), connection);
    }
    0
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
