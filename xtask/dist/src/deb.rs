//! A Debian package: an archive of two archives, one of control files and one of the files themselves (deb(5)).

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use ar::{Builder, Header};
use md5::{Digest as _, Md5};

use crate::about::{Architecture, DESCRIPTION, NAME, REVISION, SUMMARY};
use crate::contents::{DOC, File, Role, gzip};
use crate::release::Release;
use crate::tarball;

/// After it is unpacked: tells systemd. Nothing is enabled or started, and what runs is started again after an upgrade.
const POSTINST: &str = include_str!("../scripts/postinst");
/// Before it is removed: what runs is stopped.
const PRERM: &str = include_str!("../scripts/prerm");
/// After it is removed: tells systemd; when it is purged, what the services wrote goes too.
const POSTRM: &str = include_str!("../scripts/postrm");

/// Debian's file of licences, in its machine-readable format.
const COPYRIGHT: &str = include_str!("../scripts/copyright");

/// What lintian reports as an error, and is meant so.
const OVERRIDES: &str = include_str!("../scripts/lintian-overrides");

/// The name of its file.
pub(crate) fn file_name(release: &Release, architecture: Architecture) -> String {
    format!("{NAME}_{}-{REVISION}_{}.deb", release.ordered(), architecture.debian)
}

/// The package.
///
/// # Errors
/// A path is too long for the format.
pub(crate) fn package(
    mut files: Vec<File>,
    release: &Release,
    architecture: Architecture,
    maintainer: &str,
) -> Result<Vec<u8>> {
    let plain =
        |path: &str, bytes: Vec<u8>| File { path: path.to_owned(), is_program: false, role: Role::Plain, bytes };
    files.push(plain(&format!("usr/{DOC}/copyright"), COPYRIGHT.as_bytes().to_vec()));
    files.push(plain(&format!("usr/{DOC}/changelog.Debian.gz"), gzip(changelog(release, maintainer).as_bytes())));
    files.push(plain(&format!("usr/share/lintian/overrides/{NAME}"), OVERRIDES.as_bytes().to_vec()));
    files.sort_by(|a, b| a.path.cmp(&b.path));

    let script = |name: &str, text: &str| File { is_program: true, ..plain(name, text.as_bytes().to_vec()) };
    let mut control = vec![
        plain("control", control(&files, release, architecture, maintainer).into_bytes()),
        plain("conffiles", conffiles(&files).into_bytes()),
        plain("md5sums", checksums(&files).into_bytes()),
        script("postinst", POSTINST),
        script("prerm", PRERM),
        script("postrm", POSTRM),
    ];
    control.sort_by(|a, b| a.path.cmp(&b.path));

    let seconds = release.seconds();
    let mut archive = Builder::new(Vec::new());
    for (name, bytes) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", tarball::compressed(&control, "", seconds)?),
        ("data.tar.gz", tarball::compressed(&files, "", seconds)?),
    ] {
        let mut header = Header::new(name.as_bytes().to_vec(), bytes.len() as u64);
        header.set_mtime(seconds);
        header.set_mode(0o100_644);
        archive.append(&header, &bytes[..]).with_context(|| format!("cannot add {name}"))?;
    }
    archive.into_inner().context("the archive has no end")
}

fn control(files: &[File], release: &Release, architecture: Architecture, maintainer: &str) -> String {
    let mut text = String::new();
    let size: usize = files.iter().map(|file| file.bytes.len().div_ceil(1024)).sum();
    for (name, value) in [
        ("Package", NAME),
        ("Version", &*format!("{}-{REVISION}", release.ordered())),
        ("Architecture", architecture.debian),
        ("Maintainer", maintainer),
        ("Installed-Size", &*size.to_string()),
        ("Section", "net"),
        ("Priority", "optional"),
        ("Description", SUMMARY),
    ] {
        let _ = writeln!(text, "{name}: {value}");
    }
    DESCRIPTION.lines().for_each(|line| {
        let _ = writeln!(text, " {line}");
    });
    text
}

