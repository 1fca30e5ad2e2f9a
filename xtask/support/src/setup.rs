//! `cargo xtask setup`: prepares a machine that has rustup and a C linker for building the probes.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::toolchain::{self, BPF_LINKER_VERSION, Toolchain};
use crate::{cargo, process};

/// `cargo xtask setup`: as [`run`], and says so when it is done.
///
/// # Errors
/// As [`run`].
pub fn run_and_announce() -> Result<()> {
    run()?;
    process::announce("setup is complete: `cargo build`, `cargo test` and `cargo xtask demo` work now");
    Ok(())
}

/// Installs what a build of the probes needs. Quick and silent when nothing is missing.
///
/// # Errors
/// When something is missing that cannot be installed from here; the message names it and the remedy.
pub fn run() -> Result<()> {
    let root = cargo::root();
    let toolchain = pinned_toolchain(&root)?;
    if toolchain.missing(&root).is_none() {
        return Ok(());
    }
    let tools = toolchain::tools_dir(&root);
    fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
    let _lock = lock(&tools)?;
    if !toolchain.has_rust_src() {
        add_rust_src(&toolchain)?;
    }
    if !toolchain.has_bpf_linker(&root) {
        build_bpf_linker(&root, &tools, &toolchain)?;
    }
    Ok(())
}

/// Installs what a build for [`cargo::static_target`] needs, and everything that [`run`] installs.
///
/// # Errors
/// As [`run`].
pub fn run_static() -> Result<()> {
    run_static_for(env::consts::ARCH)
}

/// The same for another architecture. Its C compiler is not installed, only named if it is missing.
///
/// # Errors
/// As [`run`].
pub fn run_static_for(arch: &str) -> Result<()> {
    run()?;
    let toolchain = pinned_toolchain(&cargo::root())?;
    let target = cargo::static_target_of(arch);
    if arch != env::consts::ARCH {
        let compiler = cargo::cross_compiler(arch);
        ensure!(
            process::find(&compiler).is_some(),
            "no C compiler for {arch} (`{compiler}`): install one, such as Debian's packages gcc-{package} and \
             libc6-dev-{debian}-cross",
            package = compiler.trim_end_matches("-gcc"),
            debian = if arch == "aarch64" { "arm64" } else { "amd64" },
        );
    }
    let installed = || toolchain.sysroot.join("lib/rustlib").join(&target).join("lib").is_dir();
    if installed() {
        return Ok(());
    }
    process::announce(&format!("adding the Rust target {target} (about 30 MB to download)"));
    rustup(&["target", "add", &target], &toolchain)
        .with_context(|| format!("the Rust target {target} is missing and could not be added"))?;
    ensure!(installed(), "rustup added {target}, but not to {}", toolchain.sysroot.display());
    Ok(())
}

/// The component and the program in it, of what the lint needs beyond [`run`].
const LINT_COMPONENTS: [(&str, &str); 2] = [("rustfmt", "bin/rustfmt"), ("clippy", "bin/cargo-clippy")];

/// Installs what the lint needs, and everything that [`run`] installs.
///
/// # Errors
/// As [`run`].
pub fn run_for_lint() -> Result<()> {
    run()?;
    let toolchain = pinned_toolchain(&cargo::root())?;
    for (component, program) in LINT_COMPONENTS {
        // rustup installs them with the toolchain, unless its automatic installs are switched off.
        if toolchain.sysroot.join(program).is_file() {
            continue;
        }
        process::announce(&format!("adding the Rust component {component}"));
        rustup(&["component", "add", component], &toolchain)
            .with_context(|| format!("the Rust component {component} is missing and could not be added"))?;
    }
    Ok(())
}

/// Runs rustup on this toolchain.
fn rustup(arguments: &[&str], toolchain: &Toolchain) -> Result<()> {
    let rustup = process::find("rustup").context("there is no rustup: install it (https://rustup.rs)")?;
    // rustup names a toolchain by its directory.
    let name = toolchain.sysroot.file_name().context("the toolchain's directory has no name")?;
    let mut command = Command::new(rustup);
    process::run(command.args(arguments).arg("--toolchain").arg(name), "rustup")
}

/// The compiler in use, which must be the one that the checkout pins.
fn pinned_toolchain(root: &Path) -> Result<Toolchain> {
    let file = root.join("rust-toolchain.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let channel = pinned_channel(&text).with_context(|| format!("{} names no channel", file.display()))?;
    let toolchain = Toolchain::of(&cargo::rustc(), root).with_context(|| {
        format!("Rust {channel} does not run here: install rustup (https://rustup.rs), then `rustup toolchain install {channel}`")
    })?;
    ensure!(
        toolchain.rustc.starts_with(&format!("rustc {channel} ")),
        "this checkout is built with Rust {channel}, but the compiler here is {}: install rustup (https://rustup.rs), which \
         follows rust-toolchain.toml, then `rustup toolchain install {channel}`, and leave out `+toolchain` and RUSTUP_TOOLCHAIN",
        toolchain.rustc
    );
    Ok(toolchain)
}

fn pinned_channel(rust_toolchain: &str) -> Option<&str> {
    let value = rust_toolchain.lines().find_map(|line| line.trim_start().strip_prefix("channel"))?;
    value.split('"').nth(1)
}

/// Lets one setup run at a time. The kernel releases the lock when the process ends, however it ends.
fn lock(tools: &Path) -> Result<File> {
    let path = tools.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            process::announce("waiting for another setup of this checkout to end");
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => return Err(error).context(format!("cannot lock {}", path.display())),
    }
    Ok(file)
}

