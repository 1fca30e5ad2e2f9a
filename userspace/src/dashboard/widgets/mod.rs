//! Pieces of the screens, one per file. Each is given what it draws and where; none knows the state.

pub(super) mod graph;
pub(super) mod histogram;
pub(super) mod pipeline;
pub(super) mod queue_bar;
pub(super) mod sparkline;
pub(super) mod status;
pub(super) mod text;
