//! `demo-server`: one server, one pattern, exact counters.

mod acceptor;
mod children;
mod connection;
mod event_loop;
pub mod listen;
mod neighbours;
pub mod options;
mod orders;
mod patterns;
mod queue;
mod ring;
pub mod service;
pub mod shop;
pub mod work;

use crate::sys::{block, limit_open_files, now_ns, print_json, set_thread_name};
use anyhow::{Context, anyhow};
use children::Children;
use lab_control::{Connection, Role};
use listen::Listeners;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{Shutdown, shutdown};
use options::Options;
use serde::{Deserialize, Serialize};
use service::Service;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// The first line that a server prints, when it listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Always true.
    pub ready: bool,
    /// Address it listens on.
    pub address: IpAddr,
    /// Port it listens on, also if the kernel chose it.
    pub port: u16,
    /// Its (first) process.
    pub pid: i32,
}

/// The threads and processes of a started pattern.
#[derive(Debug, Default)]
struct Running {
    threads: Vec<JoinHandle<()>>,
    children: Arc<Children>,
}

/// Runs a server until it must end, and prints its counters.
///
/// # Errors
/// Bad options, an address that cannot be used, or a thread or child that failed. A server that was ready prints its
/// counters even then.
pub fn run(options: Options) -> anyhow::Result<ExitCode> {
    options.check()?;
    limit_open_files(options.max_open_files)?;
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGCHLD];
    let mask = block(&signals)?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signalfd")?;
    if let Some(cpu) = options.pin {
        neighbours::pin(cpu)?;
    }
    let mut listeners = listen::open(&options)?;
    let mut lab = Connection::of_environment(Role::Server).context("the lab's control socket")?;
    set_thread_name(&options.name);
    let service = Arc::new(Service::new(options)?);

    let mut running = Running::default();
    let started = patterns::start(&service, &listeners, &mut running).and_then(|()| {
        running.threads.extend(neighbours::hogs(&service)?);
        running.threads.extend(shop::inventory(&service)?);
        Ok(())
    });
    if let Err(error) = started {
        service.fail(error);
    } else {
        let address = listeners.address;
        let pid = nix::unistd::getpid().as_raw();
        let ready = Ready { ready: true, address: address.ip(), port: address.port(), pid };
        if let Err(error) =
            print_json(&ready).and_then(|()| control(&service, &signals, &mut listeners, &mut running, &mut lab))
        {
            service.fail(error);
        }
    }

    service.stop();
    if service.options.pattern.accept_blocks() {
        // Wakes a blocking accept. It fails only if the socket does not listen, and then nothing blocks.
        for listener in &listeners.sockets {
            let _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
        }
    }
    for thread in running.threads {
        if thread.join().is_err() {
            service.fail(anyhow!("a thread panicked"));
        }
    }
    running.children.wait_for_all(&service);
    drop(listeners);
    print_report(&service, &running.children)?;
    service.take_failure().map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Handles signals and the lab's orders until the end.
fn control(
    service: &Arc<Service>,
    signals: &SignalFd,
    listeners: &mut Listeners,
    running: &mut Running,
    lab: &mut Option<Connection>,
) -> anyhow::Result<()> {
    let deadline = service.options.duration.map(|duration| now_ns() + duration.as_nanos() as u64);
    while !service.stopping() {
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            let milliseconds = deadline.saturating_sub(now_ns()).div_ceil(1_000_000);
            PollTimeout::try_from(milliseconds.min(60_000)).unwrap_or(PollTimeout::ZERO)
        });
        let watched =
            [service.stop_fd(), signals.as_fd()].into_iter().chain(lab.as_ref().map(|lab| lab.reader.as_fd()));
        let mut fds: Vec<PollFd> = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let ordered = fds.get(2).is_some_and(|fd| fd.any() == Some(true));
        if ordered && !orders::follow(service, listeners, running, lab.as_mut()) {
            *lab = None;
        }
        while let Some(signal) = signals.read_signal().context("signalfd")? {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGUSR1) => print_report(service, &running.children)?,
                Ok(Signal::SIGUSR2) => service.stall_now(Duration::from_millis(service.options.stall_for)),
                Ok(Signal::SIGCHLD) => running.children.reap(service),
                _ => service.stop(),
            }
        }
        if deadline.is_some_and(|deadline| now_ns() >= deadline) {
            service.stop();
        }
    }
    Ok(())
}

fn print_report(service: &Service, children: &Children) -> anyhow::Result<()> {
    let uptime = u64::try_from(service.uptime().as_millis()).unwrap_or(u64::MAX);
    let mut report = service.board.report(&service.options.pattern.name(), uptime);
    report.total.cpu_us += children.cpu_us();
    report.shop = service.shop().map(shop::Shop::report);
    print_json(&report)
}
