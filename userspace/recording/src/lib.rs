//! Recordings of samples: the format, files that are written and read, rings of segments.
//!
//! It knows of a sample only that serde describes it, and that it has listeners. `docs/recording.md` describes the
//! format, `docs/architecture.md` why it is as it is.

mod codec;
#[cfg(any(test, feature = "exercise"))]
pub mod exercise;
mod files;
pub mod frame;
mod index;
mod patch;
mod reader;
mod segments;
mod start;
mod tape;
mod writer;

pub use codec::{Decoder, Encoder};
pub use files::create;
pub use reader::{Damage, OpenError, Recording, Run, Samples};
pub use start::{FigureSchema, Start, VERSION};
pub use writer::{Notice, Ring, WriteError, Writer};

#[cfg(test)]
mod tests;
