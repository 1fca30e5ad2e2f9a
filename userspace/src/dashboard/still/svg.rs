//! A still as SVG. Text stays text: it can be searched and copied.

use std::fmt::Write as _;

use listentop_model::words;
use ratatui::buffer::Buffer;

use super::{
    Place,
    look::{Ground, Look, Rgb},
    rows, seen,
    shapes::{self, Part, Shape, shape},
};
use crate::dashboard::theme::Palette;

/// Units of shapes in a pixel.
const UNITS: usize = 2;
/// Width and height of a cell, in pixels.
const CELL: (usize, usize) = (shapes::CELL.0 / UNITS, shapes::CELL.1 / UNITS);
/// The size of the font, in pixels: with it a character of most fonts is as wide as a cell.
const FONT: &str = "13.3";
/// Where the characters of a row stand, below its top, in pixels.
const BASELINE: usize = 12;

/// Draws it.
pub(super) fn draw(still: &Buffer, palette: Palette) -> String {
    let ground = Ground::of(palette);
    let (width, height) = (usize::from(still.area.width) * CELL.0, usize::from(still.area.height) * CELL.1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
         {height}\">\n<rect width=\"100%\" height=\"100%\" fill=\"{}\"/>\n<g font-family=\"'DejaVu Sans \
         Mono',Menlo,Consolas,monospace\" font-size=\"{FONT}\" shape-rendering=\"crispEdges\" xml:space=\"preserve\">\n",
        hex(ground.paper)
    );
    for (y, cells) in rows(still).enumerate() {
        let places: Vec<(Place<'_>, Look)> = seen(cells).map(|place| (place, Look::of(place.cell, ground))).collect();
        for run in places.chunk_by(|(_, one), (_, other)| one.paper == other.paper) {
            write_paper(&mut svg, run, y);
        }
        for run in places.chunk_by(|(_, one), (_, other)| one == other) {
            write_shapes(&mut svg, run, y);
            words_of(run).for_each(|word| write_text(&mut svg, word, y));
        }
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// Cells beside each other.
type Run<'a> = [(Place<'a>, Look)];

/// The first column of a run, and how many it takes.
fn extent(run: &Run<'_>) -> (usize, usize) {
    let first = run.first().map_or(0, |(place, _)| place.x);
    (first, run.last().map_or(0, |(place, _)| place.x + place.width - first))
}

// Writing to a string does not fail: the results below are dropped.

fn write_paper(svg: &mut String, run: &Run<'_>, y: usize) {
    let Some(paper) = run.first().and_then(|(_, look)| look.paper) else { return };
    let (x, width) = extent(run);
    let (x, y, width, height) = (x * CELL.0, y * CELL.1, width * CELL.0, CELL.1);
    let _ = writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{}\"/>", hex(paper));
}

/// The shapes among cells that look the same, in one path for each strength.
fn write_shapes(svg: &mut String, run: &Run<'_>, y: usize) {
    for strength in 1..=4 {
        let mut parts: Vec<Part> = Vec::new();
        for (place, _) in run {
            let Some(Shape { strength: this, parts: shape }) = shape(place.cell.symbol()) else { continue };
            if this != strength {
                continue;
            }
            for part in shape {
                let part = Part { x: place.x * shapes::CELL.0 + part.x, y: y * shapes::CELL.1 + part.y, ..part };
                match parts.last_mut() {
                    // It goes on in the next cell.
                    Some(last) if (last.y, last.height, last.x + last.width) == (part.y, part.height, part.x) => {
                        last.width += part.width;
                    }
                    _ => parts.push(part),
                }
            }
        }
        let Some((_, look)) = run.first().filter(|_| !parts.is_empty()) else { continue };
        let mut path = String::new();
        for Part { x, y, width, height } in parts {
            let [x, y, width, height] = [x, y, width, height].map(pixels);
            let _ = write!(path, "M{x} {y}h{width}v{height}h-{width}z");
        }
        let opacity = if strength < 4 { format!(" fill-opacity=\"0.{}\"", strength * 25) } else { String::new() };
        let _ = writeln!(svg, "<path fill=\"{}\"{opacity} d=\"{path}\"/>", hex(look.ink));
    }
}

/// The pixels of so many units, of which there are two in each.
fn pixels(units: usize) -> String {
    format!("{}{}", units / UNITS, if units.is_multiple_of(UNITS) { "" } else { ".5" })
}

