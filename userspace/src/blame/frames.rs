//! Frames of stacks, and which of them tells most.

use std::collections::HashMap;

use crate::source::live::blame::{Charge, Stack, State};

/// A frame, or a remark in the place of frames.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The function; of an unnamed one its address in the process.
    pub function: String,
    /// The file that it is in, without its folder; `None` for the kernel's own and where it is not known.
    pub module: Option<String>,
    /// It is the kernel's.
    pub kernel: bool,
    /// It was named.
    pub named: bool,
    /// It is no frame: it says why there is none.
    pub is_remark: bool,
    /// Code is there. Where none is, the stack could not be followed: a function keeps no frame pointer.
    pub is_code: bool,
}

impl Frame {
    /// A function by its name.
    #[must_use]
    pub fn named(function: String, module: Option<String>, kernel: bool) -> Self {
        Self { function, module, kernel, named: true, is_remark: false, is_code: true }
    }

    /// An address without a name.
    #[must_use]
    pub fn unnamed(address: u64, module: Option<String>, kernel: bool) -> Self {
        Self { function: format!("{address:#x}"), module, kernel, named: false, is_remark: false, is_code: true }
    }

    /// What takes the place of frames.
    #[must_use]
    pub fn remark(text: &str) -> Self {
        Self { function: text.to_owned(), module: None, kernel: false, named: false, is_remark: true, is_code: true }
    }

    /// As lists show it: what is unnamed with the file that it is in.
    #[must_use]
    pub fn label(&self) -> String {
        match (&self.module, self.is_remark, self.named) {
            (_, true, _) => format!("[{}]", self.function),
            (Some(module), false, false) => format!("{} in {module}", self.function),
            _ => self.function.clone(),
        }
    }

    /// Whether it belongs to the C library, the loader, the allocator or the kernel's scheduler: it does what another
    /// frame asked for.
    fn is_plumbing(&self) -> bool {
        if self.kernel {
            return true;
        }
        let libraries = ["libc.", "libc-", "ld-", "libpthread", "ld.so", "[vdso]", "libstdc++", "libgcc", "ld-musl"];
        self.module.as_deref().is_some_and(|module| libraries.iter().any(|library| module.starts_with(library)))
    }
}

/// The frame that tells most: the innermost of the program's own that has a name; else of its libraries; else of the
/// kernel, behind the scheduler.
#[must_use]
pub(super) fn telling(frames: &[Frame]) -> Option<usize> {
    let scheduler = |frame: &Frame| {
        frame.function.starts_with("schedule")
            || frame.function.starts_with("__schedule")
            || frame.function.contains("schedule_")
    };
    let of = |wanted: &dyn Fn(&Frame) -> bool| frames.iter().position(wanted);
    of(&|frame| !frame.is_remark && frame.named && !frame.is_plumbing())
        .or_else(|| of(&|frame| frame.named && !frame.kernel))
        .or_else(|| of(&|frame| frame.named && !scheduler(frame)))
        .or(if frames.is_empty() { None } else { Some(0) })
}

/// The way to the frame that tells most, from the innermost frame of the program on: `read ← load_page ← handle`.
#[must_use]
pub(super) fn way(frames: &[Frame]) -> String {
    let Some(telling) = telling(frames) else { return "-".to_owned() };
    // Frames between are the library's: the first of them is the call that was made.
    let first = frames.iter().position(|frame| !frame.kernel).unwrap_or(telling).min(telling);
    let mut labels = vec![frames[first].label()];
    let behind = frames.iter().skip(telling).filter(|frame| frame.named || frame.is_remark);
    labels.extend(behind.take(3).map(Frame::label).filter(|label| *label != labels[0]).collect::<Vec<_>>());
    labels.join(" \u{2190} ")
}

/// Frames among which those of a probe are.
const OF_PROBE: usize = 6;

/// The names of addresses.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// By process and address: the frames there, of inlined functions the innermost first.
    pub(super) user: HashMap<(u32, u64), Vec<Frame>>,
    /// By address.
    pub(super) kernel: HashMap<u64, Vec<Frame>>,
}

impl Names {
    /// The frames of a charge: the kernel's first, which are the innermost.
    #[must_use]
    pub fn frames(&self, charge: &Charge) -> Vec<Frame> {
        let mut frames = Vec::new();
        match &charge.kernel {
            Stack::Known(addresses) => self.of_kernel(addresses, &mut frames),
            Stack::Before(addresses) => {
                self.of_kernel(addresses, &mut frames);
                frames.push(Frame::remark("it slept before the measurement began: its own stack is not known"));
                return frames;
            }
            Stack::Lost => frames.push(Frame::remark("the table of stacks was full")),
            Stack::None | Stack::Missing => {}
        }
        match &charge.user {
            Stack::Known(addresses) => {
                for address in addresses {
                    match self.user.get(&(charge.acceptor.pid, *address)) {
                        Some(named) if named.iter().any(|frame| !frame.is_code) => break,
                        Some(named) => frames.extend(named.iter().cloned()),
                        None => frames.push(Frame::unnamed(*address, None, false)),
                    }
                }
            }
            Stack::Lost => frames.push(Frame::remark("the table of stacks was full")),
            Stack::None | Stack::Missing | Stack::Before(_) => {}
        }
        if frames.is_empty() {
            frames.push(Frame::remark(match charge.state {
                State::Running => "on a CPU, between two samples",
                State::Runnable => "waiting for a CPU",
                State::Asleep => "no stack",
            }));
        }
        frames
    }

    fn of_kernel(&self, addresses: &[u64], frames: &mut Vec<Frame>) {
        // The first are those of the probe that looked, and of what called it.
        let hook = |address: &u64| {
            let named = self.kernel.get(address).and_then(|named| named.first());
            named.is_some_and(|frame| frame.function.starts_with("bpf_trace_run"))
        };
        let own = addresses.iter().take(OF_PROBE).position(hook).map_or(0, |position| position + 1);
        for address in &addresses[own..] {
            match self.kernel.get(address) {
                Some(named) => frames.extend(named.iter().cloned()),
                None => frames.push(Frame::unnamed(*address, None, true)),
            }
        }
    }

    /// How many frames have no name, of all.
    #[must_use]
    pub fn unnamed(&self) -> (usize, usize) {
        let all = || self.user.values().chain(self.kernel.values()).flatten();
        (all().filter(|frame| !frame.named).count(), all().count())
    }
}
