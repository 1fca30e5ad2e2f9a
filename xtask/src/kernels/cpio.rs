//! Archives in the form that the kernel unpacks as its first file system: cpio, "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// Writes an archive; [`Archive::finish`] completes it.
pub(crate) struct Archive<W> {
    to: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, inode: 0 }
    }

    /// A directory. Those above it must have come before.
    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY, &[])
    }

    /// A file that may be run, with this content.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.entry(path, PROGRAM, content)
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, LINK, target.as_bytes())
    }

    /// Writes the end, and returns what was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.write("TRAILER!!!", 0, 1, &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        self.write(path.trim_start_matches('/'), mode, links, content)
    }

    fn write(&mut self, name: &str, mode: u32, links: u32, content: &[u8]) -> io::Result<()> {
        let size =
            u32::try_from(content.len()).map_err(|_| io::Error::other(format!("{name} is larger than 4 GiB")))?;
        let name_size = name.len() as u32 + 1;
        // Inode, mode, owner, group, links, time, size, device, device of a node, size of the name, no checksum.
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.to.write_all(b"070701")?;
        for field in fields {
            write!(self.to, "{field:08x}")?;
        }
        self.to.write_all(name.as_bytes())?;
        self.to.write_all(&[0])?;
        self.pad(6 + 8 * fields.len() + name_size as usize)?;
        self.to.write_all(content)?;
        self.pad(content.len())
    }

    /// Name and content each end at a multiple of four.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.to.write_all(&[0; 3][..written.next_multiple_of(4) - written])
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
    fn header_of_a_file() {
        let bytes = small();
        let name = bytes.windows(6).position(|w| w == b"bin/a\0").unwrap();
        let header = std::str::from_utf8(&bytes[name - 110..name]).unwrap();
        let field = |n: usize| u32::from_str_radix(&header[6 + 8 * n..14 + 8 * n], 16).unwrap();
        assert_eq!((field(0), field(1), field(4), field(6), field(11)), (2, 0o100_755, 1, 5, 6));
        assert_eq!(&bytes[name + 6..name + 11], b"hello");
    }

    /// Where cpio(1) is installed it reads the archive too.
    #[test]
    fn cpio_reads_it() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let mut cpio =
            match Command::new("cpio").args(["--list", "--quiet"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
            {
                Ok(cpio) => cpio,
                // The tests above do not need it.
                Err(_) => return,
            };
        cpio.stdin.take().unwrap().write_all(&small()).unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "bin\nbin/a\nbin/sleep\n");
    }
}
