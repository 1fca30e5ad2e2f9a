//! CPU time and memory of the dashboard while it shows many listeners.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::poll::PollTimeout;

use crate::listeners::{self, PORT};
use crate::programs::Programs;
use crate::terminal::Dashboard;
use crate::usage;
use xtask_support::process;

/// The size of a large screen, so that drawing counts.
const SIZE: (u16, u16) = (200, 60);
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
    let listeners = listeners::open(sight.listeners)?;
    let arguments: &[&str] = if sight.probes { &[] } else { &["--probes", "sock_diag"] };
    let mut dashboard = Dashboard::start(&programs.listentop, arguments, SIZE)?;
    wait_for(&mut dashboard, &PORT.to_string())?;
    let taken = if sight.used {
        listeners::in_use(&listeners, || watch(&mut dashboard, length))
    } else {
        watch(&mut dashboard, length)
    };
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

fn watch(dashboard: &mut Dashboard, length: Duration) -> Result<Taken> {
    drain(dashboard, SETTLING)?;
    let (before, begun) = (usage::cpu_time(dashboard.pid())?, Instant::now());
    drain(dashboard, length)?;
    let used = usage::cpu_time(dashboard.pid())?.saturating_sub(before);
    let share = used.as_secs_f64() / begun.elapsed().as_secs_f64();
    Ok(Taken { share, resident: usage::resident(dashboard.pid())? })
}

/// Reads what it draws, for this long.
fn drain(dashboard: &mut Dashboard, length: Duration) -> Result<()> {
    let end = Instant::now() + length;
    while Instant::now() < end {
        dashboard.read(PollTimeout::from(50_u8))?;
    }
    Ok(())
}
