//! What set the limit of an accept queue: the program's argument of listen(2), or net.core.somaxconn.

use crate::model::LimitSetBy;

/// What was seen of a listener's limit so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Limit {
    /// The backlog that `capped` is about.
    backlog: Option<u32>,
    /// While the backlog was this, somaxconn was once no larger: it may have cut the backlog.
    capped: bool,
}

impl Limit {
    /// Judges a reading. `wanted`: the backlog that the program asked for, if that was seen.
    ///
    /// The kernel cuts the argument when listen(2) is called. A later change of somaxconn changes nothing for the
    /// listener, so what somaxconn is now tells only what it may have been then.
    pub(super) fn set_by(&mut self, backlog: u32, somaxconn: Option<u32>, wanted: Option<u32>) -> Option<LimitSetBy> {
        let somaxconn = somaxconn?;
        if self.backlog.replace(backlog) != Some(backlog) {
            self.capped = false;
        }
        self.capped |= somaxconn <= backlog;
        Some(match wanted {
            Some(wanted) if wanted > backlog => LimitSetBy::Somaxconn,
            Some(_) if somaxconn > backlog => LimitSetBy::Program,
            None if !self.capped => LimitSetBy::Program,
            Some(_) | None => LimitSetBy::Either,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(backlog: u32, somaxconn: u32, wanted: Option<u32>) -> Option<LimitSetBy> {
        Limit::default().set_by(backlog, Some(somaxconn), wanted)
    }

    #[test]
    fn a_call_that_was_seen_tells() {
        assert_eq!(once(128, 128, Some(511)), Some(LimitSetBy::Somaxconn));
        assert_eq!(once(128, 4096, Some(511)), Some(LimitSetBy::Somaxconn), "somaxconn was raised after listen()");
        assert_eq!(once(511, 4096, Some(511)), Some(LimitSetBy::Program));
        assert_eq!(once(511, 511, Some(511)), Some(LimitSetBy::Either), "to raise one alone changes nothing");
        assert_eq!(once(511, 128, Some(511)), Some(LimitSetBy::Either), "both would bind at the next listen()");
    }

    #[test]
    fn without_the_call_only_a_larger_somaxconn_tells() {
        assert_eq!(once(511, 4096, None), Some(LimitSetBy::Program));
        assert_eq!(once(4096, 4096, None), Some(LimitSetBy::Either));
        assert_eq!(once(4096, 128, None), Some(LimitSetBy::Either));
        assert_eq!(Limit::default().set_by(511, None, None), None);
    }

    #[test]
    fn somaxconn_may_have_changed_since_listen() {
        let mut limit = Limit::default();
        assert_eq!(limit.set_by(128, Some(128), None), Some(LimitSetBy::Either));
        assert_eq!(limit.set_by(128, Some(4096), None), Some(LimitSetBy::Either), "it may have cut the argument then");
        // listen() was called again.
        assert_eq!(limit.set_by(511, Some(4096), None), Some(LimitSetBy::Program));
    }
}
