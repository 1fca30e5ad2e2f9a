//! The release: its version, its date, and its notes in CHANGELOG.md.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use xtask_support::process;

/// What a package says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    /// The version of the workspace's packages.
    pub(crate) version: String,
    /// When its commit was made. All files of all packages have this time, so that the same commit makes the same
    /// packages.
    pub(crate) date: Timestamp,
}

impl Release {
    /// That of the checkout.
    ///
    /// # Errors
    /// Its version cannot be read, or `SOURCE_DATE_EPOCH` is no number.
    pub(crate) fn of(root: &Path) -> Result<Self> {
        Ok(Self { version: version(root)?, date: date(root)? })
    }

    /// Seconds since 1970.
    pub(crate) fn seconds(&self) -> u64 {
        self.date.as_second().max(0).unsigned_abs()
    }

    /// The version as packages order it: with `~` before what comes before a release (0.2.0~beta.1 < 0.2.0).
    pub(crate) fn ordered(&self) -> String {
        self.version.replace('-', "~")
    }
}

fn version(root: &Path) -> Result<String> {
    let path = root.join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: toml::Table = toml::from_str(&text).with_context(|| format!("{} is no manifest", path.display()))?;
    let package = manifest.get("workspace").and_then(|workspace| workspace.get("package"));
    let version = package.and_then(|package| package.get("version")?.as_str());
    version.map(str::to_owned).with_context(|| format!("{} has no workspace.package.version", path.display()))
}

/// `SOURCE_DATE_EPOCH` (reproducible-builds.org), or when the commit was made; in a source archive the changelog's
/// time.
fn date(root: &Path) -> Result<Timestamp> {
    if let Ok(seconds) = env::var("SOURCE_DATE_EPOCH") {
        let parsed = seconds.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        return parsed.with_context(|| format!("SOURCE_DATE_EPOCH={seconds}: must be seconds since 1970"));
    }
    let mut git = Command::new("git");
    git.arg("-C").arg(root).args(["log", "--max-count=1", "--format=%ct"]);
    let of_commit = git.output().ok().filter(|output| output.status.success());
    let of_commit = of_commit.and_then(|output| String::from_utf8_lossy(&output.stdout).trim().parse().ok());
    if let Some(date) = of_commit.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        return Ok(date);
    }
    let changelog = root.join(CHANGELOG);
    process::announce(&format!("there is no commit to date the packages by: they have the date of {CHANGELOG}"));
    let changed = fs::metadata(&changelog).and_then(|metadata| metadata.modified());
    let changed = changed.with_context(|| format!("cannot read {}", changelog.display()))?;
    Timestamp::try_from(changed).context("the changelog's date is out of range")
}

/// The file of notes.
pub(crate) const CHANGELOG: &str = "CHANGELOG.md";

/// The section of a version, without its heading.
///
/// # Errors
/// There is none, or it is empty.
pub(crate) fn notes(changelog: &str, version: &str) -> Result<String> {
    let (_, section) = section(changelog, version)?;
    let text = section.trim();
    ensure!(!text.is_empty(), "the section {version} of {CHANGELOG} is empty");
    Ok(format!("{text}\n"))
}

/// The rest of the heading of a version, and what is below it.
fn section<'a>(changelog: &'a str, version: &str) -> Result<(&'a str, &'a str)> {
    // Headings inside of a section have three signs.
    for section in changelog.split("\n## ").skip(1) {
        let (heading, text) = section.split_once('\n').unwrap_or((section, ""));
        let (name, rest) = heading.split_once(" - ").unwrap_or((heading, ""));
        if name.trim().trim_matches(['[', ']']).eq_ignore_ascii_case(version) {
            // What follows the last section are definitions of links.
            return Ok((rest.trim(), text.split("\n[").next().unwrap_or(text)));
        }
    }
    bail!("{CHANGELOG} has no section {version}")
}

/// What keeps this from being the release of this tag.
///
/// # Errors
/// The tag and the version differ, or the changelog has no dated section of it, or has changes of no release above it.
pub(crate) fn check_tag(tag: &str, version: &str, changelog: &str) -> Result<()> {
    ensure!(
        tag == format!("v{version}"),
        "the tag {tag} is not that of version {version}, which Cargo.toml has: it must be v{version}"
    );
    let (date, _) = section(changelog, version)?;
    ensure!(
        date.parse::<jiff::civil::Date>().is_ok(),
        "the section {version} of {CHANGELOG} has no date: write '## {version} - YYYY-MM-DD'"
    );
    if let Ok((_, unreleased)) = section(changelog, "unreleased") {
        let changes = unreleased.lines().filter(|line| line.starts_with("- ")).count();
        ensure!(changes == 0, "{CHANGELOG} has {changes} unreleased changes: move them to the section {version}");
    }
    notes(changelog, version).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{check_tag, notes};

    const CHANGELOG: &str = "# Changelog\n\n## [Unreleased]\n\n## 0.2.0 - 2026-12-01\n\n### Added\n\n- A thing.\n\n\
                             ## [0.1.0] - unreleased\n\n- First.\n\n[0.1.0]: https://example.org\n";

    #[test]
    fn notes_are_the_section_of_the_version() {
        assert_eq!(notes(CHANGELOG, "0.2.0").unwrap(), "### Added\n\n- A thing.\n");
        assert_eq!(notes(CHANGELOG, "0.1.0").unwrap(), "- First.\n");
        assert_eq!(notes(CHANGELOG, "0.3.0").unwrap_err().to_string(), "CHANGELOG.md has no section 0.3.0");
        assert!(notes(CHANGELOG, "unreleased").unwrap_err().to_string().contains("is empty"));
    }

    #[test]
    fn a_tag_is_that_of_the_version_and_of_a_dated_section() {
        check_tag("v0.2.0", "0.2.0", CHANGELOG).unwrap();
        let refused = |tag, version, changelog: &str| check_tag(tag, version, changelog).unwrap_err().to_string();
        assert!(refused("v0.2.1", "0.2.0", CHANGELOG).contains("it must be v0.2.0"));
        assert!(refused("0.2.0", "0.2.0", CHANGELOG).contains("it must be v0.2.0"));
        assert!(refused("v0.1.0", "0.1.0", CHANGELOG).contains("has no date"));
        assert!(refused("v0.3.0", "0.3.0", CHANGELOG).contains("no section 0.3.0"));
        let more = CHANGELOG.replace("## [Unreleased]\n", "## [Unreleased]\n\n- More.\n");
        assert!(refused("v0.2.0", "0.2.0", &more).contains("1 unreleased changes"));
    }

    #[test]
    fn the_projects_changelog_has_notes_of_its_version() {
        let root = xtask_support::cargo::root();
        let changelog = std::fs::read_to_string(root.join(super::CHANGELOG)).unwrap();
        assert!(notes(&changelog, &super::version(&root).unwrap()).unwrap().contains("### Added"));
    }
}
