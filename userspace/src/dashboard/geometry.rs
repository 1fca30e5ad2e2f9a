//! Where header, body and footer are: a function of the screen's size and the model alone.

use listentop_model::{model::Model, words::losses};
use ratatui::layout::{Constraint, Layout, Rect};

/// Columns that the dashboard needs.
pub const MIN_COLUMNS: u16 = 80;
/// Rows that the dashboard needs.
pub const MIN_ROWS: u16 = 24;

/// Rows of the header: the machine, the counts, coverage and cost.
const HEADER: u16 = 3;

/// Whether a terminal of this size has no room for the dashboard.
#[must_use]
pub const fn is_too_small(columns: u16, rows: u16) -> bool {
    columns < MIN_COLUMNS || rows < MIN_ROWS
}

/// Rows of the header: one more if something was lost.
#[must_use]
pub fn header_height(model: Option<&Model>) -> u16 {
    HEADER + u16::from(model.is_some_and(|model| !losses::of(&model.losses).is_empty()))
}

/// Header, body and footer of a screen.
#[must_use]
pub fn parts(area: Rect, header: u16) -> [Rect; 3] {
    Layout::vertical([Constraint::Length(header), Constraint::Min(0), Constraint::Length(1)]).areas(area)
}

#[cfg(test)]
mod tests {
    use listentop_model::{fixtures, tracker::Tracker};

    use super::*;

    #[test]
    fn a_screen_is_too_small_below_80x24() {
        for (columns, rows, small) in
            [(80, 24, false), (79, 24, true), (80, 23, true), (79, 23, true), (200, 60, false)]
        {
            assert_eq!(is_too_small(columns, rows), small, "{columns}x{rows}");
        }
    }

    #[test]
    fn a_loss_takes_a_row_of_the_header() {
        let mut model = Tracker::new(&fixtures::quiet()[0]).model().clone();
        assert_eq!((header_height(None), header_height(Some(&model))), (3, 3));
        model.losses.unseen = 1;
        assert_eq!(header_height(Some(&model)), 4);
    }

    #[test]
    fn the_body_is_between_header_and_footer() {
        let [header, body, footer] = parts(Rect::new(0, 0, 80, 24), 4);
        assert_eq!((header.y, header.height), (0, 4));
        assert_eq!((body.y, body.height, body.width), (4, 19, 80));
        assert_eq!((footer.y, footer.height), (23, 1));
    }
}
