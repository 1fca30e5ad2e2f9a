//! Which kernels Debian has, and which package is the newest of a series.

use std::collections::BTreeMap;

use crate::architecture::Architecture;

/// A kernel that Debian has, as packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The series that was asked for, such as `6.12`, `7`, `6.12-rt` or `6.12-arm64`.
    pub series: String,
    /// `uname -r` without the flavour, such as `6.12.107+deb13`; with `-rt` for a real-time kernel, and with `-arm64`.
    pub release: String,
    /// The packages with image and modules: one up to 6.18, two after that.
    pub packages: Vec<Package>,
}

impl Kernel {
    /// Whether it is a real-time kernel.
    #[must_use]
    pub fn is_real_time(&self) -> bool {
        self.series.ends_with(REAL_TIME_MARK)
    }

    /// What it runs on.
    #[must_use]
    pub fn architecture(&self) -> Architecture {
        architecture_of(&self.series)
    }
}

/// A package in one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The kernels' usual flavour: small, with everything built in that virtual machines need.
const USUAL: &str = "-cloud-amd64";
/// The flavour of real-time kernels (PREEMPT_RT).
const REAL_TIME: &str = "-rt-amd64";
/// What is behind a series or a release to name a real-time kernel.
const REAL_TIME_MARK: &str = "-rt";
/// The usual flavour for Arm.
const ARM: &str = "-cloud-arm64";
/// What is behind a series or a release to name a kernel for Arm.
const ARM_MARK: &str = "-arm64";
/// Up to 6.18 this package has image and modules. Later it only depends on the other two.
const WHOLE: &str = "linux-image-";
const IMAGE: &str = "linux-binary-";
const MODULES: &str = "linux-modules-";

/// The kernel packages in a `Packages` index, by name.
#[must_use]
pub fn parse_index(index: &str) -> BTreeMap<String, Package> {
    let mut found = BTreeMap::new();
    for stanza in index.split("\n\n") {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let Some(name) = field("Package:") else { continue };
        if [USUAL, REAL_TIME, ARM].iter().all(|flavour| release(name, flavour).is_none()) {
            continue;
        }
        if let Some(version) = field("Version:") {
            found.insert(name.to_owned(), Package { name: name.to_owned(), version: version.to_owned() });
        }
    }
    found
}

/// The kernel release of a package with an image or modules of a flavour.
fn release<'a>(package: &'a str, flavour: &str) -> Option<&'a str> {
    let rest = [WHOLE, IMAGE, MODULES].iter().find_map(|prefix| package.strip_prefix(prefix))?;
    let release = rest.strip_suffix(flavour)?;
    release.starts_with(|first: char| first.is_ascii_digit()).then_some(release)
}

/// The newest kernel whose version begins with `series`, number by number: `6.1` is not `6.12`.
#[must_use]
pub fn newest(packages: &BTreeMap<String, Package>, series: &str) -> Option<Kernel> {
    let (version, flavour, mark) = if let Some(version) = series.strip_suffix(REAL_TIME_MARK) {
        (version, REAL_TIME, REAL_TIME_MARK)
    } else if let Some(version) = series.strip_suffix(ARM_MARK) {
        (version, ARM, ARM_MARK)
    } else {
        (series, USUAL, "")
    };
    let wanted = numbers(version);
    let releases = packages.keys().filter_map(|name| release(name, flavour));
    let mut releases: Vec<&str> = releases.filter(|release| numbers(release).starts_with(&wanted)).collect();
    releases.sort_by_key(|release| numbers(release));
    releases.into_iter().rev().find_map(|release| {
        let package = |prefix: &str| packages.get(&format!("{prefix}{release}{flavour}")).cloned();
        let apart = package(IMAGE).zip(package(MODULES)).map(|(image, modules)| vec![image, modules]);
        // Where a linux-binary package has no linux-modules package, its linux-image package has the modules.
        let packages = match apart {
            Some(packages) => packages,
            None => package(IMAGE).into_iter().chain(package(WHOLE)).collect(),
        };
        let usable = packages.iter().any(|package| !package.name.starts_with(MODULES));
        usable.then(|| Kernel { series: series.to_owned(), release: format!("{release}{mark}"), packages })
    })
}

