//! The signals that end what listentop does outside the dashboard.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use tokio::{signal::unix, sync::mpsc};

/// The signals that end the measuring, upon which the report is printed. SIGHUP too, unless nohup(1) has it ignored:
/// the terminal is gone, but the report may go to a file.
fn endings() -> Vec<Signal> {
    let ignored = |signal: Signal| {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: it asks only, and fills `action` if it returns 0.
        let handler = unsafe {
            (libc::sigaction(signal as i32, std::ptr::null(), action.as_mut_ptr()) == 0)
                .then(|| action.assume_init().sa_sigaction)
        };
        handler == Some(libc::SIG_IGN)
    };
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    signals.into_iter().filter(|&signal| signal != Signal::SIGHUP || !ignored(signal)).collect()
}

/// Waits for the signals that end the measuring. Within a runtime.
pub(super) struct Ending {
    came: mpsc::Receiver<()>,
}

impl Ending {
    /// Takes the signals.
    pub(super) fn expect() -> std::io::Result<Self> {
        let (sender, came) = mpsc::channel::<()>(1);
        for signal in endings() {
            let mut signals = unix::signal(unix::SignalKind::from_raw(signal as i32))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                signals.recv().await;
                // One is enough.
                let _ = sender.try_send(());
            });
        }
        Ok(Self { came })
    }

    /// Returns when one has come.
    pub(super) async fn came(&mut self) {
        self.came.recv().await;
    }
}

/// Has these signals end the program, as they do at the start: a reader that takes nothing must not make it deaf.
pub(super) fn restore() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in endings() {
        // SAFETY: no code of ours runs in the default action.
        let _ = unsafe { sigaction(signal, &default) };
    }
}
