//! What the probes log, and what they lost, on stderr: for debugging only.

use std::{
    fmt::Display,
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

use aya::Ebpf;
use aya_log::EbpfLogger;
use listentop_model::{sample::Losses, words::losses};

use super::{counted_losses, shared::SharedArray};
use crate::{rights, say::say};

/// How often it is looked for.
const EVERY: Duration = Duration::from_millis(50);

/// Prints from a thread of its own, until it is dropped; then what there is still.
pub(super) struct Log {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Starts the thread. `counters`: what the probes count as lost.
    ///
    /// # Errors
    /// If the object has no log, or no thread can be had.
    pub(super) fn start(ebpf: &mut Ebpf, counters: SharedArray<u64>) -> Result<Self, String> {
        static STDERR: Stderr = Stderr;
        let mut logger = EbpfLogger::init_with_logger(ebpf, &STDERR).map_err(|error| error.to_string())?;
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("probe log".to_owned()).spawn(move || {
            // What it reads is mapped already; where giving up fails it reads as well.
            let _ = rights::restrict_to_nothing();
            let mut told = Losses::default();
            loop {
                let last = stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected);
                logger.flush();
                // They are counted by the probes and told here: to log each would put code for it on the path of every
                // read.
                let now = counted_losses(&counters);
                for lost in losses::of(&now.since(&told)) {
                    print(format_args!("lost: {}: {}", lost.brief(), lost.meaning));
                }
                told = now;
                if last {
                    return;
                }
            }
        });
        Ok(Self { stop: Some(stop), thread: Some(thread.map_err(|error| error.to_string())?) })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been told already.
            let _ = thread.join();
        }
    }
}

fn print(what: impl Display) {
    say(format_args!("probe: {what}"));
}

/// Where aya-log writes to.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        print(record.args());
    }
    fn flush(&self) {}
}
