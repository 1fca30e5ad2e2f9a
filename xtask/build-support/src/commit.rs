//! Which commit a build is made from, for `--version`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The environment variable that names the commit where there is no git, as in a source archive. Empty: name none.
pub const COMMIT_VARIABLE: &str = "LISTENTOP_COMMIT";

/// What is said of a checkout whose sources differ from the commit's.
const MODIFIED: &str = ", modified";

/// The commit of a checkout.
#[derive(Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its first twelve digits, and whether the sources differ from it.
    pub name: String,
    /// What changes with it, and with the answer to whether sources differ.
    pub depends_on: Vec<PathBuf>,
}

/// The commit that a build of listentop in `root` is made from. `None` without git, and in a source archive, even if
/// that is unpacked inside another project's checkout.
#[must_use]
pub fn commit(root: &Path) -> Option<Commit> {
    if let Some(name) = env::var_os(COMMIT_VARIABLE) {
        let name = name.into_string().ok().filter(|name| !name.is_empty())?;
        return Some(Commit { name, depends_on: Vec::new() });
    }
    let top = git(root, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    // Twelve always: the digits that git needs to tell commits apart differ from clone to clone.
    let name = git(root, &["rev-parse", "--short=12", "HEAD"])?;
    let sources = sources(root);
    let mut status = git_command(root, &["status", "--porcelain", "--"]);
    let modified = !run(status.args(&sources))?.is_empty();
    let mut depends_on = sources;
    // The first has which branch is checked out, the second changes with every commit on it. A file that is missing
    // would have cargo build anew each time.
    let of_git = ["HEAD", "logs/HEAD"];
    let paths = of_git.iter().filter_map(|name| git(root, &["rev-parse", "--git-path", name]));
    depends_on.extend(paths.map(|path| root.join(path)).filter(|path| path.exists()));
    Some(Commit { name: if modified { name + MODIFIED } else { name }, depends_on })
}

/// What listentop is made of, without its tests.
fn sources(root: &Path) -> Vec<PathBuf> {
    let packages = fs::read_dir(root.join("userspace")).into_iter().flatten().flatten();
    let packages = packages.map(|entry| entry.path()).chain([root.join("userspace")]);
    let files = packages.flat_map(|package| [package.join("src"), package.join("Cargo.toml")]);
    let files = files.chain([root.join("userspace/build.rs")]);
    let others = ["ebpf", "demo-servers/lab-control", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];
    let mut sources: Vec<PathBuf> = files.chain(others.map(|name| root.join(name))).collect();
    sources.retain(|path| path.exists());
    sources.sort();
    sources
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    run(&mut git_command(root, arguments))
}

fn git_command(root: &Path, arguments: &[&str]) -> Command {
    let mut git = Command::new("git");
    // Looking must not wait for another git, nor change the checkout.
    git.arg("--no-optional-locks").arg("-C").arg(root).args(arguments);
    git
}

/// What it prints, without the end of the line; `None` if it fails.
fn run(git: &mut Command) -> Option<String> {
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::{commit, run};

    /// A checkout of its own; gone when dropped.
    struct Checkout(PathBuf);

    impl Checkout {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("listentop-commit-{name}-{}", std::process::id()));
            fs::create_dir_all(root.join("userspace/src")).unwrap();
            fs::create_dir_all(root.join("userspace/tests")).unwrap();
            fs::write(root.join("userspace/src/main.rs"), "").unwrap();
            Self(root)
        }

        fn git(&self, arguments: &[&str]) {
            let mut git = Command::new("git");
            git.current_dir(&self.0).args(["-c", "user.name=a", "-c", "user.email=a@example.org"]).args(arguments);
            assert!(run(&mut git).is_some(), "git {arguments:?}");
        }

        fn named(&self) -> Option<String> {
            commit(&self.0).map(|commit| commit.name)
        }
    }

    impl Drop for Checkout {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_commit_is_named_and_sources_that_differ_are_said_to() {
        let checkout = Checkout::new("usual");
        assert_eq!(checkout.named(), None, "there is no repository");
        checkout.git(&["init", "--quiet"]);
        assert_eq!(checkout.named(), None, "there is no commit");
        checkout.git(&["add", "."]);
        checkout.git(&["commit", "--quiet", "--message", "first"]);
        let first = checkout.named().unwrap();
        assert!(first.len() == 12 && first.bytes().all(|byte| byte.is_ascii_hexdigit()), "{first}");

        fs::write(checkout.0.join("userspace/tests/new.rs"), "").unwrap();
        assert_eq!(checkout.named().as_deref(), Some(&*first), "tests are no part of the program");
        fs::write(checkout.0.join("userspace/src/main.rs"), "fn main() {}").unwrap();
        assert_eq!(checkout.named(), Some(format!("{first}, modified")));

        checkout.git(&["commit", "--quiet", "--all", "--message", "second"]);
        let second = commit(&checkout.0).unwrap();
        assert!(second.name != first && !second.name.contains("modified"), "{second:?}");
        assert!(second.depends_on.iter().all(|path| path.exists()), "{second:?}");
        let depends_on = |end: &str| second.depends_on.iter().any(|path| path.ends_with(end));
        assert!(depends_on("userspace/src") && depends_on(".git/HEAD") && depends_on(".git/logs/HEAD"), "{second:?}");
    }

    #[test]
    fn an_archive_inside_another_checkout_has_no_commit() {
        let checkout = Checkout::new("outer");
        checkout.git(&["init", "--quiet"]);
        checkout.git(&["add", "."]);
        checkout.git(&["commit", "--quiet", "--message", "first"]);
        let inner: &Path = &checkout.0.join("userspace");
        assert_eq!(commit(inner), None);
        assert!(checkout.named().is_some());
    }
}
