//! Where samples come from. The only code that imports aya.

pub mod live;
mod machine;
mod namespaces;
mod owners;

use std::io;

use listentop_model::{coverage::Coverage, sample::Sample};

use live::{Kind, LiveSource, StartError};

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
}

/// Starts a source.
///
/// # Errors
/// If the one that is wanted, or every one, cannot run here: in one line why, and what would help.
pub fn start(options: &Options) -> Result<Box<dyn Source>, StartError> {
    match options.probes {
        Probes::Auto => Ok(Box::new(LiveSource::start(&options.live)?)),
        Probes::Fentry => live(options, Kind::Fentry),
        Probes::Tracepoint => live(options, Kind::Tracepoint),
    }
}

fn live(options: &Options, kind: Kind) -> Result<Box<dyn Source>, StartError> {
    let options = live::Options { kind: Some(kind), ..options.live.clone() };
    Ok(Box::new(LiveSource::start(&options)?))
}
