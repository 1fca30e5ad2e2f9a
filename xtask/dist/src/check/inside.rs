//! What is tried in the copy of this system.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};
use xtask_support::process;

use super::throwaway::changes;
use crate::about::NAME;

/// What package managers and caches of the system keep for themselves.
const OF_THE_SYSTEM: [&str; 9] = [
    "/var/lib/dpkg",
    "/var/log/dpkg.log",
    "/var/log/alternatives.log",
    "/var/lib/rpm",
    "/usr/lib/sysimage/rpm",
    "/root/.rpmdb",
    "/var/cache/man",
    // systemctl makes its folders, and leaves them.
    "/etc/systemd/system",
    "/tmp",
];

/// Folders that systemd makes, and those that distributions with RPM have in any system.
const OF_OTHERS: [&str; 8] = [
    "/var/lib/private",
    "/var/log/private",
    "/usr/share/bash-completion",
    "/usr/share/bash-completion/completions",
    "/usr/share/fish",
    "/usr/share/fish/vendor_completions.d",
    "/usr/share/licenses",
    "/usr/share/zsh/site-functions",
];

/// Units that are installed.
const UNITS: [&str; 3] = ["listentop-serve.service", "listentop-recorder.service", "listentop-report.timer"];

/// The unit that is enabled for a while.
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/listentop-serve.service";

/// What the services would write, as systemd has it for dynamic users.
const DATA: [(&str, &str); 2] =
    [("/var/lib/private/listentop", "/var/lib/listentop"), ("/var/log/private/listentop", "/var/log/listentop")];

/// Installs, uses and removes the Debian package and the RPM.
///
/// # Errors
/// Something is not as it should be.
pub(crate) fn everything(packages: &[PathBuf], version: &str, commit: &str) -> Result<()> {
    let [deb, rpm] = packages else { bail!("there should be two packages") };
    debian(deb, version, commit)?;
    if process::find("rpm").is_some() {
        red_hat(rpm, version, commit)?;
    } else {
        super::skip("there is no rpm to try the RPM with: install the package rpm")?;
    }
    Ok(())
}

fn debian(deb: &Path, version: &str, commit: &str) -> Result<()> {
    if process::find("dpkg").is_none() {
        return super::skip("there is no dpkg to try the Debian package with");
    }
    // If this machine has it: only this copy loses it.
    let _ = run("dpkg", &["--purge", NAME]);
    let path = deb.to_str().context("the path is not UTF-8")?;
    run("dpkg", &["--install", path])?;
    ensure!(run("dpkg", &["--verify", NAME])?.is_empty(), "dpkg finds other files than the package has");
    let status = run("dpkg-query", &["--show", "--showformat", "${Status} ${Depends}", NAME])?;
    ensure!(status.trim() == "install ok installed", "dpkg calls it: {status}");
    use_it(version, commit)?;
    disabled()?;

    // An administrator changes the options and enables a service; it writes something; then there is an upgrade.
    fs::write("/etc/default/listentop", "LISTENTOP_OPTIONS=--measure=queues\n").context("cannot write the options")?;
    if has_systemctl() {
        run("systemctl", &["--quiet", "enable", UNITS[0]])?;
        ensure!(fs::symlink_metadata(ENABLED).is_ok(), "systemctl has enabled nothing");
    }
    for (folder, link) in DATA {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {folder}"))?;
        fs::write(Path::new(folder).join("data"), "data").with_context(|| format!("cannot write into {folder}"))?;
        symlink(folder, link).with_context(|| format!("cannot make {link}"))?;
    }
    run("dpkg", &["--install", path])?;
    let options = fs::read_to_string("/etc/default/listentop").context("the options are gone")?;
    ensure!(options.contains("--measure=queues"), "the upgrade has changed the options");
    ensure!(!has_systemctl() || fs::symlink_metadata(ENABLED).is_ok(), "the upgrade has disabled a service");

    run("dpkg", &["--remove", NAME])?;
    ensure!(!Path::new("/usr/bin/listentop").exists(), "the program is still there");
    ensure!(Path::new("/etc/default/listentop").exists(), "a removal must keep the options");
    ensure!(Path::new(DATA[0].0).exists(), "a removal must keep the recordings");
    ensure!(fs::symlink_metadata(ENABLED).is_err(), "a service that is gone is still enabled");
    run("dpkg", &["--purge", NAME])?;
    nothing_is_left("the Debian package")
}

