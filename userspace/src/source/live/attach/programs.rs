//! The probes' programs in the running kernel.

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, FEntry, FExit, Program, TracePoint},
};
use listentop_abi::syscall;
use listentop_btf::{BtfError, KernelBtf, Symbol, Value};

use super::{
    Programs,
    events::{Hook, Target, URING_COMPLETE},
    refusal::Refusal,
    signatures,
    tracefs::{self, TracefsError},
};

/// The programs of a loaded object.
pub(crate) struct KernelPrograms<'a> {
    ebpf: &'a mut Ebpf,
    btf: &'a Btf,
    kernel: &'a KernelBtf,
    /// Whether this thread finds system call tracepoints.
    tracefs: Result<(), TracefsError>,
}

impl<'a> KernelPrograms<'a> {
    /// Makes tracefs available to the calling thread. If tracefs is not mounted, the thread must have a private mount
    /// namespace.
    pub(crate) fn new(ebpf: &'a mut Ebpf, btf: &'a Btf, kernel: &'a KernelBtf) -> Self {
        Self { ebpf, btf, kernel, tracefs: tracefs::available_to_this_thread() }
    }

    /// The module that has a function which is not in the kernel itself. Every kernel that listentop supports knows
    /// IPv6.
    fn module_of(&self, function: &str) -> Option<&'static str> {
        let lacks = |name| matches!(self.kernel.function(name), Err(BtfError::Missing(Symbol::Function(_))));
        (function.contains("v6") && lacks(function) && lacks("tcp_v6_rcv")).then_some("ipv6")
    }

    /// Whether the function passes what the program takes.
    fn check_function(&self, function: &'static str) -> Result<(), Refusal> {
        match self.module_of(function) {
            Some(module) => Err(Refusal::InModule { function, module }),
            None => signatures::check(self.kernel, function),
        }
    }

    /// Whether the tracepoint passes what the program takes.
    fn check_tracepoint(&self, name: &'static str, needed: u32) -> Result<(), Refusal> {
        let signature = self.kernel.tracepoint(name)?;
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
            self.kernel.enumerator("SKB_DROP_REASON_TCP_LISTEN_OVERFLOW")?;
        }
        Ok(())
    }

    /// Whether the end of a system call passes what the program takes.
    fn check_syscall(&self, program: &str) -> Result<(), Refusal> {
        self.tracefs?;
        let result = self.kernel.member("syscall_trace_exit", "ret")?.byte();
        if result as usize != syscall::RESULT {
            return Err(Refusal::ResultMoved(result));
        }
        if program == "exit_accept_without_connection" {
            // A failed call's listener follows from its arguments alone, which programs can read since 5.15.
            self.kernel.function("bpf_task_pt_regs")?;
        }
        Ok(())
    }
}

impl Programs for KernelPrograms<'_> {
    fn load(&mut self, hook: &Hook) -> Result<(), Refusal> {
        if self.is_loaded(hook) {
            // It serves another target too.
            return match hook.target {
                Target::Syscall(_) => Ok(self.tracefs?),
                _ => Ok(()),
            };
        }
        match hook.target {
            Target::Tracepoint(name, arguments) => self.check_tracepoint(name, arguments)?,
            Target::Syscall(_) => self.check_syscall(hook.program)?,
            Target::Entry(name) | Target::Exit(name) => self.check_function(name)?,
        }
        let btf = self.btf;
        let program = self.ebpf.program_mut(hook.program).ok_or_else(|| Refusal::no_program(hook.program))?;
        match hook.target {
            Target::Tracepoint(name, _) => <&mut BtfTracePoint>::try_from(program)?.load(name, btf)?,
            Target::Syscall(_) => <&mut TracePoint>::try_from(program)?.load()?,
            Target::Entry(name) => <&mut FEntry>::try_from(program)?.load(name, btf)?,
            Target::Exit(name) => <&mut FExit>::try_from(program)?.load(name, btf)?,
        }
        Ok(())
    }

    fn attach(&mut self, hook: &Hook) -> Result<(), Refusal> {
        let missing = || Refusal::no_program(hook.program);
        let attached = match (self.ebpf.program_mut(hook.program).ok_or_else(missing)?, hook.target) {
            (Program::BtfTracePoint(program), _) => program.attach().map(drop),
            (Program::TracePoint(program), Target::Syscall(name)) => program.attach("syscalls", name).map(drop),
            (Program::FEntry(program), _) => program.attach().map(drop),
            (Program::FExit(program), _) => program.attach().map(drop),
            _ => return Err(missing()),
        };
        Ok(attached?)
    }

    fn unload(&mut self, hook: &Hook) {
        // A program that is not loaded has nothing to unload. It may have served another target that failed before.
        let _ = match self.ebpf.program_mut(hook.program) {
            Some(Program::BtfTracePoint(program)) => program.unload(),
            Some(Program::TracePoint(program)) => program.unload(),
            Some(Program::FEntry(program)) => program.unload(),
            Some(Program::FExit(program)) => program.unload(),
            _ => Ok(()),
        };
    }

    fn is_loaded(&self, hook: &Hook) -> bool {
        self.ebpf.program(hook.program).is_some_and(|program| program.fd().is_ok())
    }

    fn lacks(&self, target: Target) -> bool {
        let found = match target {
            Target::Entry(name) | Target::Exit(name) if self.module_of(name).is_some() => return false,
            Target::Entry(name) | Target::Exit(name) => self.kernel.function(name),
            Target::Tracepoint(name, _) => self.kernel.tracepoint(name),
            Target::Syscall(_) => return false,
        };
        matches!(found, Err(BtfError::Missing(Symbol::Function(_) | Symbol::Tracepoint(_))))
    }
}
