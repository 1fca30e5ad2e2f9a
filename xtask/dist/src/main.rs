//! `cargo xtask dist`: what users install.

mod about;
mod check;
mod contents;
mod deb;
mod dependencies;
mod machine;
mod notices;
mod release;
mod rpm;
mod sbom;
mod strip;
mod tarball;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use sha2::{Digest as _, Sha256};
use xtask_support::exit::usage;
use xtask_support::{cargo, exit, process, setup, toolchain};

use about::{ARCHITECTURES, Architecture, NAME};
use contents::{File, Kind, Parts};
use release::{CHANGELOG, Release};

/// Make what users install: a Debian package, an RPM, a tarball, checksums and a bill of materials, in target/dist
#[derive(Parser)]
#[command(name = "cargo xtask dist", bin_name = "cargo xtask dist", max_term_width = 120)]
struct Options {
    /// For this target (repeatable): x86_64-unknown-linux-musl or aarch64-unknown-linux-musl [default: this machine's]
    #[arg(long = "target", value_name = "TARGET", value_parser = architecture)]
    targets: Vec<Architecture>,
    /// Fail unless this is the tag of the version, such as v0.1.0, and the changelog has a dated section of it
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Only print the release notes: the version's section of CHANGELOG.md
    #[arg(long)]
    notes: bool,
    /// Then try the packages of this machine's architecture: as root, in a copy of this system that is thrown away
    #[arg(long, conflicts_with = "notes")]
    check: bool,
    /// Then install and use the Debian package on this kernel of Debian's, such as 6.12, in a virtual machine
    /// (repeatable)
    #[arg(long = "kernel", value_name = "VERSION", conflicts_with = "notes")]
    kernels: Vec<String>,
    /// Package this program instead of building it (repeatable: one for each architecture). It must be static
    #[arg(long = "program", value_name = "FILE", conflicts_with_all = ["targets", "notes"])]
    programs: Vec<PathBuf>,
    /// Who makes the packages
    #[arg(long, value_name = "NAME <ADDRESS>", env = "LISTENTOP_MAINTAINER", default_value = MAINTAINER)]
    maintainer: String,
}

/// Packages that are published have a real address.
const MAINTAINER: &str = "listentop maintainers <maintainers@listentop.invalid>";

fn architecture(target: &str) -> Result<Architecture, String> {
    let found = ARCHITECTURES.into_iter().find(|architecture| cargo::static_target_of(architecture.name) == target);
    found.ok_or_else(|| {
        let known = ARCHITECTURES.map(|architecture| cargo::static_target_of(architecture.name));
        format!("packages are made for {}", known.join(" and "))
    })
}

fn main() -> ExitCode {
    if let Some(code) = check::as_inside() {
        return code;
    }
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) if error.use_stderr() => return exit::unusable(&error.to_string(), "cargo xtask dist --help"),
        Err(help) => help.exit(),
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failure(&error),
    }
}

fn run(options: &Options) -> Result<()> {
    let root = cargo::root();
    let release = Release::of(&root)?;
    let changelog = String::from_utf8(contents::read(&root.join(CHANGELOG))?)
        .with_context(|| format!("{CHANGELOG} is not UTF-8"))?;
    if let Some(tag) = &options.tag {
        release::check_tag(tag, &release.version, &changelog)?;
    }
    if options.notes {
        print!("{}", release::notes(&changelog, &release.version)?);
        return Ok(());
    }
    let own = ARCHITECTURES.into_iter().find(|architecture| architecture.name == env::consts::ARCH);
    let own = own.with_context(|| format!("packages are not made on {}", env::consts::ARCH))?;
    let given = given(&options.programs)?;
    let targets = match (&options.targets[..], &given[..]) {
        ([], []) => vec![own],
        (targets, []) => targets.to_vec(),
        (_, given) => given.iter().map(|(architecture, _)| *architecture).collect(),
    };
    if (options.check || !options.kernels.is_empty()) && !targets.contains(&own) {
        return Err(usage(format!("--check and --kernel need the packages of {}", cargo::static_target())));
    }

    // Manual pages and completions are printed by the program that runs here.
    let printer = program(own, &given)?;
    let scratch = root.join(format!("target/dist-scratch-{}", std::process::id()));
    let (manual, completions) = contents::printed(&printer, &scratch)?;
    fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    let mut made = Vec::new();
    for architecture in targets {
        let program = if architecture == own { printer.clone() } else { program(architecture, &given)? };
        let parts = parts(&program, architecture, &release, &root, (&manual, &completions))?;
        made.extend(packages(&parts, architecture, &release, &root, &options.maintainer)?);
    }
    made.push((format!("{NAME}-{}.md", release.version), release::notes(&changelog, &release.version)?.into_bytes()));
    made.push(("SHA256SUMS".to_owned(), checksums(&made).into_bytes()));
    let dir = root.join("target/dist");
    // Packages of other versions must not be taken for this one's.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for (name, bytes) in &made {
        let path = dir.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    if options.check {
        // A program that was built elsewhere may be of another commit.
        let commit = if given.is_empty() { toolchain::commit(&root) } else { None };
        check::run(&dir, own, &release, commit.as_ref().map(|commit| &*commit.name))?;
    }
    machine::run(&options.kernels, &dir.join(deb::file_name(&release, own)), &release)?;
    Ok(())
}

