//! What a key can ask for, and what the state can ask of the loop.

use std::time::Duration;

/// What the user, or the terminal, asks for. Every key becomes one of these; nothing else changes the state but a new
/// model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Leave.
    Quit,
    /// Stop as a job of the shell.
    Suspend,
    /// The terminal has this many columns and rows.
    Resize(u16, u16),
    /// Open or close the help.
    Help,
    /// Open or close the table of coverage.
    Coverage,
    /// Leave this screen for the one it was opened from.
    Back,
    /// Open the selected row; unfold it, if it is a folded group.
    Open,
    /// One row or line up.
    Up,
    /// One row or line down.
    Down,
    /// One page up.
    PageUp,
    /// One page down.
    PageDown,
    /// To the first row or line.
    First,
    /// To the last row or line.
    Last,
    /// Unfold the selected group.
    Unfold,
    /// Fold the group of the selected row.
    Fold,
    /// Fold or unfold the group of the selected row.
    ToggleFold,
    /// Unfold every group, or fold all if all are unfolded.
    ToggleFoldAll,
    /// Sort by the next column.
    SortNext,
    /// Sort by the previous column.
    SortPrevious,
    /// Reverse the order.
    SortReverse,
    /// Begin to type a filter.
    FilterStart,
    /// Type into the filter.
    FilterInput(char),
    /// Take back the last character of the filter.
    FilterErase,
    /// Keep the filter and stop typing.
    FilterAccept,
    /// Drop the filter.
    FilterClear,
    /// Freeze what is shown, or let it go on.
    Pause,
    /// Refresh more often.
    Faster,
    /// Refresh less often.
    Slower,
    /// Show every listener that closed in the interval, or only those that closed lately.
    ToggleClosed,
    /// The next listener of the overview.
    NextListener,
    /// The previous listener of the overview.
    PreviousListener,
    /// The next section of the listener view.
    NextSection,
    /// The previous section of the listener view.
    PreviousSection,
    /// Distributions of the interval, or of the recent span.
    ToggleSpan,
}

/// What the state asks of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing changed.
    None,
    /// Draw.
    Redraw,
    /// Leave.
    Quit,
    /// Stop as a job of the shell.
    Suspend,
    /// Sample at this interval from now on, and draw.
    SetInterval(Duration),
}
