//! What `listentop report` prints: the interval as JSON (schema 1, documented in `docs/schema.md`) or as text.

pub mod json;
pub mod table;

pub use self::{
    json::{Report, json},
    table::table,
};

#[cfg(test)]
mod tests;
