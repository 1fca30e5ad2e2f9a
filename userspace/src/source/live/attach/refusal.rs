//! Why a hook is not attached, and why an event is not seen.

use std::fmt;

use aya::programs::ProgramError;
use caps::Capability;
use listentop_btf::{BtfError, Symbol};
use nix::errno::Errno;

use super::{
    events::{Kind, Level, Target},
    tracefs::TracefsError,
};
use crate::{errors, say::say};

/// Why a hook is not attached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The options say so.
    #[error("refused on purpose")]
    OnPurpose,
    /// It is on a function, and the options allow tracepoints only.
    #[error("probes on functions are not requested")]
    NotRequested,
    /// This kernel has no such function, tracepoint or type.
    #[error("{}", BtfError::Missing(.0.clone()))]
    Missing(Symbol),
    /// Its types are ambiguous, too large or malformed.
    #[error("{0}")]
    Types(String),
    /// The tracepoint passes less than the program needs.
    #[error("tracepoint {tracepoint} passes {present} arguments on this kernel, {needed} are needed")]
    TooFewArguments {
        /// Which tracepoint.
        tracepoint: &'static str,
        /// As many as it passes.
        present: u32,
        /// As many as the program takes.
        needed: u32,
    },
    /// The tracepoint of io_uring's completions does not say which request is complete.
    #[error("tracepoint {0} passes no request on this kernel")]
    NoRequest(&'static str),
    /// A parameter, or the result behind the parameters, is not where the program looks for it.
    #[error("{function} has {what} elsewhere on this kernel than the probes know")]
    Moved {
        /// Which function.
        function: String,
        /// The parameter, or `its result`.
        what: &'static str,
    },
    /// The function is in a module, where probes are not attached.
    #[error("{function} is in the module {module}, where probes on functions are not attached")]
    InModule {
        /// Which function.
        function: &'static str,
        /// The module.
        module: &'static str,
    },
    /// It is attached, and was not called where it must have been.
    #[error("never called while {0}: a compiler may have merged the function into its caller")]
    Silent(&'static str),
    /// The function has no such parameter.
    #[error("{function} has no parameter {parameter} on this kernel")]
    NoParameter {
        /// Which function.
        function: String,
        /// The parameter that the program takes.
        parameter: &'static str,
    },
    /// The result of a system call is not where the program looks for it.
    #[error("the result of a system call is at byte {0} of its record on this kernel")]
    ResultMoved(u32),
    /// System call tracepoints cannot be found.
    #[error(transparent)]
    Tracefs(#[from] TracefsError),
    /// A right is missing, or a security policy forbids it (EPERM).
    #[error("{0}")]
    NotPermitted(String),
    /// The verifier refuses the program, or the kernel cannot load it.
    #[error("the kernel refuses the program: {}", std::io::Error::from(*.0))]
    Rejected(Errno),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    /// The object has no such program.
    pub(crate) fn no_program(name: &str) -> Self {
        Self::Failed(format!("the object has no program {name}"))
    }

    /// Whether this kernel lacks the hook's target. An optional hook is not missed then.
    #[must_use]
    pub fn is_absence_of(&self, target: Target) -> bool {
        match (self, target) {
            (Self::Missing(Symbol::Function(name)), Target::Entry(function) | Target::Exit(function)) => {
                name == function
            }
            (Self::Missing(Symbol::Tracepoint(name)), Target::Tracepoint(tracepoint, _)) => name == tracepoint,
            _ => false,
        }
    }

    /// Whether a newer kernel has what this one lacks.
    #[must_use]
    pub fn is_age(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::TooFewArguments { .. } | Self::NoRequest(_))
    }

    /// The capabilities that allow it.
    pub(crate) fn wanted(&self) -> &'static [Capability] {
        match self {
            Self::Tracefs(error) => error.wanted(),
            _ => &[],
        }
    }
}

impl From<BtfError> for Refusal {
    fn from(error: BtfError) -> Self {
        match error {
            BtfError::Missing(symbol) => Self::Missing(symbol),
            other => Self::Types(other.to_string()),
        }
    }
}

impl From<ProgramError> for Refusal {
    /// The verifier's log goes to the debug output only.
    fn from(error: ProgramError) -> Self {
        let errno = errors::errno(&error);
        let text = match &error {
            ProgramError::LoadError { io_error, verifier_log } => {
                if std::env::var_os("LISTENTOP_VERIFIER_LOG").is_some() {
                    say(verifier_log);
                }
                format!("the kernel refuses the program: {io_error}")
            }
            _ => errors::chain(&error),
        };
        match (error, errno) {
            (_, Some(libc::EPERM)) => Self::NotPermitted(text),
            (ProgramError::LoadError { .. }, Some(errno)) => Self::Rejected(Errno::from_raw(errno)),
            _ => Self::Failed(text),
        }
    }
}

