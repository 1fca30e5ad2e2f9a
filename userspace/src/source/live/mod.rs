//! The live source: probes in the running kernel.

mod adjust;
mod attach;
pub mod blame;
pub(crate) mod bpf;
mod error;
mod options;
mod read;
mod source;
mod start;
mod visitor;

pub use adjust::Levels;
pub use attach::{
    Trial,
    events::{self, Event, Kind, Level, Target},
    refusal::{Failure, Refusal},
    tracefs::TracefsError,
};
pub use error::StartError;
pub use options::Options;
pub use source::LiveSource;
