//! Pushing by OTLP: the same figures as a scrape has, sent to a collector at an interval.
//!
//! One task writes a push from the last model and puts it on a queue; another sends what is on the queue. All counts are
//! cumulative, so a push that is lost costs a point in time and no count. Nothing here makes measuring or a scrape wait.

mod attributes;
mod config;
mod connection;
mod counters;
mod grpc;
mod http;
mod lists;
mod message;
mod names;
mod outcome;
mod points;
mod push;
mod queue;
mod sender;
mod surroundings;
mod tls;

pub use config::{Histograms, OtlpError, Protocol, Settings};
pub(super) use {
    config::Config,
    counters::Counters,
    push::{From, Pusher},
};
