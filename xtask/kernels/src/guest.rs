//! The files of a virtual machine: the tests and the tool as static programs, the init, modules, and the plan.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::architecture::Architecture;
use crate::archive::Archive;
use crate::image::Image;
use listentop_guest::plan::{PLAN_FILE, Plan};
use xtask_support::toolchain::Toolchain;
use xtask_support::{cargo, process, setup};

/// The program that the kernel starts.
pub const INIT: &str = "/init";
/// The path of listentop in the machine.
pub const LISTENTOP: &str = "/bin/listentop";
/// The path of the kernel tests.
pub const TESTS: &str = "/bin/kernel-tests";
/// The path of the tests of the source without probes.
pub const SOCK_DIAG_TESTS: &str = "/bin/sock-diag-tests";

/// The static programs: they need no other file.
#[derive(Debug)]
pub struct Programs {
    init: PathBuf,
    tests: PathBuf,
    sock_diag_tests: PathBuf,
    listentop: PathBuf,
}

impl Programs {
    /// Builds them for musl.
    ///
    /// # Errors
    /// When the target is missing and cannot be added, or the build fails.
    pub fn build(architecture: Architecture) -> Result<Self> {
        setup::run_static_for(architecture.name())?;
        process::announce(&format!(
            "building listentop and its kernel tests for {architecture} as static programs (the first time takes a few minutes)"
        ));
        let mut tests = cargo::static_command_for("test", architecture.name());
        tests.args(["--no-run", "--package", "kernel-tests"]).args(features(architecture));
        let mut built = cargo::executables(&mut tests, "the static build of the kernel tests")?;
        let mut listentop = cargo::static_command_for("build", architecture.name());
        listentop.args(["--package", "listentop", "--bin", "listentop"]).args(features(architecture));
        built.extend(cargo::executables(&mut listentop, "the static build of listentop")?);
        let mut init = cargo::static_command_for("build", architecture.name());
        init.args(["--package", "listentop-guest", "--bin", "vm-init"]);
        built.extend(cargo::executables(&mut init, "the static build of the virtual machines' init")?);
        let compiler = Toolchain::of(&cargo::rustc(), &cargo::root()).context("cannot ask the compiler")?;
        let program = |kind: &str, name: &str| {
            let found = built.iter().find(|built| built.kind == kind && built.target == name);
            without_debug_information(&found.with_context(|| format!("the build made no {name}"))?.path, &compiler)
        };
        Ok(Self {
            init: program("bin", "vm-init")?,
            tests: program("test", "kernel")?,
            sock_diag_tests: program("test", "sock_diag")?,
            listentop: program("bin", "listentop")?,
        })
    }

    /// The programs with their paths in the machine.
    #[must_use]
    pub fn files(&self) -> [(&str, &Path); 4] {
        [
            (INIT, &self.init),
            (LISTENTOP, &self.listentop),
            (TESTS, &self.tests),
            (SOCK_DIAG_TESTS, &self.sock_diag_tests),
        ]
    }
}

/// A copy of the program that is a third as large: a machine unpacks it into its memory before it starts. Names of
/// functions stay, which some tests look for.
fn without_debug_information(program: &Path, compiler: &Toolchain) -> Result<PathBuf> {
    let mut objcopy = compiler.objcopy().context("the compiler has no objcopy")?;
    let copy = program.with_extension("without-debug");
    process::run(objcopy.arg("--strip-debug").arg(program).arg(&copy), "removing debug information")?;
    Ok(copy)
}

/// What listentop has in the machine. Everything where it is this machine's own architecture: packages are built with
/// the same. For another one nothing else is built, and exporters, tables and pictures, which no kernel test looks at,
/// are half of the build.
fn features(architecture: Architecture) -> &'static [&'static str] {
    if std::env::consts::ARCH == architecture.name() { &[] } else { &["--no-default-features", "--features", "blame"] }
}

/// Writes the machine's only file system: the programs and other files with their paths in it, among them the init; the
/// image's modules; and the plan.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write_file_system(to: &Path, programs: &[(&str, &Path)], image: &Image, mut plan: Plan) -> Result<()> {
    let file = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    for directory in ["bin", "dev", "etc", "modules", "proc", "root", "run", "sys", "tmp"] {
        archive.directory(directory)?;
    }
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut made = BTreeSet::from(["/", "/bin"].map(Path::new));
    for (name, path) in programs {
        let mut above: Vec<&Path> = Path::new(name).ancestors().skip(1).filter(|above| made.insert(above)).collect();
        above.reverse();
        for directory in above {
            archive.directory(&directory.to_string_lossy())?;
        }
        archive.file(name, &read(path)?)?;
    }
    // A test execs this program, to check that listentop notices.
    archive.link("bin/sleep", "/init")?;
    for module in &image.modules {
        let name = format!("/modules/{}", module.file_name().unwrap_or_default().display());
        archive.file(&name, &read(module)?)?;
        plan.modules.push(name);
    }
    archive.file(PLAN_FILE, &serde_json::to_vec(&plan)?)?;
    archive.finish().with_context(|| format!("cannot write {}", to.display()))?;
    Ok(())
}
