//! Requests of io_uring.

use super::*;

/// `SPLICE_F_FD_IN_FIXED` (include/uapi/linux/io_uring.h).
const FD_IN_FIXED: u32 = 1 << 31;

/// Opcode of a request; `None` without a request (one of several completions).
#[inline(always)]
pub(crate) fn opcode(request: u64) -> Option<u8> {
    probe(request, &KIOCB_OPCODE)
}

/// Result of a completion.
#[inline(always)]
pub(crate) unsafe fn completion(cqe: *const u8) -> i32 {
    unsafe { direct(cqe, &CQE_RES) }
}

/// Whether `opcode` is an accept.
#[inline(always)]
pub(crate) fn is_accept(opcode: u8) -> bool {
    u32::from(opcode) == OP_ACCEPT.load()
}

/// Whether `opcode` is a splice.
#[inline(always)]
pub(crate) fn is_splice(opcode: u8) -> bool {
    u32::from(opcode) == OP_SPLICE.load()
}

/// The socket that a request is about. If it is about another file the address is some other object's, and found in no
/// table.
#[inline(always)]
pub(crate) fn request_socket(request: u64) -> Option<RawSock> {
    socket_of_file(probe(request, &KIOCB_FILE)?)
}

/// Whether an accept puts the connection into the ring's table of files.
#[inline(always)]
pub(crate) fn accepts_into_fixed_file(request: u64) -> bool {
    probe::<u32>(request, &ACCEPT_FILE_SLOT) != Some(0)
}

/// The socket that a splice read from, by its descriptor in the current process, which the thread that works for
/// io_uring belongs to; `None` if it was named by its place in the ring's table of files.
#[inline(always)]
pub(crate) fn spliced_from(request: u64) -> Option<RawSock> {
    if probe::<u32>(request, &SPLICE_FLAGS)? & FD_IN_FIXED != 0 {
        return None;
    }
    current_socket(probe(request, &SPLICE_FD_IN)?)
}
