//! Blame as a flame graph: what is wide was waited for long. An image without scripts, which every browser shows.

use std::{collections::BTreeMap, fmt::Write as _};

use listentop_model::words::{fit, precise_duration};

use super::{Blamed, Doing, folded::paths, share};

/// Width of the image, in pixels.
const WIDTH: f64 = 1_200.0;
/// Height of a frame.
const ROW: f64 = 18.0;
/// Space around.
const MARGIN: f64 = 12.0;
/// Height of the title and the legend.
const HEAD: f64 = 64.0;
/// Narrower frames are left out.
const NARROWEST: f64 = 0.4;
/// Width of a character of the font.
const CHARACTER: f64 = 7.2;

/// A frame with those that it called.
#[derive(Default)]
struct Node {
    wait_ns: u64,
    children: BTreeMap<String, Node>,
}

impl Node {
    fn add(&mut self, path: &[String], wait_ns: u64) {
        self.wait_ns += wait_ns;
        if let Some((first, rest)) = path.split_first() {
            self.children.entry(first.clone()).or_default().add(rest, wait_ns);
        }
    }

    fn depth(&self, pixels: f64) -> usize {
        let wide = self.children.values().filter(|child| width(child, self, pixels) >= NARROWEST);
        wide.map(|child| 1 + child.depth(width(child, self, pixels))).max().unwrap_or(0)
    }
}

fn width(child: &Node, of: &Node, pixels: f64) -> f64 {
    share(child.wait_ns, of.wait_ns) * pixels
}

/// The image.
#[must_use]
pub fn svg(blamed: &Blamed) -> String {
    let mut root = Node::default();
    for (path, wait_ns) in paths(blamed) {
        root.add(&path, wait_ns);
    }
    let rows = root.depth(WIDTH) + 1;
    let height = HEAD + rows as f64 * ROW + MARGIN;
    let mut image = Image { text: String::new(), bottom: height - MARGIN, whole_ns: root.wait_ns };
    image.head(blamed, height);
    image.frame("all", &root, (MARGIN, WIDTH, 0), None);
    image.children(&root, (MARGIN, WIDTH, 0), None);
    image.text.push_str("</svg>\n");
    image.text
}

struct Image {
    text: String,
    bottom: f64,
    whole_ns: u64,
}

impl Image {
    fn head(&mut self, blamed: &Blamed, height: f64) {
        let width = WIDTH + 2.0 * MARGIN;
        let title = format!(
            "{} {} in {}",
            blamed.of.waited(),
            precise_duration(blamed.total_ns / 1_000),
            precise_duration(blamed.elapsed_ns / 1_000)
        );
        // Writing to a string does not fail.
        let _ = writeln!(
            self.text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"monospace\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"{MARGIN}\" y=\"24\" font-size=\"16\">{title}</text>"
        );
        let mut x = MARGIN;
        for doing in Doing::ALL {
            let percent = share(blamed.states.wait_ns(doing), blamed.total_ns) * 100.0;
            let label = format!("{} {percent:.1} %", doing.name());
            let _ = writeln!(
                self.text,
                "<rect x=\"{x}\" y=\"36\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"46\">{label}</text>",
                colour(Some(doing)),
                x + 18.0
            );
            x += 60.0 + label.len() as f64 * CHARACTER;
        }
    }

    fn children(&mut self, node: &Node, (x, pixels, level): (f64, f64, usize), doing: Option<Doing>) {
        let mut x = x;
        for (label, child) in &node.children {
            let wide = width(child, node, pixels);
            if wide >= NARROWEST {
                let place = (x, wide, level + 1);
                // The second level is the state.
                let doing = doing.or_else(|| Doing::ALL.into_iter().find(|doing| level == 1 && doing.name() == label));
                self.frame(label, child, place, doing);
                self.children(child, place, doing);
            }
            x += wide;
        }
    }

    fn frame(&mut self, label: &str, node: &Node, (x, pixels, level): (f64, f64, usize), doing: Option<Doing>) {
        let y = self.bottom - (level + 1) as f64 * ROW;
        let fits = ((pixels - 6.0) / CHARACTER).max(0.0) as usize;
        let shown = if fits < 3 { String::new() } else { escaped(&fit(label, fits)) };
        let percent = share(node.wait_ns, self.whole_ns) * 100.0;
        let _ = writeln!(
            self.text,
            "<g><title>{}: {}, {percent:.2} %</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
             fill=\"{}\" rx=\"1\"/><text x=\"{:.1}\" y=\"{:.1}\">{shown}</text></g>",
            escaped(label),
            precise_duration(node.wait_ns / 1_000),
            (pixels - 0.5).max(0.2),
            ROW - 1.0,
            colour(doing),
            x + 3.0,
            y + 13.0
        );
    }
}

/// Colours that also differ in brightness, with black text on them.
fn colour(doing: Option<Doing>) -> &'static str {
    match doing {
        None => "#d9d9d9",
        Some(Doing::Running) => "#f28e5c",
        Some(Doing::Runnable) => "#f7d560",
        Some(Doing::Asleep) => "#8fb8de",
        Some(Doing::Nobody) => "#b9a3d6",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
