//! Small functions over system calls that several programs here use.

use anyhow::Context;
use bounded_write::Writer;
use listentop_model::words::clean;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::time::{ClockId, clock_gettime};
use std::ffi::CString;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// CLOCK_MONOTONIC in nanoseconds. All processes of the machine share this clock.
#[must_use]
pub fn now_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// CPU time of the calling thread in nanoseconds.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn nanoseconds(clock: ClockId) -> u64 {
    // Both clocks exist on every Linux, and neither is negative.
    clock_gettime(clock).map_or(0, |time| {
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}

/// Whether a process blocks or catches this signal, by /proc/PID/status. A blocked one waits for a signalfd.
pub(crate) fn handles(pid: u32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = |line: &str| u64::from_str_radix(line.split_once(':')?.1.trim(), 16).ok();
    let masks = status.lines().filter(|line| line.starts_with("SigBlk:") || line.starts_with("SigCgt:"));
    masks.filter_map(mask).any(|mask| mask >> (signal as i32 - 1) & 1 == 1)
}

/// Names the calling thread, so that listentop and top show its role. The kernel keeps 15 bytes.
pub fn set_thread_name(name: &str) {
    let bytes: Vec<u8> = name.bytes().filter(|&byte| byte != 0).take(15).collect();
    if let Ok(name) = CString::new(bytes) {
        // It fails only for a name that is too long, and this one is not.
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// Sets the soft limit of open files to `wanted`, or else to the hard limit. Returns the new limit.
///
/// # Errors
/// `wanted` is above the hard limit.
pub fn limit_open_files(wanted: Option<u64>) -> anyhow::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit RLIMIT_NOFILE")?;
    let soft = wanted.unwrap_or(hard);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)
        .with_context(|| format!("cannot set the limit of open files to {soft} (hard limit {hard})"))?;
    Ok(soft)
}

/// Blocks `signals` in the calling thread and in threads that it starts, so that a signalfd receives them.
///
/// # Errors
/// The kernel refuses the mask.
pub fn block(signals: &[Signal]) -> anyhow::Result<SigSet> {
    let mut mask = SigSet::empty();
    for &signal in signals {
        mask.add(signal);
    }
    mask.thread_block().context("cannot block signals")?;
    Ok(mask)
}

/// Sets a socket option that is a number.
///
/// # Errors
/// The kernel does not know it, or refuses the value.
pub fn set_number(
    socket: &impl AsRawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> nix::Result<()> {
    let (address, length) = ((&raw const value).cast(), size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the option is a number, which outlives the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, address, length) };
    nix::errno::Errno::result(result).map(drop)
}

/// How long a message waits for its reader.
const PATIENCE: Duration = Duration::from_secs(1);
/// The last message was not taken: none waits until one is.
static STALLED: AtomicBool = AtomicBool::new(false);

/// Writes a line, or several, to stderr. Nothing in it controls the terminal. Errors are ignored: neither a closed
/// terminal nor one that takes nothing may end the program or hold it up.
pub fn say(line: impl std::fmt::Display) {
    for line in line.to_string().lines() {
        put(&format!("{}\n", clean(line)));
    }
}

/// Writes to stderr what may control the terminal. Errors are ignored as by [`say`].
pub(crate) fn put(text: &str) {
    let stderr = std::io::stderr();
    let patience = if STALLED.load(Ordering::Relaxed) { Duration::ZERO } else { PATIENCE };
    let written = Writer::to(stderr.as_fd()).write(stderr.as_fd(), text.as_bytes(), patience);
    STALLED.store(written.is_err_and(|error| error.kind() == ErrorKind::TimedOut), Ordering::Relaxed);
}

/// Writes one line of JSON to stdout and flushes it.
///
/// # Errors
/// stdout is closed or full.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).context("cannot write to stdout")
}
