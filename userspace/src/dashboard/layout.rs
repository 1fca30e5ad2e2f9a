//! Which columns of the overview fit a screen, and where. No ratatui types.
//!
//! Columns ask for room one after the other. What a narrow screen shows a wider one shows, too, at least as wide: the
//! first that finds no room ends the round.

use super::column::Column;

/// A column's place in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which.
    pub column: Column,
    /// First column of the screen.
    pub x: u16,
    /// Width.
    pub width: u16,
}

/// A set of columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Columns(u32);

impl Columns {
    const fn bit(column: Column) -> u32 {
        1 << column as u32
    }

    /// Whether it has `column`.
    #[must_use]
    pub const fn contains(self, column: Column) -> bool {
        self.0 & Self::bit(column) != 0
    }

    /// With `column`, or without it.
    pub const fn set(&mut self, column: Column, within: bool) {
        if within {
            self.0 |= Self::bit(column);
        } else {
            self.0 &= !Self::bit(column);
        }
    }
}

impl FromIterator<Column> for Columns {
    fn from_iter<T: IntoIterator<Item = Column>>(columns: T) -> Self {
        columns.into_iter().fold(Self::default(), |mut set, column| {
            set.set(column, true);
            set
        })
    }
}

/// What the widths depend on.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Columns that the widest address takes.
    pub address: usize,
    /// Columns that the widest process takes.
    pub process: usize,
    /// Columns that the widest container takes; 0 if no process runs in one.
    pub container: usize,
    /// There is more than one network namespace.
    pub namespaces: bool,
    /// Rows are sorted by this column, which is therefore always shown.
    pub sort: Column,
    /// Columns that the user wants to see: they come before the others.
    pub wanted: Columns,
    /// Columns that the user does not want to see, or that have nothing to show here.
    pub hidden: Columns,
}

/// What a column asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// A place, of its least width.
    Place,
    /// So many columns, or as many of them as there are.
    UpTo(u16),
    /// As much as is useful.
    Whole,
}

/// Who asks for what, the most important first. The words of a finding come before all that explains them.
const ASKS: [(Column, Ask); 31] = {
    use Ask::{Place, UpTo, Whole};
    use Column as C;
    [
        (C::Severity, Place),
        (C::Listener, Place),
        (C::AcceptQueue, Place),
        (C::Process, Place),
        (C::Container, Place),
        (C::Drops, Place),
        (C::Accepts, Place),
        (C::WaitP99, Place),
        (C::Oldest, Place),
        (C::Process, UpTo(13)),
        (C::Container, UpTo(20)),
        (C::Finding, Place),
        (C::SynQueue, Place),
        (C::Listener, Whole),
        (C::Process, Whole),
        (C::Container, Whole),
        (C::Finding, UpTo(60)),
        (C::Netns, Place),
        (C::Peak, Place),
        (C::Trend, Place),
        (C::WaitP50, Place),
        (C::Reads, Place),
        (C::Pattern, Place),
        (C::Cause, Place),
        (C::Open, Place),
        (C::ResidencyP99, Place),
        (C::Netns, Whole),
        (C::Finding, Whole),
        (C::Pattern, Whole),
        (C::Trend, Whole),
        (C::AcceptQueue, Whole),
    ]
};

/// Columns for a row of `width`, one blank apart, in the order of the screen.
#[must_use]
pub fn layout(width: u16, needs: Needs) -> Vec<Place> {
    let shown = |column: Column| {
        let useful = match column {
            Column::Netns => needs.namespaces,
            Column::Container => needs.container > 0,
            _ => true,
        };
        column == needs.sort || needs.wanted.contains(column) || useful && !needs.hidden.contains(column)
    };
    let first = |column: &Column| *column == needs.sort || needs.wanted.contains(*column);
    // What the user asked for comes right behind the names.
    let asked = Column::ALL.into_iter().filter(first).map(|column| (column, Ask::Place));
    let (names, others) = ASKS.split_at(2);
    let mut row = Row { widths: [None; Column::ALL.len()], left: width, needs };
    for (column, ask) in names.iter().copied().chain(asked).chain(others.iter().copied()) {
        if shown(column) && !row.grant(column, ask) {
            break;
        }
    }
    // A longer bar says nothing else than a shorter one.
    row.grant(Column::AcceptQueue, Ask::Whole);
    row.places()
}

/// A row that is being shared out.
struct Row {
    widths: [Option<u16>; Column::ALL.len()],
    left: u16,
    needs: Needs,
}

impl Row {
    fn least(&self, column: Column) -> u16 {
        match column {
            Column::Listener => (self.needs.address as u16).clamp(column.spec().width, 21),
            _ => column.spec().width,
        }
    }