/// Why no method observes an event: the outcomes of the hooks that every method needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// The hooks that were refused, each once.
    pub refusals: Vec<(Target, Refusal)>,
    /// The kind of probes that were asked for; `None`: any.
    pub kind: Option<Kind>,
    /// The level that has the event, if the one that was asked for does not.
    pub level: Option<Level>,
}

impl Failure {
    /// Adds a hook that was refused.
    pub(crate) fn add(&mut self, refusal: (Target, Refusal)) {
        if !self.refusals.contains(&refusal) {
            self.refusals.push(refusal);
        }
    }

    /// Whether a newer kernel has what this one lacks.
    pub(crate) fn is_age(&self) -> bool {
        self.refusals.iter().any(|(_, refusal)| refusal.is_age())
    }

    /// The capabilities that would help.
    pub(crate) fn wanted(&self) -> Vec<Capability> {
        self.refusals.iter().flat_map(|(_, refusal)| refusal.wanted()).copied().collect()
    }

    /// The refusal that goes away with a right or a mount; `None` if there is none. It says what to do.
    pub(crate) fn remediable(&self) -> Option<&Refusal> {
        self.refusals.iter().map(|(_, refusal)| refusal).find(|refusal| !refusal.wanted().is_empty())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(level) = self.level {
            return write!(f, "left out; --measure {} has it", level.name());
        }
        match (self.refusals.as_slice(), self.kind) {
            ([], Some(kind)) => write!(f, "{} probes do not see it", kind.name()),
            ([], None) => f.write_str("no hook brings it"),
            (refusals, _) => {
                for (number, (target, refusal)) in refusals.iter().enumerate() {
                    let separator = if number == 0 { "" } else { "; " };
                    write!(f, "{separator}{target}: {refusal}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hooks_own_target_is_absent() {
        let function = Refusal::Missing(Symbol::Function("f".to_owned()));
        assert!(function.is_absence_of(Target::Exit("f")) && function.is_absence_of(Target::Entry("f")));
        assert!(!function.is_absence_of(Target::Exit("g")) && !function.is_absence_of(Target::Tracepoint("f", 1)));
        let tracepoint = Refusal::Missing(Symbol::Tracepoint("t".to_owned()));
        assert!(tracepoint.is_absence_of(Target::Tracepoint("t", 3)) && !tracepoint.is_absence_of(Target::Entry("t")));
        let member = Refusal::Missing(Symbol::Member("t".to_owned()));
        assert!(!member.is_absence_of(Target::Tracepoint("t", 3)));
        assert!(!Refusal::OnPurpose.is_absence_of(Target::Exit("f")));
    }

    #[test]
    fn permission_is_a_number_not_a_sentence() {
        let load = |number| ProgramError::LoadError {
            io_error: std::io::Error::from_raw_os_error(number),
            verifier_log: aya_obj::VerifierLog::new(String::new()),
        };
        assert!(matches!(Refusal::from(load(libc::EPERM)), Refusal::NotPermitted(_)));
        assert_eq!(Refusal::from(load(libc::EACCES)), Refusal::Rejected(Errno::EACCES));
        let other = ProgramError::NotLoaded;
        assert_eq!(Refusal::from(other), Refusal::Failed("the program is not loaded".to_owned()));
    }

    #[test]
    fn a_failure_names_each_hook_once() {
        let mut failure = Failure::default();
        assert_eq!((failure.to_string().as_str(), failure.remediable()), ("no hook brings it", None));
        failure.add((Target::Exit("f"), Refusal::OnPurpose));
        failure.add((Target::Exit("f"), Refusal::OnPurpose));
        failure.add((Target::Syscall("s"), Refusal::Tracefs(TracefsError::Hidden)));
        assert!(failure.to_string().starts_with("fexit/f: refused on purpose; tracepoint/syscalls/s: tracefs"));
        assert_eq!(failure.wanted(), [Capability::CAP_DAC_READ_SEARCH]);
        assert_eq!(failure.remediable(), Some(&Refusal::Tracefs(TracefsError::Hidden)), "not the one that is first");
        let by_kind = Failure { kind: Some(Kind::Tracepoint), ..Failure::default() };
        assert_eq!(by_kind.to_string(), "tracepoint probes do not see it");
        let by_level = Failure { level: Some(Level::Accepts), ..Failure::default() };
        assert_eq!(by_level.to_string(), "left out; --measure accepts has it");
    }
}
