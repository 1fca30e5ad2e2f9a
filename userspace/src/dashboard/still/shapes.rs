//! Characters that are shapes: lines, blocks and braille. As shapes they meet those of the cells beside them, whatever
//! the font.

/// Units of a cell's width and height: in a PNG a pixel each, in an SVG half a one.
pub(super) const CELL: (usize, usize) = (16, 32);

/// A rectangle within a cell, in units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// What a character looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// How much of the ink it takes, in quarters: shades take less than all.
    pub(super) strength: u32,
    pub(super) parts: Vec<Part>,
}

const WIDTH: usize = CELL.0;
const HEIGHT: usize = CELL.1;
/// Half the thickness of a thin line, and of a thick one.
const THIN: usize = 1;
const THICK: usize = 2;

const fn part(x: usize, y: usize, width: usize, height: usize) -> Part {
    Part { x, y, width, height }
}

/// The shape of a character; `None`: it is a glyph of the font.
pub(super) fn shape(symbol: &str) -> Option<Shape> {
    let mut chars = symbol.chars();
    let (Some(c), None) = (chars.next(), chars.next()) else { return None };
    let strength = match c {
        '░'..='▓' => u32::from(c) - u32::from('░') + 1,
        _ => 4,
    };
    let parts = match c {
        '▀'..='▟' => blocks(c),
        '\u{2800}'..='\u{28ff}' => braille(u32::from(c) - 0x2800),
        _ => lines(c)?,
    };
    Some(Shape { strength, parts })
}

/// Block elements.
fn blocks(c: char) -> Vec<Part> {
    let (half, middle) = (WIDTH / 2, HEIGHT / 2);
    let whole = part(0, 0, WIDTH, HEIGHT);
    // Upper left, upper right, lower left, lower right.
    let quarters = |which: [bool; 4]| {
        let places = [(0, 0), (half, 0), (0, middle), (half, middle)];
        let chosen = places.into_iter().zip(which).filter(|(_, is)| *is);
        chosen.map(|((x, y), _)| part(x, y, half, middle)).collect()
    };
    let number = (u32::from(c) - u32::from('▀')) as usize;
    match c {
        '▀' => vec![part(0, 0, WIDTH, middle)],
        // From one eighth to all, from below.
        '▁'..='█' => vec![part(0, HEIGHT - number * HEIGHT / 8, WIDTH, number * HEIGHT / 8)],
        // From seven eighths to one, from the left.
        '▉'..='▏' => vec![part(0, 0, (16 - number) * WIDTH / 8, HEIGHT)],
        '▐' => vec![part(half, 0, half, HEIGHT)],
        '░'..='▓' => vec![whole],
        '▔' => vec![part(0, 0, WIDTH, HEIGHT / 8)],
        '▕' => vec![part(WIDTH - WIDTH / 8, 0, WIDTH / 8, HEIGHT)],
        '▖' => quarters([false, false, true, false]),
        '▗' => quarters([false, false, false, true]),
        '▘' => quarters([true, false, false, false]),
        '▙' => quarters([true, false, true, true]),
        '▚' => quarters([true, false, false, true]),
        '▛' => quarters([true, true, true, false]),
        '▜' => quarters([true, true, false, true]),
        '▝' => quarters([false, true, false, false]),
        '▞' => quarters([false, true, true, false]),
        _ => quarters([false, true, true, true]),
    }
}

/// The dots of a braille pattern, by its bits.
fn braille(bits: u32) -> Vec<Part> {
    // The place of each bit's dot: column, row.
    const DOTS: [(usize, usize); 8] = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)];
    let (column, row) = (WIDTH / 2, HEIGHT / 4);
    let dots = DOTS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
    let dot = |(_, (x, y)): (_, &(usize, usize))| part(x * column + column / 4, y * row + row / 4, column / 2, row / 2);
    dots.map(dot).collect()
}

