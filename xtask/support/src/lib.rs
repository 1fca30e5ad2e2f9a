//! What xtask and the programs that it starts share.
//!
//! Kept small: xtask compiles it before the first demo starts.

pub mod cargo;
pub mod children;
pub mod exit;
pub mod process;
pub mod root;
pub mod setup;
pub mod tools;

pub use build_support as toolchain;