    fn useful(&self, column: Column) -> u16 {
        let max = column.spec().max;
        match column {
            Column::Listener => (self.needs.address as u16).min(max),
            Column::Process => (self.needs.process as u16).min(max),
            Column::Container => (self.needs.container as u16).min(max),
            _ => max,
        }
    }

    /// Gives a column what it asks for; false if there is no room for its place.
    fn grant(&mut self, column: Column, ask: Ask) -> bool {
        let is_first = self.widths.iter().all(Option::is_none);
        match (self.widths[column as usize], ask) {
            (None, Ask::Place) => {
                let wanted = self.least(column) + u16::from(!is_first);
                let Some(left) = self.left.checked_sub(wanted) else { return false };
                self.left = left;
                self.widths[column as usize] = Some(self.least(column));
            }
            (Some(width), Ask::UpTo(_) | Ask::Whole) => {
                let most = if let Ask::UpTo(most) = ask { most } else { u16::MAX };
                let more = self.useful(column).min(most).saturating_sub(width).min(self.left);
                self.left -= more;
                self.widths[column as usize] = Some(width + more);
            }
            _ => {}
        }
        true
    }

    fn places(&self) -> Vec<Place> {
        let mut x = 0;
        let place = |column: Column| {
            let width = self.widths[column as usize]?;
            let place = Place { column, x, width };
            x += width + 1;
            Some(place)
        };
        Column::ALL.into_iter().filter_map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs() -> Needs {
        Needs {
            address: 14,
            process: 12,
            container: 0,
            namespaces: false,
            sort: Column::Severity,
            wanted: Columns::default(),
            hidden: Columns::default(),
        }
    }

    fn columns(width: u16, needs: Needs) -> Vec<Column> {
        layout(width, needs).iter().map(|place| place.column).collect()
    }

    #[test]
    fn eighty_columns_show_what_matters_and_a_hundred_the_finding() {
        use Column::*;
        let eighty = [Severity, Listener, Process, AcceptQueue, Accepts, WaitP99, Oldest, Drops];
        assert_eq!(columns(80 - 2, needs()), eighty);
        let hundred = columns(100 - 2, needs());
        assert!(hundred.contains(&SynQueue) && hundred.contains(&Finding), "{hundred:?}");
    }

    #[test]
    fn containers_are_told_apart_at_eighty_columns() {
        let needs = Needs { container: 15, namespaces: true, ..needs() };
        let shown = columns(80 - 2, needs);
        assert!(shown.contains(&Column::Container) && shown.contains(&Column::Drops), "{shown:?}");
        assert!(!columns(80 - 2, Needs { container: 0, ..needs }).contains(&Column::Container));
    }

    #[test]
    fn every_width_is_used_but_not_exceeded() {
        for width in 80..400 {
            for address in [8, 14, 21, 47] {
                for sort in Column::ALL {
                    let places = layout(width, Needs { address, sort, ..needs() });
                    assert!(places.iter().any(|p| p.column == sort), "{sort:?} at {width}");
                    assert!(places.is_sorted_by(|a, b| a.x + a.width < b.x));
                    assert!(places.last().is_some_and(|p| p.x + p.width <= width));
                }
            }
        }
        assert_eq!(layout(400, Needs { namespaces: true, container: 20, ..needs() }).len(), Column::ALL.len());
    }

    /// A wider screen shows what a narrower one shows, and cuts none of it. The bar of the queue only changes its
    /// scale.
    #[test]
    fn widening_removes_nothing() {
        for (namespaces, container) in [(false, 0), (true, 0), (false, 9), (true, 40)] {
            for address in [8, 14, 21, 47] {
                for sort in [Column::Severity, Column::Pattern, Column::Reads] {
                    let needs = Needs { address, process: 20, container, namespaces, sort, ..needs() };
                    for width in 78..400 {
                        let (narrow, wide) = (layout(width, needs), layout(width + 1, needs));
                        for place in narrow {
                            let there = wide.iter().find(|p| p.column == place.column);
                            let there = there.unwrap_or_else(|| panic!("{:?} is gone at {}", place.column, width + 1));
                            let is_bar = place.column == Column::AcceptQueue;
                            assert!(there.width >= place.width || is_bar, "{place:?} at {}", width + 1);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn wanted_columns_come_first_and_hidden_ones_not_at_all() {
        let wanted = Needs { wanted: [Column::Open, Column::Reads].into_iter().collect(), ..needs() };
        assert!([Column::Open, Column::Reads].iter().all(|column| columns(78, wanted).contains(column)));
        let hidden = Needs { hidden: [Column::Drops, Column::Finding].into_iter().collect(), ..needs() };
        for width in 78..300 {
            assert!(!columns(width, hidden).iter().any(|c| matches!(c, Column::Drops | Column::Finding)));
        }
        // What rows are sorted by is always shown.
        let sorted = Needs { sort: Column::Drops, ..hidden };
        assert!(columns(78, sorted).contains(&Column::Drops));
    }
}