/// What the administrator changes: dpkg asks before it replaces it.
fn conffiles(files: &[File]) -> String {
    let configuration = files.iter().filter(|file| file.role == Role::Configuration);
    configuration.map(|file| format!("/{}\n", file.path)).collect::<Vec<_>>().concat()
}

/// For `dpkg --verify`; conffiles have their own.
fn checksums(files: &[File]) -> String {
    let checked = files.iter().filter(|file| file.role != Role::Configuration);
    checked.map(|file| format!("{}  {}\n", hex(&Md5::digest(&file.bytes)), file.path)).collect::<Vec<_>>().concat()
}

/// Bytes as digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Debian's changelog, of this package alone.
fn changelog(release: &Release, maintainer: &str) -> String {
    let date = jiff::fmt::rfc2822::to_string(&release.date.to_zoned(jiff::tz::TimeZone::UTC)).unwrap_or_default();
    format!(
        "{NAME} ({}-{REVISION}) unstable; urgency=medium\n\n  * Release {}: what changed is in changelog.gz.\n\n -- {maintainer}  {date}\n",
        release.ordered(),
        release.version,
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::{file_name, package};
    use crate::about::ARCHITECTURES;
    use crate::contents::{Kind, files, tests::parts};
    use crate::release::Release;

    fn release(version: &str) -> Release {
        Release { version: version.to_owned(), date: jiff::Timestamp::from_second(1_790_000_000).unwrap() }
    }

    /// The members of a package, and the files of its archives.
    fn members(package: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = ar::Archive::new(package);
        let mut found = BTreeMap::new();
        while let Some(entry) = archive.next_entry() {
            let mut entry = entry.unwrap();
            let name = String::from_utf8(entry.header().identifier().to_vec()).unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if name.ends_with(".tar.gz") {
                let mut inner = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
                for entry in inner.entries().unwrap() {
                    let mut entry = entry.unwrap();
                    assert_eq!((entry.header().uid().unwrap(), entry.header().mtime().unwrap()), (0, 1_790_000_000));
                    let path = format!("{name}:{}", entry.path().unwrap().display());
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes).unwrap();
                    found.insert(path, bytes);
                }
            } else {
                found.insert(name, bytes);
            }
        }
        found
    }

    #[test]
    fn a_package_has_control_files_and_files() {
        let root = xtask_support::cargo::root();
        let made = || {
            let files = files(Kind::Debian, &parts(), &root).unwrap();
            package(files, &release("0.2.0"), ARCHITECTURES[1], "A <a@example.org>").unwrap()
        };
        let first = made();
        assert!(first == made(), "the same each time");
        let members = members(&first);
        let text = |name: &str| String::from_utf8(members[name].clone()).unwrap();
        assert_eq!(text("debian-binary"), "2.0\n");
        let control = text("control.tar.gz:control");
        assert!(
            control.contains("Version: 0.2.0-1\nArchitecture: arm64\nMaintainer: A <a@example.org>\n"),
            "{control}"
        );
        assert_eq!(text("control.tar.gz:conffiles"), "/etc/default/listentop\n");
        assert!(text("control.tar.gz:postinst").starts_with("#!/bin/sh\nset -e\n"));
        assert_eq!(members["data.tar.gz:usr/bin/listentop"], b"\x7fELF");
        // The digest of RFC 1321's kind, of the four bytes above.
        let checksums = text("control.tar.gz:md5sums");
        assert!(checksums.lines().any(|line| line.ends_with("  usr/bin/listentop")), "{checksums}");
        assert!(!checksums.contains("etc/default"), "{checksums}");
    }

    #[test]
    fn what_comes_before_a_release_is_older_than_it() {
        assert_eq!(file_name(&release("0.2.0-beta.1"), ARCHITECTURES[0]), "listentop_0.2.0~beta.1-1_amd64.deb");
    }
}
