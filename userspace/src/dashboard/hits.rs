//! Where a mouse can click, and what that does. Drawing notes it, so that it is where it is seen.

use ratatui::layout::{Position, Rect};

use super::action::Action;

/// The places of one frame.
#[derive(Debug, Default)]
pub(super) struct Hits(Vec<(Rect, Action)>);

impl Hits {
    /// Forgets the frame before.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// A click within `area` means `action`. What is added later lies above.
    pub(super) fn add(&mut self, area: Rect, action: Action) {
        if !area.is_empty() {
            self.0.push((area, action));
        }
    }

    /// What a click there means.
    pub(super) fn at(&self, x: u16, y: u16) -> Option<Action> {
        self.0.iter().rev().find(|(area, _)| area.contains(Position::new(x, y))).map(|(_, action)| *action)
    }

    /// All of them, for tests.
    #[cfg(test)]
    pub(super) fn all(&self) -> &[(Rect, Action)] {
        &self.0
    }
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
        hits.clear();
        assert_eq!(hits.at(1, 1), None);
    }
}
