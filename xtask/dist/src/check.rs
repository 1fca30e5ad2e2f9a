//! `cargo xtask dist --check`: the packages are installed, used and removed in a copy of this system that is thrown
//! away, and nothing may be left.

mod inside;
mod throwaway;

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use xtask_support::{exit, process, root};

use crate::about::Architecture;
use crate::release::Release;
use crate::{deb, rpm};

/// First argument of the process that runs as root.
const INSIDE: &str = "inside-a-copy-of-this-system";

/// Checks what is in the folder. `commit`: what the program must say that it is made from.
///
/// # Errors
/// Something is wrong with a package; or, where CI is set, it cannot be tried.
pub(crate) fn run(dir: &Path, architecture: Architecture, release: &Release, commit: Option<&str>) -> Result<()> {
    process::announce("checking the packages");
    let mut sums = Command::new("sha256sum");
    process::run(sums.current_dir(dir).args(["--check", "--quiet", "--strict", "SHA256SUMS"]), "the checksums")?;
    let deb = dir.join(deb::file_name(release, architecture));
    let rpm = dir.join(rpm::file_name(release, architecture));
    lint(&deb)?;
    // The program that sudo starts has to be found by its path.
    let inside = match root::command(&env::current_exe()?)? {
        Ok(mut command) => {
            command.arg(INSIDE).arg(&deb).arg(&rpm).arg(&release.version).arg(commit.unwrap_or_default());
            process::run(&mut command, "trying the packages")
        }
        Err(reason) => skip(&format!("the packages cannot be installed without root: {reason}")),
    };
    inside?;
    process::announce("the packages can be installed, used and removed, and leave nothing");
    Ok(())
}

/// Debian's own judge of packages: no errors, and nothing that is overridden in vain.
fn lint(deb: &Path) -> Result<()> {
    if process::find("lintian").is_none() {
        return skip("there is no lintian to check the Debian package with: install the package lintian");
    }
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--no-cfg", "--fail-on", "error,warning", "--tag-display-limit", "0"]);
    // Debian's own rules of publication: packages there close a wish, and come with a translation of their pages.
    lintian.arg("--suppress-tags").arg(NOT_OURS.join(","));
    process::run(lintian.arg(deb), "lintian")
}

/// What lintian reports of packages that Debian itself does not build.
const NOT_OURS: [&str; 1] = ["initial-upload-closes-no-bugs"];

/// What cannot be checked here: an error where CI is set.
fn skip(why: &str) -> Result<()> {
    let is_ci = env::var("CI").is_ok_and(|ci| !["", "0", "false"].contains(&ci.as_str()));
    ensure!(!is_ci, "{why}");
    process::announce(&format!("skipped: {why}"));
    Ok(())
}

/// The part that runs as root, if this process is that.
pub(crate) fn as_inside() -> Option<ExitCode> {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let [mark, deb, rpm, version, commit] = &arguments[..] else { return None };
    if mark != INSIDE {
        return None;
    }
    let tried = throwaway::enter(&[Path::new(deb), Path::new(rpm)])
        .and_then(|packages| inside::everything(&packages, &version.to_string_lossy(), &commit.to_string_lossy()));
    Some(match tried {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failure(&error),
    })
}
