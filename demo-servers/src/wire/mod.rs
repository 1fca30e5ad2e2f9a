//! `wire`: runs a client on a host of its own, at the far end of a line with delay and loss.
//!
//! Three network namespaces in a row: that of the caller, where the server is, one for the line, and one for the
//! client. Two pairs of virtual interfaces join them, and this program carries the frames from one to the other. (The
//! kernel's own netem would do that too, but many kernels lack it.)

mod link;
mod relay;

pub(crate) use link::CLIENT;

use crate::cli::usage;
use crate::lab::namespace::Namespace;
use crate::sys::{block, say};
use anyhow::Context;
use clap::Parser;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpid, getppid};
use relay::Relay;
use std::ffi::OsString;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

/// The lines of one namespace are numbered, and each has a small network of its own: 10.77.NUMBER.0/30.
const LINES: u8 = 200;

/// The server's end of a line.
const fn near(line: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, line, 1)
}

/// The client's end.
const fn far(line: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, line, 2)
}

/// Runs a client on a host of its own, at the far end of a line with delay and loss.
///
/// Needs root. In the client's arguments 127.0.0.1 stands for this host, whose server must listen on more than loopback
/// (--address 0.0.0.0). Ends with the client's exit status; the line and the client's host end with it.
#[derive(Debug, Clone, Parser)]
#[command(name = "wire", version)]
pub struct Options {
    /// Delay of each frame, each way, in milliseconds: a round trip takes twice as long
    #[arg(long, value_name = "MS", default_value_t = 0.0, value_parser = milliseconds)]
    pub delay_ms: f64,
    /// Percentage of frames that are lost, each way
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub loss: f64,
    /// Seed of the losses
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// At the end, print {"frames":…,"lost":…} on stderr
    #[arg(long)]
    pub report: bool,
    /// The client and its arguments, such as `stress --target 127.0.0.1:7001 --rate 10`. A name without `/` is a
    /// program beside this one
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CLIENT")]
    pub client: Vec<OsString>,
}

fn milliseconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=60_000.0).contains(&number) => Ok(number),
        _ => Err("must be a number from 0 to 60000".to_owned()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=100.0).contains(&number) => Ok(number),
        _ => Err("must be a number from 0 to 100".to_owned()),
    }
}

/// Runs the client, and carries its frames until it ends.
///
/// # Errors
/// The user is not root, the client cannot be run, or the kernel has no virtual interfaces or packet sockets.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let program = program(&options.client[0])?;
    let mask = block(&FORWARDED)?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signalfd")?;
    let here = File::open("/proc/thread-self/ns/net").context("cannot open this network namespace")?;
    let host = Namespace::create(&[("net/ipv4/ip_local_port_range", "10000 65535")])?;
    // From here on this thread is in the line's namespace.
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    link::pair("far", host.as_fd(), CLIENT).context("cannot make the client's interface")?;
    let line = (0..LINES)
        .find_map(|line| match link::pair("near", here.as_fd(), &name(line)) {
            Err(Errno::EEXIST) => None,
            result => Some(result.map(|()| line)),
        })
        .ok_or_else(|| usage(format!("there are {LINES} lines already")))?
        .context("cannot make this host's interface")?;
    link::within(here.as_fd(), || link::address(&name(line), near(line)))?;
    link::within(host.as_fd(), || link::address(CLIENT, far(line)))?;
    let mut relay = Relay::new(["near", "far"], options)?;
    let mut client = start(&program, &options.client[1..], line, &host)?;
    let status = loop {
        relay.run(signals.as_fd())?;
        while let Some(signal) = signals.read_signal().context("signalfd")? {
            if let Ok(signal) = Signal::try_from(signal.ssi_signo as i32)
                && signal != Signal::SIGCHLD
            {
                // It is not reaped yet: no other process can have its id.
                let _ = kill(Pid::from_raw(client.id() as i32), signal);
            }
        }
        if let Some(status) = client.try_wait().context("cannot wait for the client")? {
            break status;
        }
    };
    if options.report {
        say(serde_json::to_string(&relay.counts)?);
    }
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(code as u8),
        (None, signal) => ExitCode::from(128 + signal.unwrap_or(0) as u8),
    })
}

/// Signals that are meant for the client, and that of its end.
const FORWARDED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGCHLD];

/// The name of this host's interface of a line.
fn name(line: u8) -> String {
    format!("wire{line}")
}

/// The client's file.
fn program(name: &OsString) -> anyhow::Result<std::path::PathBuf> {
    let given = Path::new(name);
    if given.components().count() > 1 {
        return Ok(given.to_owned());
    }
    let own = std::env::current_exe().context("cannot find the own program file")?;
    let beside = own.with_file_name(name);
    if !beside.is_file() {
        return Err(usage(format!("{} does not exist", beside.display())));
    }
    Ok(beside)
}

/// Starts the client on its host. It dies with this program.
fn start(program: &Path, arguments: &[OsString], line: u8, host: &Namespace) -> anyhow::Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments.iter().map(|argument| match argument.to_str() {
        Some(text) => text.replace("127.0.0.1", &near(line).to_string()).into(),
        None => argument.clone(),
    }));
    // The lab's control socket is in this namespace, out of the client's reach.
    command.env_remove(lab_control::VARIABLE);
    let host = host.as_fd().try_clone_to_owned().context("dup")?;
    let parent = getpid();
    let prepare = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        SigSet::empty().thread_set_mask()?;
        setns(&host, CloneFlags::CLONE_NEWNET)?;
        // The parent may have died before prctl was called.
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: the closure makes system calls only; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(prepare) };
    command.spawn().with_context(|| format!("cannot run {}", program.display()))
}

/// The delay of a frame.
fn delay(options: &Options) -> Duration {
    Duration::from_secs_f64(options.delay_ms / 1000.0)
}
