//! The views, one per file. A new one is a file here, and its two lines below.

mod blame;
mod clients;
mod compare;
mod connections;
mod coverage;
mod events;
mod explain;
mod findings;
mod help;
mod listener;
mod measure;
mod overview;

use super::view::Declaration;

/// Every view, in the order of the help and of the footer. The first is on the screen at the start.
pub(super) static ALL: &[&Declaration] = &[
    &overview::VIEW,
    &listener::VIEW,
    &compare::VIEW,
    &events::VIEW,
    &findings::VIEW,
    &connections::VIEW,
    &blame::VIEW,
    &clients::VIEW,
    &explain::VIEW,
    &coverage::VIEW,
    &measure::VIEW,
    &help::VIEW,
];
