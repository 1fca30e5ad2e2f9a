//! What was done on purpose, on the time axis of a graph: a thin line at its moment, and its name below.

use std::ops::Range;

use listentop_model::{model::Mark, words};
use ratatui::{buffer::Buffer, layout::Rect};

use super::text::put;
use crate::dashboard::theme::Theme;

/// The line of a mark; in lists it stands before what was done.
pub(in crate::dashboard) const MARK: &str = "┊";
/// Columns of a name, at least: less says nothing.
const LEAST: u16 = 3;
/// Where it meets the time axis.
const FOOT: &str = "┴";

/// Whether something was done in the step that ended at `at`; the step before it ended at `before`.
pub(in crate::dashboard) fn within(marks: &[Mark], before: Option<f64>, at: f64) -> bool {
    // Marks are in the order of time, and the step at hand is most often the last.
    let mut late = marks.iter().rev().take_while(|mark| before.is_none_or(|before| mark.at > before));
    before.is_some() && late.any(|mark| mark.at <= at)
}

/// A mark and its column.
struct Placed<'a> {
    x: u16,
    mark: &'a Mark,
}

/// The marks of a graph.
pub(in crate::dashboard) struct Marks<'a>(Vec<Placed<'a>>);

impl<'a> Marks<'a> {
    /// Those of these columns. `columns` has the times of the columns' ends, from the column `start` on.
    pub(in crate::dashboard) fn of(marks: &'a [Mark], start: u16, columns: &[f64]) -> Self {
        let Some(first) = columns.first() else { return Self(Vec::new()) };
        let place = |mark: &'a Mark| {
            let column = columns.partition_point(|end| *end < mark.at);
            (mark.at > *first && column < columns.len()).then(|| Placed { x: start + column as u16, mark })
        };
        Self(marks.iter().filter_map(place).collect())
    }

    /// Draws the lines. What is drawn after them covers them.
    pub(in crate::dashboard) fn lines(&self, buf: &mut Buffer, plot: Rect, theme: Theme) {
        for placed in &self.0 {
            (plot.y..plot.bottom()).for_each(|y| put(buf, placed.x, y, 1, MARK, theme.title()));
        }
    }

    /// Draws their feet and names into the line of the time axis, of which these columns are free.
    pub(in crate::dashboard) fn names(&self, buf: &mut Buffer, y: u16, free: Range<u16>, theme: Theme) {
        let mut begin = free.start;
        for (at, placed) in self.0.iter().enumerate().filter(|(_, placed)| free.contains(&placed.x)) {
            put(buf, placed.x, y, 1, FOOT, theme.title());
            // Of several in one column the last has its name there.
            let next = self.0.get(at + 1).map_or(free.end, |next| next.x.min(free.end));
            let (before, behind) = (placed.x.saturating_sub(begin + 1), next.saturating_sub(placed.x + 1));
            let name = words::clean(&placed.mark.what);
            let width = words::width(&name) as u16;
            begin = placed.x + 1;
            if width > behind && width <= before {
                put(buf, placed.x - width, y, width, &name, theme.label());
            } else if behind >= LEAST {
                put(buf, placed.x + 1, y, behind, &words::fit(&name, behind.into()), theme.label());
                begin += width.min(behind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::theme::Palette;

    fn mark(at: f64, what: &str) -> Mark {
        Mark { monotonic_ns: (at * 1e9) as u64, at, what: what.to_owned(), netns: 1, port: None }
    }

    #[test]
    fn a_mark_stands_in_the_step_in_which_it_was_made() {
        let marks = [mark(0.5, "early"), mark(2.0, "stall one"), mark(2.1, "release one"), mark(9.0, "late")];
        // Columns that end at 1, 2, …, 8 s; they begin in column 10.
        let ends: Vec<f64> = (1..=8).map(f64::from).collect();
        let placed = Marks::of(&marks, 10, &ends);
        let columns: Vec<(u16, &str)> = placed.0.iter().map(|placed| (placed.x, placed.mark.what.as_str())).collect();
        assert_eq!(columns, [(11, "stall one"), (12, "release one")]);
        assert!(Marks::of(&marks, 10, &[]).0.is_empty());
        for (before, at, is_in) in [(1.0, 2.0, true), (2.0, 2.05, false), (2.0, 3.0, true), (3.0, 4.0, false)] {
            assert_eq!(within(&marks, Some(before), at), is_in, "{before} {at}");
        }
        assert!(!within(&marks, None, 2.0), "when the first step began is not known");
    }

    #[test]
    fn names_leave_room_for_each_other() {
        let marks = [mark(1.5, "stall one"), mark(4.5, "cookies 1"), mark(17.5, "at the end"), mark(29.5, "at last")];
        let ends: Vec<f64> = (1..=30).map(f64::from).collect();
        let mut buf = Buffer::empty(Rect::new(0, 0, 32, 2));
        let placed = Marks::of(&marks, 0, &ends);
        let theme = Theme::new(Palette::None);
        placed.lines(&mut buf, Rect::new(0, 0, 32, 1), theme);
        placed.names(&mut buf, 1, 0..31, theme);
        let row = |y| (0..32).map(|x| buf[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        assert_eq!(row(0), " ┊  ┊            ┊           ┊");
        // What does not fit behind its mark stands before it, or is cut.
        assert_eq!(row(1), " ┴  ┴cookies 1   ┴at the end ┴");
        let mut buf = Buffer::empty(Rect::new(0, 0, 32, 2));
        Marks::of(&marks[3..], 0, &ends).names(&mut buf, 1, 0..31, theme);
        let row: String = (0..32).map(|x| buf[(x, 1)].symbol()).collect();
        assert_eq!(row.trim_end(), "                      at last┴");
    }
}
