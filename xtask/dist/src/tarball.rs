//! Archives of files: the tarball, and the two inside a Debian package.

use anyhow::{Context as _, Result};
use tar::{Builder, EntryType, Header};

use crate::contents::{File, directories, gzip};

/// A compressed archive of files with the directories above them, below `top` if that is not empty. All belong to root,
/// and have the same time.
///
/// # Errors
/// A path is too long for the format.
pub(crate) fn compressed(files: &[File], top: &str, seconds: u64) -> Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    let top = if top.is_empty() { String::new() } else { format!("{top}/") };
    let first = (!top.is_empty()).then(|| top.clone());
    for path in first.into_iter().chain(directories(files).into_iter().map(|path| format!("{top}{path}/"))) {
        let mut header = header(seconds, 0o755, EntryType::Directory, 0);
        archive.append_data(&mut header, &path, &[][..]).with_context(|| path.clone())?;
    }
    for file in files {
        let mode = if file.is_program { 0o755 } else { 0o644 };
        let mut header = header(seconds, mode, EntryType::Regular, file.bytes.len() as u64);
        let path = format!("{top}{}", file.path);
        archive.append_data(&mut header, &path, &file.bytes[..]).with_context(|| path.clone())?;
    }
    Ok(gzip(&archive.into_inner().context("the archive has no end")?))
}

fn header(seconds: u64, mode: u32, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(seconds);
    header.set_uid(0);
    header.set_gid(0);
    // `root` fits.
    let _ = header.set_username("root").and_then(|()| header.set_groupname("root"));
    header
}
