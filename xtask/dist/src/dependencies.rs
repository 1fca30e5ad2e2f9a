//! What is linked into the program: crates with their versions, licences and checksums.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::{Metadata, MetadataCommand, Package};
use xtask_support::{cargo, process, toolchain};

/// A crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// As SPDX writes it, if it says.
    pub(crate) licence: Option<String>,
    /// SHA-256 of its file in the registry; those of this workspace have none.
    pub(crate) checksum: Option<String>,
    /// Where its source is.
    pub(crate) folder: PathBuf,
    /// Names and versions of the crates that it uses itself, among those that are linked in.
    pub(crate) uses: Vec<Id>,
}

/// Name and version.
pub(crate) type Id = (String, String);

impl Dependency {
    /// Name and version.
    pub(crate) fn id(&self) -> Id {
        (self.name.clone(), self.version.clone())
    }
}

/// All of a program for this target, by name: what the program itself links, and what the probes do.
///
/// # Errors
/// cargo fails, or says something unknown.
pub(crate) fn of(root: &Path, target: &str) -> Result<Vec<Dependency>> {
    let mut linked = tree("listentop", target)?;
    linked.extend(tree(toolchain::PROBES_PACKAGE, target)?);
    let metadata = MetadataCommand::new()
        .cargo_path(cargo::program())
        .current_dir(root)
        .other_options(["--locked".to_owned(), format!("--filter-platform={target}")])
        .exec()
        .context("cannot ask cargo for the packages")?;
    let checksums = checksums(root)?;
    let packages = metadata.packages.iter().filter(|package| linked.contains(&id(package)));
    let mut found: Vec<Dependency> = packages
        .map(|package| Dependency {
            name: package.name.to_string(),
            version: package.version.to_string(),
            licence: package.license.clone(),
            checksum: checksums.get(&id(package)).cloned(),
            folder: package.manifest_path.parent().map(Into::into).unwrap_or_default(),
            uses: uses(&metadata, package, &linked),
        })
        .collect();
    found.sort_by_key(Dependency::id);
    ensure!(
        found.len() == linked.len(),
        "cargo tree names {} packages, and cargo metadata {}",
        linked.len(),
        found.len()
    );
    Ok(found)
}

/// What a package links, with exactly the features that its build has. Procedural macros are run by the compiler.
fn tree(package: &str, target: &str) -> Result<BTreeSet<Id>> {
    let mut tree = cargo::command("tree");
    tree.args(["--locked", "--quiet", "--package", package, "--target", target, "--edges", "normal,no-proc-macro"]);
    tree.args(["--prefix", "none", "--no-dedupe", "--format", "{p}"]);
    parse_tree(&process::capture(&mut tree, "asking cargo what is linked in")?)
}

/// Lines such as `adler2 v2.0.1` and `listentop v0.1.0 (/path)`.
fn parse_tree(text: &str) -> Result<BTreeSet<Id>> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        Some((name.to_owned(), rest.split(' ').next()?.to_owned()))
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|text| line(text).with_context(|| format!("cargo tree says something unknown: {text}"))).collect()
}

fn id(package: &Package) -> Id {
    (package.name.to_string(), package.version.to_string())
}

fn uses(metadata: &Metadata, package: &Package, linked: &BTreeSet<Id>) -> Vec<Id> {
    let nodes = metadata.resolve.as_ref().map_or(&[][..], |resolve| &resolve.nodes);
    let node = nodes.iter().find(|node| node.id == package.id);
    let dependencies = node.into_iter().flat_map(|node| &node.deps);
    let normal = dependencies.filter(|dependency| {
        dependency.dep_kinds.iter().any(|kind| kind.kind == cargo_metadata::DependencyKind::Normal)
    });
    let mut uses: Vec<Id> = normal.map(|dependency| id(&metadata[&dependency.pkg])).collect();
    uses.retain(|used| linked.contains(used));
    uses.sort();
    uses.dedup();
    uses
}

/// What Cargo.lock has of the registry's files.
fn checksums(root: &Path) -> Result<BTreeMap<Id, String>> {
    let path = root.join("Cargo.lock");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lock: toml::Table = toml::from_str(&text).with_context(|| format!("{} is no lock file", path.display()))?;
    let packages = lock.get("package").and_then(|packages| packages.as_array());
    let entry = |package: &toml::Value| {
        let text = |name: &str| package.get(name)?.as_str().map(str::to_owned);
        Some(((text("name")?, text("version")?), text("checksum")?))
    };
    Ok(packages.into_iter().flatten().filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::{of, parse_tree};

    #[test]
    fn lines_of_the_tree_name_packages() {
        let read = parse_tree("listentop v0.1.0 (/w/userspace)\nanyhow v1.0.105\n\nanyhow v1.0.105 (*)\n").unwrap();
        let names: Vec<(&str, &str)> = read.iter().map(|(name, version)| (&**name, &**version)).collect();
        assert_eq!(names, [("anyhow", "1.0.105"), ("listentop", "0.1.0")]);
        assert!(parse_tree("what?").is_err());
    }

    #[test]
    fn what_is_linked_in_has_licences_and_nothing_of_tests_and_builds() {
        let all = of(&xtask_support::cargo::root(), "x86_64-unknown-linux-musl").unwrap();
        let find = |name: &str| all.iter().find(|dependency| dependency.name == name);
        for name in ["listentop", "listentop-model", "aya", "aya-ebpf", "ratatui", "rustls", "parquet"] {
            assert!(find(name).is_some(), "{name} is linked in");
        }
        for name in ["insta", "proptest", "build-support", "serde_derive", "xtask"] {
            assert!(find(name).is_none(), "{name} is not");
        }
        let aya = find("aya").unwrap();
        assert!(aya.checksum.as_ref().is_some_and(|checksum| checksum.len() == 64), "{aya:?}");
        assert!(aya.uses.iter().any(|(name, _)| name == "aya-obj"), "{aya:?}");
        assert!(all.iter().all(|dependency| dependency.licence.is_some()), "deny.toml asks for it");
    }
}
