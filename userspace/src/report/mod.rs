//! What `listentop report` prints: the interval as JSON (schema 1, documented in `docs/schema.md`) or as text.

mod figures;
pub mod json;
pub mod table;

use std::time::{Duration, UNIX_EPOCH};

pub use self::{
    json::{Report, json},
    table::table,
};

/// The last moment that RFC 3339 can express, in milliseconds since the epoch.
const LAST_UNIX_MS: u64 = 253_402_300_799_999;

/// A wall clock time as in RFC 3339, UTC, with milliseconds.
fn timestamp(unix_ms: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(unix_ms.min(LAST_UNIX_MS));
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;
