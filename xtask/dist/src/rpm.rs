//! An RPM package.

use anyhow::{Context as _, Result};
use rpm::{BuildConfig, CompressionWithLevel, FileOptions, PackageBuilder};

use crate::about::{Architecture, DESCRIPTION, LICENCE, NAME, REVISION, SUMMARY};
use crate::contents::{DOC, File, Role};
use crate::release::Release;

/// Argument of the scripts below: how many versions of the package will be installed when they have ended. So 0 is a
/// removal, and more than 1 an upgrade.
const POST: &str = "if [ -d /run/systemd/system ]; then systemctl --system daemon-reload || :; fi\n";
const PREUN: &str = "if [ $1 -eq 0 ] && command -v systemctl >/dev/null; then
    if [ -d /run/systemd/system ]; then
        systemctl stop listentop-report.timer listentop-serve.service listentop-recorder.service || :
    fi
    systemctl --no-reload disable listentop-report.timer listentop-serve.service listentop-recorder.service || :
fi
";
const POSTUN: &str = "if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload || :
    if [ $1 -ge 1 ]; then systemctl try-restart listentop-serve.service listentop-recorder.service || :; fi
fi
";

/// Folders that go with the package. Those of other shells belong to the distribution, as do those of all programs.
const OWN: [&str; 3] = [DOC, "share/licenses/listentop", "share/elvish"];

/// The name of its file.
pub(crate) fn file_name(release: &Release, architecture: Architecture) -> String {
    format!("{NAME}-{}-{REVISION}.{}.rpm", release.ordered(), architecture.name)
}

/// The package.
///
/// # Errors
/// The library refuses a part of it.
pub(crate) fn package(
    files: Vec<File>,
    release: &Release,
    architecture: Architecture,
    maintainer: &str,
) -> Result<Vec<u8>> {
    let seconds = u32::try_from(release.seconds()).context("the date is out of range")?;
    let mut builder = PackageBuilder::new(NAME, &release.ordered(), LICENCE, architecture.name, SUMMARY);
    builder.using_config(BuildConfig::v4().compression(CompressionWithLevel::Gzip(9)).source_date(seconds));
    builder.release(REVISION).description(DESCRIPTION).packager(maintainer).build_host("reproducible");
    builder.group("Applications/System");
    let entry = format!("- Release {}: what changed is in CHANGELOG.md", release.version);
    builder.add_changelog_entry(format!("{maintainer} - {}-{REVISION}", release.ordered()), entry, seconds);
    builder.post_install_script(POST).pre_uninstall_script(PREUN).post_uninstall_script(POSTUN);
    for directory in crate::contents::directories(&files) {
        if OWN.iter().any(|own| directory.starts_with(&format!("usr/{own}"))) {
            builder.with_dir_entry(FileOptions::dir(format!("/{directory}")).permissions(0o755))?;
        }
    }
    for file in files {
        let options =
            FileOptions::new(format!("/{}", file.path)).permissions(if file.is_program { 0o755 } else { 0o644 });
        let options = match file.role {
            Role::Plain => options,
            Role::Configuration => options.config().noreplace(),
            Role::Documentation => options.doc(),
            Role::Licence => options.license(),
        };
        let path = file.path.clone();
        builder.with_file_contents(file.bytes, options).with_context(|| path)?;
    }
    let mut bytes = Vec::new();
    builder.build()?.write(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::package;
    use crate::about::ARCHITECTURES;
    use crate::contents::{Kind, files, tests::parts};
    use crate::release::Release;

    #[test]
    fn a_package_is_the_same_each_time_and_says_what_it_is() {
        let release =
            Release { version: "0.2.0".to_owned(), date: jiff::Timestamp::from_second(1_790_000_000).unwrap() };
        let made = || {
            let files = files(Kind::Rpm, &parts(), &xtask_support::cargo::root()).unwrap();
            package(files, &release, ARCHITECTURES[1], "A <a@example.org>").unwrap()
        };
        let first = made();
        assert!(first == made(), "the same each time");
        let package = rpm::Package::parse(&mut &first[..]).unwrap();
        assert_eq!(package.metadata.get_name().unwrap(), "listentop");
        assert_eq!(package.metadata.get_version().unwrap(), "0.2.0");
        assert_eq!(package.metadata.get_arch().unwrap(), "aarch64");
        let paths = package.metadata.get_file_paths().unwrap();
        for path in ["/usr/bin/listentop", "/etc/default/listentop", "/usr/share/doc/listentop"] {
            assert!(paths.iter().any(|found| found == std::path::Path::new(path)), "{path} is missing");
        }
        // Folders of the distribution are not ours to remove.
        assert!(!paths.iter().any(|found| found == std::path::Path::new("/usr/bin")));
    }
}
