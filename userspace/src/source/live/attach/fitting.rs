//! Whether this kernel has what a program is for, and getting one program into it.

use aya::{
    Btf,
    programs::{BtfTracePoint, FEntry, FExit, Program, TracePoint},
};
use listentop_abi::syscall;
use listentop_btf::{BtfError, KernelBtf, Symbol, Value};

use super::{
    events::{Hook, Target, URING_COMPLETE},
    refusal::Refusal,
    signatures,
};

/// Whether the hook's target passes what its program takes.
pub(super) fn fits(kernel: &KernelBtf, hook: &Hook) -> Result<(), Refusal> {
    match hook.target {
        Target::Tracepoint(name, arguments) => check_tracepoint(kernel, name, arguments),
        Target::Syscall(_) => check_syscall(kernel, hook.program),
        Target::Entry(name) | Target::Exit(name) => check_function(kernel, name),
    }
}

/// Whether this kernel does not have the target.
pub(super) fn lacks(kernel: &KernelBtf, target: Target) -> bool {
    let found = match target {
        Target::Entry(name) | Target::Exit(name) if module_of(kernel, name).is_some() => return false,
        Target::Entry(name) | Target::Exit(name) => kernel.function(name),
        Target::Tracepoint(name, _) => kernel.tracepoint(name),
        Target::Syscall(_) => return false,
    };
    matches!(found, Err(BtfError::Missing(Symbol::Function(_) | Symbol::Tracepoint(_))))
}

/// Has the kernel verify and take a hook's program.
pub(super) fn load(program: &mut Program, hook: &Hook, btf: &Btf) -> Result<(), Refusal> {
    match hook.target {
        Target::Tracepoint(name, _) => <&mut BtfTracePoint>::try_from(program)?.load(name, btf)?,
        Target::Syscall(_) => <&mut TracePoint>::try_from(program)?.load()?,
        Target::Entry(name) => <&mut FEntry>::try_from(program)?.load(name, btf)?,
        Target::Exit(name) => <&mut FExit>::try_from(program)?.load(name, btf)?,
    }
    Ok(())
}

/// The module that has a function which is not in the kernel itself. Every kernel that listentop supports knows
/// IPv6.
fn module_of(kernel: &KernelBtf, function: &str) -> Option<&'static str> {
    let lacks = |name| matches!(kernel.function(name), Err(BtfError::Missing(Symbol::Function(_))));
    (function.contains("v6") && lacks(function) && lacks("tcp_v6_rcv")).then_some("ipv6")
}

/// Whether the function passes what the program takes.
fn check_function(kernel: &KernelBtf, function: &'static str) -> Result<(), Refusal> {
    match module_of(kernel, function) {
        Some(module) => Err(Refusal::InModule { function, module }),
        None => signatures::check(kernel, function),
    }
}

/// Whether the tracepoint passes what the program takes.
fn check_tracepoint(kernel: &KernelBtf, name: &'static str, needed: u32) -> Result<(), Refusal> {
    let signature = kernel.tracepoint(name)?;
    let present = signature.parameters.len() as u32;
    if present < needed {
        return Err(Refusal::TooFewArguments { tracepoint: name, present, needed });
    }
    if name == URING_COMPLETE && !matches!(signature.parameters[1].value, Value::Pointer(_)) {
        // Since 5.18.
        return Err(Refusal::NoRequest(name));
    }
    if name == "kfree_skb" {
        // Since 6.15. Before, a refused final ACK is dropped like one that is ignored on purpose.
        kernel.enumerator("SKB_DROP_REASON_TCP_LISTEN_OVERFLOW")?;
    }
    Ok(())
}

/// Whether the end of a system call passes what the program takes.
fn check_syscall(kernel: &KernelBtf, program: &str) -> Result<(), Refusal> {
    let result = kernel.member("syscall_trace_exit", "ret")?.byte();
    if result as usize != syscall::RESULT {
        return Err(Refusal::ResultMoved(result));
    }
    if program == "exit_accept_without_connection" {
        // A failed call's listener follows from its arguments alone, which programs can read since 5.15.
        kernel.function("bpf_task_pt_regs")?;
    }
    Ok(())
}
