//! CPU time and memory of the dashboard while it shows many listeners.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::poll::PollTimeout;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{SysconfVar, sysconf};

use crate::programs::Programs;
use crate::terminal::Dashboard;
use xtask_support::process;

/// The size of a large screen, so that drawing counts.
const SIZE: (u16, u16) = (200, 60);
const PORT: u16 = 20_000;
/// Listeners per address: with one port for each of 10,000 listeners, the ports would reach the clients' range.
const PER_ADDRESS: usize = 200;
/// Threads that use the listeners, each an equal share.
const THREADS: usize = 8;
/// Limit until the dashboard shows the listeners.
const PATIENCE: Duration = Duration::from_secs(20);
/// Wait before the measurement: the work after the start, and after the use of the listeners, is done by then.
const SETTLING: Duration = Duration::from_secs(5);

/// What the dashboard shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sight {
    /// The number of listeners.
    pub(crate) listeners: usize,
    /// Whether each listener has served a connection: then it has a thread, distributions and rates.
    pub(crate) used: bool,
    /// With probes; otherwise `--probes sock_diag`.
    pub(crate) probes: bool,
}

/// All measured cases.
pub(crate) fn sights() -> impl Iterator<Item = Sight> {
    let all = [
        (1_000, false, true),
        (1_000, true, true),
        (10_000, false, true),
        (10_000, true, true),
        (1_000, false, false),
        (10_000, false, false),
    ];
    all.into_iter().map(|(listeners, used, probes)| Sight { listeners, used, probes })
}

/// What the dashboard uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Taken {
    /// User and system time per second, in seconds.
    pub(crate) share: f64,
    /// Resident memory, in bytes.
    pub(crate) resident: u64,
}

/// Opens the listeners, starts the dashboard with its default refresh, uses the listeners where asked for, and watches
/// the dashboard's process for `length`.
///
/// # Errors
/// When the listeners cannot be opened, or the dashboard does not show them.
pub(crate) fn measure(programs: &Programs, sight: Sight, length: Duration) -> Result<Taken> {
    process::announce(&format!("the dashboard with {} listeners", sight.listeners));
    let listeners = open(sight.listeners)?;
    let arguments: &[&str] = if sight.probes { &[] } else { &["--probes", "sock_diag"] };
    let mut dashboard = Dashboard::start(&programs.listentop, arguments, SIZE)?;
    wait_for(&mut dashboard, &PORT.to_string())?;
    let taken =
        if sight.used { in_use(&listeners, || watch(&mut dashboard, length)) } else { watch(&mut dashboard, length) };
    let taken = taken?;
    let status = dashboard.quit()?;
    ensure!(status.success(), "the dashboard failed ({status})");
    Ok(taken)
}

/// Reads until this has been drawn.
fn wait_for(dashboard: &mut Dashboard, wanted: &str) -> Result<()> {
    let (mut drawn, end) = (String::new(), Instant::now() + PATIENCE);
    while !drawn.contains(wanted) {
        ensure!(Instant::now() < end, "{wanted} is not shown; it drew: {drawn:?}");
        drawn.extend(dashboard.read(PollTimeout::from(100_u8))?);
    }
    Ok(())
}

fn open(count: usize) -> Result<Vec<TcpListener>> {
    // Room for the other open files. Any user may raise the limit up to the hard limit.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit")?;
    let wanted = count as u64 + 1_000;
    ensure!(
        hard >= wanted,
        "a process may have {hard} descriptors only, not {wanted}: raise its hard limit (ulimit -Hn)"
    );
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("setrlimit")?;
    let address = |n: usize| Ipv4Addr::new(127, 0, 1 + (n / PER_ADDRESS) as u8, 1 + (n % PER_ADDRESS) as u8);
    let open = |n| TcpListener::bind(SocketAddr::from((address(n), PORT))).context("a listener cannot be opened");
    (0..count).map(open).collect()
}

/// Lets each listener serve a connection. The threads that serve stay alive while `then` runs.
fn in_use<T>(listeners: &[TcpListener], then: impl FnOnce() -> Result<T>) -> Result<T> {
    let served = Barrier::new(THREADS + 1);
    let done = Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        let share = listeners.len().div_ceil(THREADS);
        let workers: Vec<_> = (0..THREADS)
            .map(|n| {
                let (served, done) = (&served, &done);
                scope.spawn(move || {
                    let result = listeners.iter().skip(n * share).take(share).try_for_each(serve);
                    served.wait();
                    done.wait();
                    result
                })
            })
            .collect();
        served.wait();
        let outcome = then();
        done.wait();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a thread failed"))?.context("a connection failed")?;
        }
        outcome
    })
}

fn serve(listener: &TcpListener) -> std::io::Result<()> {
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.write_all(b"?")?;
    let mut byte = [0];
    server.read_exact(&mut byte)?;
    server.write_all(b"!")?;
    client.read_exact(&mut byte)
}

fn watch(dashboard: &mut Dashboard, length: Duration) -> Result<Taken> {
    drain(dashboard, SETTLING)?;
    let (before, begun) = (cpu_time(dashboard.pid())?, Instant::now());
    drain(dashboard, length)?;
    let share = cpu_time(dashboard.pid())?.checked_sub(before).unwrap().as_secs_f64() / begun.elapsed().as_secs_f64();
    Ok(Taken { share, resident: resident(dashboard.pid())? })
}

/// Reads what it draws, for this long.
fn drain(dashboard: &mut Dashboard, length: Duration) -> Result<()> {
    let end = Instant::now() + length;
    while Instant::now() < end {
        dashboard.read(PollTimeout::from(50_u8))?;
    }
    Ok(())
}

/// User and system time of a process so far.
fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the dashboard has ended")?;
    let ticks = ticks(&stat).with_context(|| format!("/proc/{pid}/stat has no times: {stat}"))?;
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().context("the length of a tick is unknown")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// utime + stime (proc_pid_stat(5), fields 14 and 15). The name before them may contain anything, so fields are counted
/// from its end.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// VmRSS, in bytes.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the dashboard has ended")?;
    kibibytes(&status).map(|kib| kib * 1024).with_context(|| format!("/proc/{pid}/status has no VmRSS"))
}

fn kibibytes(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{cpu_time, in_use, kibibytes, resident, ticks};

    #[test]
    fn times_follow_the_name() {
        assert_eq!(ticks("7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 300 45 0 0"), Some(345));
        assert_eq!(ticks("7 (a) S 1 2"), None);
        assert_eq!(kibibytes("Name:\tx\nVmRSS:\t    1234 kB\nRssAnon:\t 7 kB\n"), Some(1234));
        assert_eq!(kibibytes("Name:\tx\n"), None);
    }

    #[test]
    fn a_process_has_times_and_memory() {
        let us = std::process::id();
        let before = cpu_time(us).unwrap();
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_millis(200) {}
        assert!(cpu_time(us).unwrap() > before);
        assert!(resident(us).unwrap() > 1 << 20);
        assert!(cpu_time(u32::MAX).is_err());
    }

    #[test]
    fn every_listener_is_used_before_the_measurement() {
        let listeners: Vec<_> = (0..20).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let looks = AtomicUsize::new(0);
        let waiting = in_use(&listeners, || {
            looks.fetch_add(1, Ordering::Relaxed);
            listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
            Ok(listeners.iter().filter(|listener| listener.accept().is_ok()).count())
        });
        assert_eq!((waiting.unwrap(), looks.into_inner()), (0, 1));
    }
}
