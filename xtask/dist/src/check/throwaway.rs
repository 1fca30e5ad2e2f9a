//! A copy of this system that is thrown away: an overlay of the root directory, with its changes in memory.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Where the packages are inside of it.
const PACKAGES: &str = "/tmp/packages";

/// Where the changes are, seen from inside.
const CHANGES: &str = "/.changes";
/// The system below, seen from inside.
const BELOW: &str = "/.below";

/// Lets this process, and all that it starts, see and change a copy of the system instead. It ends with them: the
/// mounts are in a namespace of their own, and the changes in memory. Returns where the packages are inside.
///
/// # Errors
/// This kernel refuses namespaces or overlays.
pub(crate) fn enter(packages: &[&Path]) -> Result<Vec<PathBuf>> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).context("no mount namespace")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("cannot keep the mounts apart")?;
    // Over a folder that every system has, and that nothing here reads.
    let base = Path::new("/mnt");
    mount(Some("tmpfs"), base, Some("tmpfs"), MsFlags::empty(), none).context("no memory file system")?;
    for name in ["changes", "work", "system"] {
        fs::create_dir(base.join(name)).with_context(|| format!("cannot make a folder {name}"))?;
    }
    let system = base.join("system");
    let options = "lowerdir=/,upperdir=/mnt/changes,workdir=/mnt/work";
    mount(Some("overlay"), &system, Some("overlay"), MsFlags::empty(), Some(options))
        .context("this kernel lays no overlay over the root directory")?;
    let mut inside = Vec::new();
    fs::create_dir_all(system.join(&PACKAGES[1..])).context("cannot make a folder for the packages")?;
    for package in packages {
        let path = Path::new(PACKAGES).join(package.file_name().unwrap_or_default());
        fs::copy(package, system.join(path.strip_prefix("/").unwrap_or(&path)))
            .with_context(|| format!("cannot copy {}", package.display()))?;
        inside.push(path);
    }
    let bind = |from: &Path, to: &str| -> Result<()> {
        let to = system.join(&to[1..]);
        fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
        mount(Some(from), &to, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
            .with_context(|| format!("cannot mount {} at {}", from.display(), to.display()))
    };
    for path in ["/proc", "/sys", "/dev"] {
        bind(Path::new(path), path)?;
    }
    bind(&base.join("changes"), CHANGES)?;
    // Alone: what is mounted on the root directory is not in the overlay.
    let below = system.join(&BELOW[1..]);
    fs::create_dir_all(&below).context("cannot make a folder")?;
    mount(Some("/"), &below, none, MsFlags::MS_BIND, none).context("cannot mount the system below")?;
    std::os::unix::fs::chroot(&system).context("cannot enter the copy")?;
    std::env::set_current_dir("/").context("the copy has no root directory")?;
    Ok(inside)
}

/// Paths of what is new or different from the system below, except what is below one of these.
///
/// # Errors
/// A folder cannot be read.
pub(crate) fn changes(except: &[&str]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let always = [PACKAGES, CHANGES, BELOW];
    let excepted = |path: &str| {
        let mut all = always.iter().chain(except);
        all.any(|except| path == *except || path.strip_prefix(except).is_some_and(|rest| rest.starts_with('/')))
    };
    walk(Path::new(CHANGES), "", &excepted, &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(changes: &Path, path: &str, excepted: &dyn Fn(&str) -> bool, found: &mut Vec<String>) -> Result<()> {
    let folder = changes.join(path.trim_start_matches('/'));
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let path = format!("{path}/{}", entry.file_name().display());
        if excepted(&path) {
            continue;
        }
        let metadata = entry.metadata()?;
        let below = fs::symlink_metadata(format!("{BELOW}{path}"));
        if metadata.is_dir() {
            // A folder below may have got a copy because something in it changed for a while.
            if below.is_err() {
                found.push(path.clone());
            }
            walk(changes, &path, excepted, found)?;
        } else if !(is_whiteout(&metadata) && below.is_err()) {
            found.push(path);
        }
    }
    Ok(())
}

/// How an overlay remembers that something was removed (Documentation/filesystems/overlayfs.rst).
fn is_whiteout(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}
