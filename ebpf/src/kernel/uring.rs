//! Requests of io_uring.

use super::{MaybeGone, btf, current_socket, direct, probe, socket_of_file};

/// `SPLICE_F_FD_IN_FIXED` (include/uapi/linux/io_uring.h).
const FD_IN_FIXED: u32 = 1 << 31;

/// Opcode of a request; `None` without a request (one of several completions).
#[inline(always)]
pub(crate) fn opcode(request: u64) -> Option<u8> {
    probe(request, &btf::KIOCB_OPCODE)
}

/// A completion (`struct io_uring_cqe`) that the kernel passed: a live pointer, see [`super`].
#[derive(Clone, Copy)]
pub(crate) struct Completion(*const u8);

impl Completion {
    /// # Safety
    /// The verifier knows the pointer as `struct io_uring_cqe *`, and the kernel holds the completion until the program
    /// returns.
    #[inline(always)]
    pub(crate) unsafe fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    /// Its result.
    #[inline(always)]
    pub(crate) fn result(self) -> i32 {
        // SAFETY: a completion, and the offset of its member.
        unsafe { direct(self.0, &btf::CQE_RES) }
    }
}

/// Whether `opcode` is an accept.
#[inline(always)]
pub(crate) fn is_accept(opcode: u8) -> bool {
    u32::from(opcode) == btf::OP_ACCEPT.load()
}

/// Whether `opcode` is a splice.
#[inline(always)]
pub(crate) fn is_splice(opcode: u8) -> bool {
    u32::from(opcode) == btf::OP_SPLICE.load()
}

/// The socket that a request is about. If it is about another file, the address is another object's, which no table
/// contains.
#[inline(always)]
pub(crate) fn request_socket(request: u64) -> Option<MaybeGone> {
    socket_of_file(probe(request, &btf::KIOCB_FILE)?)
}

/// Whether an accept puts the connection into the ring's table of files.
#[inline(always)]
pub(crate) fn accepts_into_fixed_file(request: u64) -> bool {
    probe::<u32>(request, &btf::ACCEPT_FILE_SLOT) != Some(0)
}

/// The socket that a splice read from, by its descriptor in the current process: io_uring's worker threads belong to
/// the process that owns the ring. `None` if the request names it by its place in the ring's table of files.
#[inline(always)]
pub(crate) fn spliced_from(request: u64) -> Option<MaybeGone> {
    if probe::<u32>(request, &btf::SPLICE_FLAGS)? & FD_IN_FIXED != 0 {
        return None;
    }
    current_socket(probe(request, &btf::SPLICE_FD_IN)?)
}
