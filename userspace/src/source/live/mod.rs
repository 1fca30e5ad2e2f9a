//! The live source: probes in the running kernel.

mod attach;
pub mod blame;
mod bpf;
mod error;
mod options;
mod read;
mod source;
mod start;

pub use attach::{
    Trial,
    events::{self, Event, Kind, Level, Target},
    refusal::{Failure, Refusal},
    tracefs::TracefsError,
};
pub use error::StartError;
pub use options::Options;
pub use source::LiveSource;
