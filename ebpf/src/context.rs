//! Arguments of functions by position, where the position is known only when the probes are loaded.

use core::{arch::asm, ffi::c_void};

/// Argument `index` of the function that a fentry or fexit program is attached to; behind the last one comes what it
/// returned. 0 for a position that no function has.
///
/// The kernel lets a program read its context at offsets that stand in the instruction only, and a compiler that sees
/// eight loads makes one of them with a computed offset: hence the assembly. `index` is frozen, so the verifier keeps
/// one of the branches.
#[inline(always)]
pub(crate) fn argument(context: *const c_void, index: u32) -> u64 {
    macro_rules! load {
        ($offset:literal) => {{
            let value: u64;
            unsafe {
                asm!(concat!("{0} = *(u64 *)({1} + ", $offset, ")"), out(reg) value, in(reg) context, options(nostack))
            };
            value
        }};
    }
    match index {
        0 => load!("0"),
        1 => load!("8"),
        2 => load!("16"),
        3 => load!("24"),
        4 => load!("32"),
        5 => load!("40"),
        6 => load!("48"),
        7 => load!("56"),
        _ => 0,
    }
}