/// The parts of a run that are written together: so that whatever font draws them, each begins in its column. A blank
/// is within one only between two letters. What most fonts lack, or have in another width, stands alone.
fn words_of<'a, 'b>(run: &'b Run<'a>) -> impl Iterator<Item = &'b Run<'a>> {
    let is_blank = |place: &Place<'_>| place.cell.symbol().trim().is_empty();
    let is_plain =
        |place: &Place<'_>| place.width == 1 && place.cell.symbol().chars().all(|c| c.is_ascii() || c.is_alphabetic());
    let mut rest = run;
    std::iter::from_fn(move || {
        let begin = rest.iter().position(|(place, _)| !is_blank(place) && shape(place.cell.symbol()).is_none())?;
        rest = &rest[begin..];
        let mut end = 1;
        if is_plain(&rest[0].0) {
            let is_letter = |at: usize| rest.get(at).is_some_and(|(place, _)| is_plain(place) && !is_blank(place));
            while is_letter(end) || rest.get(end).is_some_and(|(place, _)| is_blank(place)) && is_letter(end + 1) {
                end += 1;
            }
        }
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(word)
    })
}

fn write_text(svg: &mut String, word: &Run<'_>, y: usize) {
    let Some((_, look)) = word.first() else { return };
    let (x, width) = extent(word);
    let (x, y, width) = (x * CELL.0, y * CELL.1 + BASELINE, width * CELL.0);
    let bold = if look.bold { " font-weight=\"bold\"" } else { "" };
    let line = if look.underlined { " text-decoration=\"underline\"" } else { "" };
    let text: String = word.iter().map(|(place, _)| place.cell.symbol()).collect();
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" textLength=\"{width}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{}\"{bold}{line}>{}</text>",
        hex(look.ink),
        escaped(&words::clean(&text))
    );
}

fn hex(color: Rgb) -> String {
    format!("#{color:06x}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use ratatui::{
        layout::Rect,
        style::{Color, Modifier, Style},
    };

    use super::*;

    #[test]
    fn text_stays_text_and_keeps_its_columns() {
        let mut buf = Buffer::empty(Rect::new(0, 0, 24, 3));
        let red = Style::new().fg(Color::Indexed(203)).add_modifier(Modifier::BOLD);
        buf.set_string(0, 0, "a<b & c   far → 日 é", red);
        buf.set_string(0, 1, "rev", Style::new().add_modifier(Modifier::REVERSED));
        let picture = draw(&buf, Palette::Dark);
        for (x, says) in [
            (
                0,
                "textLength=\"56\" lengthAdjust=\"spacingAndGlyphs\" fill=\"#ff5f5f\" font-weight=\"bold\">a&lt;b &amp; c<",
            ),
            (80, "textLength=\"24\" lengthAdjust=\"spacingAndGlyphs\" fill=\"#ff5f5f\" font-weight=\"bold\">far<"),
            (112, "textLength=\"8\" lengthAdjust=\"spacingAndGlyphs\" fill=\"#ff5f5f\" font-weight=\"bold\">→<"),
            (128, "textLength=\"16\" lengthAdjust=\"spacingAndGlyphs\" fill=\"#ff5f5f\" font-weight=\"bold\">日<"),
        ] {
            assert!(picture.contains(&format!("<text x=\"{x}\" y=\"12\" {says}")), "{says} in\n{picture}");
        }
        assert!(picture.contains("height=\"16\" fill=\"#d4d4d4\"/>") && picture.contains("fill=\"#1c1c1c\">rev<"));
        assert!(draw(&buf, Palette::Light).contains("fill=\"#ffffff\""));
    }

    #[test]
    fn shapes_beside_each_other_are_one() {
        let mut buf = Buffer::empty(Rect::new(0, 0, 6, 2));
        buf.set_string(0, 1, "──┐█░", Style::new());
        let picture = draw(&buf, Palette::Dark);
        // Three cells but the right half of the last; the line down; and the block.
        assert!(picture.contains("d=\"M0 23.5h20.5v1h-20.5zM19.5 23.5h1v8.5h-1zM24 16h8v16h-8z\""), "{picture}");
        assert!(picture.contains("fill-opacity=\"0.25\" d=\"M32 16h8v16h-8z\""), "{picture}");
        assert!(!picture.contains("<text"), "{picture}");
    }
}
