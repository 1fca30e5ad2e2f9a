//! How to measure, and how not to.

pub(crate) mod closed_loop_lies;
pub(crate) mod littles_law;
pub(crate) mod who_is_to_blame;
