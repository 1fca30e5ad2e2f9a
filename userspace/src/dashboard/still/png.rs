//! A still as PNG, in a font of its own: DejaVu Sans Mono, which has every sign that the dashboard draws.

use ab_glyph::{Font as _, FontRef, PxScale, ScaleFont as _, point};
use anyhow::Context as _;
use ratatui::buffer::Buffer;

use super::{
    Place,
    look::{Ground, Look, Rgb, mixed},
    rows, seen,
    shapes::{CELL, Shape, shape},
};
use crate::dashboard::theme::Palette;

/// Thickness of the line below underlined text, and how far below the characters it begins, in pixels.
const UNDERLINE: (usize, usize) = (2, 2);

/// Draws it.
///
/// # Errors
/// It cannot be encoded: it has no cells.
pub(super) fn draw(still: &Buffer, palette: Palette) -> anyhow::Result<Vec<u8>> {
    let ground = Ground::of(palette);
    let mut canvas = Canvas::new(usize::from(still.area.width), usize::from(still.area.height), ground.paper);
    let fonts = [Face::new(dejavu::sans_mono::regular())?, Face::new(dejavu::sans_mono::bold())?];
    for (y, cells) in rows(still).enumerate() {
        for place in seen(cells) {
            let look = Look::of(place.cell, ground);
            canvas.cell(place, y, look, &fonts[usize::from(look.bold)]);
        }
    }
    canvas.encode()
}

/// A font in the size at which its characters are as wide as a cell.
struct Face {
    font: FontRef<'static>,
    scale: PxScale,
    /// Where the characters of a row stand, below its top, in pixels.
    baseline: f32,
}

impl Face {
    fn new(data: &'static [u8]) -> anyhow::Result<Self> {
        let font = FontRef::try_from_slice(data).context("the font for pictures")?;
        let advance = font.h_advance_unscaled(font.glyph_id('M'));
        let scale = PxScale::from(CELL.0 as f32 * font.height_unscaled() / advance);
        let scaled = font.as_scaled(scale);
        let baseline = (CELL.1 as f32 - scaled.height()) / 2.0 + scaled.ascent();
        Ok(Self { font, scale, baseline: baseline.round() })
    }
}

