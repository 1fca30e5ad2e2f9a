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

use super::{losses::counted, shared::SharedArray};
use crate::{
    output, rights,
    say::say,
    source::live::error::{NO_THREAD, StartError},
};

/// How often the log is read.
const EVERY: Duration = Duration::from_millis(50);

/// Prints from a thread of its own until it is dropped, then the rest.
pub(crate) struct Log {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Starts the thread. `counters`: what the probes count as lost.
    ///
    /// # Errors
    /// If the object has no log, or no thread can be started.
    pub(crate) fn start(ebpf: &mut Ebpf, counters: SharedArray<u64>) -> Result<Self, StartError> {
        static STDERR: Stderr = Stderr;
        let mut logger = EbpfLogger::init_with_logger(ebpf, &STDERR).map_err(|error| StartError::object(&error))?;
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("probe log".to_owned()).spawn(move || {
            // What it reads is mapped already, so it needs no rights. If they cannot be given up, it continues.
            let _ = rights::restrict_to_nothing();
            let mut printed = Losses::default();
            loop {
                let last = stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected);
                if last && output::is_stalled() {
                    // Nobody would read the rest, and writing it down for nobody takes time.
                    return;
                }
                logger.flush();
                // The probes count losses, and this prints them. Logging each would add code to the path of every read.
                let now = counted(&counters);
                for lost in losses::of(&now.since(&printed)) {
                    print(format_args!("lost: {}: {}", lost.brief(), lost.meaning));
                }
                printed = now;
                if last {
                    return;
                }
            }
        });
        Ok(Self { stop: Some(stop), thread: Some(thread.map_err(|error| StartError::Io(NO_THREAD, error))?) })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been reported already.
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
