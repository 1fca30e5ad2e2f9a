//! `real-server`: starts a server that people use as the lab starts its own: it says when it listens, ends on SIGTERM,
//! and leaves nothing behind.
//!
//! The server runs in a PID namespace of its own, whose processes all end with it, and sees a /tmp of its own, which
//! holds its files and goes with it.

use crate::server::Ready;
use crate::sys::{block, handles, now_ns, print_json, set_thread_name};
use anyhow::{Context, bail};
use clap::Parser;
use lessons::real::Kind;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpid, getppid};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// How long it may take until it listens, and until it ends.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where its configuration is, in its own /tmp.
const CONFIGURATION: &str = "/tmp/configuration";

/// Runs a real server as one of a lesson's servers. Needs root.
#[derive(Debug, Clone, Parser)]
#[command(name = "real-server", version)]
pub struct Options {
    /// Which server: nginx, haproxy or redis
    #[arg(long, value_parser = Kind::parse)]
    pub kind: Kind,
    /// The text of its configuration file
    #[arg(long)]
    pub configuration: String,
    /// The port on which it listens, as its configuration says
    #[arg(long)]
    pub port: u16,
    /// Name of this process; the kernel keeps the first 15 bytes
    #[arg(long, default_value = "real-server")]
    pub name: String,
}

/// What is printed on SIGUSR1 and at the end. A real server counts in its own way, which is not read.
#[derive(serde::Serialize)]
struct Printed {
    pattern: &'static str,
    pid: u32,
}

/// Runs the server until a signal.
///
/// # Errors
/// It is not installed, does not listen, or ends by itself.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let program = options.kind.installed().map_err(crate::cli::usage)?;
    let mask = block(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGCHLD])?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signalfd")?;
    set_thread_name(&options.name);
    own_files(&options.configuration)?;
    unshare(CloneFlags::CLONE_NEWPID).context("cannot make a PID namespace")?;
    let mut server = start(options.kind, &program)?;
    let outcome = serve(options, &mut server, &signals);
    end(&mut server);
    print_json(&Printed { pattern: options.kind.name(), pid: server.id() })?;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// A /tmp that only this process and its children see, with the configuration.
fn own_files(configuration: &str) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace (root is needed)")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("cannot make mounts private")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), flags, Some("size=64m")).context("cannot mount a /tmp")?;
    std::fs::write(CONFIGURATION, configuration).context("cannot write the configuration")
}

fn start(kind: Kind, program: &std::path::Path) -> anyhow::Result<Child> {
    let mut command = Command::new(program);
    match kind {
        Kind::Nginx => command.args(["-p", "/tmp", "-c", CONFIGURATION]),
        Kind::Haproxy => command.args(["-db", "-f", CONFIGURATION]),
        Kind::Redis => command.arg(CONFIGURATION),
    };
    let parent = getpid();
    let prepare = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        SigSet::empty().thread_set_mask()?;
        // Its parent is in another PID namespace, of which it sees nothing but 0.
        let alive = [0, parent.as_raw()].contains(&getppid().as_raw());
        if alive { Ok(()) } else { Err(nix::errno::Errno::ESRCH.into()) }
    };
    // Its stdout is this program's stderr: on stdout are JSON lines only.
    let output = std::io::stderr().as_fd().try_clone_to_owned().context("dup")?;
    // haproxy goes back to where it was started, which may be in the /tmp that is not there any more.
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::from(output));
    // SAFETY: the closure makes system calls only; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(prepare) };
    command.spawn().with_context(|| format!("cannot run {}", program.display()))
}

fn serve(options: &Options, server: &mut Child, signals: &SignalFd) -> anyhow::Result<()> {
    let kind = options.kind.name();
    let deadline = now_ns() + PATIENCE.as_nanos() as u64;
    let mut ready = false;
    loop {
        let timeout = if ready { PollTimeout::NONE } else { PollTimeout::from(20u8) };
        let _ = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], timeout);
        while let Some(signal) = signals.read_signal().context("signalfd")? {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGUSR1) => print_json(&Printed { pattern: kind, pid: server.id() })?,
                Ok(Signal::SIGCHLD) => {}
                _ => return Ok(()),
            }
        }
        if let Some(status) = server.try_wait().context("wait")? {
            bail!("{kind} ended by itself ({status})");
        }
        if !ready && listens(options.port)? {
            ready = true;
            let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
            print_json(&Ready { ready, address, port: options.port, pid: server.id() as i32 })?;
        }
        if !ready && now_ns() >= deadline {
            bail!("{kind} does not listen on port {} within {} s", options.port, PATIENCE.as_secs());
        }
    }
}

/// Whether somebody listens on this port of this network namespace. A connection would be one that the server counts.
fn listens(port: u16) -> anyhow::Result<bool> {
    let sockets = std::fs::read_to_string("/proc/thread-self/net/tcp").context("cannot read the sockets")?;
    let wanted = format!(":{port:04X}");
    Ok(sockets.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().take(4).collect();
        matches!(fields[..], [_, local, _, "0A"] if local.ends_with(&wanted))
    }))
}

/// Ends the server by SIGTERM, or else by SIGKILL. The first process of a PID namespace does not get a signal that it
/// does not handle: haproxy leaves SIGTERM to the kernel, which would end it at once anywhere else.
fn end(server: &mut Child) {
    // Not reaped yet: no other process can have its id.
    if handles(server.id(), Signal::SIGTERM) {
        let _ = kill(Pid::from_raw(server.id() as i32), Signal::SIGTERM);
    } else {
        let _ = server.kill();
    }
    let deadline = now_ns() + PATIENCE.as_nanos() as u64;
    while now_ns() < deadline {
        if !matches!(server.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = server.kill();
    let _ = server.wait();
}