/// The picture: three bytes a pixel.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn new(columns: usize, rows: usize, paper: Rgb) -> Self {
        let (width, height) = (columns * CELL.0, rows * CELL.1);
        let [_, red, green, blue] = paper.to_be_bytes();
        Self { width, height, pixels: [red, green, blue].repeat(width * height) }
    }

    /// Lays `part` of 255 of a colour over a pixel.
    fn blend(&mut self, x: usize, y: usize, ink: Rgb, part: u32) {
        if x >= self.width || y >= self.height {
            return;
        }
        let at = (y * self.width + x) * 3;
        let Some(pixel) = self.pixels.get_mut(at..at + 3) else { return };
        let below = u32::from_be_bytes([0, pixel[0], pixel[1], pixel[2]]);
        pixel.copy_from_slice(&mixed(ink, below, part.min(255), 255).to_be_bytes()[1..]);
    }

    fn fill(&mut self, (x, y): (usize, usize), (width, height): (usize, usize), ink: Rgb, part: u32) {
        let [_, red, green, blue] = ink.to_be_bytes();
        let (left, right) = (x.min(self.width), (x + width).min(self.width));
        for row in y..(y + height).min(self.height) {
            if part < 255 {
                (left..right).for_each(|column| self.blend(column, row, ink, part));
            } else {
                let line = (row * self.width + left) * 3..(row * self.width + right) * 3;
                self.pixels[line].as_chunks_mut().0.fill([red, green, blue]);
            }
        }
    }

    fn cell(&mut self, place: Place<'_>, y: usize, look: Look, face: &Face) {
        let (left, top, width) = (place.x * CELL.0, y * CELL.1, place.width * CELL.0);
        if let Some(paper) = look.paper {
            self.fill((left, top), (width, CELL.1), paper, 255);
        }
        match shape(place.cell.symbol()) {
            Some(Shape { strength, parts }) => {
                for part in parts {
                    self.fill((left + part.x, top + part.y), (part.width, part.height), look.ink, strength * 255 / 4);
                }
            }
            None => place.cell.symbol().chars().for_each(|c| self.glyph(c, (left, top, width), look.ink, face)),
        }
        if look.underlined {
            let (thickness, below) = UNDERLINE;
            self.fill((left, top + face.baseline as usize + below), (width, thickness), look.ink, 255);
        }
    }

    /// A character, in the middle of its cells.
    fn glyph(&mut self, c: char, (left, top, width): (usize, usize, usize), ink: Rgb, face: &Face) {
        let id = face.font.glyph_id(c);
        let advance = face.font.as_scaled(face.scale).h_advance(id);
        // A combining character has no width, and belongs to the one before it.
        let spare = if advance > 0.0 { (width as f32 - advance) / 2.0 } else { 0.0 };
        let at = point(left as f32 + spare.max(0.0), top as f32 + face.baseline);
        let Some(outline) = face.font.outline_glyph(id.with_scale_and_position(face.scale, at)) else { return };
        let bounds = outline.px_bounds();
        outline.draw(|x, y, coverage| {
            let (x, y) = (bounds.min.x + x as f32, bounds.min.y + y as f32);
            if x >= 0.0 && y >= 0.0 {
                self.blend(x as usize, y as usize, ink, (coverage * 255.0).round() as u32);
            }
        });
    }

    fn encode(&self) -> anyhow::Result<Vec<u8>> {
        let mut encoded = Vec::new();
        let (width, height) = (u32::try_from(self.width)?, u32::try_from(self.height)?);
        let mut encoder = png::Encoder::new(&mut encoded, width, height);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.pixels)?;
        writer.finish()?;
        Ok(encoded)
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{
        layout::Rect,
        style::{Color, Modifier, Style},
    };

    use super::*;

    /// Width, height and pixels.
    fn decoded(still: &Buffer, palette: Palette) -> (usize, usize, Vec<Rgb>) {
        let bytes = draw(still, palette).expect("it can be drawn");
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("it fits")];
        let info = reader.next_frame(&mut pixels).expect("a picture");
        let pixels = pixels.chunks(3).map(|pixel| u32::from_be_bytes([0, pixel[0], pixel[1], pixel[2]]));
        (info.width as usize, info.height as usize, pixels.collect())
    }

    #[test]
    fn a_picture_has_the_colours_of_the_screen_where_they_are() {
        let mut buf = Buffer::empty(Rect::new(0, 0, 4, 2));
        buf.set_string(0, 0, "█▄░", Style::new().fg(Color::Indexed(203)));
        buf.set_string(0, 1, "M", Style::new().add_modifier(Modifier::REVERSED));
        for (palette, paper, ink) in [(Palette::Dark, 0x1c_1c1c, 0xd4_d4d4), (Palette::Light, 0xff_ffff, 0x20_2020)] {
            let (width, height, pixels) = decoded(&buf, palette);
            assert_eq!((width, height), (64, 64));
            let at = |x: usize, y: usize| pixels[y * width + x];
            assert_eq!([at(0, 0), at(15, 31)], [0xff_5f5f; 2], "a whole block");
            assert_eq!([at(16, 15), at(16, 16)], [paper, 0xff_5f5f], "half of one");
            assert!(at(32, 0) != paper && at(32, 0) != 0xff_5f5f, "a shade");
            assert_eq!([at(63, 0), at(63, 63)], [paper; 2], "nothing");
            // A letter on paper of the colour of ink.
            assert_eq!(at(0, 32), ink);
            let letter = (32..64).flat_map(|y| (0..16).map(move |x| (x, y))).filter(|&(x, y)| at(x, y) == paper);
            assert!((20..200).contains(&letter.count()));
        }
    }

    #[test]
    fn bold_is_heavier_and_underlined_has_a_line() {
        let ink = |modifier| {
            let mut buf = Buffer::empty(Rect::new(0, 0, 3, 1));
            buf.set_string(0, 0, "abc", Style::new().add_modifier(modifier));
            let (.., pixels) = decoded(&buf, Palette::Dark);
            pixels.into_iter().filter(|pixel| *pixel == 0xd4_d4d4).count()
        };
        let plain = ink(Modifier::empty());
        assert!(ink(Modifier::BOLD) > plain * 5 / 4);
        assert!(ink(Modifier::UNDERLINED) >= plain + 2 * 48);
    }

    /// Every sign of the dashboard, and letters of names: none is the box that stands for what is missing.
    #[test]
    fn the_font_has_every_sign() {
        let face = Face::new(dejavu::sans_mono::regular()).expect("a font");
        for c in "▶▼▲▸▾›✗✓●×↑→←↓≥µ…·éßЖλ—“”".chars() {
            assert_ne!(face.font.glyph_id(c).0, 0, "{c}");
        }
    }

    #[test]
    fn what_the_font_lacks_and_wide_characters_are_drawn_within_their_cells() {
        let mut buf = Buffer::empty(Rect::new(0, 0, 5, 1));
        buf.set_string(0, 0, "日e\u{301}", Style::new());
        let (width, _, pixels) = decoded(&buf, Palette::Dark);
        let inked = |from: usize, to: usize| (0..32).any(|y| (from..to).any(|x| pixels[y * width + x] != 0x1c_1c1c));
        assert!(inked(0, 32) && inked(32, 48) && !inked(50, 80));
    }
}
