//! What differs between architectures: which registers unwinding begins with.

#[cfg(target_arch = "aarch64")]
pub(super) use framehop::aarch64::{CacheAarch64 as Cache, UnwinderAarch64 as Unwinder};
#[cfg(target_arch = "x86_64")]
pub(super) use framehop::x86_64::{CacheX86_64 as Cache, UnwinderX86_64 as Unwinder};
use listentop_abi::stack_copy::REGISTERS;

/// The registers that unwinding needs, and the address that the program was at; `None` if they are not a program's, or
/// those of one of 32 bits.
#[cfg(target_arch = "x86_64")]
pub(super) fn of(words: &[u64; REGISTERS]) -> Option<(u64, framehop::x86_64::UnwindRegsX86_64)> {
    use framehop::x86_64::{Reg, UnwindRegsX86_64};
    // `struct user_regs_struct` (sys/user.h).
    let [r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, _, rip, cs, _, rsp, ..] = *words;
    /// The segment of programs of 64 bits (`__USER_CS`).
    const USER: u64 = 0x33;
    if cs & 0xffff != USER {
        return None;
    }
    let mut registers = UnwindRegsX86_64::new(rip, rsp, rbp);
    for (register, value) in [
        (Reg::RAX, rax),
        (Reg::RBX, rbx),
        (Reg::RCX, rcx),
        (Reg::RDX, rdx),
        (Reg::RSI, rsi),
        (Reg::RDI, rdi),
        (Reg::R8, r8),
        (Reg::R9, r9),
        (Reg::R10, r10),
        (Reg::R11, r11),
        (Reg::R12, r12),
        (Reg::R13, r13),
        (Reg::R14, r14),
        (Reg::R15, r15),
    ] {
        registers.set(register, value);
    }
    Some((rip, registers))
}

/// Likewise.
#[cfg(target_arch = "aarch64")]
pub(super) fn of(words: &[u64; REGISTERS]) -> Option<(u64, framehop::aarch64::UnwindRegsAarch64)> {
    use framehop::aarch64::{PtrAuthMask, UnwindRegsAarch64};
    // `struct user_pt_regs`: x0 to x30, sp, pc, pstate.
    let [fp, lr, sp, pc, pstate] = [words[29], words[30], words[31], words[32], words[33]];
    // The mode and the bit for 32 bits: 0 is EL0.
    if pstate & 0x1f != 0 {
        return None;
    }
    // Programs have 48 bits of addresses, unless they ask for more. What is above may be a signature of the address.
    let mask = PtrAuthMask(u64::MAX >> 16);
    Some((pc, UnwindRegsAarch64::new_with_ptr_auth_mask(mask, lr, sp, fp)))
}
