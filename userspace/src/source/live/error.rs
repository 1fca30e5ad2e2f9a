//! Why the probes cannot be attached at all.

use std::io;

use caps::Capability;
use listentop_btf::BtfError;

use crate::{
    errors::{self, Shortage},
    rights,
    source::live::attach::{events::Event, refusal::Failure},
};

/// Why the probes cannot be attached at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No kernel BTF.
    #[error("this kernel's types cannot be read ({0}); {remedy}", remedy = .0.remedy())]
    Btf(#[from] BtfError),
    /// A structure is not what the probes expect.
    #[error("this kernel is not supported: {0}")]
    Unsupported(#[source] BtfError),
    /// No bpf(2).
    #[error(
        "there is no bpf(2) here: this kernel was built without BPF (CONFIG_BPF_SYSCALL), or a seccomp filter refuses \
         the call (a container's profile: allow it there)"
    )]
    NoBpf,
    /// Rights are missing.
    #[error(
        "not permitted to load BPF programs ({0}); {remedy}",
        remedy = rights::remedy_for_probes()
    )]
    NotPermitted(String),
    /// Nothing brings an essential event.
    #[error("the probes cannot be attached: {}", essential(*.event, .failure))]
    Refused {
        /// Which event.
        event: Event,
        /// Why not.
        failure: Failure,
    },
    /// The kernel, or aya, refuses the object or something in it.
    #[error("the probes cannot be attached: {0}")]
    Object(String),
    /// Too few descriptors or too little memory for the object or something in it.
    #[error("the probes cannot be attached: {1}; {remedy}", remedy = .0.remedy())]
    Short(Shortage, String),
    /// Anything else.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] io::Error),
}

/// What fails where a thread cannot be started.
pub(crate) const NO_THREAD: &str = "no thread can be started";

fn essential(event: Event, failure: &Failure) -> String {
    let event = event.name();
    match failure.kind {
        Some(kind) => format!("{} probes do not run here: {event}: {failure}", kind.name()),
        None => format!("{event}: {failure}"),
    }
}

impl StartError {
    /// The object has no map of this name.
    pub(crate) fn no_map(name: &str) -> Self {
        Self::Object(format!("the object has no map {name}"))
    }

    /// The object has no program of this name.
    pub(crate) fn no_program(name: &str) -> Self {
        Self::Object(format!("the object has no program {name}"))
    }

    /// Something in the object is refused.
    pub(crate) fn object(error: &(dyn std::error::Error + 'static)) -> Self {
        let text = errors::chain(error);
        match Shortage::behind(error) {
            Some(shortage) => Self::Short(shortage, text),
            None => Self::Object(text),
        }
    }

    /// What there is too little of, if that is the reason.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::Short(shortage, _) => Some(*shortage),
            Self::Io(_, error) => Shortage::behind(error),
            _ => None,
        }
    }

    /// The capabilities that would help, in addition to those that loading a program requires.
    pub(crate) fn wanted(&self) -> Vec<Capability> {
        match self {
            Self::Refused { failure, .. } => failure.wanted(),
            _ => Vec::new(),
        }
    }

    /// Whether a newer kernel would help.
    pub(crate) fn is_age(&self) -> bool {
        match self {
            Self::Unsupported(error) => matches!(error, BtfError::Missing(_)),
            Self::Refused { failure, .. } => failure.is_age(),
            _ => false,
        }
    }
}
