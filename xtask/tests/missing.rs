//! xtask names what a machine lacks, in one line, with the remedy. The machine is a PATH with only the programs of the
//! test, and the checkout is almost empty.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PINNED: &str = "9.95.0";
const NOBODY: u32 = 65534;

/// A directory with a checkout and a machine's programs; gone when dropped.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str) -> Self {
        let machine = Self(env::temp_dir().join(format!("listentop-{name}-{}", std::process::id())));
        for directory in ["bin", "checkout/xtask", "checkout/userspace"] {
            fs::create_dir_all(machine.0.join(directory)).unwrap();
        }
        machine.write("checkout/rust-toolchain.toml", &format!("[toolchain]\nchannel = \"{PINNED}\"\n"));
        // Scripts need a shell.
        symlink("/bin/sh", machine.0.join("bin/sh")).unwrap();
        machine
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap();
    }

    /// Puts a program in PATH: a shell script.
    fn program(&self, name: &str, script: &str) {
        let path = self.0.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Puts a compiler of this version in PATH, with its own sources or without.
    fn rustc(&self, version: &str, sources: bool) {
        let sysroot = self.0.join("toolchain");
        let library = sysroot.join("lib/rustlib/src/rust/library/core/src");
        fs::create_dir_all(if sources { &library } else { &sysroot }).unwrap();
        if sources {
            fs::write(library.join("lib.rs"), "").unwrap();
        }
        let script = format!(
            "case \"$1\" in --version) echo 'rustc {version} (abc 2026-01-01)'; echo 'host: x86_64-unknown-linux-gnu'; \
             echo 'LLVM version: 22.1.0';; *) echo {};; esac",
            sysroot.display()
        );
        self.program("rustc", &script);
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", self.0.join("bin")).env("CARGO_MANIFEST_DIR", self.0.join("checkout/xtask"));
        command.current_dir(&self.0).stdin(Stdio::null());
        command
    }

    /// The line that xtask fails with.
    fn refusal(&self, arguments: &str) -> String {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_xtask")));
        failed(command.args(arguments.split(' ')), 1)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The last line of a command that fails with this code. The lines before it only announce steps.
fn failed(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(code), &b""[..]), "{stderr}");
    let line = stderr.lines().last().unwrap_or_default().to_owned();
    assert_eq!(stderr.lines().filter(|line| line.starts_with("xtask: ")).count(), stderr.lines().count());
    line
}

#[track_caller]
fn assert_says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

#[test]
fn no_compiler() {
    let line = Machine::new("no-rustc").refusal("setup");
    assert_says(&line, &["Rust 9.95.0 does not run here", "https://rustup.rs", "`rustup toolchain install 9.95.0`"]);
}

#[test]
fn a_toolchain_that_is_not_installed() {
    let machine = Machine::new("no-toolchain");
    machine
        .program("rustc", "echo \"error: toolchain '9.95.0' is not installed\" >&2; echo 'help: run this' >&2; exit 1");
    let line = machine.refusal("setup");
    assert_says(&line, &["`rustup toolchain install 9.95.0`", "toolchain '9.95.0' is not installed help: run this"]);
}

#[test]
fn another_compiler() {
    let machine = Machine::new("old-rustc");
    machine.rustc("1.80.1", true);
    let line = machine.refusal("build");
    assert_says(&line, &["is built with Rust 9.95.0", "rustc 1.80.1", "https://rustup.rs", "RUSTUP_TOOLCHAIN"]);
}

#[test]
fn a_compiler_that_describes_nothing() {
    let machine = Machine::new("odd-rustc");
    machine.program("rustc", "echo rustc 9.95.0");
    assert_says(&machine.refusal("setup"), &["names no host or no LLVM version"]);
}

#[test]
fn no_sources_and_no_rustup() {
    let machine = Machine::new("no-rustup");
    machine.rustc(PINNED, false);
    assert_says(
        &machine.refusal("setup"),
        &["rust-src is missing", "install rustup (https://rustup.rs)", "rustlib/src/rust"],
    );
}

