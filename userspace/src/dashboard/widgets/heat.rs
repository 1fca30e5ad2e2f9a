//! Accept waits over time as a heat map: a row per band of waits, a column per step or several, the newest at the
//! right. The darker a cell, the more connections had waited so long.

use listentop_model::{
    history::{BANDS, HistoryPoint, Waits},
    model::Mark,
    words,
};
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{
    graph::time_axis,
    marks::Marks,
    text::{left, put, right},
};
use crate::dashboard::theme::Theme;

/// Columns that the names of the bands take.
const AXIS: u16 = 6;
/// From none to most.
const SHADES: [&str; 5] = [" ", "░", "▒", "▓", "█"];
/// Waits from which on clients notice, and those that they take for an outage, in microseconds.
const SLOW_US: u64 = 100_000;
const STUCK_US: u64 = 1_000_000;

/// Draws the last points, oldest first, with what was done meanwhile; `nothing` is shown instead if no connection was
/// accepted.
pub(in crate::dashboard) fn draw(
    buf: &mut Buffer,
    area: Rect,
    points: impl DoubleEndedIterator<Item = HistoryPoint>,
    marks: &[Mark],
    nothing: &str,
    theme: Theme,
) {
    if area.height < 5 || area.width < AXIS + 10 {
        return;
    }
    left(buf, area.x, area.y, area.width, " accept wait over time", theme.strong());
    let plot = Rect { x: area.x + AXIS + 1, y: area.y + 1, width: area.width - AXIS - 1, height: area.height - 2 };
    let newest_first: Vec<HistoryPoint> = points.rev().take(plot.width.into()).collect();
    let used: Vec<usize> =
        (0..BANDS).filter(|&band| newest_first.iter().any(|point| point.waits.0[band] > 0)).collect();
    let (Some(&lowest), Some(&highest)) = (used.first(), used.last()) else {
        return left(buf, area.x + 2, plot.y + plot.height / 2, area.width - 2, nothing, theme.label());
    };
    // If not all bands fit, the short waits at the bottom are left out: nobody minds them.
    let rows = usize::from(plot.height);
    let top = highest.max((lowest + rows - 1).min(BANDS - 1));
    let bottom = (top + 1).saturating_sub(rows);
    let most = newest_first.iter().flat_map(|point| point.waits.0).max().unwrap_or(1);
    let ends: Vec<f64> = newest_first.iter().rev().map(|point| point.at).collect();
    let start = plot.right() - newest_first.len() as u16;
    let marks = Marks::of(marks, start, &ends);
    marks.lines(buf, plot, theme);
    for (y, band) in (plot.y..plot.bottom()).zip((bottom..=top).rev()) {
        right(buf, area.x, y, AXIS, &name(band), theme.label());
        put(buf, plot.x - 1, y, 1, "│", theme.label());
        for (back, point) in (1..).zip(&newest_first) {
            let shade = shade(point.waits.0[band], most);
            if shade > 0 {
                put(buf, plot.right() - back, y, 1, SHADES[shade], style(band, theme));
            }
        }
    }
    if let (Some(first), Some(last)) = (newest_first.last(), newest_first.first()) {
        time_axis(buf, plot, start, last.at - first.at, &marks, theme);
    }
}

/// `<1.0ms`; the last band has no end.
fn name(band: usize) -> String {
    match (Waits::limit_us(band), band.checked_sub(1).and_then(Waits::limit_us)) {
        (Some(limit), _) => format!("<{}", words::duration(limit)),
        (None, before) => format!("≥{}", words::duration(before.unwrap_or(0))),
    }
}

/// How dark a count is: not white unless it is 0. Each shade stands for three times as many as the one before.
fn shade(count: u16, most: u16) -> usize {
    if count == 0 {
        return 0;
    }
    let thirds = (f64::from(most) / f64::from(count)).log(3.0).floor() as usize;
    (SHADES.len() - 1).saturating_sub(thirds).max(1)
}

fn style(band: usize, theme: Theme) -> Style {
    match Waits::limit_us(band) {
        Some(limit) if limit <= SLOW_US => theme.flow(),
        Some(limit) if limit <= STUCK_US => theme.warning(),
        _ => theme.critical(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::theme::Palette;

    fn drawn(steps: &[(usize, u16)], height: u16) -> String {
        let points = steps.iter().zip(0..).map(|(&(band, count), at)| {
            let mut waits = Waits::default();
            waits.0[band] = count;
            HistoryPoint { at: f64::from(at), waits, ..HistoryPoint::default() }
        });
        let area = Rect::new(0, 0, 24, height);
        let mut buf = Buffer::empty(area);
        draw(&mut buf, area, points.collect::<Vec<_>>().into_iter(), &[], "nothing", Theme::new(Palette::None));
        let row = |y| (0..24).map(|x| buf[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(row).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn more_is_darker_and_longer_is_higher() {
        let text = drawn(&[(0, 100), (1, 50), (2, 9), (2, 1)], 6);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[2], "<300µs│               ▒░", "{text}");
        assert_eq!(rows[3], "<100µs│              █", "{text}");
        assert_eq!(rows[4], " <30µs│             █", "{text}");
        assert!(rows[5].contains("3 s ago") && rows[5].ends_with("now"), "{text}");
    }

    #[test]
    fn long_waits_stay_in_sight() {
        let text = drawn(&[(0, 9), (11, 1)], 5);
        assert!(text.contains("≥3.0s") && !text.contains("<30µs"), "{text}");
        assert!(drawn(&[(0, 0)], 5).contains("nothing"));
    }

    #[test]
    fn shades_are_of_thirds() {
        assert_eq!([0, 1, 3, 10, 40, 81].map(|count| shade(count, 81)), [0, 1, 1, 3, 4, 4]);
        assert_eq!(name(BANDS - 1), "≥3.0s");
    }
}
