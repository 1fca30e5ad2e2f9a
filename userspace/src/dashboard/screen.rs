//! What is drawn, on its way to the terminal. A thread of its own writes it: a terminal that takes nothing any more (a
//! stalled ssh, a stopped reader of the pseudo-terminal) must not make the loop deaf to keys and signals.

use std::{
    io,
    os::fd::AsFd as _,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use bounded_write::{CANCEL, Writer, make_room, wait_writable};
use nix::{errno::Errno, poll::PollTimeout};
use tokio::sync::Notify;

/// How long the end waits for a terminal to take what was drawn.
const PATIENCE: Duration = Duration::from_secs(1);
/// And then for it to take the few bytes that restore it.
const LAST_PATIENCE: Duration = Duration::from_millis(200);
/// How often the thread looks whether what it writes is still wanted, while the terminal takes nothing.
const GLANCE: Duration = Duration::from_millis(50);

/// What is to be written. A static, because the hook for panics writes, too.
struct Queue {
    pending: Vec<u8>,
    /// The thread has taken something, and not written all of it.
    writing: bool,
    /// The thread leaves what it has.
    cut: bool,
    /// The thread runs.
    started: bool,
    failure: Option<Errno>,
}

static QUEUE: Mutex<Queue> =
    Mutex::new(Queue { pending: Vec::new(), writing: false, cut: false, started: false, failure: None });
static CHANGED: Condvar = Condvar::new();
/// The terminal has taken everything.
static TAKEN: Notify = Notify::const_new();

impl Queue {
    fn lock() -> MutexGuard<'static, Self> {
        QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn is_busy(&self) -> bool {
        self.writing || !self.pending.is_empty()
    }

    /// Waits until the terminal has taken everything; whether it has.
    fn wait(queue: MutexGuard<'static, Self>, patience: Duration) -> (MutexGuard<'static, Self>, bool) {
        let waited = CHANGED.wait_timeout_while(queue, patience, |queue| queue.is_busy());
        let (queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        (queue, !timeout.timed_out())
    }
}

/// Starts the thread that writes, unless it runs.
///
/// # Errors
/// No thread can be started.
pub(super) fn start() -> io::Result<()> {
    let mut queue = Queue::lock();
    if !queue.started {
        thread::Builder::new().name("screen".to_owned()).spawn(write)?;
        queue.started = true;
    }
    Ok(())
}

/// Writes what comes, as long as the process lives.
fn write() {
    let out = io::stdout();
    let writer = Writer::to(out.as_fd());
    let mut queue = Queue::lock();
    loop {
        while queue.pending.is_empty() {
            queue = CHANGED.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let bytes = std::mem::take(&mut queue.pending);
        (queue.writing, queue.cut) = (true, false);
        drop(queue);
        let failure = write_all(&writer, &bytes).err();
        queue = Queue::lock();
        queue.writing = false;
        queue.failure = queue.failure.or(failure);
        CHANGED.notify_all();
        TAKEN.notify_one();
    }
}

fn write_all(writer: &Writer, mut left: &[u8]) -> nix::Result<()> {
    let out = io::stdout();
    while !left.is_empty() {
        match writer.write_some(out.as_fd(), left) {
            Ok(written) => left = &left[written..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if Queue::lock().cut => return Ok(()),
            Err(Errno::EAGAIN) => {
                let _ = wait_writable(out.as_fd(), PollTimeout::try_from(GLANCE).unwrap_or(PollTimeout::ZERO));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the terminal has not yet taken what was drawn last. Nothing should be drawn then: it would be old when it
/// appears.
pub(super) fn is_busy() -> bool {
    Queue::lock().is_busy()
}

/// Waits until the terminal has taken what was drawn last.
pub(super) async fn taken() {
    TAKEN.notified().await;
}

/// Why the terminal takes nothing any more, if it said so.
pub(super) fn failure() -> Option<Errno> {
    Queue::lock().failure
}

/// Writes `bytes` as the last ones, in bounded time. What a terminal that takes nothing was to show before them is
/// dropped.
pub(super) fn end_with(bytes: &[u8]) {
    let mut queue = Queue::lock();
    if !queue.started {
        return;
    }
    queue.pending.extend_from_slice(bytes);
    CHANGED.notify_all();
    let (mut queue, taken) = Queue::wait(queue, PATIENCE);
    if taken {
        return;
    }
    queue.pending.clear();
    queue.cut = true;
    drop(queue);
    make_room(io::stdout().as_fd());
    let (mut queue, _) = Queue::wait(Queue::lock(), LAST_PATIENCE);
    queue.pending.push(CANCEL);
    queue.pending.extend_from_slice(bytes);
    CHANGED.notify_all();
    let (mut queue, taken) = Queue::wait(queue, LAST_PATIENCE);
    if !taken {
        queue.pending.clear();
        queue.cut = true;
    }
}

/// A terminal that can (others ignore it) shows what is between these two at once: no frame is seen half drawn.
const BEGIN: &[u8] = b"\x1b[?2026h";
const END: &[u8] = b"\x1b[?2026l";

/// Writes something besides a frame, such as the bell.
pub(super) fn send(bytes: &[u8]) {
    if !bytes.is_empty() {
        Queue::lock().pending.extend_from_slice(bytes);
        CHANGED.notify_all();
    }
}

/// What draws to the terminal. Flushing hands over what was written, in one go.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    drawn: Vec<u8>,
}

impl io::Write for Canvas {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.drawn.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.drawn.is_empty() {
            return Ok(());
        }
        let mut queue = Queue::lock();
        queue.pending.extend_from_slice(BEGIN);
        sixteen_colours(&self.drawn, &mut queue.pending);
        queue.pending.extend_from_slice(END);
        self.drawn.clear();
        CHANGED.notify_all();
        Ok(())
    }
}

/// Copies `drawn`, with the colours of the terminal's palette as every terminal knows them: crossterm selects them from
/// 256 (`38;5;1`), which the console of Linux does not have as such, and others show as blinking or not at all.
fn sixteen_colours(drawn: &[u8], out: &mut Vec<u8>) {
    let mut rest = drawn;
    while let Some(at) = rest.windows(2).position(|bytes| bytes == b"\x1b[") {
        let (before, sequence) = rest.split_at(at + 2);
        out.extend_from_slice(before);
        let end = sequence.iter().position(|byte| !byte.is_ascii_digit() && *byte != b';').unwrap_or(sequence.len());
        let (parameters, after) = sequence.split_at(end);
        match std::str::from_utf8(parameters) {
            Ok(parameters) if after.first() == Some(&b'm') => out.extend_from_slice(basic(parameters).as_bytes()),
            _ => out.extend_from_slice(parameters),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// The parameters of a sequence that sets colours and weights.
fn basic(parameters: &str) -> String {
    let mut codes = parameters.split(';');
    let mut basic: Vec<String> = Vec::new();
    while let Some(code) = codes.next() {
        let mut ahead = codes.clone();
        let parts = (code, ahead.next(), ahead.next().map(str::parse::<u8>));
        let ("38" | "48", Some("5"), Some(Ok(index @ 0..16))) = parts else {
            basic.push(code.to_owned());
            continue;
        };
        codes = ahead;
        let first = match (code, index < 8) {
            ("38", true) => 30,
            ("38", false) => 90 - 8,
            (_, true) => 40,
            (_, false) => 100 - 8,
        };
        basic.push((first + index).to_string());
    }
    basic.join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_the_sixteen_that_every_terminal_has() {
        for (drawn, written) in [
            ("a\x1b[38;5;1mb", "a\x1b[31mb"),
            ("\x1b[38;5;14;49m", "\x1b[96;49m"),
            ("\x1b[39;48;5;3m\x1b[1m", "\x1b[39;43m\x1b[1m"),
            ("\x1b[38;5;9;48;5;15mx", "\x1b[91;107mx"),
            // Not ours, and no colours.
            ("\x1b[38;5;200m", "\x1b[38;5;200m"),
            ("\x1b[38;2;1;2;3m", "\x1b[38;2;1;2;3m"),
            ("\x1b[38;5;1H", "\x1b[38;5;1H"),
            ("38;5;1m", "38;5;1m"),
            ("\x1b[?1049h\x1b[0m", "\x1b[?1049h\x1b[0m"),
            ("cut \x1b[", "cut \x1b["),
        ] {
            let mut out = Vec::new();
            sixteen_colours(drawn.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), written, "{drawn:?}");
        }
    }
}
