//! Coverage with its reasons as types. The texts that samples and screens show are made from it at the end.

use std::{fmt, sync::Arc, time::Duration};

use caps::Capability;
use listentop_model::coverage::{Coverage, Measure, Status};

use super::{
    live::{self, Failure, Level, Refusal, Target},
    owners::Sight,
};
use crate::rights;

/// How well a measure is covered, and why not better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which measure.
    pub measure: Measure,
    /// The hooks or files that it comes from; empty where it is unavailable.
    pub via: String,
    /// Why it is less than measured.
    pub reasons: Vec<Reason>,
    /// Whether it is available at all.
    pub available: bool,
    /// Since when it is as it is, by the monotonic clock; `None`: since the start.
    pub since_ns: Option<u64>,
}

impl Entry {
    /// A measure that is available. Without reasons it is measured, otherwise sampled.
    pub(crate) fn available(measure: Measure, via: impl Into<String>, reasons: Vec<Reason>) -> Self {
        Self { measure, via: via.into(), reasons, available: true, since_ns: None }
    }

    /// A measure that is unavailable.
    pub(crate) fn unavailable(measure: Measure, reasons: Vec<Reason>) -> Self {
        Self { measure, via: String::new(), reasons, available: false, since_ns: None }
    }

    /// Its status, which follows from the rest.
    #[must_use]
    pub fn status(&self) -> Status {
        match (self.available, self.reasons.is_empty()) {
            (false, _) => Status::Unavailable,
            (true, true) => Status::Measured,
            (true, false) => Status::Sampled,
        }
    }

    /// The capabilities that would make it better.
    #[must_use]
    pub fn wanted(&self) -> Vec<Capability> {
        self.reasons.iter().flat_map(Reason::wanted).collect()
    }

    /// Whether a newer kernel would make it better.
    #[must_use]
    pub fn is_age(&self) -> bool {
        self.reasons.iter().any(Reason::is_age)
    }

    /// Whether it is only unavailable because `--measure` leaves it out.
    #[must_use]
    pub fn is_left_out(&self) -> bool {
        let left_out = |reason: &Reason| matches!(reason, Reason::LeftOut(_));
        !self.available && !self.reasons.is_empty() && self.reasons.iter().all(left_out)
    }

    /// The entry in words.
    #[must_use]
    pub fn in_words(&self) -> Coverage {
        let reasons: Vec<String> = self.reasons.iter().map(ToString::to_string).collect();
        let (measure, status, via, since_ns) = (self.measure, self.status(), self.via.clone(), self.since_ns);
        Coverage { measure, status, via, reason: reasons.join("; "), since_ns }
    }
}

/// Where it is seen who waits for connections.
pub(crate) const WAITERS_VIA: &str = "/proc/PID/task/TID/syscall, fdinfo of epolls and io_urings";
/// Where the descriptors of a process are counted.
pub(crate) const DESCRIPTORS_VIA: &str = "/proc/PID/fd, /proc/PID/limits";
/// How often that is.
pub(crate) const NOW_AND_THEN: &str =
    "read every half second while something waits or is new, else every 10 s; less often where that takes long";

/// What of a measure that /proc provides cannot be known; `None` if it comes from elsewhere.
pub(crate) fn out_of_sight(measure: Measure, sight: Sight) -> Option<Vec<Reason>> {
    let mut reasons = Vec::new();
    let (unknown, of_descriptors) = match measure {
        Measure::Owners => ("owners", true),
        Measure::Waiters => ("threads that wait", true),
        Measure::Descriptors => ("the descriptors of processes", false),
        Measure::ThreadTimes => ("the times of threads", false),
        _ => return None,
    };
    if matches!(measure, Measure::Waiters | Measure::Descriptors) {
        reasons.push(Reason::Limit(NOW_AND_THEN));
    }
    if sight.hidden > 0 && of_descriptors {
        reasons.push(Reason::HiddenOwners(sight.hidden));
    }
    if sight.hidepid {
        reasons.push(Reason::HiddenProcesses(unknown));
    }
    if sight.confined {
        reasons.push(Reason::OutsideProcesses(unknown));
    }
    Some(reasons)
}

/// All entries in words.
pub(crate) fn in_words(entries: &[Entry]) -> Vec<Coverage> {
    entries.iter().map(Entry::in_words).collect()
}

