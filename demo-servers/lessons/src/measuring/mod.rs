//! How to measure, and how not to.

pub(crate) mod littles_law;