/// What the kernels of a series run on.
#[must_use]
pub fn architecture_of(series: &str) -> Architecture {
    if series.ends_with(ARM_MARK) { Architecture::Arm } else { Architecture::X86 }
}

/// All numbers of a version: `6.12.107+deb13` is 6, 12, 107, 13.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Architecture, architecture_of, newest, parse_index};

    const INDEX: &str = "\
Package: linux-image-6.1.0-47-cloud-amd64
Source: linux-signed-amd64
Version: 6.1.170-1
Description: ignored
 Package: linux-image-9.9-cloud-amd64

Package: linux-image-6.1.0-50-cloud-amd64
Version: 6.1.176-1

Package: linux-image-6.1.0-50-cloud-amd64-dbg
Version: 6.1.176-1

Package: linux-image-6.12.94+deb13-cloud-amd64
Version: 6.12.94-1

Package: linux-image-6.12.107+deb13-cloud-amd64
Version: 6.12.107-1

Package: linux-image-6.12.107+deb13-amd64
Version: 6.12.107-1

Package: linux-image-6.12.117+deb13-rt-amd64
Version: 6.12.117-1

Package: linux-image-6.12.117+deb13-cloud-arm64
Version: 6.12.117-1

Package: linux-image-cloud-amd64
Version: 6.12.107-1

Package: linux-image-7.2.12+deb13-cloud-amd64
Version: 7.2.12-1~bpo13+1

Package: linux-binary-7.2.12+deb13-cloud-amd64
Version: 7.2.12-1~bpo13+1

Package: linux-modules-7.2.12+deb13-cloud-amd64
Version: 7.2.12-1~bpo13+1

Package: linux-modules-7.3.1+deb13-cloud-amd64
Version: 7.3.1-1~bpo13+1
";

    fn found(series: &str) -> Option<(String, Vec<String>)> {
        let kernel = newest(&parse_index(INDEX), series)?;
        Some((kernel.release, kernel.packages.into_iter().map(|p| format!("{}={}", p.name, p.version)).collect()))
    }

    #[test]
    fn the_newest_of_a_series_is_found_by_its_numbers() {
        let packages = vec!["linux-image-6.12.107+deb13-cloud-amd64=6.12.107-1".to_owned()];
        assert_eq!(found("6.12"), Some(("6.12.107+deb13".to_owned(), packages)));
        let packages = vec!["linux-image-6.1.0-50-cloud-amd64=6.1.176-1".to_owned()];
        assert_eq!(found("6.1"), Some(("6.1.0-50".to_owned(), packages)));
    }

    #[test]
    fn a_real_time_kernel_is_a_series_of_its_own() {
        let packages = vec!["linux-image-6.12.117+deb13-rt-amd64=6.12.117-1".to_owned()];
        assert_eq!(found("6.12-rt"), Some(("6.12.117+deb13-rt".to_owned(), packages)));
        assert_eq!(found("6.1-rt"), None);
    }

    #[test]
    fn a_kernel_for_arm_is_a_series_of_its_own() {
        let packages = vec!["linux-image-6.12.117+deb13-cloud-arm64=6.12.117-1".to_owned()];
        assert_eq!(found("6.12-arm64"), Some(("6.12.117+deb13-arm64".to_owned(), packages)));
        assert_eq!(found("6.1-arm64"), None);
        assert_eq!(architecture_of("6.12-arm64"), Architecture::Arm);
        assert_eq!(architecture_of("6.12"), Architecture::X86);
    }

    #[test]
    fn image_and_modules_apart_are_taken_together() {
        let (release, packages) = found("7").unwrap();
        assert_eq!(release, "7.2.12+deb13", "7.3.1 has no image");
        assert_eq!(packages.len(), 2);
        assert!(packages[0].starts_with("linux-binary-7.2.12") && packages[1].starts_with("linux-modules-7.2.12"));
    }

    #[test]
    fn other_packages_and_debug_symbols_are_ignored() {
        assert_eq!(parse_index(INDEX).len(), 10);
        assert_eq!(found("9"), None);
        assert_eq!(found("6.2"), None);
    }
}
