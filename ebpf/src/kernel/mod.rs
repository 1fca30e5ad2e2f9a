//! The only place that reads kernel structures.
//!
//! Offsets, enum values and addresses are in `btf`: user space resolves them from the running kernel. There are two
//! kinds of pointer, each with its kind of read:
//!
//! - **Live** ([`LiveSocket`], [`LiveTcp`], [`Packet`], [`Completion`]): the verifier knows its type, because the
//!   kernel passed it or it was reached from such a pointer. Loads are direct. The verifier refuses a program that
//!   loads from anything else, at an offset that the type does not have or wider than the member there. If the memory
//!   is gone, the kernel catches the fault and the load yields 0.
//! - **Maybe gone** ([`MaybeGone`], [`Request`]): an address, which may be stale. It is only read by
//!   `bpf_probe_read_kernel`, which fails on a bad address. The memory may belong to another object by now. So the
//!   result is looked up as a key, or checked, or taken as an estimate.
//!
//! The kernel writes what is read here while other CPUs run. Each read is of one word, so it sees the old or the new
//! value.

mod btf;
mod inherited;
mod packets;
mod requests;
mod sockets;
mod tasks;
mod uring;

use core::arch::asm;

use aya_ebpf::{Global, helpers::bpf_probe_read_kernel};

use crate::values::Plain;

pub(crate) use packets::*;
pub(crate) use requests::*;
pub(crate) use sockets::*;
pub(crate) use tasks::*;
pub(crate) use uring::*;

/// `TCP_SYN_RECV`, the same in every kernel (include/net/tcp_states.h, mirrored in uapi bpf.h).
pub(crate) const SYN_RECV: i32 = 3;
/// `TCP_ESTABLISHED`.
pub(crate) const ESTABLISHED: i32 = 1;
/// `TCP_FIN_WAIT1`.
pub(crate) const FIN_WAIT1: i32 = 4;
/// `TCP_FIN_WAIT2`.
pub(crate) const FIN_WAIT2: i32 = 5;
/// `TCP_CLOSE`.
pub(crate) const CLOSE: i32 = 7;
/// `TCP_CLOSE_WAIT`.
pub(crate) const CLOSE_WAIT: i32 = 8;
/// `TCP_LAST_ACK`.
pub(crate) const LAST_ACK: i32 = 9;
/// `TCP_LISTEN`.
pub(crate) const LISTEN: i32 = 10;
/// `TCP_CLOSING`.
pub(crate) const CLOSING: i32 = 11;
/// `TCP_NEW_SYN_RECV`: a request.
pub(crate) const NEW_SYN_RECV: i32 = 12;
/// `AF_INET`.
pub(crate) const AF_INET: u16 = 2;
/// `AF_INET6`.
pub(crate) const AF_INET6: u16 = 10;
/// `IPPROTO_TCP`.
const IPPROTO_TCP: u16 = 6;
/// `IPPROTO_MPTCP`.
const IPPROTO_MPTCP: u16 = 262;
/// `ETH_P_IP`, network byte order.
const ETH_P_IP: u16 = 0x0800_u16.to_be();

/// The outcome of a SYN: nothing was seen.
pub(crate) const NOTHING: u32 = 0;
/// A request was put into the SYN queue.
pub(crate) const ADDED: u32 = 1;
/// It is answered with a cookie.
pub(crate) const COOKIE: u32 = 2;
/// Its child is on the accept queue (TCP Fast Open).
pub(crate) const ENQUEUED: u32 = 3;

/// No child was made or refused for a packet.
pub(crate) const NO_CHILD: u32 = 0;
/// A child was made.
pub(crate) const MADE: u32 = 1;
/// A child was refused.
pub(crate) const REFUSED: u32 = 2;

/// What the kernel decided about a SYN when the SYN queue is full: not seen.
pub(crate) const UNSURE: u32 = 0;
/// It refused the SYN.
pub(crate) const FLOOD_DROP: u32 = 1;
/// It sends a cookie.
pub(crate) const FLOOD_COOKIE: u32 = 2;

/// Reads through a pointer of known type. Volatile, or the compiler merges neighbouring loads into one that is wider
/// than the member, which the verifier refuses.
///
/// # Safety
/// The verifier knows the pointer's type, and it is that of the structure that `offset` is for.
#[inline(always)]
unsafe fn direct<T: Plain>(base: *const u8, offset: &Global<u32>) -> T {
    // SAFETY: a member of an object that the kernel holds, or whose loss it catches (see the module). Kernel memory is
    // no Rust allocation, so a volatile read may race; any bytes are a value (`Plain`).
    unsafe { base.add(offset.load() as usize).cast::<T>().read_volatile() }
}

/// Copies from any kernel address.
#[inline(always)]
fn probe<T: Plain>(base: u64, offset: &Global<u32>) -> Option<T> {
    if base == 0 {
        return None;
    }
    read_at(base + u64::from(offset.load()))
}

/// The same, where the address is complete.
#[inline(always)]
fn read_at<T: Plain>(address: u64) -> Option<T> {
    // SAFETY: the helper fails on an address that cannot be read; any bytes that it copies are a value (`Plain`).
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// A byte behind a pointer; `None` if it cannot be read.
#[inline(always)]
pub(crate) fn byte_at(pointer: u64) -> Option<u8> {
    read_at(pointer)
}

/// The address of an object as a number. The verifier refuses arithmetic on pointers, except negation, which turns a
/// pointer into a number.
#[inline(always)]
fn number(pointer: *const u8) -> u64 {
    let mut negated = pointer as u64;
    // Hidden from the compiler, which would see that nothing changes.
    // SAFETY: one instruction on one register, which touches no memory.
    unsafe { asm!("{0} = -{0}", inout(reg) negated, options(pure, nomem, nostack)) };
    negated.wrapping_neg()
}