fn red_hat(rpm: &Path, version: &str, commit: &str) -> Result<()> {
    let path = rpm.to_str().context("the path is not UTF-8")?;
    ensure!(
        run("rpm", &["--query", "--package", "--list", path])?.contains("/usr/bin/listentop"),
        "there is no program"
    );
    // On Debian rpm knows nothing of what is installed, and wants to be told that this is meant.
    let is_debian = Path::new("/etc/debian_version").exists();
    let own = if is_debian { &["--nodeps", "--force-debian"][..] } else { &[][..] };
    run("rpm", &[&["--install"], own, &[path]].concat())?;
    run("rpm", &[&["--verify"], own, &[NAME]].concat())?;
    use_it(version, commit)?;
    disabled()?;
    run("rpm", &[&["--erase"], own, &[NAME]].concat())?;
    nothing_is_left("the RPM")
}

/// The installed program says what it is, what it can measure, and measures.
fn use_it(version: &str, commit: &str) -> Result<()> {
    let said = run("/usr/bin/listentop", &["--version"])?;
    let expected = if commit.is_empty() { version.to_owned() } else { format!("{version} ({commit})") };
    ensure!(said.starts_with(&format!("listentop {expected}")), "it calls itself {said}, and not {expected}");
    // Some measures may be missing here.
    let doctor = output("/usr/bin/listentop", &["doctor"])?;
    ensure!(matches!(doctor.status.code(), Some(0 | 3 | 4)), "doctor: {doctor:?}");
    // No listener may be there.
    let report = output("/usr/bin/listentop", &["report", "--for", "1s", "--format", "json"])?;
    ensure!(matches!(report.status.code(), Some(0 | 5)), "report: {report:?}");
    let json: serde_json::Value = serde_json::from_slice(&report.stdout).context("the report is no JSON")?;
    ensure!(json["tool"]["version"] == version, "the report is of version {}", json["tool"]["version"]);
    if process::find("man").is_some() {
        for page in ["listentop", "listentop-report", "listentop-serve"] {
            let found = run("man", &["--where", page])?;
            ensure!(found.trim().ends_with(&format!("/{page}.1.gz")), "man finds {found}");
        }
    }
    run("bash", &["-n", "/usr/share/bash-completion/completions/listentop"])?;
    Ok(())
}

/// Nothing is started at the next boot.
fn disabled() -> Result<()> {
    if !has_systemctl() {
        return Ok(());
    }
    for unit in UNITS {
        let said = output("systemctl", &["is-enabled", unit])?;
        let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        ensure!(said == "disabled", "{unit} is {said}");
    }
    Ok(())
}

fn has_systemctl() -> bool {
    process::find("systemctl").is_some()
}

fn nothing_is_left(of: &str) -> Result<()> {
    let mut left = changes(&OF_THE_SYSTEM)?;
    left.retain(|path| !OF_OTHERS.contains(&path.as_str()));
    ensure!(left.is_empty(), "{of} leaves or changes {}", left.join(", "));
    let units = changes(&[])?.into_iter().filter(|path| path.contains("listentop"));
    let units: Vec<String> =
        units.filter(|path| !path.starts_with("/var/lib/dpkg") && !path.starts_with("/tmp")).collect();
    ensure!(units.is_empty(), "{of} leaves {}", units.join(", "));
    Ok(())
}

/// Runs a program to its success, and returns what it printed.
fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = output(program, arguments)?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {} failed ({}): {printed}{said}", arguments.join(" "), output.status);
    }
    Ok(printed)
}

fn output(program: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
    // sudo may leave out where dpkg looks for its helpers.
    command
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(std::process::Stdio::null());
    command.output().with_context(|| format!("cannot run {program}"))
}