/// A program that was built already, with what it is for.
type Given = (Architecture, PathBuf);

/// The programs of the command line.
fn given(programs: &[PathBuf]) -> Result<Vec<Given>> {
    let one = |path: &PathBuf| {
        // cargo runs us in the same directory as the user.
        let bytes = contents::read(path)?;
        let architecture = about::of_program(&bytes)
            .with_context(|| format!("{} is no program of an architecture that has packages", path.display()))?;
        Ok((architecture, path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?))
    };
    programs.iter().map(one).collect()
}

/// The program for an architecture: the one that was given, or else it is built.
fn program(architecture: Architecture, given: &[Given]) -> Result<PathBuf> {
    if let Some((_, path)) = given.iter().find(|(of, _)| *of == architecture) {
        return Ok(path.clone());
    }
    setup::run_static_for(architecture.name)?;
    cargo::build_static(architecture.name)
}

/// What all packages of an architecture are made of.
fn parts(
    program: &Path,
    architecture: Architecture,
    release: &Release,
    root: &Path,
    (manual, completions): (&contents::Manual, &contents::Completions),
) -> Result<Parts> {
    let target = cargo::static_target_of(architecture.name);
    let dependencies = dependencies::of(root, &target)?;
    let compiler = toolchain::Toolchain::of(&cargo::rustc(), root).context("cannot ask the compiler")?;
    let version = compiler.rustc.split(' ').nth(1).unwrap_or_default();
    Ok(Parts {
        program: strip::stripped(program, &compiler)?,
        manual: manual.clone(),
        completions: completions.clone(),
        notices: notices::document(&dependencies)?,
        sbom: sbom::document(&dependencies, release, &target, version)?,
    })
}

/// A file of the release: its name and what is in it.
type Made = (String, Vec<u8>);

/// The packages of an architecture.
fn packages(
    parts: &Parts,
    architecture: Architecture,
    release: &Release,
    root: &Path,
    maintainer: &str,
) -> Result<Vec<Made>> {
    let files = |kind| -> Result<Vec<File>> { contents::files(kind, parts, root) };
    process::announce(&format!("writing the packages for {}", architecture.name));
    let top = format!("{NAME}-{}-{}", release.version, cargo::static_target_of(architecture.name));
    let tarball = tarball::compressed(&files(Kind::Tarball)?, &top, release.seconds())?;
    let deb = deb::package(files(Kind::Debian)?, release, architecture, maintainer)?;
    let rpm = rpm::package(files(Kind::Rpm)?, release, architecture, maintainer)?;
    Ok(vec![
        (deb::file_name(release, architecture), deb),
        (rpm::file_name(release, architecture), rpm),
        (format!("{top}.tar.gz"), tarball),
        (format!("{top}.cdx.json"), parts.sbom.clone()),
    ])
}

/// As sha256sum(1) writes and checks them.
fn checksums(made: &[Made]) -> String {
    made.iter().fold(String::new(), |mut text, (name, bytes)| {
        let _ = writeln!(text, "{}  {name}", deb::hex(&Sha256::digest(bytes)));
        text
    })
}
