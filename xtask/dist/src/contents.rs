//! What a package contains. Declared once: each kind of package is written from this list.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use flate2::{Compression, GzBuilder};
use xtask_support::process;

use crate::release::CHANGELOG;

/// A file of a package.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Its path without a `/` at the beginning: from the root directory, in a tarball from its folder.
    pub(crate) path: String,
    /// Whether it is run.
    pub(crate) is_program: bool,
    /// What package managers know of it.
    pub(crate) role: Role,
    /// What is in it.
    pub(crate) bytes: Vec<u8>,
}

/// What package managers distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing else.
    Plain,
    /// A file that the administrator changes: an upgrade leaves it alone.
    Configuration,
    /// Can be left out.
    Documentation,
    /// A licence.
    Licence,
}

/// A kind of package, with what its distributions do differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A tarball, to be unpacked in /usr/local.
    Tarball,
    /// For Debian and Ubuntu.
    Debian,
    /// For Fedora, RHEL and SUSE.
    Rpm,
}

impl Kind {
    /// Where all but configuration is.
    fn prefix(self) -> &'static str {
        if self == Self::Tarball { "" } else { "usr/" }
    }

    /// Where zsh looks for functions of packages.
    fn zsh(self) -> &'static str {
        if self == Self::Debian { "share/zsh/vendor-completions" } else { "share/zsh/site-functions" }
    }

    fn licences(self) -> &'static str {
        if self == Self::Rpm { "share/licenses/listentop" } else { DOC }
    }

    /// Packages have manual pages and the changelog compressed, as their distributions do.
    fn is_compressed(self) -> bool {
        self != Self::Tarball
    }
}

/// Documentation of the package.
pub(crate) const DOC: &str = "share/doc/listentop";

/// Shells with the file that each looks for, without the folder.
const COMPLETIONS: [(&str, &str); 4] = [
    ("bash", "share/bash-completion/completions/listentop"),
    ("fish", "share/fish/vendor_completions.d/listentop.fish"),
    ("elvish", "share/elvish/lib/listentop.elv"),
    ("zsh", "_listentop"),
];

/// Files of the checkout that are examples, and their names in the folder of examples.
const EXAMPLES: [(&str, &str); 5] = [
    ("deploy/prometheus/listentop.rules.yml", "prometheus/listentop.rules.yml"),
    ("deploy/prometheus/prometheus.yml", "prometheus/prometheus.yml"),
    ("deploy/grafana/listentop.json", "grafana/listentop.json"),
    ("deploy/config/config.toml", "config.toml"),
    ("deploy/config/web.yml", "web.yml"),
];

/// The parts that are the same in each kind.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The program, without what only a debugger reads.
    pub(crate) program: Vec<u8>,
    /// Manual pages by their names.
    pub(crate) manual: Vec<(String, Vec<u8>)>,
    /// Completions by shell.
    pub(crate) completions: Vec<(&'static str, Vec<u8>)>,
    /// The licences of what is linked in.
    pub(crate) notices: String,
    /// The bill of materials.
    pub(crate) sbom: Vec<u8>,
}

/// Has a program that runs here print its manual pages and completions.
///
/// # Errors
/// It fails.
pub(crate) fn printed(program: &Path, scratch: &Path) -> Result<(Manual, Completions)> {
    let dir = scratch.join("man");
    // Pages of commands that are no more must not get in.
    let _ = fs::remove_dir_all(&dir);
    process::run(Command::new(program).arg("man").arg("--dir").arg(&dir), "writing the manual pages")?;
    let mut manual = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        manual.push((name, read(&path)?));
    }
    ensure!(!manual.is_empty(), "listentop wrote no manual pages");
    manual.sort();
    let completions = COMPLETIONS.iter().map(|(shell, _)| {
        let script = process::capture(Command::new(program).args(["completions", shell]), "printing completions")?;
        Ok((*shell, script.into_bytes()))
    });
    Ok((manual, completions.collect::<Result<_>>()?))
}

