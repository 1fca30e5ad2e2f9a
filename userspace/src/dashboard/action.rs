//! What keys request, and what the state requests from the loop.

use std::time::Duration;

use super::{caption::LabKey, column::Column};
use crate::{past::Turn, source::live::Level};

/// What the user or the terminal requests. Every key becomes one of these. Apart from them, only a new model changes
/// the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Leave.
    Quit,
    /// Stop as a job of the shell.
    Suspend,
    /// The terminal has this many columns and rows.
    Resize(u16, u16),
    /// Open or close the view of this name.
    Show(&'static str),
    /// Leave this view for the one that it was opened from.
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
    /// Start typing a filter.
    FilterStart,
    /// Type into the filter.
    FilterInput(char),
    /// Take back the last character of the filter.
    FilterErase,
    /// Keep the filter and stop typing.
    FilterAccept,
    /// Drop the filter.
    FilterClear,
    /// Freeze what is shown, or continue.
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
    /// Compare the threads of the selected listener, or rows again.
    ToggleThreads,
    /// Open the listener that the verdict is about.
    OpenWorst,
    /// The next listener that has a finding.
    NextFinding,
    /// The listener before that has a finding.
    PreviousFinding,
    /// Some lines up, by the wheel of a mouse.
    ScrollUp,
    /// Some lines down.
    ScrollDown,
    /// Select the row at this place of the order; open it, if it is selected.
    PickRow(usize),
    /// Sort by this column; reverse the order, if rows are sorted by it.
    PickColumn(Column),
    /// Show this section of the listener view.
    PickSection(usize),
    /// Take this line of a menu.
    PickLine(usize),
    /// Open the menu of orders.
    SortMenu,
    /// Open the menu of columns.
    ColumnMenu,
    /// Close the menu.
    CloseMenu,
    /// Mark the selected row for the comparison, or take its mark away.
    Mark,
    /// Copy the command that shows the cause, or what is known, to the terminal's clipboard.
    Copy,
    /// Write an evidence bundle.
    Bundle,
    /// Begin anew to charge what acceptors do.
    Anew,
    /// From the frame that takes the whole width to the one that called it.
    ZoomOut,
    /// The frame at the left.
    FrameBefore,
    /// The frame at the right.
    FrameAfter,
    /// Measure more: the next level.
    MeasureMore,
    /// Measure less: the level below.
    MeasureLess,
    /// Ask the lab for something.
    Lab(LabKey),
    /// One sample earlier.
    Earlier,
    /// One sample later.
    Later,
    /// A minute earlier.
    MinuteEarlier,
    /// A minute later.
    MinuteLater,
    /// To where something began or ended before.
    PreviousEvent,
    /// To where something began or ended next.
    NextEvent,
    /// Back to what is measured now.
    Now,
    /// A click at this column and row.
    Click(u16, u16),
    /// A click with the right button there: what is that figure?
    Ask(u16, u16),
}

/// Lines that a turn of the wheel scrolls.
const WHEEL: usize = 3;

impl Action {
    /// The position that a movement leads to from `at`; any other action stays. No position is beyond `last`.
    pub(super) fn travel(self, at: usize, page: usize, last: usize) -> usize {
        let to = match self {
            Self::Up => at.saturating_sub(1),
            Self::Down => at + 1,
            Self::ScrollUp => at.saturating_sub(WHEEL),
            Self::ScrollDown => at + WHEEL,
            Self::PageUp => at.saturating_sub(page),
            Self::PageDown => at + page,
            Self::First => 0,
            Self::Last => last,
            _ => at,
        };
        to.min(last)
    }

    /// The moment that it asks for.
    pub(super) const fn moment(self) -> Option<Travel> {
        /// A minute, in milliseconds.
        const MINUTE: i64 = 60_000;
        Some(Travel::To(match self {
            Self::Earlier => Turn::Samples(-1),
            Self::Later => Turn::Samples(1),
            Self::MinuteEarlier => Turn::Time(-MINUTE),
            Self::MinuteLater => Turn::Time(MINUTE),
            Self::PreviousEvent => Turn::PreviousEvent,
            Self::NextEvent => Turn::NextEvent,
            Self::Now => return Some(Travel::Now),
            _ => return None,
        }))
    }

    /// Its name in the configuration, such as `sort-next`; of an action that opens a view, the view's name.
    #[must_use]
    pub fn name(self) -> String {
        if let Self::Show(view) = self {
            return view.to_owned();
        }
        let mut name = String::new();
        for c in format!("{self:?}").chars() {
            if c.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.extend(c.to_lowercase());
        }
        name
    }
}

/// Which moment is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Travel {
    /// Another one of the past.
    To(Turn),
    /// That of a recording at this time, in milliseconds since the epoch, and stay there.
    At(u64),
    /// The newest, whatever comes.
    Now,
    /// Stay at the one that is shown, or go on; of a recording.
    Pause(bool),
}

/// What the state requests from the loop.
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
    /// Measure so much from now on, and draw.
    SetLevel(Level),
    /// Write an evidence bundle, and draw.
    Bundle,
    /// Ask the lab for something.
    Lab(LabKey),
    /// Show another moment.
    Travel(Travel),
}

#[cfg(test)]
mod tests {
    use super::Action;

    #[test]
    fn movements_stay_between_first_and_last() {
        for (action, from_the_middle, from_the_end) in [
            (Action::Up, 4, 8),
            (Action::Down, 6, 9),
            (Action::ScrollUp, 2, 6),
            (Action::ScrollDown, 8, 9),
            (Action::PageUp, 2, 6),
            (Action::PageDown, 8, 9),
            (Action::First, 0, 0),
            (Action::Last, 9, 9),
            (Action::Pause, 5, 9),
        ] {
            assert_eq!((action.travel(5, 3, 9), action.travel(9, 3, 9)), (from_the_middle, from_the_end), "{action:?}");
        }
        assert_eq!(Action::ToggleFoldAll.name(), "toggle-fold-all");
        assert_eq!(Action::Show("help").name(), "help");
        assert_eq!((Action::Up.travel(0, 3, 9), Action::PageUp.travel(2, 3, 9)), (0, 0));
    }
}
