//! The bench's network namespace: without other traffic, and gone when the bench ends.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use xtask_support::{process, root};

/// Execs `program` with these arguments, as root, in new network and mount namespaces. Returns only on failure.
///
/// # Errors
/// When root is out of reach or util-linux is missing.
pub(crate) fn enter(program: &Path, arguments: &[std::ffi::OsString]) -> Result<()> {
    let unshare = process::find("unshare").context("unshare is missing: install util-linux")?;
    let mut command = match root::command(&unshare)? {
        Ok(command) => command,
        Err(reason) => bail!(root::unreachable("the bench", &reason)),
    };
    command.args(["--net", "--mount", "--"]).arg(program).args(arguments);
    Err(command.exec()).with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// Brings up loopback, provides enough ephemeral ports, and mounts tracefs for bpftrace. All of it ends with the
/// namespaces.
///
/// # Errors
/// When a step fails.
pub(crate) fn prepare() -> Result<()> {
    process::run(Command::new("ip").args(["link", "set", "lo", "up"]), "bringing up loopback (ip, of iproute2)")?;
    for (name, value) in [
        // storm uses all ephemeral ports within seconds: provide many, and reuse them at once.
        ("ip_local_port_range", "1024 65535"),
        ("tcp_tw_reuse", "1"),
        // With a full queue the bench would measure retransmission timers.
        ("tcp_max_syn_backlog", "8192"),
    ] {
        let path = Path::new("/proc/sys/net/ipv4").join(name);
        fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let tracing = Path::new("/sys/kernel/tracing");
    if tracing.is_dir() && !tracing.join("events").exists() {
        let mut mount = Command::new("mount");
        process::run(mount.args(["-t", "tracefs", "none"]).arg(tracing), "mounting tracefs")?;
    }
    Ok(())
}