/// Manual pages by their names.
pub(crate) type Manual = Vec<(String, Vec<u8>)>;
/// Completions by shell.
pub(crate) type Completions = Vec<(&'static str, Vec<u8>)>;

/// All files of a package, by path.
///
/// # Errors
/// A file of the checkout cannot be read.
pub(crate) fn files(kind: Kind, parts: &Parts, root: &Path) -> Result<Vec<File>> {
    let prefix = kind.prefix();
    let mut files = Vec::new();
    let mut add = |path: String, role: Role, bytes: Vec<u8>| {
        files.push(File { is_program: path.ends_with("bin/listentop"), path, role, bytes });
    };
    add(format!("{prefix}bin/listentop"), Role::Plain, parts.program.clone());
    for (name, page) in &parts.manual {
        let (name, page) = compressed(kind, name, page);
        add(format!("{prefix}share/man/man1/{name}"), Role::Documentation, page);
    }
    for (shell, path) in COMPLETIONS {
        let path = if shell == "zsh" { format!("{}/{path}", kind.zsh()) } else { path.to_owned() };
        let script = parts.completions.iter().find(|(name, _)| *name == shell);
        add(format!("{prefix}{path}"), Role::Plain, script.context("there are no such completions")?.1.clone());
    }
    for name in units(root)? {
        let text = String::from_utf8(read(&root.join(UNITS).join(&name))?).context("a unit is not UTF-8")?;
        let text = if kind == Kind::Tarball { text } else { text.replace("/usr/local/bin/", "/usr/bin/") };
        add(format!("{prefix}lib/systemd/system/{name}"), Role::Plain, text.into_bytes());
    }
    let options = read(&root.join("deploy/default/listentop"))?;
    if kind == Kind::Tarball {
        add(format!("{DOC}/examples/default"), Role::Documentation, options);
    } else {
        add("etc/default/listentop".to_owned(), Role::Configuration, options);
    }
    for (from, name) in EXAMPLES {
        add(format!("{prefix}{DOC}/examples/{name}"), Role::Documentation, read(&root.join(from))?);
    }
    for (name, bytes) in documents(root)? {
        add(format!("{prefix}{DOC}/{name}"), Role::Documentation, bytes);
    }
    // Debian has the changelog under this name.
    let name = if kind == Kind::Debian { "changelog" } else { CHANGELOG };
    let (name, changelog) = compressed(kind, name, &read(&root.join(CHANGELOG))?);
    add(format!("{prefix}{DOC}/{name}"), Role::Documentation, changelog);
    add(format!("{prefix}{DOC}/listentop.cdx.json"), Role::Documentation, parts.sbom.clone());
    // Debian's file of licences refers to the common ones.
    if kind != Kind::Debian {
        for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
            add(format!("{prefix}{}/{name}", kind.licences()), Role::Licence, read(&root.join(name))?);
        }
    }
    let (name, notices) = compressed(kind, "THIRD-PARTY-NOTICES", parts.notices.as_bytes());
    add(format!("{prefix}{}/{name}", kind.licences()), Role::Licence, notices);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Where the units are in the checkout.
const UNITS: &str = "deploy/systemd";

/// The names of the systemd units.
///
/// # Errors
/// They cannot be read.
pub(crate) fn units(root: &Path) -> Result<Vec<String>> {
    let folder = root.join(UNITS);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// README, SECURITY, and all of docs/ with its pictures.
fn documents(root: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec!["README.md".to_owned(), "SECURITY.md".to_owned()];
    for folder in ["docs", "docs/pictures"] {
        let path = root.join(folder);
        for entry in fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(format!("{folder}/{}", entry.file_name().display()));
            }
        }
    }
    names.sort();
    names.into_iter().map(|name| read(&root.join(&name)).map(|bytes| (name, bytes))).collect()
}

/// The directories above the files, outermost first.
pub(crate) fn directories(files: &[File]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for file in files {
        let ends = file.path.match_indices('/').map(|(at, _)| file.path[..at].to_owned());
        all.extend(ends);
    }
    all.sort();
    all.dedup();
    all
}

fn compressed(kind: Kind, name: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    if kind.is_compressed() { (format!("{name}.gz"), gzip(bytes)) } else { (name.to_owned(), bytes.to_owned()) }
}

/// Compressed, without a date and a name, as `gzip -9n` does.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzBuilder::new().operating_system(3).write(Vec::new(), Compression::best());
    let written = writer.write_all(bytes).and_then(|()| writer.finish());
    written.unwrap_or_else(|_| unreachable!("memory takes everything"))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{COMPLETIONS, File, Kind, Parts, Role, directories, files, gzip};
    use std::io::Read as _;

    /// Parts that are small.
    pub(crate) fn parts() -> Parts {
        Parts {
            program: b"\x7fELF".to_vec(),
            manual: vec![("listentop.1".to_owned(), b".TH".to_vec())],
            completions: COMPLETIONS.iter().map(|(shell, _)| (*shell, shell.as_bytes().to_vec())).collect(),
            notices: "MIT".to_owned(),
            sbom: b"{}".to_vec(),
        }
    }

    fn of(kind: Kind) -> Vec<File> {
        files(kind, &parts(), &xtask_support::cargo::root()).unwrap()
    }

    fn find<'a>(files: &'a [File], path: &str) -> &'a File {
        files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path} is missing"))
    }

    #[test]
    fn each_kind_has_its_places() {
        let debian = of(Kind::Debian);
        assert!(find(&debian, "usr/bin/listentop").is_program);
        assert_eq!(find(&debian, "etc/default/listentop").role, Role::Configuration);
        for path in [
            "usr/share/zsh/vendor-completions/_listentop",
            "usr/share/doc/listentop/changelog.gz",
            "usr/share/man/man1/listentop.1.gz",
        ] {
            find(&debian, path);
        }
        let rpm = of(Kind::Rpm);
        assert_eq!(find(&rpm, "usr/share/licenses/listentop/LICENSE-MIT").role, Role::Licence);
        find(&rpm, "usr/share/zsh/site-functions/_listentop");
        let tarball = of(Kind::Tarball);
        find(&tarball, "bin/listentop");
        find(&tarball, "share/man/man1/listentop.1");
        assert!(!tarball.iter().any(|file| file.path.starts_with("etc/")));
    }

    #[test]
    fn units_start_the_program_where_it_is() {
        for (kind, unit, program) in [
            (Kind::Debian, "usr/lib/systemd/system/listentop-serve.service", "=/usr/bin/listentop serve"),
            (Kind::Tarball, "lib/systemd/system/listentop-serve.service", "=/usr/local/bin/listentop serve"),
        ] {
            let files = of(kind);
            let text = String::from_utf8(find(&files, unit).bytes.clone()).unwrap();
            assert!(text.contains(program), "{text}");
        }
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let folders = directories(&of(Kind::Debian));
        assert_eq!(folders[..3], ["etc", "etc/default", "usr"]);
        assert!(folders.contains(&"usr/share/doc/listentop/examples/grafana".to_owned()));
    }

    #[test]
    fn compressing_is_the_same_each_time_and_gives_everything_back() {
        let (first, second) = (gzip(b"text text text"), gzip(b"text text text"));
        assert_eq!(first, second);
        let mut text = String::new();
        flate2::read::GzDecoder::new(&first[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text text text");
    }
}
