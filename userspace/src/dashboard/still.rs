//! A still of the screen: as text, and as a picture that needs no font or terminal of its own (SVG).

use std::fmt::Write as _;

use ratatui::{
    buffer::{Buffer, Cell},
    layout::Rect,
    style::{Color, Modifier},
};

use super::{App, frame, theme::Palette};

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
    let width = usize::from(still.area.width).max(1);
    let row = |cells: &[Cell]| cells.iter().map(Cell::symbol).collect::<String>().trim_end().to_owned() + "\n";
    still.content.chunks(width).map(row).collect()
}

/// Width and height of a cell, and the size of the font, in pixels.
const CELL: (f64, f64) = (8.4, 17.0);
const FONT: f64 = 14.0;

/// A still as SVG.
#[must_use]
pub fn svg(still: &Buffer, palette: Palette) -> String {
    let (background, foreground) = match palette {
        Palette::Light => ("#ffffff", "#202020"),
        _ => ("#1c1c1c", "#d4d4d4"),
    };
    let (columns, rows) = (f64::from(still.area.width), f64::from(still.area.height));
    let (width, height) = (columns * CELL.0, rows * CELL.1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.1} \
         {height:.1}\">\n<rect width=\"100%\" height=\"100%\" fill=\"{background}\"/>\n<g font-family=\"'DejaVu Sans \
         Mono',Menlo,Consolas,monospace\" font-size=\"{FONT}\" xml:space=\"preserve\">\n"
    );
    for (y, cells) in still.content.chunks(usize::from(still.area.width).max(1)).enumerate() {
        let mut x = 0;
        for run in cells.chunk_by(|a, b| a.fg == b.fg && a.bg == b.bg && a.modifier == b.modifier) {
            write_run(&mut svg, (x, y), run, (background, foreground));
            x += run.len();
        }
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// Cells that look the same.
fn write_run(svg: &mut String, (x, y): (usize, usize), run: &[Cell], (background, foreground): (&str, &str)) {
    let Some(first) = run.first() else { return };
    let (mut fill, mut behind) = (rgb(first.fg), rgb(first.bg));
    if first.modifier.contains(Modifier::REVERSED) {
        let fg = fill.take().unwrap_or_else(|| foreground.to_owned());
        fill = Some(behind.take().unwrap_or_else(|| background.to_owned()));
        behind = Some(fg);
    }
    let left = x as f64 * CELL.0;
    let width = run.len() as f64 * CELL.0;
    // Writing to a string does not fail.
    if let Some(behind) = behind {
        let top = y as f64 * CELL.1;
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{behind}\"/>",
            CELL.1
        );
    }
    // The cell behind a wide character holds nothing.
    let text: String = run.iter().map(Cell::symbol).collect();
    if text.trim().is_empty() {
        return;
    }
    let baseline = y as f64 * CELL.1 + CELL.1 * 0.76;
    let fill = fill.unwrap_or_else(|| foreground.to_owned());
    let bold = if first.modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
    let dim = if first.modifier.contains(Modifier::DIM) { " opacity=\"0.6\"" } else { "" };
    let line = if first.modifier.contains(Modifier::UNDERLINED) { " text-decoration=\"underline\"" } else { "" };
    let _ = writeln!(
        svg,
        "<text x=\"{left:.1}\" y=\"{baseline:.1}\" textLength=\"{width:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
         fill=\"{fill}\"{bold}{dim}{line}>{}</text>",
        escaped(&text)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace(' ', "\u{a0}")
}

/// The sixteen colours of a terminal, as xterm has them.
const SIXTEEN: [u32; 16] = [
    0x00_0000, 0xcd_3131, 0x0d_bc79, 0xe5_e510, 0x24_72c8, 0xbc_3fbc, 0x11_a8cd, 0xe5_e5e5, 0x66_6666, 0xf1_4c4c,
    0x23_d18b, 0xf5_f543, 0x3b_8eea, 0xd6_70d6, 0x29_b8db, 0xff_ffff,
];

/// A colour as SVG writes it; `None`: the terminal's own.
fn rgb(color: Color) -> Option<String> {
    let index = match color {
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Cyan => 6,
        Color::Indexed(index) => index,
        _ => return None,
    };
    let level = |part: u32| if part == 0 { 0 } else { 55 + 40 * part };
    let hex = match u32::from(index) {
        basic @ 0..16 => SIXTEEN[basic as usize],
        cube @ 16..232 => level((cube - 16) / 36) << 16 | level((cube - 16) / 6 % 6) << 8 | level((cube - 16) % 6),
        gray => (8 + 10 * (gray - 232)) * 0x01_0101,
    };
    Some(format!("#{hex:06x}"))
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn a_still_is_text_and_a_picture() {
        let mut buf = Buffer::empty(Rect::new(0, 0, 12, 2));
        buf.set_string(0, 0, "a<b & c", Style::new().fg(Color::Indexed(203)).add_modifier(Modifier::BOLD));
        buf.set_string(0, 1, "rev", Style::new().add_modifier(Modifier::REVERSED));
        assert_eq!(text(&buf), "a<b & c\nrev\n");
        let picture = svg(&buf, Palette::Dark);
        assert!(picture.contains("fill=\"#ff5f5f\" font-weight=\"bold\">a&lt;b\u{a0}&amp;\u{a0}c</text>"), "{picture}");
        assert!(picture.contains("fill=\"#d4d4d4\"/>") && picture.contains("fill=\"#1c1c1c\">rev"), "{picture}");
        assert_eq!(picture.matches("<text").count(), picture.matches("</text>").count());
        assert!(svg(&buf, Palette::Light).contains("fill=\"#ffffff\""));
    }

    #[test]
    fn colours_are_xterms() {
        for (color, hex) in [
            (Color::Indexed(16), "#000000"),
            (Color::Indexed(231), "#ffffff"),
            (Color::Indexed(237), "#3a3a3a"),
            (Color::Indexed(117), "#87d7ff"),
            (Color::Red, "#cd3131"),
        ] {
            assert_eq!(rgb(color).as_deref(), Some(hex));
        }
        assert_eq!(rgb(Color::Reset), None);
    }
}
