//! The init of the virtual machines in which `cargo xtask kernels` runs the kernel tests and `cargo xtask bench` counts
//! instructions.
//!
//! It prepares the machine, runs what `/plan.json` lists, reports events through the second serial port, and powers
//! the machine off. Under the name `sleep` it sleeps: a test needs that program.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, process};

use anyhow::{Context as _, Result};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use listentop_guest::plan::{EVENTS_PORT, Event, PLAN_FILE, Plan, Run};

/// Limit of open descriptors of a program.
const DESCRIPTORS: u64 = 1 << 20;

/// Type, place and options of the mounts. Where a kernel lacks a file system, no test needs it.
const MOUNTS: [(&str, &str, &str); 11] = [
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("devpts", "/dev/pts", "ptmxmode=0666"),
    ("tmpfs", "/dev/shm", ""),
    ("tmpfs", "/tmp", "mode=1777"),
    ("tmpfs", "/run", ""),
    ("tracefs", "/sys/kernel/tracing", ""),
    ("securityfs", "/sys/kernel/security", ""),
    ("bpf", "/sys/fs/bpf", ""),
    ("cgroup2", "/sys/fs/cgroup", ""),
];

fn main() {
    if env::args().next().is_some_and(|name| name.ends_with("sleep")) {
        let seconds = env::args().nth(1).and_then(|seconds| seconds.parse().ok());
        thread::sleep(Duration::from_secs(seconds.unwrap_or(0)));
        return;
    }
    if process::id() != 1 {
        eprintln!("vm-init is the init of a virtual machine: `cargo xtask kernels` runs it there");
        process::exit(2);
    }
    let made = mount_all();
    let mut events = match Events::open() {
        Ok(events) => events,
        Err(error) => {
            // On the kernel's console: the port for events is not there.
            println!("vm-init: {error:#}");
            power_off();
        }
    };
    for failure in made {
        events.send(&Event::Trouble { what: failure });
    }
    if let Err(error) = work(&mut events) {
        events.send(&Event::Trouble { what: format!("{error:#}") });
    }
    events.send(&Event::Done);
    power_off();
}

fn work(events: &mut Events) -> Result<()> {
    let plan = fs::read(PLAN_FILE).with_context(|| format!("cannot read {PLAN_FILE}"))?;
    let plan: Plan = serde_json::from_slice(&plan).with_context(|| format!("{PLAN_FILE} is not a plan"))?;
    let text = |path: &str| fs::read_to_string(path).map_or_else(|error| error.to_string(), |t| t.trim().to_owned());
    events.send(&Event::Booted {
        release: text("/proc/sys/kernel/osrelease"),
        online: text("/sys/devices/system/cpu/online"),
        possible: text("/sys/devices/system/cpu/possible"),
    });
    if let Err(error) = loopback_up() {
        events.send(&Event::Trouble { what: format!("cannot bring up lo: {error}") });
    }
    // Servers need many descriptors; children inherit the limit.
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS) {
        events.send(&Event::Trouble { what: format!("cannot raise the limit of descriptors: {error}") });
    }
    // From the start: switching it later patches code, which crashes emulators with several CPUs.
    if plan.timed
        && let Err(error) = fs::write("/proc/sys/kernel/bpf_stats_enabled", "1")
    {
        events.send(&Event::Trouble { what: format!("cannot time the probes: {error}") });
    }
    if let Err(error) = packets_first() {
        events.send(&Event::Trouble { what: format!("cannot raise the priority of ksoftirqd: {error}") });
    }
    for module in &plan.modules {
        let loaded = File::open(module).and_then(|file| Ok(finit_module(file, c"", ModuleInitFlags::empty())?));
        if let Err(error) = loaded {
            events.send(&Event::Trouble { what: format!("module {module}: {error}") });
        }
    }
    for run in &plan.runs {
        events.send(&Event::Begin { run: run.name.clone() });
        let code = match perform(run, events) {
            Ok(code) => code,
            Err(error) => {
                events.send(&Event::Trouble { what: format!("{}: {error:#}", run.name) });
                Some(127)
            }
        };
        events.send(&Event::End { run: run.name.clone(), code });
    }
    Ok(())
}

