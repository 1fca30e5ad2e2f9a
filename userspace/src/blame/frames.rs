//! Frames of stacks, by their names.

use std::collections::HashMap;

use crate::source::live::blame::{Charge, Cut, Stack, State};

pub use listentop_model::blame::Frame;
pub(super) use listentop_model::blame::way;

/// What is said where a stack ends early.
fn remark(cut: Cut) -> &'static str {
    match cut {
        Cut::Copy => "the stack goes on: it is longer than the 16 KiB that are copied of it",
        Cut::Code | Cut::Tables => "the stack may go on: this function has no tables for unwinding",
        Cut::NotCopied => "the program's part was not copied",
    }
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
        if let Some(cut) = charge.cut {
            frames.push(Frame::remark(remark(cut)));
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
        let mut own = addresses.iter().take(OF_PROBE).position(hook).map_or(0, |position| position + 1);
        let of_tracepoint = |address: &u64| {
            let named = self.kernel.get(address).and_then(|named| named.first());
            named.is_some_and(|frame| {
                frame.function.starts_with("__traceiter_") || frame.function.starts_with("__bpf_trace_")
            })
        };
        own += addresses[own..].iter().take_while(|address| of_tracepoint(address)).count();
        for address in &addresses[own..] {
            match self.kernel.get(address) {
                Some(named) => frames.extend(named.iter().cloned()),
                None => frames.push(Frame::unnamed(*address, None, true)),
            }
        }
    }

    /// The frames at an address of a process.
    #[cfg(test)]
    pub(crate) fn of_user(&self, pid: u32, address: u64) -> Vec<Frame> {
        self.user.get(&(pid, address)).cloned().unwrap_or_default()
    }

    /// How many frames have no name, of all.
    #[must_use]
    pub fn unnamed(&self) -> (usize, usize) {
        let all = || self.user.values().chain(self.kernel.values()).flatten();
        (all().filter(|frame| !frame.named).count(), all().count())
    }
}
