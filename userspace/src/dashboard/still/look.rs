//! How a cell looks: its colours, as a terminal would resolve them.

use ratatui::{
    buffer::Cell,
    style::{Color, Modifier},
};

use crate::dashboard::theme::Palette;

/// A colour: 0xRRGGBB.
pub(super) type Rgb = u32;

/// A terminal's own colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground {
    pub(super) paper: Rgb,
    pub(super) ink: Rgb,
}

impl Ground {
    /// Those that a palette is made for.
    pub(super) const fn of(palette: Palette) -> Self {
        match palette {
            Palette::Light => Self { paper: 0xff_ffff, ink: 0x20_2020 },
            Palette::Dark | Palette::Sixteen | Palette::None => Self { paper: 0x1c_1c1c, ink: 0xd4_d4d4 },
        }
    }
}

/// How a cell looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) ink: Rgb,
    /// What is behind it; `None`: the ground's.
    pub(super) paper: Option<Rgb>,
    pub(super) bold: bool,
    pub(super) underlined: bool,
}

/// How much of its colour a dim character keeps, of 10: the rest is the paper's.
const DIM: u32 = 6;

impl Look {
    pub(super) fn of(cell: &Cell, ground: Ground) -> Self {
        let (ink, paper) = (rgb(cell.fg), rgb(cell.bg));
        let (mut ink, mut paper) = (ink.unwrap_or(ground.ink), paper);
        if cell.modifier.contains(Modifier::REVERSED) {
            (ink, paper) = (paper.unwrap_or(ground.paper), Some(ink));
        }
        if cell.modifier.contains(Modifier::DIM) {
            ink = mixed(ink, paper.unwrap_or(ground.paper), DIM, 10);
        }
        Self {
            ink,
            paper,
            bold: cell.modifier.contains(Modifier::BOLD),
            underlined: cell.modifier.contains(Modifier::UNDERLINED),
        }
    }
}

/// So many parts of one colour, and the rest of `of` of another.
pub(super) fn mixed(one: Rgb, other: Rgb, parts: u32, of: u32) -> Rgb {
    let mix = |shift: u32| {
        let (one, other) = (one >> shift & 0xff, other >> shift & 0xff);
        ((one * parts + other * (of - parts) + of / 2) / of) << shift
    };
    mix(16) | mix(8) | mix(0)
}

/// The sixteen colours of a terminal, as xterm has them.
const SIXTEEN: [Rgb; 16] = [
    0x00_0000, 0xcd_3131, 0x0d_bc79, 0xe5_e510, 0x24_72c8, 0xbc_3fbc, 0x11_a8cd, 0xe5_e5e5, 0x66_6666, 0xf1_4c4c,
    0x23_d18b, 0xf5_f543, 0x3b_8eea, 0xd6_70d6, 0x29_b8db, 0xff_ffff,
];

/// A colour of a cell; `None`: the terminal's own.
fn rgb(color: Color) -> Option<Rgb> {
    let index = match color {
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Cyan => 6,
        Color::Indexed(index) => index,
        _ => return None,
    };
    let level = |part: u32| if part == 0 { 0 } else { 55 + 40 * part };
    Some(match u32::from(index) {
        basic @ 0..16 => SIXTEEN[basic as usize],
        cube @ 16..232 => level((cube - 16) / 36) << 16 | level((cube - 16) / 6 % 6) << 8 | level((cube - 16) % 6),
        gray => (8 + 10 * (gray - 232)) * 0x01_0101,
    })
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn colours_are_xterms() {
        for (color, hex) in [
            (Color::Indexed(16), 0x00_0000),
            (Color::Indexed(231), 0xff_ffff),
            (Color::Indexed(237), 0x3a_3a3a),
            (Color::Indexed(117), 0x87_d7ff),
            (Color::Red, 0xcd_3131),
        ] {
            assert_eq!(rgb(color), Some(hex));
        }
        assert_eq!(rgb(Color::Reset), None);
    }

    #[test]
    fn reversed_and_dim_are_as_a_terminal_has_them() {
        let ground = Ground::of(Palette::Dark);
        let look = |style: Style| {
            let mut cell = Cell::default();
            cell.set_style(style);
            Look::of(&cell, ground)
        };
        let reversed = look(Style::new().add_modifier(Modifier::REVERSED));
        assert_eq!((reversed.ink, reversed.paper), (ground.paper, Some(ground.ink)));
        let dim = look(Style::new().add_modifier(Modifier::DIM));
        assert!(dim.ink < ground.ink && dim.ink > ground.paper && dim.paper.is_none(), "{dim:?}");
        assert_eq!(mixed(0xff_0000, 0x00_00ff, 1, 2), 0x80_0080);
    }
}
