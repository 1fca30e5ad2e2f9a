//! The probes' programs in the running kernel.

use std::os::fd::AsFd as _;

use aya::{Btf, Ebpf, programs::Program};
use listentop_btf::KernelBtf;

use super::{
    Programs,
    events::{Hook, Target},
    fitting::{fits, lacks, load},
    links::Links,
    preload::Refused,
    refusal::Refusal,
    tracefs::{self, TracefsError},
};

/// The programs of a loaded object.
pub(crate) struct KernelPrograms<'a> {
    ebpf: &'a mut Ebpf,
    btf: &'a Btf,
    kernel: &'a KernelBtf,
    /// Whether this thread finds system call tracepoints.
    tracefs: Result<(), TracefsError>,
    /// Links that come and go; `None` where they stay for as long as their programs.
    links: Option<&'a mut Links>,
    /// What was refused when programs were loaded side by side.
    refused: Refused,
}

impl<'a> KernelPrograms<'a> {
    /// Makes tracefs available to the calling thread. If tracefs is not mounted, the thread must have a private mount
    /// namespace.
    pub(crate) fn new(ebpf: &'a mut Ebpf, btf: &'a Btf, kernel: &'a KernelBtf) -> Self {
        Self { ebpf, btf, kernel, tracefs: tracefs::available_to_this_thread(), links: None, refused: Refused::new() }
    }

    /// These hooks were tried already.
    pub(crate) fn without(self, refused: Refused) -> Self {
        Self { refused, ..self }
    }

    /// What it attaches can be detached again, if there are `links`.
    pub(crate) fn with_links(self, links: Option<&'a mut Links>) -> Self {
        Self { links, ..self }
    }

    /// Finds a system call's tracepoint, which cannot be looked for later.
    fn find(&mut self, name: &'static str) -> Result<(), Refusal> {
        self.tracefs?;
        if let Some(links) = &mut self.links {
            links.note_number(name, tracefs::number(name)?);
        }
        Ok(())
    }
}

impl Programs for KernelPrograms<'_> {
    fn load(&mut self, hook: &Hook) -> Result<(), Refusal> {
        if self.is_loaded(hook) {
            // It serves another target too.
            return match hook.target {
                Target::Syscall(name) => self.find(name),
                _ => Ok(()),
            };
        }
        if let Some(refusal) = self.refused.get(&(hook.program, hook.target)) {
            return Err(refusal.clone());
        }
        if let Target::Syscall(name) = hook.target {
            self.tracefs?;
            fits(self.kernel, hook)?;
            self.find(name)?;
        } else {
            fits(self.kernel, hook)?;
        }
        let program = self.ebpf.program_mut(hook.program).ok_or_else(|| Refusal::no_program(hook.program))?;
        load(program, hook, self.btf)
    }

    fn attach(&mut self, hook: &Hook) -> Result<(), Refusal> {
        if let Some(links) = &mut self.links {
            return attach_to(self.ebpf, links, hook);
        }
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
        if let Some(links) = &mut self.links {
            links.detach_all(hook.program);
        }
        // A program that is not loaded has nothing to unload. It may have served another target that failed before.
        let _ = match self.ebpf.program_mut(hook.program) {
            Some(Program::BtfTracePoint(program)) => program.unload(),
            Some(Program::TracePoint(program)) => program.unload(),
            Some(Program::FEntry(program)) => program.unload(),
            Some(Program::FExit(program)) => program.unload(),
            _ => Ok(()),
        };
    }

    fn detach(&mut self, hook: &Hook) {
        if let Some(links) = &mut self.links {
            links.detach(hook);
        }
    }

    fn is_loaded(&self, hook: &Hook) -> bool {
        is_loaded(self.ebpf, hook)
    }

    fn lacks(&self, target: Target) -> bool {
        lacks(self.kernel, target)
    }
}

/// The same after the start: programs that are loaded come and go, and nothing is loaded any more.
pub(crate) struct LoadedPrograms<'a> {
    pub(crate) ebpf: &'a Ebpf,
    pub(crate) links: &'a mut Links,
}

impl Programs for LoadedPrograms<'_> {
    fn load(&mut self, hook: &Hook) -> Result<(), Refusal> {
        if self.is_loaded(hook) { Ok(()) } else { Err(Refusal::NotPermitted("it is not loaded".to_owned())) }
    }

    fn attach(&mut self, hook: &Hook) -> Result<(), Refusal> {
        attach_to(self.ebpf, self.links, hook)
    }

    fn unload(&mut self, hook: &Hook) {
        self.links.detach_all(hook.program);
    }

    fn detach(&mut self, hook: &Hook) {
        self.links.detach(hook);
    }

    fn is_loaded(&self, hook: &Hook) -> bool {
        is_loaded(self.ebpf, hook)
    }

    /// What the kernel lacks was not loaded.
    fn lacks(&self, _: Target) -> bool {
        false
    }
}

fn is_loaded(ebpf: &Ebpf, hook: &Hook) -> bool {
    ebpf.program(hook.program).is_some_and(|program| program.fd().is_ok())
}

fn attach_to(ebpf: &Ebpf, links: &mut Links, hook: &Hook) -> Result<(), Refusal> {
    let program = ebpf.program(hook.program).ok_or_else(|| Refusal::no_program(hook.program))?;
    links.attach(hook, program.fd()?.as_fd())
}
