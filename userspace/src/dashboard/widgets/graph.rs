//! A history as a graph: columns over time, the newest at the right.

use listentop_model::{model::Mark, words};
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{
    marks::Marks,
    sparkline::{LEVELS, level},
    text::{left, put, right},
};
use crate::dashboard::theme::Theme;

/// Columns that the numbers at the left take.
const AXIS: u16 = 6;
/// What is below the top of a column: light, so that columns beside each other are no wall.
const BODY: &str = "░";
/// The peak, above the column: in the upper or the lower half of its cell.
const PEAK: [&str; 2] = ["▁", "▔"];

/// One column: the value, and a larger one that was reached within it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::dashboard) struct Point {
    /// Seconds since the start of the interval.
    pub(in crate::dashboard) at: f64,
    /// The value; `None` where it is not known.
    pub(in crate::dashboard) value: Option<f64>,
    /// The largest value since the point before.
    pub(in crate::dashboard) peak: Option<f64>,
}

impl Point {
    fn largest(&self) -> f64 {
        self.value.unwrap_or(0.0).max(self.peak.unwrap_or(0.0))
    }
}

/// What a graph shows.
pub(in crate::dashboard) struct Graph<'a> {
    /// Title.
    pub(in crate::dashboard) title: String,
    /// Oldest first.
    pub(in crate::dashboard) points: Vec<Point>,
    /// A line across, such as the limit of a queue, and its name.
    pub(in crate::dashboard) limit: Option<(f64, &'static str)>,
    /// The top of the scale; `None`: of what it shows.
    pub(in crate::dashboard) top: Option<f64>,
    /// How a value looks; each column has its own.
    pub(in crate::dashboard) style: &'a dyn Fn(f64) -> Style,
    /// Shown instead if no value is known.
    pub(in crate::dashboard) nothing: &'a str,
    /// What was done meanwhile.
    pub(in crate::dashboard) marks: &'a [Mark],
}

impl Graph<'_> {
    /// The points that it shows in an area of this width.
    fn shown(&self, width: u16) -> &[Point] {
        let most = usize::from(width.saturating_sub(AXIS + 1));
        &self.points[self.points.len().saturating_sub(most)..]
    }

    /// Draws it: a title, the columns with the scale at the left, and the time below.
    pub(in crate::dashboard) fn draw(&self, buf: &mut Buffer, area: Rect, theme: Theme) {
        if area.height < 4 || area.width < AXIS + 10 {
            return;
        }
        left(buf, area.x, area.y, area.width, &self.title, theme.strong());
        let plot = Rect { x: area.x + AXIS + 1, y: area.y + 1, width: area.width - AXIS - 1, height: area.height - 2 };
        let shown = self.shown(area.width);
        if shown.iter().all(|p| p.value.is_none()) {
            left(buf, area.x + 2, plot.y + plot.height / 2, area.width - 2, self.nothing, theme.label());
            return;
        }
        let top = self.top.unwrap_or_else(|| self.top(shown));
        for y in plot.y..plot.bottom() {
            put(buf, plot.x - 1, y, 1, "│", theme.label());
        }
        right(buf, area.x, plot.y, AXIS, &words::short(top as u64), theme.label());
        right(buf, area.x, plot.bottom() - 1, AXIS, "0", theme.label());
        let start = plot.right() - shown.len() as u16;
        let ends: Vec<f64> = shown.iter().map(|point| point.at).collect();
        let marks = Marks::of(self.marks, start, &ends);
        marks.lines(buf, plot, theme);
        let limit_row = self.limit.filter(|(limit, _)| *limit <= top).map(|(limit, name)| {
            let row = plot.bottom() - level(limit, top, plot.height.into()).max(1) as u16;
            put(buf, plot.x, row, plot.width, &"╌".repeat(plot.width.into()), theme.label());
            (row, name)
        });
        for (x, point) in (start..).zip(shown) {
            self.column(buf, (x, plot), point, (top, theme));
        }
        if let Some((row, name)) = limit_row {
            put(buf, plot.x, row, plot.width, name, theme.label());
        }
        if let (Some(first), Some(last)) = (shown.first(), shown.last()) {
            time_axis(buf, plot, start, last.at - first.at, &marks, theme);
        }
    }

    /// The top of the scale: the limit if anything comes near it, else a round number above everything.
    fn top(&self, shown: &[Point]) -> f64 {
        let largest = shown.iter().map(Point::largest).fold(0.0, f64::max);
        match self.limit {
            Some((limit, _)) if largest * 4.0 >= limit => limit.max(largest),
            _ => round_up(largest),
        }
    }

    /// A column up to the value, in eighths, and the peak above it.
    fn column(&self, buf: &mut Buffer, (x, plot): (u16, Rect), point: &Point, (top, theme): (f64, Theme)) {
        let steps = usize::from(plot.height) * 8;
        let value = level(point.value.unwrap_or(0.0), top, steps);
        let peak = level(point.peak.unwrap_or(0.0), top, steps);
        let style = (self.style)(point.largest());
        for (row, y) in (plot.y..plot.bottom()).rev().enumerate() {
            let part = value.saturating_sub(row * 8);
            let is_peak = peak > value && peak.div_ceil(8) == row + 1;
            match part {
                0 if is_peak => put(buf, x, y, 1, PEAK[(peak - 1) % 8 / 4], style),
                0 if row == 0 && point.value.is_some() => put(buf, x, y, 1, LEVELS[0], theme.label()),
                0 => {}
                1..=8 => put(buf, x, y, 1, LEVELS[part], style),
                _ => put(buf, x, y, 1, BODY, style),
            }
        }
    }
}

