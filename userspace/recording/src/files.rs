//! Opening files where others may write: no symbolic link of another user is followed, and nothing but a regular file
//! or a folder is opened. As root in /tmp, a name is nobody's promise.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, openat, readlinkat, renameat},
    sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat},
    unistd::{UnlinkatFlags, fsync, geteuid, unlinkat},
};

/// Symbolic links that are followed for one path, as many as the kernel follows.
const MOST_LINKS: usize = 40;

/// Who may read a recording: it holds addresses and names of programs.
const MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// A recording's place: one file, or a folder of segments.
#[derive(Debug)]
pub(crate) enum Opened {
    File(File),
    Folder(Folder),
}

/// A folder that is open.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

/// Holds others off a folder while it is there.
#[derive(Debug)]
pub(crate) struct Lock {
    _held: Flock<OwnedFd>,
}

fn other(text: impl Into<String>) -> io::Error {
    io::Error::other(text.into())
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

/// Opens for reading what is at a path.
pub(crate) fn open(path: &Path) -> io::Result<Opened> {
    let (folder, name) = parent(path)?;
    let Some(name) = name else { return Ok(Opened::Folder(Folder(readable(&folder)?))) };
    // A FIFO would wait for a writer otherwise.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let opened = openat(&folder, &*name, flags, Mode::empty())?;
    let stat = fstat(&opened)?;
    if is(&stat, SFlag::S_IFDIR) {
        Ok(Opened::Folder(Folder(opened)))
    } else if is(&stat, SFlag::S_IFREG) {
        Ok(Opened::File(File::from(opened)))
    } else {
        Err(other("it is neither a regular file nor a folder"))
    }
}

/// Makes a file that is not there yet, which its owner alone may read.
///
/// # Errors
/// There is something of this name, the way to it leads through a symbolic link of another user, or the folder cannot
/// be written.
pub fn create(path: &Path) -> io::Result<File> {
    let (folder, name) = parent(path)?;
    let name = name.ok_or_else(|| other("it is a folder"))?;
    Folder(readable(&folder)?).create(&name)
}

/// Opens a folder, and makes it if it is not there.
pub(crate) fn folder(path: &Path) -> io::Result<Folder> {
    let (above, name) = parent(path)?;
    let Some(name) = name else { return Ok(Folder(readable(&above)?)) };
    match mkdirat(&above, &*name, MODE | Mode::S_IXUSR) {
        Ok(()) => fsync(readable(&above)?)?,
        Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(Folder(openat(&above, &*name, flags, Mode::empty())?))
}

/// A folder that was opened as a place, opened for reading.
fn readable(folder: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(openat(folder, ".", flags, Mode::empty())?)
}

/// Walks to the folder of a path; the name in it is `None` if the path ends in `/`, `.` or `..`.
fn parent(path: &Path) -> io::Result<(OwnedFd, Option<OsString>)> {
    let place = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = if path.is_absolute() { "/" } else { "." };
    let mut folder = openat(AT_FDCWD, root, place | OFlag::O_DIRECTORY, Mode::empty())?;
    let mut names: VecDeque<OsString> = names(path);
    if names.is_empty() && !path.is_absolute() && path.as_os_str().is_empty() {
        return Err(Errno::ENOENT.into());
    }
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        let opened = match openat(&folder, &*name, place, Mode::empty()) {
            // The last may be about to be made.
            Err(Errno::ENOENT) if names.is_empty() => return Ok((folder, Some(name))),
            opened => opened?,
        };
        let stat = fstat(&opened)?;
        if is(&stat, SFlag::S_IFLNK) {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::ELOOP.into());
            }
            if stat.st_uid != 0 && stat.st_uid != geteuid().as_raw() {
                let name = name.to_string_lossy();
                return Err(other(format!(
                    "'{name}' is a symbolic link of user {}, which is not followed",
                    stat.st_uid
                )));
            }
            let target = PathBuf::from(readlinkat(&opened, "")?);
            if target.is_absolute() {
                folder = openat(AT_FDCWD, "/", place | OFlag::O_DIRECTORY, Mode::empty())?;
            }
            names = self::names(&target).into_iter().chain(names).collect();
        } else if is(&stat, SFlag::S_IFDIR) {
            if names.is_empty() && name != "." && name != ".." {
                return Ok((folder, Some(name)));
            }
            folder = opened;
        } else if names.is_empty() {
            return Ok((folder, Some(name)));
        } else {
            return Err(Errno::ENOTDIR.into());
        }
    }
    Ok((folder, None))
}

