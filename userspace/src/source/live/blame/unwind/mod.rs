//! Unwinding copied stacks by the tables that compilers make for exceptions, on a thread that keeps the rights to read
//! the files that processes have mapped. The copies stay in this process' memory until they are unwound, and are
//! written nowhere.

mod elf;
mod process;
mod registers;
mod vdso;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    sync::mpsc::{self, Receiver, Sender, SyncSender},
    time::Duration,
};

use listentop_abi::{
    blame::ThreadId,
    stack_copy::{PAGE, PAGES, REGISTERS, StackCopy},
};

use super::parts::Cut;
use crate::rights;
use elf::Files;
use process::Process;

/// Copies that wait to be unwound, at most: 21 MB.
const WAITING: usize = 1024;
/// Processes that are remembered, at most.
const PROCESSES: usize = 512;
/// A copied stack.
pub(super) struct Copy {
    pub(super) thread: ThreadId,
    pub(super) number: i32,
    /// Process id in the initial PID namespace.
    pub(super) process: u32,
    /// And where /proc has it.
    pub(super) pid: u32,
    /// The kernel's number of what frame pointers lead to, if that was looked at.
    pub(super) kernel_number: i32,
    /// Its addresses.
    pub(super) by_frame_pointers: Option<Vec<u64>>,
    registers: [u64; REGISTERS],
    address: u64,
    bytes: Vec<u8>,
}

impl Copy {
    /// Takes one from the ring; the process id is to be found by the thread.
    pub(super) fn read(item: &[u8]) -> Option<Self> {
        let header = size_of::<StackCopy>() - PAGE * PAGES;
        let (words, bytes) = item.split_at_checked(header)?;
        let word = |index: usize| {
            let at = index * 8;
            words.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
        };
        let half = |index: usize| {
            let at = index * 4;
            words.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
        };
        let mut registers = [0; REGISTERS];
        for (index, register) in registers.iter_mut().enumerate() {
            *register = word(3 + index)?;
        }
        let (address, pages) = (word(3 + REGISTERS)?, word(4 + REGISTERS)?);
        let bytes = bytes.get(..usize::try_from(pages).ok()?.min(PAGES) * PAGE)?.to_vec();
        Some(Self {
            thread: ThreadId { start_ns: word(0)?, tid: u64::from(half(2)?) },
            process: half(3)?,
            number: half(4)?.cast_signed(),
            kernel_number: half(5)?.cast_signed(),
            pid: 0,
            by_frame_pointers: None,
            registers,
            address,
            bytes,
        })
    }

    /// A word of the stack.
    fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.address)?).ok()?;
        let word = self.bytes.get(at..at.checked_add(8)?)?;
        Some(u64::from_ne_bytes(word.try_into().ok()?))
    }

    /// Whether the stack goes on there, behind what is copied of it.
    fn goes_on_at(&self, address: u64) -> bool {
        /// The usual limit of a stack.
        const STACK: u64 = 8 << 20;
        let end = self.address + self.bytes.len() as u64;
        self.bytes.len() == PAGE * PAGES && (end - 7..end.saturating_add(STACK)).contains(&address)
    }
}

/// A stack that was unwound.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Unwound {
    /// Where the program was, then return addresses.
    pub(super) addresses: Vec<u64>,
    /// Why it ends; `None` if it is complete.
    pub(super) cut: Option<Cut>,
}

impl Unwound {
    fn none() -> Self {
        Self { addresses: Vec::new(), cut: Some(Cut::Tables) }
    }
}

/// What became of a copy.
pub(super) struct Done {
    pub(super) thread: ThreadId,
    pub(super) number: i32,
    pub(super) process: u32,
    pub(super) pid: u32,
    pub(super) by_frame_pointers: Option<Vec<u64>>,
    pub(super) unwound: Unwound,
}

enum Request {
    Unwind(Box<Copy>, Sender<Done>),
    /// Says when all before are done.
    Answer(SyncSender<()>),
    /// Nothing more for now: what is known is forgotten.
    Forget,
}

/// The thread. It ends with the last of these.
#[derive(Debug, Clone)]
pub(in crate::source::live) struct Unwinder {
    requests: SyncSender<Request>,
}

impl Unwinder {
    /// Starts it. To be called before rights are given up.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(in crate::source::live) fn start() -> io::Result<Self> {
        let (requests, wanted) = mpsc::sync_channel(WAITING);
        std::thread::Builder::new().name("unwinder".to_owned()).spawn(move || {
            // If that fails, the thread goes on with the rights that it has.
            let _ = rights::restrict_to_symbols();
            let mut worker = Worker::default();
            while let Ok(request) = wanted.recv() {
                // Who asked may be gone.
                match request {
                    Request::Unwind(copy, sender) => drop(sender.send(worker.unwind(*copy))),
                    Request::Answer(sender) => drop(sender.send(())),
                    Request::Forget => worker = Worker::default(),
                }
            }
        })?;
        Ok(Self { requests })
    }

    /// For who makes copies.
    pub(super) fn unwinding(&self) -> Unwinding {
        let (sender, results) = mpsc::channel();
        Unwinding { requests: self.requests.clone(), sender, results }
    }
}

/// What one watch has unwound.
pub(super) struct Unwinding {
    requests: SyncSender<Request>,
    sender: Sender<Done>,
    results: Receiver<Done>,
}

impl Drop for Unwinding {
    fn drop(&mut self) {
        // If the queue is full, it is forgotten the next time.
        let _ = self.requests.try_send(Request::Forget);
    }
}

impl Unwinding {
    /// Has a copy unwound. Returns whether there was room for it.
    pub(super) fn unwind(&self, copy: Copy) -> bool {
        self.requests.try_send(Request::Unwind(Box::new(copy), self.sender.clone())).is_ok()
    }

    /// What was unwound.
    pub(super) fn results(&self) -> impl Iterator<Item = Done> {
        self.results.try_iter()
    }

    /// Waits until all that it was given is unwound, or for this time.
    pub(super) fn settle(&self, patience: Duration) {
        let (sender, done) = mpsc::sync_channel(1);
        // It waits if the queue is full, which the thread empties.
        if self.requests.send(Request::Answer(sender)).is_ok() {
            let _ = done.recv_timeout(patience);
        }
    }
}

#[derive(Default)]
struct Worker {
    processes: HashMap<u32, Process>,
    files: Files,
}

impl Worker {
    fn unwind(&mut self, copy: Copy) -> Done {
        if self.files.is_full() || self.processes.len() > PROCESSES {
            // Those that are needed come back.
            *self = Self::default();
        }
        let process = self.processes.entry(copy.pid).or_insert_with(|| Process::new(copy.pid));
        let unwound = process.unwind(&copy, &mut self.files);
        let Copy { thread, number, process, pid, by_frame_pointers, .. } = copy;
        Done { thread, number, process, pid, by_frame_pointers, unwound }
    }
}