fn mount_all() -> Vec<String> {
    let mut failures = Vec::new();
    for (kind, place, options) in MOUNTS {
        // The directory may exist, or belong to a mount.
        let _ = fs::create_dir_all(place);
        match mount(Some(kind), place, Some(kind), MsFlags::empty(), Some(options)) {
            // Some kernels mount /dev themselves.
            Ok(()) | Err(nix::Error::EBUSY) => {}
            Err(error) => failures.push(format!("cannot mount {place}: {error}")),
        }
    }
    failures
}

/// The port for events.
struct Events(File);

impl Events {
    fn open() -> Result<Self> {
        let port = OpenOptions::new().read(true).write(true).open(EVENTS_PORT);
        let port = port.with_context(|| format!("cannot open {EVENTS_PORT}"))?;
        let mut modes = tcgetattr(&port).context("the port has no modes")?;
        cfmakeraw(&mut modes);
        tcsetattr(&port, SetArg::TCSANOW, &modes).context("the port's modes cannot be set")?;
        Ok(Self(port))
    }

    fn send(&mut self, event: &Event) {
        let mut line = serde_json::to_string(event).unwrap_or_default();
        line.push('\n');
        // There is no other port to report a failure.
        let _ = self.0.write_all(line.as_bytes());
        let _ = nix::sys::termios::tcdrain(&self.0);
    }
}

/// Runs a program to its end or its time limit. Returns the exit code, `None` after the limit.
fn perform(run: &Run, events: &mut Events) -> Result<Option<i32>> {
    let mut words = run.command.iter();
    let program = words.next().context("a run without a program")?;
    let mut command = Command::new(program);
    command.args(words).env_clear().envs(run.environment.iter().map(|(name, value)| (name, value)));
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    let (sender, lines) = channel();
    forward(child.stdout.take(), false, sender.clone());
    forward(child.stderr.take(), true, sender);
    let start = Instant::now();
    let limit = Duration::from_secs(run.seconds);
    loop {
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(event) => events.send(&event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(Duration::from_millis(10)),
        }
        let ended = child.try_wait()?;
        if ended.is_none() && start.elapsed() < limit {
            continue;
        }
        if ended.is_none() {
            child.kill()?;
            child.wait()?;
        }
        end_all_others();
        // All writers have ended: the pipes are closed.
        lines.iter().for_each(|event| events.send(&event));
        return Ok(ended.map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))));
    }
}

fn forward(pipe: Option<impl Read + Send + 'static>, stderr: bool, to: Sender<Event>) {
    let Some(pipe) = pipe else { return };
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            line.clear();
            if to.send(Event::Line { stderr, text }).is_err() {
                return;
            }
        }
    });
}

/// Kills all other processes, and reaps the orphans among them.
fn end_all_others() {
    // For the init, -1 means every other process.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    while waitpid(None, None).is_ok() {}
}

fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all members are integers or arrays of them, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the call reads the request, which lives until it returns.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets each CPU's ksoftirqd run before any other thread.
///
/// An emulated CPU soon lags behind with its packets and leaves them to ksoftirqd. Before Linux 6.5 all later packets
/// wait for ksoftirqd too, while threads go on. Packets from another CPU can overtake them then, and a test cannot know
/// that its own packets have arrived.
fn packets_first() -> io::Result<()> {
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<libc::pid_t>() else { continue };
        // A process that has ended is not ksoftirqd.
        if !fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.starts_with("ksoftirqd/")) {
            continue;
        }
        // The kernel's struct sched_param: the lowest real-time priority, above all usual threads.
        let priority: libc::c_int = 1;
        // SAFETY: the call reads the parameter, which lives until it returns. (musl's own function does nothing.)
        if unsafe { libc::syscall(libc::SYS_sched_setscheduler, pid, libc::SCHED_FIFO, &raw const priority) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Powers the machine off. A machine without that switch is reset: qemu ends then.
fn power_off() -> ! {
    let _ = reboot(RebootMode::RB_POWER_OFF);
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    process::exit(1)
}