fn add_rust_src(toolchain: &Toolchain) -> Result<()> {
    if process::find("rustup").is_none() {
        bail!(
            "the Rust component rust-src is missing and there is no rustup to add it: install rustup (https://rustup.rs), or put \
             the sources of this compiler at {}",
            toolchain.sysroot.join("lib/rustlib/src/rust").display()
        );
    }
    process::announce(
        "adding the Rust component rust-src: the probes need `core` built for BPF (about 4 MB to download)",
    );
    rustup(&["component", "add", "rust-src"], toolchain).context(
        "rust-src is missing and could not be added: is the network reachable, and the toolchain one of rustup's own?",
    )?;
    ensure!(toolchain.has_rust_src(), "rustup added rust-src, but not to {}", toolchain.sysroot.display());
    Ok(())
}

fn build_bpf_linker(root: &Path, tools: &Path, toolchain: &Toolchain) -> Result<()> {
    ensure_c_linker(toolchain)?;
    process::announce(&format!(
        "building bpf-linker {BPF_LINKER_VERSION} with the LLVM {} inside rustc (once for this checkout; one or two minutes)",
        toolchain.llvm
    ));
    let stamp = toolchain::stamp_file(root);
    if stamp.exists() {
        fs::remove_file(&stamp).with_context(|| format!("cannot remove {}", stamp.display()))?;
    }
    let llvm = link_llvm(tools, toolchain)?;
    let build_dir = tools.join("build");

    let mut install = Command::new(cargo::program());
    toolchain::forget_outer_build(&mut install);
    install
        .current_dir(root)
        .env("LLVM_PREFIX", &llvm)
        // bpf-linker loads rustc's LLVM from where rustc does.
        .env("CARGO_ENCODED_RUSTFLAGS", format!("-Clink-arg=-Wl,-rpath,{}", toolchain.sysroot.join("lib").display()))
        .args(["install", "bpf-linker", "--version", &format!("={BPF_LINKER_VERSION}"), "--locked", "--force"])
        // Without optimizations it is there in half the time, and it links as fast: LLVM does the work.
        .args(["--debug", "--no-default-features", "--features", &format!("llvm-{}", toolchain.llvm), "--root"])
        .arg(tools)
        .arg("--target-dir")
        .arg(&build_dir)
        // Otherwise cargo advises to add the directory to PATH, which nothing here needs.
        .env("PATH", path_with(&tools.join("bin"))?);
    process::run(&mut install, "building bpf-linker")
        .context("bpf-linker could not be built; cargo's message is above (the first time it needs the network)")?;

    let linker = toolchain::bpf_linker(root);
    process::capture(Command::new(&linker).arg("--version"), "starting the new bpf-linker")?;
    write_stamp(&stamp, &toolchain.stamp())?;
    // Only after success: an interrupted build goes on where it stopped.
    fs::remove_dir_all(&build_dir).with_context(|| format!("cannot remove {}", build_dir.display()))
}

/// PATH with this directory behind the others.
pub(crate) fn path_with(dir: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(env::split_paths(&path).chain([dir.to_owned()]))
        .with_context(|| format!("{} cannot be part of PATH", dir.display()))
}

/// A directory that llvm-sys takes for an installed LLVM: it links to rustc's own.
fn link_llvm(tools: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
    let libraries = toolchain.sysroot.join("lib");
    let library = find_llvm(&libraries)?;
    let prefix = tools.join("llvm");
    let link = prefix.join("lib/libLLVM.so");
    fs::create_dir_all(prefix.join("lib")).with_context(|| format!("cannot create {}", prefix.display()))?;
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link).with_context(|| format!("cannot replace {}", link.display()))?;
    }
    symlink(&library, &link).with_context(|| format!("cannot link {} to {}", link.display(), library.display()))?;
    Ok(prefix)
}

fn find_llvm(libraries: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(libraries).with_context(|| format!("cannot read {}", libraries.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", libraries.display()))?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with("libLLVM.so.")) {
            return Ok(entry.path());
        }
    }
    bail!(
        "{} has no libLLVM.so: this compiler carries its LLVM inside itself, as rustup's toolchains for musl hosts do; use the \
         toolchain for a GNU host",
        libraries.display()
    )
}

fn ensure_c_linker(toolchain: &Toolchain) -> Result<()> {
    let variable = format!("CARGO_TARGET_{}_LINKER", toolchain.host.to_uppercase().replace('-', "_"));
    let linker = env::var(&variable).unwrap_or_else(|_| "cc".to_owned());
    let found = if linker.contains('/') { Path::new(&linker).is_file() } else { process::find(&linker).is_some() };
    ensure!(found, "no C linker (`{linker}`): install one, such as Debian's and Ubuntu's package gcc, or Fedora's");
    Ok(())
}

/// Writes a temporary file and renames it: nobody reads half a stamp.
fn write_stamp(stamp: &Path, text: &str) -> Result<()> {
    let aside = stamp.with_extension("new");
    fs::write(&aside, text)
        .and_then(|()| fs::rename(&aside, stamp))
        .with_context(|| format!("cannot write {}", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::{find_llvm, pinned_channel};

    #[test]
    fn channel_is_read_from_rust_toolchain() {
        let text = "[toolchain]\n# channel of \"old\" days\nchannel = \"1.95.0\"\ncomponents = [\"clippy\"]\n";
        assert_eq!(pinned_channel(text), Some("1.95.0"));
        assert_eq!(pinned_channel("[toolchain]\n"), None);
    }

    #[test]
    fn a_compiler_without_its_own_llvm_is_named() {
        let error = find_llvm(std::path::Path::new("/usr/share")).unwrap_err().to_string();
        assert!(error.contains("/usr/share has no libLLVM.so"), "{error}");
    }
}
