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
    fn the_number_is_that_of_the_root() {
        assert_eq!(errno(&Outer::Cause(io::Error::from_raw_os_error(libc::EPERM))), Some(libc::EPERM));
        assert_eq!(errno(&Outer::Cause(io::Error::other("Operation not permitted"))), None);
        assert_eq!(errno(&Outer::Alone), None);
    }
}
