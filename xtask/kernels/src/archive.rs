//! The first file system of a virtual machine, as the archive that the kernel unpacks: cpio, "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, Write};

use cpio::newc::{Builder, ModeFileType, trailer};

/// Permissions of directories and programs.
const PERMISSIONS: u32 = 0o755;

/// Writes an archive; [`Archive::finish`] completes it.
pub(crate) struct Archive<W> {
    to: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, inode: 0 }
    }

    /// A directory. Its parents must come before it.
    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, |entry| entry.mode(PERMISSIONS).nlink(2).set_mode_file_type(ModeFileType::Directory), &[])
    }

    /// An executable file with this content.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.entry(path, |entry| entry.mode(PERMISSIONS).set_mode_file_type(ModeFileType::Regular), content)
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, |entry| entry.mode(0o777).set_mode_file_type(ModeFileType::Symlink), target.as_bytes())
    }

    /// Writes the end and returns the writer.
    pub(crate) fn finish(self) -> io::Result<W> {
        let mut to = trailer(self.to)?;
        to.flush()?;
        Ok(to)
    }

    fn entry(&mut self, path: &str, describe: impl FnOnce(Builder) -> Builder, content: &[u8]) -> io::Result<()> {
        let size =
            u32::try_from(content.len()).map_err(|_| io::Error::other(format!("{path} is larger than 4 GiB")))?;
        // Entries with the same number would be one file with several names.
        self.inode += 1;
        let entry = describe(Builder::new(path.trim_start_matches('/')).ino(self.inode));
        let mut writer = entry.write(&mut self.to, size);
        writer.write_all(content)?;
        writer.finish().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    fn small() -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        archive.directory("/bin").unwrap();
        archive.file("/bin/a", b"hello").unwrap();
        archive.link("/bin/sleep", "/init").unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn every_header_and_content_is_aligned() {
        let bytes = small();
        assert_eq!(bytes.len() % 4, 0);
        let headers: Vec<usize> =
            bytes.windows(6).enumerate().filter(|(_, w)| *w == b"070701").map(|(at, _)| at).collect();
        assert_eq!(headers.len(), 4);
        assert!(headers.iter().all(|at| at % 4 == 0), "{headers:?}");
    }

    #[test]
    fn modes_links_and_contents() {
        let bytes = small();
        for (name, inode, mode, links, content) in
            [("bin", 1, 0o040_755, 2, ""), ("bin/a", 2, 0o100_755, 1, "hello"), ("bin/sleep", 3, 0o120_777, 1, "/init")]
        {
            let needle = format!("{name}\0");
            // The header stands before the name.
            let at = bytes.windows(needle.len()).position(|window| window == needle.as_bytes()).unwrap();
            let header = std::str::from_utf8(&bytes[at - 110..at]).unwrap();
            let field = |n: usize| u32::from_str_radix(&header[6 + 8 * n..14 + 8 * n], 16).unwrap();
            let expected = (inode, mode, links, content.len() as u32, needle.len() as u32);
            assert_eq!((field(0), field(1), field(4), field(6), field(11)), expected, "{name}");
            let content_at = (at + needle.len() - (at - 110)).next_multiple_of(4) + (at - 110);
            assert_eq!(&bytes[content_at..content_at + content.len()], content.as_bytes(), "{name}");
        }
    }

    /// Where cpio(1) is installed it reads the archive too.
    #[test]
    fn cpio_reads_it() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let mut list = Command::new("cpio");
        list.args(["--list", "--quiet"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // The tests above do not need it.
        let Ok(mut cpio) = list.spawn() else { return };
        cpio.stdin.take().unwrap().write_all(&small()).unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "bin\nbin/a\nbin/sleep\n");
    }
}