#[test]
fn a_rustup_that_fails() {
    let machine = Machine::new("bad-rustup");
    machine.rustc(PINNED, false);
    machine.program("rustup", "exit 7");
    let line = machine.refusal("setup");
    assert_says(&line, &["rust-src is missing and could not be added", "is the network reachable", "exit status: 7"]);
    machine.program("rustup", "exit 0");
    assert_says(&machine.refusal("setup"), &["rustup added rust-src, but not to"]);
}

#[test]
fn no_c_linker() {
    let machine = Machine::new("no-cc");
    machine.rustc(PINNED, true);
    assert_says(&machine.refusal("setup"), &["no C linker (`cc`)", "package gcc"]);
}

#[test]
fn no_cxx_compiler() {
    assert_says(&Machine::new("no-cxx").refusal("fuzz"), &["no C++ compiler (`c++`)", "package g++"]);
}

#[test]
fn no_root_and_no_sudo() {
    let machine = Machine::new("no-sudo");
    // Any user may run it there.
    let xtask = machine.0.join("xtask");
    fs::copy(env!("CARGO_BIN_EXE_xtask"), &xtask).unwrap();
    fs::set_permissions(&machine.0, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = machine.command(&xtask);
    command.args(["demo", "overflow", "--headless"]);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    assert_says(&failed(&mut command, 1), &["needs root", "there is no sudo", "run it as root"]);
}

#[test]
fn impossible_options_are_refused_before_the_build() {
    let machine = Machine::new("usage");
    for (arguments, part) in [
        ("demo nosuch --headless", "the lessons are "),
        ("demo --headless --for abc", "such as 10, 10s, 500ms or 2m"),
        ("demo overflow", "--headless"),
        ("fuzz --for soon", "such as 10, 10s, 500ms or 2m"),
        ("nosuch", "nosuch"),
    ] {
        let mut command = machine.command(Path::new(env!("CARGO_BIN_EXE_xtask")));
        assert_says(&failed(command.args(arguments.split(' ')), 2), &[part]);
    }
    let mut command = machine.command(Path::new(env!("CARGO_BIN_EXE_xtask")));
    let output = command.args(["demo", "--list"]).output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stdout).unwrap()), (Some(0), lessons::list_text()));
}

/// Compiles a file with the compiler that cargo uses.
#[track_caller]
fn compile(options: &[&str], source: &Path, output: &Path) {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.arg("--edition=2024").args(options).arg(source).arg("-o").arg(output);
    assert!(rustc.status().unwrap().success(), "{}", source.display());
}

/// Plain `cargo build` in a checkout that was not set up: the package's build script, with the same compiler.
#[test]
fn a_build_before_the_setup() {
    let machine = Machine::new("build-script");
    machine.rustc(PINNED, false);
    let script = machine.0.join("build-script");
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = machine.0.join("libbuild_support.rlib");
    compile(&["--crate-type=lib", "--crate-name=build_support"], &xtask.join("build-support/src/lib.rs"), &library);
    let uses = format!("--extern=build_support={}", library.display());
    let source = xtask.with_file_name("userspace").join("build.rs");
    compile(&["--crate-name=build_script_build", &uses], &source, &script);
    let built = || {
        let mut command = machine.command(&script);
        let output = command.env("RUSTC", machine.0.join("bin/rustc")).output().unwrap();
        assert!(output.status.success(), "a failing script would have its whole log shown");
        let stdout = String::from_utf8(output.stdout).unwrap();
        let errors = stdout.lines().filter_map(|line| line.strip_prefix("cargo::error=")).map(str::to_owned);
        errors.collect::<Vec<String>>()
    };
    let missing =
        "listentop's probes can't be built yet: the Rust component rust-src is missing; run \"cargo xtask setup\" once";
    assert_eq!(built(), [missing]);
    machine.rustc(PINNED, true);
    let errors = built();
    assert_eq!(errors.len(), 1);
    assert_says(&errors[0], &["bpf-linker", "is missing; run \"cargo xtask setup\" once"]);
    machine.program("rustc", "echo 'error: no such toolchain' >&2; echo more >&2; exit 1");
    assert_eq!(built(), ["error: no such toolchain more"]);
}
