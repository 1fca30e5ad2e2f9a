//! Pieces of the screens, one per file. Each draws its arguments into an area; only the header reads the state.

pub(super) mod graph;
pub(super) mod heat;
pub(super) mod histogram;
pub(super) mod marks;
pub(super) mod page;
pub(super) mod pipeline;
pub(super) mod queue_bar;
pub(super) mod sparkline;
pub(super) mod status;
pub(super) mod text;
pub(super) mod too_small;