/// Draws the time below a plot whose first column is at `start`, so many seconds before the last; and the names of
/// marks.
pub(super) fn time_axis(buf: &mut Buffer, plot: Rect, start: u16, seconds: f64, marks: &Marks<'_>, theme: Theme) {
    const NOW: &str = "now";
    let (age, y) = (format!("{} s ago", seconds.round()), plot.bottom());
    let (width, now) = (words::width(&age) as u16, plot.right() - NOW.len() as u16);
    let x = start.min(now.saturating_sub(width + 1)).max(plot.x);
    left(buf, x, y, plot.right() - x, &age, theme.label());
    right(buf, plot.x, y, plot.width, NOW, theme.label());
    marks.names(buf, y, x + width..now - 1, theme);
}

/// The next of 1, 2, 5, 10, 20, … that is not below `value`.
pub(in crate::dashboard) fn round_up(value: f64) -> f64 {
    if value <= 1.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|step| step * power).find(|&top| top >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use ratatui::style::Color;

    use super::*;
    use crate::dashboard::theme::Palette;

    const AREA: Rect = Rect::new(0, 0, 20, 5);

    fn drawn(values: &[(f64, Option<f64>)], limit: Option<f64>) -> Buffer {
        let points = values.iter().zip(0..).map(|(&(v, peak), at)| Point { at: f64::from(at), value: Some(v), peak });
        let theme = Theme::new(Palette::Sixteen);
        let graph = Graph {
            title: "depth".to_owned(),
            points: points.collect(),
            limit: limit.map(|limit| (limit, "limit")),
            top: None,
            style: &|value| theme.fill(value / limit.unwrap_or(1000.0)),
            nothing: "nothing",
            marks: &[],
        };
        let mut buf = Buffer::empty(AREA);
        graph.draw(&mut buf, AREA, theme);
        buf
    }

    fn text(buf: &Buffer) -> String {
        let row = |y| (0..20).map(|x| buf[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..5).map(row).collect::<Vec<_>>().join("\n")
    }

    fn plain(values: &[f64]) -> Vec<(f64, Option<f64>)> {
        values.iter().map(|&value| (value, None)).collect()
    }

    #[test]
    fn columns_stand_on_the_scale() {
        let text = text(&drawn(&plain(&[0.0, 5.0, 10.0]), None));
        assert!(text.contains("    10│            █"), "{text}");
        assert!(text.contains("      │           ▄░"), "{text}");
        assert!(text.contains("     0│          ·░░"), "{text}");
        assert!(text.contains("now"), "{text}");
    }

    #[test]
    fn the_newest_is_at_the_right_and_the_peak_is_above() {
        let text = text(&drawn(&[(0.0, None), (1.0, Some(10.0)), (0.0, None)], None));
        assert!(text.contains("    10│           ▔"), "{text}");
        assert!(text.contains("     0│          ·▂·"), "{text}");
    }

    #[test]
    fn each_column_has_the_colour_of_its_own_value() {
        let buf = drawn(&plain(&[10.0, 5.0, 1.0, 0.0]), Some(10.0));
        let colors: Vec<Color> = (16..20).map(|x| buf[(x, 3)].fg).collect();
        assert_eq!(colors, [Color::Red, Color::Yellow, Color::Green, Color::Reset]);
        assert_eq!(buf[(19, 3)].symbol(), LEVELS[0]);
    }

    #[test]
    fn the_limit_is_drawn_when_it_is_near() {
        assert!(text(&drawn(&plain(&[9.0]), Some(10.0))).contains("limit╌╌"));
        assert!(!text(&drawn(&plain(&[1.0]), Some(1000.0))).contains('╌'));
    }

    #[test]
    fn round_tops() {
        for (value, top) in [(0.0, 1.0), (1.5, 2.0), (3.0, 5.0), (10.0, 10.0), (11.0, 20.0), (600.0, 1000.0)] {
            assert!((round_up(value) - top).abs() < 1e-9, "{value}");
        }
    }
}
