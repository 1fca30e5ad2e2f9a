//! A history as a graph: columns over time, the newest at the right.

use listentop_model::words;
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{
    sparkline::{LEVELS, level},
    text::{left, put, right},
};
use crate::dashboard::theme::Theme;

/// Columns that the numbers at the left take.
const AXIS: u16 = 6;

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

/// What a graph shows.
#[derive(Debug)]
pub(in crate::dashboard) struct Graph<'a> {
    /// Title.
    pub(in crate::dashboard) title: String,
    /// Oldest first.
    pub(in crate::dashboard) points: Vec<Point>,
    /// A line across, such as the limit of a queue, and its name.
    pub(in crate::dashboard) limit: Option<(f64, &'static str)>,
    /// How values look.
    pub(in crate::dashboard) style: Style,
    /// Shown instead if no value is known.
    pub(in crate::dashboard) nothing: &'a str,
}

impl Graph<'_> {
    /// Draws it: a title, the columns with the scale at the left, and the time below.
    pub(in crate::dashboard) fn draw(&self, buf: &mut Buffer, area: Rect, theme: Theme) {
        if area.height < 4 || area.width < AXIS + 10 {
            return;
        }
        left(buf, area.x, area.y, area.width, &self.title, theme.strong());
        let plot = Rect { x: area.x + AXIS + 1, y: area.y + 1, width: area.width - AXIS - 1, height: area.height - 2 };
        let shown = &self.points[self.points.len().saturating_sub(plot.width.into())..];
        if shown.iter().all(|p| p.value.is_none()) {
            left(buf, area.x + 2, plot.y + plot.height / 2, area.width - 2, self.nothing, theme.label());
            return;
        }
        let top = self.top(shown);
        for y in plot.y..plot.bottom() {
            put(buf, plot.x - 1, y, 1, "│", theme.label());
        }
        right(buf, area.x, plot.y, AXIS, &words::short(top as u64), theme.label());
        right(buf, area.x, plot.bottom() - 1, AXIS, "0", theme.label());
        let limit_row = self.limit.filter(|(limit, _)| *limit <= top).map(|(limit, name)| {
            let row = plot.bottom() - level(limit, top, plot.height.into()).max(1) as u16;
            put(buf, plot.x, row, plot.width, &"╌".repeat(plot.width.into()), theme.label());
            (row, name)
        });
        let start = plot.right() - shown.len() as u16;
        for (x, point) in (start..).zip(shown) {
            self.column(buf, (x, plot), *point, top);
        }
        if let Some((row, name)) = limit_row {
            put(buf, plot.x, row, plot.width, name, theme.label());
        }
        if let (Some(first), Some(last)) = (shown.first(), shown.last()) {
            let age = format!("{} s ago", (last.at - first.at).round());
            let room = shown.len().max(10) as u16;
            let x = start.min(plot.right().saturating_sub(room));
            left(buf, x, plot.bottom(), plot.width, &age, theme.label());
            right(buf, plot.x, plot.bottom(), plot.width, "now", theme.label());
        }
    }

    /// The top of the scale: the limit if anything comes near it, else a round number above everything.
    fn top(&self, shown: &[Point]) -> f64 {
        let largest = shown.iter().flat_map(|p| [p.value, p.peak]).flatten().fold(0.0, f64::max);
        match self.limit {
            Some((limit, _)) if largest * 4.0 >= limit => limit.max(largest),
            _ => round_up(largest),
        }
    }

    fn column(&self, buf: &mut Buffer, (x, plot): (u16, Rect), point: Point, top: f64) {
        let steps = usize::from(plot.height) * 8;
        let value = level(point.value.unwrap_or(0.0), top, steps);
        let peak = level(point.peak.unwrap_or(0.0), top, steps).max(value);
        for row in 0..usize::from(plot.height) {
            let y = plot.bottom() - 1 - row as u16;
            let part = value.saturating_sub(row * 8).min(8);
            if part > 0 {
                put(buf, x, y, 1, LEVELS[part], self.style);
            } else if peak > row * 8 {
                put(buf, x, y, 1, "░", self.style);
            } else if row == 0 && point.value.is_some() {
                put(buf, x, y, 1, LEVELS[0], self.style);
            }
        }
    }
}

/// The next of 1, 2, 5, 10, 20, … that is not below `value`.
fn round_up(value: f64) -> f64 {
    if value <= 1.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|step| step * power).find(|&top| top >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(values: &[f64], limit: Option<f64>) -> String {
        let points = values.iter().zip(0..).map(|(&v, at)| Point { at: f64::from(at), value: Some(v), peak: None });
        let graph = Graph {
            title: "depth".to_owned(),
            points: points.collect(),
            limit: limit.map(|limit| (limit, "limit")),
            style: Style::new(),
            nothing: "nothing",
        };
        let area = Rect::new(0, 0, 20, 5);
        let mut buf = Buffer::empty(area);
        graph.draw(&mut buf, area, Theme::new(false));
        let text: Vec<String> =
            (0..5).map(|y| (0..20).map(|x| buf[(x, y)].symbol()).collect::<String>().trim_end().to_owned()).collect();
        text.join("\n")
    }

    #[test]
    fn columns_stand_on_the_scale() {
        let text = graph(&[0.0, 5.0, 10.0], None);
        assert!(text.contains("    10│            █"), "{text}");
        assert!(text.contains("     0│          ·██"), "{text}");
        assert!(text.contains("now"), "{text}");
    }

    #[test]
    fn the_limit_is_drawn_when_it_is_near() {
        assert!(graph(&[9.0], Some(10.0)).contains("limit╌╌"));
        assert!(!graph(&[1.0], Some(1000.0)).contains('╌'));
    }

    #[test]
    fn round_tops() {
        for (value, top) in [(0.0, 1.0), (1.5, 2.0), (3.0, 5.0), (10.0, 10.0), (11.0, 20.0), (600.0, 1000.0)] {
            assert!((round_up(value) - top).abs() < 1e-9, "{value}");
        }
    }
}
