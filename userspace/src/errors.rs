//! Errors in one line, and what the kernel said at their root.

use std::{error::Error, io};

/// A text without its line breaks.
pub(crate) fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}

/// An error and its causes, in one line. A cause that the text names already is not repeated.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let text = causes(error).skip(1).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    });
    one_line(&text)
}

/// The number of the system error that an error comes from; `None` if it comes from none.
pub(crate) fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())
}

/// What there can be too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// This process may not open more files.
    Descriptors,
    /// The machine has too many open files.
    Files,
    /// No thread can be started.
    Threads,
    /// No memory.
    Memory,
}

impl Shortage {
    /// What an error comes from; `None` if from no shortage.
    pub(crate) fn behind(error: &(dyn Error + 'static)) -> Option<Self> {
        Self::of(errno(error)?)
    }

    /// What a number of a system error means.
    pub(crate) const fn of(errno: i32) -> Option<Self> {
        match errno {
            libc::EMFILE => Some(Self::Descriptors),
            libc::ENFILE => Some(Self::Files),
            // Of the calls that are made here, only those that start threads fail so.
            libc::EAGAIN => Some(Self::Threads),
            libc::ENOMEM => Some(Self::Memory),
            _ => None,
        }
    }

    /// What would help, for the end of a sentence.
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::Descriptors => "too few descriptors: raise 'ulimit -n' (LimitNOFILE= in a unit)",
            Self::Files => "the machine has too many open files: raise fs.file-max",
            Self::Threads => {
                "too few processes or threads: raise 'ulimit -u', or pids.max of the cgroup (TasksMax= in a unit)"
            }
            Self::Memory => {
                "too little memory: raise 'ulimit -v', or lower --max-connections, --max-listeners and --max-threads"
            }
        }
    }
}

/// An error, its cause, the cause of that, and so on.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("the call\nfailed")]
        Cause(#[source] io::Error),
        #[error("the call failed: {0}")]
        Named(#[source] io::Error),
        #[error("nothing behind it")]
        Alone,
    }

    #[test]
    fn causes_follow_in_one_line_and_once() {
        let io = || io::Error::from_raw_os_error(libc::EPERM);
        assert_eq!(chain(&Outer::Cause(io())), "the call failed: Operation not permitted (os error 1)");
        assert_eq!(chain(&Outer::Named(io())), "the call failed: Operation not permitted (os error 1)");
        assert_eq!(chain(&Outer::Alone), "nothing behind it");
    }

    #[test]
    fn a_shortage_is_a_number_not_a_sentence() {
        let behind = |number| Shortage::behind(&Outer::Cause(io::Error::from_raw_os_error(number)));
        assert_eq!(behind(libc::EMFILE), Some(Shortage::Descriptors));
        assert_eq!(behind(libc::EAGAIN), Some(Shortage::Threads));
        assert_eq!(behind(libc::ENOMEM), Some(Shortage::Memory));
        assert_eq!(behind(libc::EPERM), None);
        assert_eq!(Shortage::behind(&io::Error::other("Cannot allocate memory")), None);
    }

    #[test]
    fn the_number_is_that_of_the_root() {
        assert_eq!(errno(&Outer::Cause(io::Error::from_raw_os_error(libc::EPERM))), Some(libc::EPERM));
        assert_eq!(errno(&Outer::Cause(io::Error::other("Operation not permitted"))), None);
        assert_eq!(errno(&Outer::Alone), None);
    }
}
