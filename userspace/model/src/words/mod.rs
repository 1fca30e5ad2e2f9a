//! How things are written for people: numbers, names, sentences, dates and losses. Every screen and report uses it.
//!
//! An unknown value is `-` (no value yet) or `n/a` (cannot be measured here), never 0.
//!
//! [`numbers`] is for tables, where columns are few; [`prose`] is for sentences.

pub mod behind;
pub mod charset;
pub mod connections;
pub mod dates;
pub mod functions;
pub mod losses;
pub mod names;
pub mod numbers;
pub mod prose;
pub mod text;
pub mod verdict;

pub use self::{
    charset::Charset,
    dates::utc,
    names::{
        container, container_in_full, endpoint, endpoint_width, family, listener_endpoint, netns, netns_within,
        numbered_endpoint, process, process_within, service, severity_mark, thread_name,
    },
    numbers::{
        NOTHING, SAMPLED, UNAVAILABLE, Units, bytes, clock, duration, interval, marked, percent, precise_duration,
        rate, short, short_bytes, status, unread, whole_percent, write_sizes_in,
    },
    prose::{agree, finding_time, grouped, plural},
    text::{clean, clean_json, fit, fit_middle, width, wrap},
};
