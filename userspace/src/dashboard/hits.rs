//! Where a mouse can click, and what that does. Drawing notes it, so that it is where it is seen.

use ratatui::layout::{Position, Rect};

use super::{action::Action, column::Column};

/// The places of one frame.
#[derive(Debug, Default)]
pub(super) struct Hits {
    places: Vec<(Rect, Action)>,
    /// Where a figure stands that can be explained.
    figures: Vec<(Rect, Column)>,
}

impl Hits {
    /// Forgets the frame before.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.figures.clear();
    }

    /// A click within `area` means `action`. What is added later lies above.
    pub(super) fn add(&mut self, area: Rect, action: Action) {
        if !area.is_empty() {
            self.places.push((area, action));
        }
    }

    /// What a click there means.
    pub(super) fn at(&self, x: u16, y: u16) -> Option<Action> {
        found(&self.places, x, y)
    }

    /// Figures of this column stand within `area`.
    pub(super) fn add_figures(&mut self, area: Rect, column: Column) {
        self.figures.push((area, column));
    }

    /// The column of the figure that stands there.
    pub(super) fn figure_at(&self, x: u16, y: u16) -> Option<Column> {
        found(&self.figures, x, y)
    }

    /// All places, for tests.
    #[cfg(test)]
    pub(super) fn all(&self) -> &[(Rect, Action)] {
        &self.places
    }
}

/// What lies uppermost there.
fn found<T: Copy>(places: &[(Rect, T)], x: u16, y: u16) -> Option<T> {
    places.iter().rev().find(|(area, _)| area.contains(Position::new(x, y))).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_above_is_hit() {
        let mut hits = Hits::default();
        hits.add(Rect::new(0, 0, 10, 2), Action::Up);
        hits.add(Rect::new(2, 1, 3, 1), Action::Down);
        hits.add(Rect::new(5, 5, 0, 1), Action::Last);
        assert_eq!([hits.at(1, 1), hits.at(2, 1), hits.at(5, 5)], [Some(Action::Up), Some(Action::Down), None]);
        assert_eq!(hits.all().len(), 2);
        hits.add_figures(Rect::new(3, 0, 2, 9), Column::Drops);
        assert_eq!([hits.figure_at(4, 8), hits.figure_at(5, 8)], [Some(Column::Drops), None]);
        hits.clear();
        assert_eq!((hits.at(1, 1), hits.figure_at(4, 8)), (None, None));
    }
}
