//! Where header, body and footer are: a function of the screen's size, the options and the losses alone, so that
//! nothing jumps when something is found.

use listentop_model::words::{self, losses};
use ratatui::layout::{Constraint, Layout, Rect};

use super::{caption, state::State};

/// Columns that the dashboard needs.
pub const MIN_COLUMNS: u16 = 80;
/// Rows that the dashboard needs.
pub const MIN_ROWS: u16 = 24;

/// Rows of the header besides verdict, notice and losses: views and machine, counts, coverage and cost.
const HEADER: u16 = 3;
/// Columns from which on a verdict fits one row.
const WIDE: u16 = 140;

/// Whether a terminal of this size has no room for the dashboard.
#[must_use]
pub const fn is_too_small(columns: u16, rows: u16) -> bool {
    columns < MIN_COLUMNS || rows < MIN_ROWS
}

/// Rows of the verdict.
pub(super) const fn verdict_height(columns: u16) -> u16 {
    if columns < WIDE { 2 } else { 1 }
}

/// Why not more is measured, in at most two rows of this width; nothing where there is no reason.
pub(super) fn notice(state: &State, columns: u16) -> Vec<String> {
    let notice = state.options.notice.as_deref().unwrap_or_default();
    let room = usize::from(columns).saturating_sub(2);
    let notice = words::clean(notice);
    let mut lines = words::wrap(&notice, room);
    if lines.len() > 2 {
        // What helps stands at the end, and matters most.
        let (why, remedy) = notice.rsplit_once("; ").unwrap_or((&notice, ""));
        lines = [why, remedy].map(|part| words::fit(part, room)).to_vec();
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// Rows of the header: one more if something was lost, and in a lab the caption.
pub(super) fn header_height(state: &State) -> u16 {
    let lost = state.model.as_ref().is_some_and(|model| !losses::of(&model.losses).is_empty());
    let columns = state.size.0;
    HEADER + verdict_height(columns) + notice(state, columns).len() as u16 + u16::from(lost) + caption::height(state)
}

/// Header, body and footer of a screen.
#[must_use]
pub fn parts(area: Rect, header: u16) -> [Rect; 3] {
    Layout::vertical([Constraint::Length(header), Constraint::Min(0), Constraint::Length(1)]).areas(area)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use listentop_model::{fixtures, tracker::Tracker};

    use super::*;
    use crate::dashboard::DashboardOptions;

    #[test]
    fn a_screen_is_too_small_below_80x24() {
        for (columns, rows, small) in
            [(80, 24, false), (79, 24, true), (80, 23, true), (79, 23, true), (200, 60, false)]
        {
            assert_eq!(is_too_small(columns, rows), small, "{columns}x{rows}");
        }
    }

    #[test]
    fn losses_and_notices_take_rows_of_the_header_and_findings_none() {
        let mut state = State::new(DashboardOptions::default());
        assert_eq!(header_height(&state), 5);
        let overflow = fixtures::overflow();
        let mut tracker = Tracker::new(&overflow[0]);
        overflow[1..].iter().for_each(|sample| tracker.push(sample));
        state.set_model(Arc::new(tracker.model().clone()));
        assert_eq!(header_height(&state), 5);
        let mut model = tracker.model().clone();
        model.losses.unseen = 1;
        state.set_model(Arc::new(model));
        assert_eq!(header_height(&state), 6);
        state.options.notice = Some("depths only: ".to_owned() + &"no, ".repeat(50) + "never; run it as root");
        let lines = notice(&state, 80);
        assert!(lines.len() == 2 && lines[0].ends_with('…') && lines[1] == "run it as root", "{lines:?}");
        assert_eq!(header_height(&state), 8);
        state.options.notice = Some("depths only; run it as root".to_owned());
        assert_eq!((notice(&state, 80).len(), header_height(&state)), (1, 7));
    }

    #[test]
    fn the_body_is_between_header_and_footer() {
        let [header, body, footer] = parts(Rect::new(0, 0, 80, 24), 4);
        assert_eq!((header.y, header.height), (0, 4));
        assert_eq!((body.y, body.height, body.width), (4, 19, 80));
        assert_eq!((footer.y, footer.height), (23, 1));
    }
}
