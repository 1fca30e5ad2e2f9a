//! Where samples come from. The only code that imports aya.

pub mod live;
mod namespaces;
mod owners;
