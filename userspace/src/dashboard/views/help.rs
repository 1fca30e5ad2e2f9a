//! The help: a sentence for every number, a phrase for every key.

use crossterm::event::KeyCode;
use listentop_model::{model::Model, words};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use crate::dashboard::{
    action::Action,
    keymap::{self, Binding, Key::Plain, Scope, bind, char},
    state::State,
    theme::Theme,
    view::{Declaration, Entries, Outcome, View},
    widgets::page::Page,
};

pub(super) static VIEW: Declaration = Declaration {
    name: "help",
    tab: None,
    key: Some(bind(&[char('?'), char('h'), Plain(KeyCode::F(1))], Action::Show("help"), "help", "this help, and back")),
    over: true,
    scopes: &[&keymap::TEXT],
    explained: ("In the help", Vec::new),
    lists_connections: false,
    needs_model: false,
    make: || Box::new(Help::default()),
};

/// What the header shows.
const HEADER: &[(&str, &str)] = &[
    ("CPUs", "CPUs of the machine that are online."),
    ("00:01:23", "Length of the interval: hours, minutes and seconds since measuring began."),
    ("refresh", "Time between two samples; + and - change it."),
    ("listeners, groups", "Listening sockets that are shown, and SO_REUSEPORT groups of at least two among them."),
    (
        "verdict",
        "The first sentence: how many listeners refuse clients or keep them waiting now, which is the worst, and why. v opens it.",
    ),
    ("closed, hidden", "Listeners that closed in the interval, and whether they are shown; x changes that."),
    ("namespaces", "Network namespaces that hold a listener."),
    ("critical, warning", "Number of findings that report refused or waiting clients now, or warn of them."),
    ("info", "Number of findings that are worth knowing, although no client suffers."),
    ("by … ▼", "The column that rows are sorted by; ▼: the largest first, ▲: the smallest first."),
    ("filter, only", "The filter that is typed with /, and those of the command line."),
    (
        "coverage",
        "Number of measures that are measured (every event is counted), sampled (seen at intervals, inferred, or a bound) and unavailable; c lists them.",
    ),
    (
        "own cost",
        "What listentop costs since its start: share of one CPU in its probes and in its process (self), and resident memory.",
    ),
    ("LOST", "What listentop could not track; c explains it."),
];

const SIGNS: &[(&str, &str)] = &[
    ("-", "No value yet, or nothing there."),
    ("n/a", "Cannot be measured on this machine; c explains why."),
    ("~", "Before a number: it is sampled, inferred or a bound; not every event was counted."),
    ("µs ms s", "Durations. Quantiles are exact to 1/16."),
    (
        "k M G",
        "Thousands, millions, billions; of bytes: KiB, MiB, GiB, by 1024, or with --units si kB, MB, GB, by 1000.",
    ),
    ("interval", "From the start of the probes until now: the span of peaks, totals and shares."),
    ("recent span", "The last few refreshes: the span of rates, and of the quantiles in the overview."),
];

/// The help.
#[derive(Debug, Default)]
struct Help {
    page: Page,
    /// The theme that it was wrapped with.
    theme: Option<Theme>,
}

impl View for Help {
    fn open(&mut self, _: &State) {
        self.page.rewind();
    }

    /// Wraps the text only when the width changes: nothing in it depends on the model.
    fn arrange(&mut self, state: &State) {
        let body = state.body();
        if !self.page.fits(body.width) || self.theme != Some(state.theme) {
            self.theme = Some(state.theme);
            self.page.set(lines(body.width, state.theme), body.width, body.height);
        }
    }

    fn scope(&self, _: &State) -> &'static Scope {
        &keymap::TEXT
    }

    fn update(&mut self, action: Action, state: &mut State) -> Outcome {
        self.page.update(action, state.body().height)
    }

    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, _: Option<&Model>) {
        self.page.draw(buf, area, "Help", state.theme, |width| lines(width, state.theme));
    }
}

/// What the help explains by name, under titles.
fn explained() -> Vec<(&'static str, Entries)> {
    let mut explained = vec![("Signs", SIGNS.to_vec()), ("Above every view", HEADER.to_vec())];
    explained.extend(super::ALL.iter().map(|view| (view.explained.0, (view.explained.1)())));
    explained.retain(|(_, entries)| !entries.is_empty());
    explained
}

/// Every set of keys, under titles.
fn keys() -> Vec<(&'static str, Vec<&'static Binding>)> {
    let openers = super::ALL.iter().filter_map(|view| view.key.as_ref());
    let mut keys = vec![(keymap::EVERYWHERE, keymap::everywhere(openers).collect())];
    for scope in super::ALL.iter().flat_map(|view| view.scopes).chain([&&keymap::TOO_SMALL]) {
        if keys.iter().all(|(title, _)| *title != scope.title) {
            keys.push((scope.title, scope.bindings.iter().collect()));
        }
    }
    keys
}

/// How it is read.
const WAY: &str = "A connection waits in the SYN queue until its handshake is complete, then in the accept queue until a \
    thread accepts it; its bytes then wait in its receive queue until a thread reads them. A full queue refuses what comes. \
    The listeners with the worst findings come first; Enter shows one in full.";