fn names(path: &Path) -> VecDeque<OsString> {
    let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    parts.filter(|part| !part.is_empty()).map(|part| OsStr::from_bytes(part).to_owned()).collect()
}

impl Folder {
    /// Holds other recorders off, if none is there.
    pub(crate) fn lock(&self) -> io::Result<Lock> {
        match Flock::lock(readable(&self.0)?, FlockArg::LockExclusiveNonblock) {
            Ok(held) => Ok(Lock { _held: held }),
            Err((_, Errno::EWOULDBLOCK)) => Err(other("another listentop is recording into it")),
            Err((_, error)) => Err(error.into()),
        }
    }

    /// The names of its files.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::from_fd(readable(&self.0)?)?.iter() {
            names.push(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned());
        }
        Ok(names)
    }

    /// Makes a file that is not there yet, such that it is there after a power loss.
    pub(crate) fn create(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.0, name, flags, MODE)?;
        fsync(&self.0)?;
        Ok(File::from(file))
    }

    /// Opens a file of it for reading, if it is one.
    pub(crate) fn read(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = openat(&self.0, name, flags, Mode::empty())?;
        if is(&fstat(&file)?, SFlag::S_IFREG) { Ok(File::from(file)) } else { Err(other("it is not a regular file")) }
    }

    /// Deletes a file of it.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(self.0.as_fd(), name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Gives a file of it another name.
    pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.0, from, &self.0, to)?)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink},
    };

    use super::*;

    fn is_file(path: &Path) -> bool {
        matches!(open(path), Ok(Opened::File(_)))
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("one");
        create(&path).expect("it can be made");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        let again = create(&path).expect_err("it is there");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let inner = place.path().join("inner");
        folder(&inner).expect("it is made");
        folder(&inner).expect("it is there");
        assert_eq!(fs::metadata(&inner).expect("it is there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn own_links_are_followed_to_read() {
        let place = tempfile::tempdir().expect("a folder");
        let (file, deep) = (place.path().join("file"), place.path().join("a/b"));
        fs::write(&file, "x").expect("it is written");
        fs::create_dir_all(&deep).expect("it is made");
        symlink("../../file", deep.join("relative")).expect("it is made");
        symlink(&file, deep.join("absolute")).expect("it is made");
        symlink("b", place.path().join("a/folder")).expect("it is made");
        for path in ["a/b/relative", "a/b/absolute", "a/folder/relative", "a/./b/../b/relative", "file"] {
            assert!(is_file(&place.path().join(path)), "{path}");
        }
        assert!(matches!(open(&place.path().join("a/b/")), Ok(Opened::Folder(_))));
        assert!(matches!(open(Path::new("/")), Ok(Opened::Folder(_))));
        assert!(open(&place.path().join("file/x")).is_err() && open(Path::new("")).is_err());
        symlink("loop", place.path().join("loop")).expect("it is made");
        assert!(open(&place.path().join("loop")).is_err());
    }

    #[test]
    fn links_of_others_are_not_followed() {
        let place = tempfile::tempdir().expect("a folder");
        fs::write(place.path().join("file"), "x").expect("it is written");
        let link = place.path().join("link");
        symlink("file", &link).expect("it is made");
        // Without rights, a link cannot be given away, and the system's own links show it.
        if lchown(&link, Some(65_534), None).is_err() {
            assert_ne!(fs::symlink_metadata(&link).expect("it is there").uid(), 65_534);
            return;
        }
        let error = open(&link).expect_err("it is another's").to_string();
        assert!(error.contains("symbolic link of user 65534"), "{error}");
        assert!(create(&link).is_err());
    }

    #[test]
    fn a_fifo_is_refused_and_does_not_hang() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRUSR).expect("it is made");
        let error = open(&path).expect_err("it is none").to_string();
        assert!(error.contains("neither a regular file"), "{error}");
    }
}