/// Why a measure is less than measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// No attached hook observes the event that carries it. The text, if any, says why no other event provides the
    /// measure.
    NotAttached(Option<&'static str>, Failure),
    /// `--measure` leaves it out; this level has it.
    LeftOut(Level),
    /// `--measure` leaves out what completes it: what is missing, and the level that has it.
    PartLeftOut(&'static str, Level),
    /// No attached hook observes an event that completes it: what is missing, and why.
    Incomplete(&'static str, Failure),
    /// A hook that completes it is not attached: what is missing, which hook, and why, if it was tried.
    Without(&'static str, Target, Option<Refusal>),
    /// What it lacks by nature, or by the method in use.
    Limit(&'static str),
    /// Ignored packets look like drops, because the kernel hides its addresses.
    HiddenAddresses,
    /// Some listeners that were open before the start are not seen. These capabilities would help.
    UnseenNamespaces(Vec<Capability>),
    /// Listeners in other network namespaces are not seen.
    ForeignNamespaces,
    /// So many network namespaces could not be entered.
    ClosedNamespaces(usize),
    /// The descriptors of so many processes may not be read.
    HiddenOwners(u32),
    /// /proc does not show processes of other users (`hidepid`): what cannot be known.
    HiddenProcesses(&'static str),
    /// Processes outside listentop's PID namespace have no id in it: what cannot be known.
    OutsideProcesses(&'static str),
    /// Refused clients were forgotten, and may count again.
    ForgottenClients,
    /// The kernel takes no iterator over the connections: its error.
    NotWalked(String),
    /// The kernel takes no iterator that lists connections: its error.
    NotListed(String),
    /// The kernel may not be asked to time programs: its error.
    NotTimed(String),
    /// The kernel times programs for a moment each second.
    TimedInWindows,
    /// Read now and then, at this interval, or at each refresh (`None`); and what that means.
    ReadEvery(Option<Duration>, &'static str),
    /// There are no probes.
    WithoutProbes(WithoutProbes),
}

impl Reason {
    /// The capabilities that would help.
    #[must_use]
    pub fn wanted(&self) -> Vec<Capability> {
        match self {
            Self::NotAttached(_, failure) | Self::Incomplete(_, failure) => failure.wanted(),
            Self::Without(_, _, Some(refusal)) => refusal.wanted().to_vec(),
            Self::HiddenAddresses => vec![Capability::CAP_SYSLOG],
            Self::UnseenNamespaces(wanted) => wanted.clone(),
            Self::ForeignNamespaces | Self::NotTimed(_) => vec![Capability::CAP_SYS_ADMIN],
            Self::HiddenOwners(_) => OWNERS.to_vec(),
            Self::HiddenProcesses(_) => vec![Capability::CAP_SYS_PTRACE],
            Self::WithoutProbes(WithoutProbes::Failed(error)) => error.wanted(),
            Self::Without(_, _, None)
            | Self::LeftOut(_)
            | Self::PartLeftOut(..)
            | Self::Limit(_)
            | Self::ClosedNamespaces(_)
            | Self::OutsideProcesses(_)
            | Self::ForgottenClients
            | Self::NotWalked(_)
            | Self::NotListed(_)
            | Self::TimedInWindows
            | Self::ReadEvery(..)
            | Self::WithoutProbes(WithoutProbes::NotRequested) => Vec::new(),
        }
    }

    /// Whether a newer kernel would help.
    #[must_use]
    pub fn is_age(&self) -> bool {
        match self {
            Self::NotAttached(_, failure) | Self::Incomplete(_, failure) => failure.is_age(),
            Self::Without(_, _, Some(refusal)) => refusal.is_age(),
            Self::WithoutProbes(WithoutProbes::Failed(error)) => error.is_age(),
            _ => false,
        }
    }
}

/// What reading the descriptors of other users' processes takes.
const OWNERS: [Capability; 2] = [Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAttached(None, failure) => write!(f, "not attached: {failure}"),
            Self::NotAttached(Some(why), failure) => write!(f, "{why}; {failure}"),
            Self::LeftOut(level) => write!(f, "left out; --measure {} has it", level.name()),
            Self::PartLeftOut(missing, level) => write!(f, "{missing}; --measure {} does", level.name()),
            Self::Incomplete(missing, failure) => write!(f, "{missing}: {failure}"),
            Self::Without(missing, target, Some(refusal)) => write!(f, "{missing}: {target}: {refusal}"),
            Self::Without(missing, target, None) => write!(f, "{missing}: {target} is not in use"),
            Self::Limit(limit) => f.write_str(limit),
            Self::HiddenAddresses => f.write_str(
                "an upper bound: packets ignored because of TCP_DEFER_ACCEPT are in it, as the kernel hides its \
                 addresses; CAP_SYSLOG and a kernel.kptr_restrict below 2 would help",
            ),
            Self::UnseenNamespaces(wanted) => write!(
                f,
                "listeners that were open before in other network namespaces are not all seen; {}",
                rights::remedy(wanted)
            ),
            Self::ForeignNamespaces => {
                let remedy = rights::remedy(&[Capability::CAP_SYS_ADMIN]);
                write!(f, "listeners in other network namespaces are not seen; {remedy}")
            }
            Self::ClosedNamespaces(1) => f.write_str("1 network namespace could not be entered"),
            Self::ClosedNamespaces(count) => write!(f, "{count} network namespaces could not be entered"),
            Self::HiddenOwners(1) => {
                write!(f, "the descriptors of one process may not be read; {}", rights::remedy(&OWNERS))
            }
            Self::HiddenOwners(count) => {
                write!(f, "the descriptors of {count} processes may not be read; {}", rights::remedy(&OWNERS))
            }
            Self::HiddenProcesses(unknown) => {
                let remedy = rights::remedy(&[Capability::CAP_SYS_PTRACE]);
                write!(f, "{unknown} of other users are not known, as /proc hides their processes (hidepid); {remedy}")
            }
            Self::OutsideProcesses(unknown) => write!(
                f,
                "{unknown} outside this PID namespace are not known; start listentop in the host's \
                 (hostPID, --pid host)"
            ),
            Self::ForgottenClients => f.write_str(
                "an upper bound: so many were refused that some were forgotten, and counted again when they came back",
            ),
            Self::NotWalked(error) => write!(f, "the connections cannot be walked over: {error}"),
            Self::NotListed(error) => write!(f, "connections cannot be listed: {error}"),
            Self::NotTimed(error) => {
                let remedy = rights::remedy(&[Capability::CAP_SYS_ADMIN]);
                write!(f, "the kernel may not be asked to time programs ({error}): {remedy}")
            }
            Self::TimedInWindows => {
                f.write_str("timed for 10 ms each second and interpolated; --probe-stats times every run")
            }
            Self::ReadEvery(None, meaning) => write!(f, "read at each refresh{meaning}"),
            // To a tenth of a second, which is precise enough for a reader.
            Self::ReadEvery(Some(every), meaning) => {
                write!(f, "read every {:.1} s, as reading takes long here{meaning}", every.as_secs_f64())
            }
            Self::WithoutProbes(why) => why.fmt(f),
        }
    }
}

/// Why there are no probes.
#[derive(Debug, Clone)]
pub enum WithoutProbes {
    /// The options ask for none.
    NotRequested,
    /// They cannot be attached.
    Failed(Arc<live::StartError>),
}

/// System errors cannot be compared, so two failures are equal only if they are the same object.
impl PartialEq for WithoutProbes {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NotRequested, Self::NotRequested) => true,
            (Self::Failed(one), Self::Failed(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for WithoutProbes {}

/// What would help.
impl fmt::Display for WithoutProbes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRequested => f.write_str("needs probes: --probes auto, where they can run"),
            Self::Failed(error) => match error.as_ref() {
                live::StartError::NotPermitted(_) => write!(f, "needs probes: {}", rights::remedy_for_probes()),
                live::StartError::Btf(error) => write!(f, "needs probes: {}", error.remedy()),
                other => write!(f, "needs probes: {other}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_from_the_reasons() {
        let with = |reasons| Entry::available(Measure::Drops, "a hook", reasons);
        assert_eq!(with(vec![]).status(), Status::Measured);
        let sampled = with(vec![Reason::Limit("a bound"), Reason::ForgottenClients]);
        assert_eq!(sampled.status(), Status::Sampled);
        assert!(sampled.in_words().reason.starts_with("a bound; an upper bound: so many"));
        assert_eq!(Entry::unavailable(Measure::Drops, vec![Reason::Limit("why")]).status(), Status::Unavailable);
    }

    #[test]
    fn a_reason_names_the_rights_that_would_help() {
        // The test may run as root, for whom another sentence is made; the types are the same.
        assert_eq!(Reason::HiddenOwners(2).wanted(), OWNERS);
        assert_eq!(Reason::HiddenAddresses.wanted(), [Capability::CAP_SYSLOG]);
        assert!(Reason::HiddenAddresses.to_string().contains("CAP_SYSLOG"));
        assert_eq!(Reason::ForgottenClients.wanted(), []);
    }
}
