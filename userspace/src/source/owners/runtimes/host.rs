//! Reading files of the host that others wrote: from its root only, bounded, regular files alone, and by no symbolic
//! link where a user could have put one.

use std::{
    fs::File,
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::Path,
};

use nix::{
    dir::Dir,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
};

/// Bytes of a file that are read: a description of one container has some 20 KiB. A longer one is refused.
const ONE: u64 = 1 << 20;
/// Bytes of a file that lists all containers: some 1 KiB for each.
pub(super) const MANY: u64 = 16 << 20;
/// Entries of a directory that are looked at.
const ENTRIES: usize = 65_536;

/// A directory tree: the host's.
#[derive(Debug)]
pub(super) struct Host(OwnedFd);

/// What changes when a file does: device, inode, size, times of the last change of content and of inode (seconds, ns).
pub(super) type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Host {
    /// The root that the first process has: in a container that shares the host's PID namespace the host's, otherwise
    /// ours. Where that one may not be seen, our own.
    pub(super) fn open() -> io::Result<Self> {
        Self::at(Path::new("/proc/1/root")).or_else(|_| Self::at(Path::new("/")))
    }

    /// This directory as a root.
    pub(super) fn at(root: &Path) -> io::Result<Self> {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
        Ok(Self(openat2(AT_FDCWD, root, how)?))
    }

    /// A directory that belongs to the system: links are followed, as an administrator moves /var/lib/docker to another
    /// disk by one; but they, too, lead no further than to the host's root.
    pub(super) fn directory(&self, path: &str) -> io::Result<Place> {
        self.place(path, ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS, None)
    }

    /// A user's home: what is found below must be theirs.
    pub(super) fn home(&self, path: &str, uid: u32) -> io::Result<Place> {
        self.place(path, ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS, Some(uid))
    }

    fn place(&self, path: &str, resolve: ResolveFlag, owner: Option<u32>) -> io::Result<Place> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Place { directory: openat2(&self.0, path, OpenHow::new().flags(flags).resolve(resolve))?, owner })
    }
}

/// A directory below which nothing leads out of it.
#[derive(Debug)]
pub(super) struct Place {
    directory: OwnedFd,
    /// Who must own the files.
    owner: Option<u32>,
}

/// A file that is open, and not yet read.
pub(super) struct Found {
    file: File,
    pub(super) stamp: Stamp,
}

impl Place {
    fn open(&self, path: &str, flags: OFlag) -> io::Result<Found> {
        let resolve =
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        // Another file system below a home could be the user's own program (FUSE), which need not answer.
        let resolve = if self.owner.is_some() { resolve | ResolveFlag::RESOLVE_NO_XDEV } else { resolve };
        // A FIFO would wait for a writer.
        let flags = flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = File::from(openat2(&self.directory, path, OpenHow::new().flags(flags).resolve(resolve))?);
        let found = file.metadata()?;
        if !found.is_file() && !found.is_dir() || self.owner.is_some_and(|owner| owner != found.uid()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let changed = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
        Ok(Found { stamp: (found.dev(), found.ino(), found.len(), changed.0, changed.1), file })
    }

    /// A file below.
    pub(super) fn file(&self, path: &str) -> io::Result<Found> {
        self.open(path, OFlag::empty())
    }

    /// The names in a directory below, up to a number of them; what is no UTF-8 is left out.
    pub(super) fn names(&self, path: &str) -> io::Result<Vec<String>> {
        let directory = self.open(path, OFlag::O_DIRECTORY)?;
        let mut directory = Dir::from_fd(directory.file.into())?;
        let names = directory.iter().flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        Ok(names.filter(|name| name != "." && name != "..").take(ENTRIES).collect())
    }

    /// What changes when names come or go in a directory below.
    pub(super) fn stamp(&self, path: &str) -> io::Result<Stamp> {
        Ok(self.open(path, OFlag::O_DIRECTORY)?.stamp)
    }
}

impl Found {
    /// Its bytes, if it is not longer than a description of one container may be.
    pub(super) fn read(self) -> io::Result<Vec<u8>> {
        self.read_up_to(ONE)
    }

    /// Its bytes, if there are not more than `limit`.
    pub(super) fn read_up_to(self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
    }
}
