//! The probes of listentop.
//!
//! `hooks` are thin adaptors, one file per kind of hook; each finds the arguments and calls a body in `events`, one
//! file per event. `kernel` is the only file that knows kernel structures, `maps` the only one that defines maps.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(
    internal_features,
    reason = "core::sync::atomic leaves out the BPF target, which adds atomically but cannot compare and swap before v3"
)]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "the verifier proves every access; see `kernel` for what pointers may be"
)]

mod account;
mod config;
mod connections;
mod context;
mod events;
mod hooks;
mod kernel;
mod maps;
mod stats;

/// Helpers such as `bpf_probe_read_kernel` are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
