//! Charts as SVG.

use std::fmt::Write as _;

use listentop_model::histogram::Bar;

use super::escape;

/// Size of a chart in its own units; the page scales it.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 110.0;
/// A chart over time.
pub(super) struct Chart<'a> {
    /// What it shows.
    pub(super) title: &'a str,
    /// A value for each step; `None` where it is not known.
    pub(super) values: &'a [Option<f64>],
    /// Steps of the whole interval.
    pub(super) steps: usize,
    /// How the largest value is written.
    pub(super) top: String,
    /// The end of the interval, and what the chart covers from the left on.
    pub(super) end: &'a str,
    /// What a value must not exceed.
    pub(super) limit: Option<f64>,
    /// What it shows is bad.
    pub(super) bad: bool,
}

impl Chart<'_> {
    /// The chart; nothing if no value is known.
    pub(super) fn svg(&self) -> String {
        let known: Vec<f64> = self.values.iter().flatten().copied().collect();
        if known.is_empty() {
            return String::new();
        }
        let largest = known.iter().copied().fold(self.limit.unwrap_or(0.0), f64::max).max(f64::MIN_POSITIVE);
        let height = |value: f64| (value / largest * HEIGHT).min(HEIGHT);
        let width = WIDTH / self.steps.max(self.values.len()).max(1) as f64;
        let mut marks = String::new();
        for (at, value) in self.values.iter().enumerate() {
            let Some(value) = value.filter(|value| *value > 0.0) else { continue };
            let tall = height(value).max(1.0);
            let (x, y) = (at as f64 * width, HEIGHT - tall);
            let _ = write!(marks, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"{tall:.1}\"/>");
        }
        let limit = self.limit.map_or_else(String::new, |limit| {
            let y = HEIGHT - height(limit);
            format!("<line class=\"limit\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>")
        });
        frame(self.title, self.bad, &marks, &limit, &self.top, ("0", self.end))
    }
}

/// A distribution; `name` writes a value.
pub(super) fn distribution(title: &str, bars: &[Bar], name: impl Fn(u64) -> String) -> String {
    let (Some(first), Some(last)) = (bars.first(), bars.last()) else { return String::new() };
    let largest = bars.iter().map(|bar| bar.count).max().unwrap_or(0).max(1) as f64;
    let width = WIDTH / bars.len() as f64;
    let mut marks = String::new();
    for (at, bar) in bars.iter().enumerate().filter(|(_, bar)| bar.count > 0) {
        let tall = (bar.count as f64 / largest * HEIGHT).max(1.0);
        let (x, y) = (at as f64 * width, HEIGHT - tall);
        let words = format!("{} to {}: {}", name(bar.low), name(bar.high), bar.count);
        let _ = write!(
            marks,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.2}\" height=\"{tall:.1}\"><title>{}</title></rect>",
            width * 0.92,
            escape(&words)
        );
    }
    let top = listentop_model::words::grouped(largest as u64);
    frame(title, false, &marks, "", &top, (&name(first.low), &name(last.high)))
}

/// The words are outside the drawing, which is stretched.
fn frame(title: &str, bad: bool, marks: &str, over: &str, top: &str, ends: (&str, &str)) -> String {
    let class = if bad { "refused" } else { "bars" };
    format!(
        "<figure><figcaption><span>{}</span><span>up to {}</span></figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">\
         <g class=\"{class}\">{marks}</g>{over}</svg>\
         <figcaption class=\"ends\"><span>{}</span><span>{}</span></figcaption></figure>",
        escape(title),
        escape(top),
        escape(title),
        escape(ends.0),
        escape(ends.1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[Option<f64>], limit: Option<f64>) -> String {
        let (title, top, end) = ("depth & more", "9".to_owned(), "10s");
        Chart { title, values, steps: 4, top, end, limit, bad: false }.svg()
    }

    #[test]
    fn a_bar_for_each_value_that_is_there() {
        let svg = chart(&[Some(1.0), None, Some(0.0), Some(9.0)], None);
        assert_eq!(svg.matches("<rect").count(), 2, "{svg}");
        assert!(svg.contains("depth &amp; more") && !svg.contains("class=\"limit\""));
        // The largest is as tall as there is room.
        assert!(svg.contains("x=\"300.0\" y=\"0.0\" width=\"100.00\" height=\"110.0\""), "{svg}");
        assert!(chart(&[Some(1.0)], Some(10.0)).contains("class=\"limit\""));
    }

    #[test]
    fn what_is_not_known_is_not_drawn() {
        assert_eq!(chart(&[], None), "");
        assert_eq!(chart(&[None, None], Some(3.0)), "");
        assert_eq!(distribution("x", &[], |value| value.to_string()), "");
    }

    #[test]
    fn a_distribution_names_its_ends() {
        let bars =
            [Bar { low: 1, high: 2, count: 7 }, Bar { low: 2, high: 4, count: 0 }, Bar { low: 4, high: 9, count: 1 }];
        let svg = distribution("waits", &bars, |value| format!("{value}us"));
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(svg.contains("<title>1us to 2us: 7</title>") && svg.contains("<span>9us</span>"), "{svg}");
    }
}