/// Lines, by the sides of the cell to which they go.
fn lines(c: char) -> Option<Vec<Part>> {
    let (half, middle) = (WIDTH / 2, HEIGHT / 2);
    let across = |thick: usize| part(0, middle - thick, WIDTH, 2 * thick);
    let down = |thick: usize| part(half - thick, 0, 2 * thick, HEIGHT);
    let (left, right) =
        (part(0, middle - THIN, half + THIN, 2 * THIN), part(half - THIN, middle - THIN, half + THIN, 2 * THIN));
    let (up, below) =
        (part(half - THIN, 0, 2 * THIN, middle + THIN), part(half - THIN, middle - THIN, 2 * THIN, middle + THIN));
    Some(match c {
        '─' => vec![across(THIN)],
        '━' => vec![across(THICK)],
        '│' => vec![down(THIN)],
        '┃' => vec![down(THICK)],
        '╌' => [0, half].map(|x| part(x + 1, middle - THIN, half - 2, 2 * THIN)).to_vec(),
        '╎' => [0, middle].map(|y| part(half - THIN, y + 2, 2 * THIN, middle - 4)).to_vec(),
        '┌' => vec![right, below],
        '┐' => vec![left, below],
        '└' => vec![right, up],
        '┘' => vec![left, up],
        '├' => vec![right, down(THIN)],
        '┤' => vec![left, down(THIN)],
        '┬' => vec![across(THIN), below],
        '┴' => vec![across(THIN), up],
        '┼' => vec![across(THIN), down(THIN)],
        '╴' => vec![left],
        '╵' => vec![up],
        '╶' => vec![right],
        '╷' => vec![below],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The units that a character covers.
    fn covered(symbol: &str) -> Vec<(usize, usize)> {
        let shape = shape(symbol).unwrap_or_else(|| panic!("{symbol} is a shape"));
        let is_in = |x, y| {
            let within = |p: &Part| (p.x..p.x + p.width).contains(&x) && (p.y..p.y + p.height).contains(&y);
            shape.parts.iter().any(within)
        };
        let all = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
        all.filter(|&(x, y)| is_in(x, y)).collect()
    }

    #[test]
    fn blocks_are_the_eighths_of_their_names() {
        for (eighths, symbol) in (1..).zip(["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]) {
            let covered = covered(symbol);
            assert_eq!(covered.len(), WIDTH * HEIGHT * eighths / 8, "{symbol}");
            assert!(covered.contains(&(0, HEIGHT - 1)) && covered.contains(&(WIDTH - 1, HEIGHT - 1)), "{symbol}");
        }
        for (eighths, symbol) in (1..).zip(["▏", "▎", "▍", "▌", "▋", "▊", "▉"]) {
            let covered = covered(symbol);
            assert_eq!(covered.len(), WIDTH * HEIGHT * eighths / 8, "{symbol}");
            assert!(covered.contains(&(0, 0)) && !covered.contains(&(WIDTH - 1, 0)), "{symbol}");
        }
        let quarters = ["▖", "▗", "▘", "▝", "▚", "▞", "▙", "▛", "▜", "▟"].map(|symbol| covered(symbol).len() * 4);
        let whole = WIDTH * HEIGHT;
        assert_eq!(quarters[..4], [whole; 4]);
        assert_eq!(quarters[4..6], [2 * whole; 2]);
        assert_eq!(quarters[6..], [3 * whole; 4]);
        let strengths = ["░", "▒", "▓", "█"].map(|symbol| shape(symbol).map(|shape| shape.strength));
        assert_eq!(strengths, [Some(1), Some(2), Some(3), Some(4)]);
    }

    /// A line that goes to a side meets the one of the cell beyond it, unit by unit.
    #[test]
    fn lines_meet_those_beside_them() {
        let right = |symbol: &str| -> Vec<usize> {
            covered(symbol).into_iter().filter(|(x, _)| *x == WIDTH - 1).map(|(_, y)| y).collect()
        };
        let left = |symbol: &str| -> Vec<usize> {
            covered(symbol).into_iter().filter(|(x, _)| *x == 0).map(|(_, y)| y).collect()
        };
        let bottom = |symbol: &str| -> Vec<usize> {
            covered(symbol).into_iter().filter(|(_, y)| *y == HEIGHT - 1).map(|(x, _)| x).collect()
        };
        let top = |symbol: &str| -> Vec<usize> {
            covered(symbol).into_iter().filter(|(_, y)| *y == 0).map(|(x, _)| x).collect()
        };
        let (across, down) = (right("─"), bottom("│"));
        assert_eq!((across.len(), down.len()), (2, 2));
        for (symbol, [to_left, to_right, to_top, to_bottom]) in [
            ("─", [true, true, false, false]),
            ("│", [false, false, true, true]),
            ("┌", [false, true, false, true]),
            ("┐", [true, false, false, true]),
            ("└", [false, true, true, false]),
            ("┘", [true, false, true, false]),
            ("├", [false, true, true, true]),
            ("┤", [true, false, true, true]),
            ("┬", [true, true, false, true]),
            ("┴", [true, true, true, false]),
            ("┼", [true; 4]),
        ] {
            let expected = |goes: bool, line: &Vec<usize>| if goes { line.clone() } else { Vec::new() };
            assert_eq!(left(symbol), expected(to_left, &across), "{symbol}");
            assert_eq!(right(symbol), expected(to_right, &across), "{symbol}");
            assert_eq!(top(symbol), expected(to_top, &down), "{symbol}");
            assert_eq!(bottom(symbol), expected(to_bottom, &down), "{symbol}");
        }
    }

    #[test]
    fn braille_dots_are_where_the_standard_has_them() {
        assert_eq!(shape("⠀").map(|shape| shape.parts.len()), Some(0));
        assert_eq!(shape("⣿").map(|shape| shape.parts.len()), Some(8));
        // Dots 1 (upper left) and 8 (lower right).
        let dots = shape("⢁").expect("a shape").parts;
        assert!(dots[0].x < WIDTH / 2 && dots[0].y < HEIGHT / 4, "{dots:?}");
        assert!(dots[1].x > WIDTH / 2 && dots[1].y > 3 * HEIGHT / 4, "{dots:?}");
    }

    #[test]
    fn letters_are_no_shapes() {
        for symbol in ["a", "…", "▶", "●", "e\u{301}", ""] {
            assert_eq!(shape(symbol), None, "{symbol}");
        }
    }
}
