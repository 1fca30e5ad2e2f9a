//! The probes of listentop.
//!
//! `hooks` are thin adaptors, one file per kind of hook; each finds the arguments and calls a body in `events`, one
//! file per event. `record` is what several events do with a connection's record. Only `kernel` knows kernel
//! structures, only `maps` defines maps, and only `connections` looks into the table of connections.
//!
//! The verifier proves before a program runs that each of its accesses stays within an object that it may use. Types
//! express what it does not prove. `kernel` says how long a kernel pointer is valid, `values` what other CPUs may do to
//! a map's value meanwhile, `context` where the pointers come from.
//!
//! Every helper is `#[inline(always)]`, and closures are small: older kernels refuse programs that call functions of
//! the object's `.text`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(
    internal_features,
    reason = "core::sync::atomic has no types for the BPF target, which can add atomically but not compare and swap before v3"
)]
#![expect(
    clippy::inline_always,
    reason = "older kernels refuse programs that call functions of the object's .text, so every helper is inlined"
)]

mod account;
mod blame;
mod blame_stacks;
mod config;
mod connections;
mod context;
mod events;
mod hooks;
mod kernel;
mod maps;
mod origin;
mod record;
mod stats;
mod values;

/// Helpers such as `bpf_probe_read_kernel` are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
