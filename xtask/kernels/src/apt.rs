//! Debian's kernel packages, through apt, which checks their signatures. Sources, lists and cache are our own, so those
//! of the machine stay as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};

use crate::architecture::Architecture;
use crate::packages::{self, Package};
use xtask_support::process;

/// The Debian suites with kernels from 5.10 to 7.x.
const SUITES: [&str; 4] = ["bullseye", "bookworm", "trixie", "trixie-backports"];

/// Debian's keys, as the package debian-archive-keyring installs them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Lists younger than this are not fetched again.
const FRESH: Duration = Duration::from_hours(24);

/// apt with directories of our own.
pub(crate) struct Apt {
    dir: PathBuf,
    architecture: Architecture,
}

impl Apt {
    /// Makes the directories and the configuration.
    ///
    /// # Errors
    /// When apt or Debian's keys are missing, or no Debian mirror is known; the message says what to do.
    pub(crate) fn new(dir: &Path, architecture: Architecture, mirror: Option<&str>) -> Result<Self> {
        ensure!(
            process::find("apt-get").is_some() && process::find("dpkg-deb").is_some(),
            "the kernels are Debian's packages, and this machine has no apt to fetch them: run this on Debian, or in a Debian \
             container"
        );
        ensure!(
            Path::new(KEYRING).is_file(),
            "Debian's keys are missing ({KEYRING}): `apt-get install debian-archive-keyring` installs them"
        );
        let mirror = match mirror {
            Some(mirror) => mirror.to_owned(),
            None => machines_mirror()?,
        };
        for sub in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(sub)).with_context(|| format!("cannot create {}", dir.join(sub).display()))?;
        }
        let apt = Self { dir: dir.to_owned(), architecture };
        let debian = architecture.debian();
        let source =
            |suite: &&str| format!("deb [arch={debian} signed-by={KEYRING} target=Packages] {mirror} {suite} main\n");
        apt.write("sources.list", &SUITES.iter().map(source).collect::<String>())?;
        let path = |name: &str| dir.join(name).display().to_string();
        apt.write("apt.conf", &configuration(debian, path))?;
        Ok(apt)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.dir.join("apt.conf"));
        command
    }

    /// The kernel packages of all suites. The lists are fetched when they are missing or a day old.
    ///
    /// # Errors
    /// When there are no lists and they cannot be fetched.
    pub(crate) fn kernel_packages(&self) -> Result<BTreeMap<String, Package>> {
        let stamp = self.dir.join("updated");
        let age = stamp
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .map(|at| SystemTime::now().duration_since(at));
        // A stamp from the future has no age.
        if !matches!(age, Some(Ok(age)) if age < FRESH) {
            process::announce("fetching Debian's package lists");
            match process::run(self.command("apt-get").args(["--quiet", "update"]), "fetching the package lists") {
                Ok(()) => self.write("updated", "")?,
                Err(error) if stamp.exists() => process::announce(&format!("{error:#}: using older lists")),
                Err(error) => return Err(error).context("is the mirror reachable? --mirror URI names another one"),
            }
        }
        let targets = process::capture(
            self.command("apt-get").args(["indextargets", "--format", "$(FILENAME)", "Created-By: Packages"]),
            "asking apt for its lists",
        )?;
        let mut found = BTreeMap::new();
        for file in targets.lines() {
            let mut cat = self.command("/usr/lib/apt/apt-helper");
            let index = process::capture(cat.args(["cat-file", file]), "reading a package list")?;
            found.extend(packages::parse_index(&index));
        }
        ensure!(
            !found.is_empty(),
            "the package lists in {} hold no kernels: remove this directory",
            self.dir.display()
        );
        Ok(found)
    }

    /// Downloads a package, or finds an earlier download. apt checks both against the signed lists.
    ///
    /// # Errors
    /// When apt cannot fetch it, or its checksum differs from the lists.
    pub(crate) fn download(&self, package: &Package) -> Result<PathBuf> {
        let dir = self.dir.join("packages");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut download = self.command("apt-get");
        download.current_dir(&dir).args(["--quiet", "download"]);
        process::run(
            download.arg(format!("{}={}", package.name, package.version)),
            &format!("downloading {}", package.name),
        )?;
        // apt escapes the colon of an epoch.
        let file =
            format!("{}_{}_{}.deb", package.name, package.version.replace(':', "%3a"), self.architecture.debian());
        let path = dir.join(file);
        ensure!(path.is_file(), "apt downloaded {} under another name than {}", package.name, path.display());
        Ok(path)
    }
}

/// The settings that keep apt in its directory. apt reads them after the machine's own, which configure the network.
fn configuration(architecture: &str, path: impl Fn(&str) -> String) -> String {
    format!(
        "Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"-\";\nDir::State::lists \"{}\";\nDir::Cache \"{}\";\n\
         Acquire::Languages \"none\";\nAPT::Architecture \"{architecture}\";\nAPT::Sandbox::User \"root\";\n\
         #clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n",
        path("sources.list"),
        path("lists"),
        path("cache")
    )
}

/// The Debian mirror that this machine uses.
fn machines_mirror() -> Result<String> {
    let mut ask = Command::new("apt-get");
    ask.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]);
    let targets = process::capture(&mut ask, "asking apt for the mirror of this machine")?;
    match mirror_among(&targets) {
        Some(mirror) => Ok(mirror.to_owned()),
        None => bail!("this machine's apt knows no Debian mirror: name one, such as --mirror http://HOST/debian"),
    }
}

/// Finds a whole Debian archive in lines of URI and release. By custom its path ends in `debian`.
fn mirror_among(targets: &str) -> Option<&str> {
    let uris = targets.lines().filter_map(|line| line.split_whitespace().next());
    uris.map(|uri| uri.trim_end_matches('/')).find(|uri| uri.ends_with("/debian"))
}

#[cfg(test)]
mod tests {
    use super::{configuration, mirror_among};

    #[test]
    fn the_mirror_is_the_debian_archive() {
        let targets = "http://tools.example/apt stable\nhttp://mirror.example/debian-security/ bookworm-security\n\
                       http://mirror.example/debian/ bookworm\nhttp://mirror.example/debian/ bookworm-updates\n";
        assert_eq!(mirror_among(targets), Some("http://mirror.example/debian"));
        assert_eq!(mirror_among("http://archive.example/ubuntu/ noble\n"), None);
    }

    #[test]
    fn apt_stays_in_its_directory() {
        let configuration = configuration("amd64", |name| format!("/w/{name}"));
        for line in
            ["Dir::State::lists \"/w/lists\";", "Dir::Etc::sourceparts \"-\";", "#clear APT::Update::Post-Invoke;"]
        {
            assert!(configuration.lines().any(|other| other == line), "{line} missing in {configuration}");
        }
    }
}