/// The text, wrapped for a screen of `width`.
fn lines(width: u16, theme: Theme) -> Vec<Line<'static>> {
    let paragraph = |text: &str| words::wrap(text, usize::from(width) - 3).into_iter().map(Line::raw);
    let mut lines = vec![Line::styled("How to read it", theme.title())];
    lines.extend(paragraph(WAY));
    for (title, bindings) in keys() {
        lines.extend(heading(title, theme));
        for binding in bindings {
            let keys: Vec<String> = binding.keys.iter().map(|&key| keymap::name(key, theme.charset())).collect();
            lines.extend(entry(&keys.join(" "), binding.help, width, theme));
        }
    }
    for (title, entries) in explained() {
        lines.extend(heading(title, theme));
        lines.extend(entries.into_iter().flat_map(|(name, help)| entry(name, help, width, theme)));
    }
    lines.extend(heading("Closed listeners", theme));
    lines.extend(paragraph(
        "Listeners that closed in the interval are counted above the table, and hidden. x shows them, behind all that are open, \
         with the word closed.",
    ));
    lines
}

fn heading(title: &'static str, theme: Theme) -> [Line<'static>; 2] {
    [Line::raw(""), Line::styled(title, theme.title())]
}

/// Columns for a name, and the blank behind it.
const NAME: usize = 20;

/// A name and its sentence, whose further lines stand below the first.
fn entry(name: &str, help: &str, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let room = usize::from(width).saturating_sub(NAME + 3);
    let line = |(i, line): (usize, String)| {
        let name = if i == 0 { name } else { "" };
        Line::from(vec![Span::styled(format!("{name:NAME$}"), theme.strong()), Span::raw(line)])
    };
    words::wrap(help, room).into_iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use listentop_model::{fixtures, tracker::Tracker};

    use super::*;
    use crate::dashboard::{App, DashboardOptions, Palette, frame::picture, geometry};

    /// Words that stand between labels and numbers, what the entries of the header are about, and the tabs.
    const BETWEEN: &str = "of ago full no Tab the acceptors readers receive queues measured sampled unavailable probes process self memory \
                           CPU findings distributions over time threads";

    fn words(text: &str) -> impl Iterator<Item = String> {
        // A word with a digit is a value, except for the quantiles; one letter is a unit or a role.
        let is_label = |word: &&str| {
            word.len() > 1 && (!word.contains(|c: char| c.is_ascii_digit()) || matches!(*word, "p50" | "p90" | "p99"))
        };
        text.split(|c: char| !c.is_alphanumeric() && c != '-').filter(is_label).map(str::to_lowercase)
    }

    /// Every word that labels a number on the screen is in the name of something that the help has a sentence for.
    #[test]
    fn every_label_is_explained() {
        let names = explained().into_iter().flat_map(|(_, entries)| entries).map(|(name, _)| name);
        let known: HashSet<String> = names.chain([BETWEEN]).flat_map(words).collect();
        for samples in [fixtures::overflow(), fixtures::quiet()] {
            let mut tracker = Tracker::new(&samples[0]);
            samples[1..].iter().for_each(|sample| tracker.push(sample));
            let mut model = tracker.model().clone();
            // Names of threads are no labels, and may be cut off.
            let threads = model.listeners.iter_mut().flat_map(|listener| &mut listener.threads);
            threads.for_each(|thread| thread.comm = "thread".to_owned());
            let model = Arc::new(model);
            for (columns, rows) in [(80, 24), (120, 40), (200, 60)] {
                let mut app = App::new(DashboardOptions::default());
                app.update(Action::Resize(columns, rows));
                app.set_model(model.clone());
                app.update(Action::Down);
                app.update(Action::Open);
                let mut sections = 0;
                for _ in 0..4 {
                    app.update(Action::NextSection);
                    let text = picture(&app);
                    // Findings are whole sentences, not labels.
                    if text.contains("[Findings") {
                        continue;
                    }
                    sections += 1;
                    // Not the names of the machine and of the listener, the verdict, nor the keys.
                    let verdict = usize::from(geometry::verdict_height(columns));
                    let header = usize::from(geometry::header_height(&app.state));
                    let labels = text
                        .lines()
                        .enumerate()
                        .filter(|(y, _)| *y > verdict && *y != header && *y != usize::from(rows) - 1);
                    for word in labels.flat_map(|(_, line)| words(line)) {
                        let plural = [format!("{word}s"), format!("{word}es")];
                        let is_known = known.contains(&word) || plural.iter().any(|word| known.contains(word));
                        assert!(is_known, "no sentence explains {word:?}:\n{text}");
                    }
                }
                assert!(sections > 0, "no section but the findings came on the screen");
            }
        }
    }

    #[test]
    fn names_leave_room_for_their_sentences() {
        for (name, help) in explained().into_iter().flat_map(|(_, entries)| entries) {
            assert!(words::width(name) < NAME, "{name}");
            assert!(help.ends_with('.'), "{name}: no sentence");
        }
    }

    #[test]
    fn every_key_and_every_view_is_in_it() {
        let text = lines(400, Theme::new(Palette::None)).iter().map(Line::to_string).collect::<Vec<_>>().join("\n");
        for view in super::super::ALL {
            let title = view.explained.0;
            assert_eq!(text.contains(title), !(view.explained.1)().is_empty(), "{title}");
            let openers = view.key.iter();
            for binding in view.scopes.iter().flat_map(|scope| scope.bindings).chain(openers) {
                assert!(text.contains(binding.help), "{}", binding.help);
            }
        }
        for title in [keymap::EVERYWHERE, keymap::TEXT.title, keymap::TOO_SMALL.title] {
            assert_eq!(text.matches(title).count(), 1, "{title}");
        }
    }
}
