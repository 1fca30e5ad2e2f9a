//! Where samples come from. The only code that imports aya.

mod examine;
pub mod live;
mod machine;
mod namespaces;
mod owners;
pub mod sock_diag;

use std::io;

use listentop_model::{coverage::Coverage, sample::Sample};

use live::{Kind, LiveSource};
use sock_diag::SockDiagSource;

use crate::rights;

pub use examine::{Examination, Origin, examine};
pub(crate) use namespaces::is_shown as namespace_is_shown;
pub(crate) use owners::{process_of, start_ticks};

/// Anything that samples can be read from.
pub trait Source: Send {
    /// Reads everything.
    ///
    /// # Errors
    /// What the kernel says; the source may be asked again.
    fn sample(&mut self) -> io::Result<Sample>;

    /// What it can measure here, as of the last sample.
    fn coverage(&self) -> &[Coverage];

    /// What it is, in a word or two, as status lines show it.
    fn name(&self) -> &str;
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
    /// Probes on functions, or an error.
    Fentry,
    /// Probes on tracepoints, or an error.
    Tracepoint,
    /// No probes: what the kernel's list of sockets says, or an error.
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
    #[error("{0}; nor can anything be sampled without probes: {1}")]
    Nothing(live::StartError, sock_diag::StartError),
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
/// If the one that is wanted, or every one, cannot run here: in one line why, and what would help.
pub fn start(options: &Options) -> Result<Started, StartError> {
    match options.probes {
        Probes::SockDiag => {
            let source = SockDiagSource::start("needs probes: --probes auto, where they can run")?;
            Ok(Started { source: Box::new(source), notice: None })
        }
        Probes::Fentry => live(options, Kind::Fentry),
        Probes::Tracepoint => live(options, Kind::Tracepoint),
        Probes::Auto => match LiveSource::start(&options.live) {
            Ok(source) => Ok(Started { source: Box::new(source), notice: None }),
            Err(error) => match SockDiagSource::start(&missing(&error)) {
                Ok(source) => {
                    let notice = format!("depths and drops only, sampled by sock_diag: {error}");
                    Ok(Started { source: Box::new(source), notice: Some(notice) })
                }
                Err(other) => Err(StartError::Nothing(error, other)),
            },
        },
    }
}

/// Why a measure that only probes can make is unavailable, and what would help.
fn missing(error: &live::StartError) -> String {
    match error {
        live::StartError::NotPermitted(_) => format!("needs probes: {}", rights::remedy_for_probes()),
        live::StartError::Btf(error) => format!("needs probes: {}", error.remedy()),
        other => format!("needs probes: {other}"),
    }
}

fn live(options: &Options, kind: Kind) -> Result<Started, StartError> {
    let options = live::Options { kind: Some(kind), ..options.live.clone() };
    Ok(Started { source: Box::new(LiveSource::start(&options)?), notice: None })
}
