//! The tree behind the flame graph, and where its frames are drawn. No colours, no screen: columns and rows are
//! numbers.

use std::collections::HashMap;

use listentop_model::{
    blame::{Blamed, BlamedStack, Doing, Frame, share, telling, thread_name},
    words,
};

/// A frame with those that it called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) label: String,
    /// The file that it is in, or `kernel`; empty for what is no frame.
    pub(super) place: String,
    /// What was done; `None` for the root.
    pub(super) doing: Option<Doing>,
    pub(super) wait_ns: u64,
    pub(super) parent: Option<usize>,
    /// The most blamed first.
    pub(super) children: Vec<usize>,
    pub(super) depth: usize,
}

/// A frame's place on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) node: usize,
    /// Rows below the frame that is zoomed into.
    pub(super) row: usize,
    pub(super) x: u16,
    pub(super) width: u16,
}

/// The tree: the root, states, threads, and frames from the outermost to the innermost. A node comes before what it
/// called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Flame {
    pub(super) nodes: Vec<Node>,
}

/// The root's label.
const ALL: &str = "all waiting";

/// A tree that grows: by label and place.
#[derive(Default)]
struct Growing {
    doing: Option<Doing>,
    wait_ns: u64,
    children: HashMap<(String, String), Growing>,
}

impl Growing {
    fn add(&mut self, path: &[(String, String)], doing: Doing, wait_ns: u64) {
        self.wait_ns += wait_ns;
        if let Some((first, rest)) = path.split_first() {
            let child = self.children.entry(first.clone()).or_default();
            child.doing = Some(doing);
            child.add(rest, doing, wait_ns);
        }
    }
}

/// The labels from the root to a stack's innermost frame, with the files that they are in.
fn path(stack: &BlamedStack) -> Vec<(String, String)> {
    let mut path = vec![(stack.doing.name().to_owned(), String::new())];
    if stack.thread.is_some() {
        path.push((words::clean(&thread_name(stack.thread.as_ref())), String::new()));
    }
    path.extend(stack.frames.iter().rev().map(named));
    path
}

fn named(frame: &Frame) -> (String, String) {
    let place = match (&frame.module, frame.kernel) {
        _ if frame.is_remark => String::new(),
        (_, true) => "kernel".to_owned(),
        (Some(module), false) if frame.named => words::clean(module),
        _ => String::new(),
    };
    (words::clean(&frame.label()), place)
}

impl Flame {
    pub(super) fn new(blamed: &Blamed) -> Self {
        let mut root = Growing::default();
        for stack in &blamed.stacks {
            root.add(&path(stack), stack.doing, stack.wait_ns);
        }
        let mut flame = Self::default();
        // What is still to be put: its name, itself, its parent. A stack may be deeper than this program's own.
        let mut open = vec![((ALL.to_owned(), String::new()), root, None)];
        while let Some(((label, place), growing, parent)) = open.pop() {
            let at = flame.nodes.len();
            let depth = parent.map_or(0, |parent: usize| flame.nodes[parent].depth + 1);
            if let Some(parent) = parent {
                flame.nodes[parent].children.push(at);
            }
            let Growing { doing, wait_ns, children } = growing;
            flame.nodes.push(Node { label, place, doing, wait_ns, parent, children: Vec::new(), depth });
            let mut children: Vec<_> = children.into_iter().collect();
            // The last one is taken first.
            children.sort_by(|(a, one), (b, other)| one.wait_ns.cmp(&other.wait_ns).then_with(|| b.cmp(a)));
            open.extend(children.into_iter().map(|(name, child)| (name, child, Some(at))));
        }
        flame
    }

    /// The waiting of all.
    pub(super) fn total_ns(&self) -> u64 {
        self.nodes.first().map_or(0, |root| root.wait_ns)
    }

    /// The node's share of all waiting.
    pub(super) fn share(&self, node: usize) -> f64 {
        self.nodes.get(node).map_or(0.0, |node| share(node.wait_ns, self.total_ns()))
    }

    /// The labels of a node and of those above it, without the root.
    pub(super) fn labels(&self, node: usize) -> Vec<String> {
        let mut labels = Vec::new();
        let mut at = self.nodes.get(node);
        while let Some(node) = at.filter(|node| node.parent.is_some()) {
            labels.push(node.label.clone());
            at = node.parent.map(|parent| &self.nodes[parent]);
        }
        labels.reverse();
        labels
    }

    /// The node with these labels; if there is none, the last that is there on the way to it.
    pub(super) fn find(&self, labels: &[String]) -> usize {
        let mut at = 0;
        for label in labels {
            let Some(node) = self.nodes.get(at) else { return 0 };
            let Some(child) = node.children.iter().copied().find(|child| self.nodes[*child].label == *label) else {
                break;
            };
            at = child;
        }
        at
    }

    /// Whether a node is another, or was called by it.
    pub(super) fn is_within(&self, node: usize, other: usize) -> bool {
        let mut at = Some(node);
        while let Some(node) = at.filter(|node| *node != other) {
            at = self.nodes.get(node).and_then(|node| node.parent);
        }
        at.is_some()
    }

    /// Where the frames are, in so many columns, if this one takes all of them. Frames narrower than half a column are
    /// left out.
    pub(super) fn place(&self, zoomed: usize, width: u16) -> Vec<Placed> {
        let mut placed = Vec::new();
        if zoomed >= self.nodes.len() || width == 0 {
            return placed;
        }
        let mut open = vec![Placed { node: zoomed, row: 0, x: 0, width }];
        while let Some(place) = open.pop() {
            placed.push(place);
            let node = &self.nodes[place.node];
            let column = |ns: u64| (share(ns, node.wait_ns) * f64::from(place.width)).round() as u16;
            let mut before_ns = 0;
            let mut children = Vec::new();
            for &child in &node.children {
                let from = column(before_ns);
                before_ns += self.nodes[child].wait_ns;
                let to = column(before_ns).min(place.width);
                if to > from {
                    children.push(Placed { node: child, row: place.row + 1, x: place.x + from, width: to - from });
                }
            }
            open.extend(children.into_iter().rev());
        }
        placed
    }

    /// The nodes whose label or file has this in it, in lower case; none for nothing.
    pub(super) fn matches(&self, sought: &str) -> Vec<usize> {
        let sought = sought.to_lowercase();
        if sought.is_empty() {
            return Vec::new();
        }
        let has =
            |node: &Node| node.label.to_lowercase().contains(&sought) || node.place.to_lowercase().contains(&sought);
        (0..self.nodes.len()).filter(|&at| has(&self.nodes[at])).collect()
    }

    /// The share of all waiting that is within any of these nodes, which are in the tree's order.
    pub(super) fn share_within(&self, nodes: &[usize]) -> f64 {
        let mut outermost: Vec<usize> = Vec::new();
        for &node in nodes {
            // What follows a node is within it until the first that is not.
            if !outermost.last().is_some_and(|&last| self.is_within(node, last)) {
                outermost.push(node);
            }
        }
        share(outermost.iter().map(|&node| self.nodes[node].wait_ns).sum(), self.total_ns())
    }
}

/// The labels from the root to the frame of a stack that tells most.
pub(super) fn way_to_telling(stack: &BlamedStack) -> Vec<String> {
    let mut labels: Vec<String> = path(stack).into_iter().map(|(label, _)| label).collect();
    let inner = telling(&stack.frames).unwrap_or(0);
    labels.truncate(labels.len() - inner.min(labels.len()));
    labels
}
