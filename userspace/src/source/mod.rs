//! Where samples come from. The only code that imports aya.

pub mod coverage;
mod devices;
mod examine;
mod heap;
mod lists;
pub mod live;
mod machine;
mod namespaces;
mod owners;
mod pace;
mod proc;
pub mod sock_diag;
mod uninhabited;
mod waiting;

use std::{io, sync::Arc};

use listentop_model::{coverage::Coverage, sample::Sample};

use crate::errors::Shortage;
use coverage::WithoutProbes;
use live::{Kind, LiveSource};
use sock_diag::SockDiagSource;

pub use examine::{Examination, Origin, examine};
#[cfg(feature = "blame")]
pub(crate) use machine::monotonic_ns;
pub(crate) use namespaces::is_shown as namespace_is_shown;
pub(crate) use proc::{process_of, start_ticks};

/// Anything that samples can be read from.
pub trait Source: Send {
    /// Reads everything.
    ///
    /// # Errors
    /// The kernel's; the source may be asked again.
    fn sample(&mut self) -> io::Result<Sample>;

    /// What it can measure here, as of the last sample.
    fn coverage(&self) -> &[Coverage];

    /// From the next sample on it lists so many connections of each listener; 0: none.
    fn list_connections(&mut self, _per_listener: u32) {}

    /// What it is, in a word or two, as status lines show it.
    fn name(&self) -> &str;

    /// What it takes to watch acceptors later, if [`live::Options::blame_later`] asked for that; once.
    ///
    /// # Errors
    /// Why that is not possible here.
    fn blame_apart(&mut self) -> Result<live::blame::Apart, String> {
        Err("it takes probes".to_owned())
    }

    /// How much it measures, and which levels there are; `None` if that cannot change.
    fn levels(&mut self) -> Option<live::Levels> {
        None
    }

    /// Measures so much from the next sample on.
    ///
    /// # Errors
    /// Why not, and what would help.
    fn set_level(&mut self, _level: live::Level) -> Result<(), String> {
        Err("it takes probes, in the dashboard".to_owned())
    }

    /// What acceptors do while connections wait, if [`live::Options::blame`] asked for that.
    ///
    /// # Errors
    /// Why that cannot be known here.
    fn blame(&mut self) -> Result<live::blame::Watching<'_>, String> {
        Err("it takes probes".to_owned())
    }
}

/// What samples are to be read from.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which source.
    pub probes: Probes,
    /// How probes are set up, where they are.
    pub live: live::Options,
}

/// Which source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Probes {
    /// The best that runs here.
    #[default]
    Auto,
    /// The best probes that run here, or an error.
    Best,
    /// Probes on functions, or an error.
    Fentry,
    /// Probes on tracepoints, or an error.
    Tracepoint,
    /// No probes: the kernel's list of sockets, or an error.
    SockDiag,
}

/// Why nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No probes.
    #[error(transparent)]
    Live(#[from] live::StartError),
    /// No list of sockets.
    #[error(transparent)]
    SockDiag(#[from] sock_diag::StartError),
    /// Neither.
    #[error("{0}; sampling without probes is not possible either: {1}")]
    Nothing(Arc<live::StartError>, sock_diag::StartError),
}

impl StartError {
    /// What there is too little of, if that is the reason.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::Live(error) => error.shortage(),
            Self::SockDiag(error) => error.shortage(),
            Self::Nothing(live, other) => live.shortage().or_else(|| other.shortage()),
        }
    }
}

/// A source that was started.
pub struct Started {
    /// The source.
    pub source: Box<dyn Source>,
    /// Why it is not a better one, and what would help, in one line.
    pub notice: Option<String>,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("source", &self.source.name()).field("notice", &self.notice).finish()
    }
}

/// Starts a source.
///
/// # Errors
/// If the requested one, or every one, cannot run here: in one line why, and what would help.
pub fn start(options: &Options) -> Result<Started, StartError> {
    match options.probes {
        Probes::SockDiag => {
            let source = SockDiagSource::start(WithoutProbes::NotRequested)?;
            Ok(Started { source: Box::new(source), notice: None })
        }
        Probes::Best => Ok(Started { source: Box::new(LiveSource::start(&options.live)?), notice: None }),
        Probes::Fentry => live(options, Kind::Fentry),
        Probes::Tracepoint => live(options, Kind::Tracepoint),
        Probes::Auto => LiveSource::start(&options.live)
            .map(|source| Started { source: Box::new(source), notice: None })
            // Whoever limits it did not mean to have less measured.
            .or_else(|error| if error.shortage().is_some() { Err(error.into()) } else { without_probes(error) }),
    }
}

/// Starts what runs where probes do not.
fn without_probes(error: live::StartError) -> Result<Started, StartError> {
    let error = Arc::new(error);
    match SockDiagSource::start(WithoutProbes::Failed(error.clone())) {
        Ok(source) => {
            let notice = format!("depths and drops only, sampled by sock_diag: {error}");
            Ok(Started { source: Box::new(source), notice: Some(notice) })
        }
        Err(other) => Err(StartError::Nothing(error, other)),
    }
}

fn live(options: &Options, kind: Kind) -> Result<Started, StartError> {
    let options = live::Options { kind: Some(kind), ..options.live.clone() };
    Ok(Started { source: Box::new(LiveSource::start(&options)?), notice: None })
}
