//! An unpacked kernel: its image and the modules that the tests need. It is kept for the next run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::apt::Apt;
use crate::modules;
use crate::packages::Kernel;
use xtask_support::process;

/// Modules that the tests need and Debian does not build in: sock_diag for TCP, pairs of network devices, delay and
/// loss on them, TLS with its cipher.
const MODULES: [&str; 8] = ["tcp_diag", "mptcp_diag", "veth", "sch_netem", "tls", "gcm", "ctr", "ghash_generic"];

/// A kernel that can be booted.
#[derive(Debug, Clone)]
pub struct Image {
    /// The file that qemu boots.
    pub kernel: PathBuf,
    /// Module files, in loading order.
    pub modules: Vec<PathBuf>,
}

/// The parts of an unpacked kernel. It is written last: an interrupted unpacking has none.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Contents {
    wanted: Vec<String>,
    modules: Vec<String>,
}

/// Finds the unpacked kernel, or downloads and unpacks it.
///
/// # Errors
/// When a download fails or a package has unexpected contents.
pub(crate) fn obtain(apt: &Apt, kernel: &Kernel, dir: &Path) -> Result<Image> {
    let dir = dir.join(&kernel.release);
    let note = dir.join("contents.json");
    let known = fs::read(&note).ok().and_then(|text| serde_json::from_slice::<Contents>(&text).ok());
    let contents = if let Some(contents) = known.filter(|contents| contents.wanted == MODULES) {
        contents
    } else {
        process::announce(&format!("fetching and unpacking Linux {} (once; 20 to 110 MB)", kernel.release));
        let contents = unpack(apt, kernel, &dir).with_context(|| format!("Linux {}", kernel.release))?;
        fs::write(&note, serde_json::to_vec(&contents)?).with_context(|| format!("cannot write {}", note.display()))?;
        contents
    };
    let modules = contents.modules.iter().map(|name| dir.join(name)).collect();
    Ok(Image { kernel: dir.join("vmlinuz"), modules })
}

fn unpack(apt: &Apt, kernel: &Kernel, dir: &Path) -> Result<Contents> {
    let whole = dir.join("packages");
    fs::create_dir_all(&whole).with_context(|| format!("cannot create {}", whole.display()))?;
    for package in &kernel.packages {
        let file = apt.download(package)?;
        process::run(Command::new("dpkg-deb").arg("--extract").arg(file).arg(&whole), "unpacking the package")?;
    }
    let mut files = Vec::new();
    walk(&whole, &mut files)?;
    let image =
        files.iter().find(|file| file_name(file).starts_with("vmlinuz")).context("the package has no vmlinuz")?;
    let to = dir.join("vmlinuz");
    fs::copy(image, &to).with_context(|| format!("cannot copy {} to {}", image.display(), to.display()))?;
    let all: BTreeMap<String, PathBuf> =
        files.iter().filter_map(|file| Some((modules::name(file_name(file))?, file.clone()))).collect();
    let mut names = Vec::new();
    for (name, content) in modules::order(&MODULES, &all, read_module)? {
        let name = format!("{name}.ko");
        fs::write(dir.join(&name), content).with_context(|| format!("cannot write {name} in {}", dir.display()))?;
        names.push(name);
    }
    fs::remove_dir_all(&whole).with_context(|| format!("cannot remove {}", whole.display()))?;
    Ok(Contents { wanted: MODULES.map(str::to_owned).to_vec(), modules: names })
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        match entry.file_type()? {
            kind if kind.is_dir() => walk(&entry.path(), files)?,
            kind if kind.is_file() => files.push(entry.path()),
            // Links lead to files of other packages.
            _ => {}
        }
    }
    Ok(())
}

/// A module's content, decompressed: older kernels cannot decompress it.
fn read_module(path: &Path) -> Result<Vec<u8>> {
    let (tool, package) = match path.extension().and_then(|kind| kind.to_str()) {
        Some("xz") => ("xz", "xz-utils"),
        Some("zst") => ("zstd", "zstd"),
        Some("gz") => ("gzip", "gzip"),
        _ => return fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    };
    if process::find(tool).is_none() {
        bail!("{} is compressed and there is no {tool}: `apt-get install {package}` installs it", path.display());
    }
    let output = Command::new(tool).args(["--decompress", "--stdout"]).arg(path).output();
    let output = output.with_context(|| format!("cannot run {tool}"))?;
    if !output.status.success() {
        bail!("{tool} cannot decompress {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}
