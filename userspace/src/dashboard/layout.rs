//! Which columns of the overview fit a screen, and where. No ratatui types.

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

/// What the widths depend on.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Columns that the widest address takes.
    pub address: usize,
    /// Columns that the widest process takes.
    pub process: usize,
    /// There is more than one network namespace.
    pub namespaces: bool,
    /// Rows are sorted by this column, which is therefore always shown.
    pub sort: Column,
}

/// Columns for a row of `width`, one blank apart: the most important that fit, in the order of the screen. They share
/// the remaining width.
#[must_use]
pub fn layout(width: u16, needs: Needs) -> Vec<Place> {
    let least = |c: Column| match c {
        Column::Listener => (needs.address as u16).clamp(c.spec().width, 21),
        _ => c.spec().width,
    };
    let useful = |c: Column| match c {
        Column::Listener => (needs.address as u16).min(c.spec().max),
        Column::Process => (needs.process as u16).min(c.spec().max),
        _ => c.spec().max,
    };
    let mut by_rank = Column::ALL.to_vec();
    by_rank.sort_by_key(|&c| if c == needs.sort { 0 } else { c.spec().rank });
    let mut chosen: Vec<(Column, u16)> = Vec::new();
    let mut left = width;
    for column in by_rank {
        let wanted = least(column) + u16::from(!chosen.is_empty());
        if (column == Column::Netns && !needs.namespaces && needs.sort != Column::Netns) || wanted > left {
            continue;
        }
        left -= wanted;
        chosen.push((column, least(column)));
    }
    // First whole names, then longer bars, then the words of findings; the rest is for the history.
    chosen.sort_by_key(|(column, _)| match column {
        Column::Listener | Column::Process | Column::Pattern => 0,
        Column::AcceptQueue => 1,
        Column::Finding => 2,
        _ => 3,
    });
    for (column, width) in &mut chosen {
        let more = useful(*column).saturating_sub(*width).min(left);
        *width += more;
        left -= more;
    }
    chosen.sort_by_key(|(column, _)| *column);
    let mut x = 0;
    chosen
        .into_iter()
        .map(|(column, width)| {
            let place = Place { column, x, width };
            x += width + 1;
            place
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs() -> Needs {
        Needs { address: 14, process: 12, namespaces: false, sort: Column::Severity }
    }

    #[test]
    fn eighty_columns_show_what_matters() {
        let columns: Vec<Column> = layout(80 - 2, needs()).iter().map(|p| p.column).collect();
        use Column::*;
        assert_eq!(columns, [Severity, Listener, Process, AcceptQueue, Accepts, WaitP99, Oldest, Drops]);
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
        assert_eq!(layout(400, Needs { namespaces: true, ..needs() }).len(), Column::ALL.len());
    }
}
