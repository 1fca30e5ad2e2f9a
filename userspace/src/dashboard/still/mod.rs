//! A still of the screen: as text, and as a picture that needs no terminal (SVG, PNG). All are of the buffer that the
//! dashboard draws.

mod look;
#[cfg(feature = "png")]
mod png;
mod shapes;
mod svg;

use listentop_model::words;
use ratatui::{
    buffer::{Buffer, Cell},
    layout::Rect,
};

use super::{App, frame, theme::Palette};

/// A format of stills.
#[derive(Debug)]
pub struct Format {
    /// How the names of its files end.
    pub ending: &'static str,
    /// Writes a still as it looks in these colours.
    ///
    /// # Errors
    /// It cannot be written in this format.
    pub write: fn(&Buffer, Palette) -> anyhow::Result<Vec<u8>>,
}

/// Every format that this build has.
pub static FORMATS: &[Format] = &[
    Format { ending: "txt", write: |still, _| Ok(text(still).into_bytes()) },
    Format { ending: "svg", write: |still, palette| Ok(svg::draw(still, palette).into_bytes()) },
    #[cfg(feature = "png")]
    Format { ending: "png", write: png::draw },
];

/// The ending of a format that a build may lack.
pub const OPTIONAL: &str = "png";

/// The screen as it would be drawn now.
#[must_use]
pub fn still(app: &App) -> Buffer {
    let (columns, rows) = app.state.size;
    let mut buf = Buffer::empty(Rect::new(0, 0, columns, rows));
    frame::draw_all(&mut buf, Rect::new(0, 0, columns, rows), app);
    app.state.theme.settle(&mut buf);
    buf
}

/// A still as text, without blanks at the ends of lines.
#[must_use]
pub fn text(still: &Buffer) -> String {
    let row = |cells| seen(cells).map(|place| place.cell.symbol()).collect::<String>().trim_end().to_owned() + "\n";
    rows(still).map(row).collect()
}

/// A cell that is seen, and where.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Its column.
    x: usize,
    /// Columns that it takes.
    width: usize,
    cell: &'a Cell,
}

/// The rows of a still.
fn rows(still: &Buffer) -> impl Iterator<Item = &[Cell]> {
    still.content.chunks(usize::from(still.area.width).max(1))
}

/// The cells of a row that are seen: a wide character hides the one behind it.
fn seen(cells: &[Cell]) -> impl Iterator<Item = Place<'_>> {
    let mut hidden = 0;
    cells.iter().enumerate().filter_map(move |(x, cell)| {
        if hidden > 0 {
            hidden -= 1;
            return None;
        }
        let width = words::width(cell.symbol()).max(1);
        hidden = width - 1;
        Some(Place { x, width, cell })
    })
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn text_is_what_the_screen_shows() {
        let mut buf = Buffer::empty(Rect::new(0, 0, 12, 2));
        buf.set_string(0, 0, "a<b & 日本", Style::new());
        buf.set_string(0, 1, "█░ ─┐", Style::new());
        assert_eq!(text(&buf), "a<b & 日本\n█░ ─┐\n");
        let columns: Vec<usize> = seen(&buf.content[..12]).map(|place| place.x).collect();
        assert_eq!(columns, [0, 1, 2, 3, 4, 5, 6, 8, 10, 11]);
    }

    #[test]
    fn every_format_has_an_ending_of_its_own() {
        let endings: Vec<&str> = FORMATS.iter().map(|format| format.ending).collect();
        assert_eq!(endings.contains(&OPTIONAL), cfg!(feature = "png"));
        assert_eq!(endings[..2], ["txt", "svg"]);
    }
}
