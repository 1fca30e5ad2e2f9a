//! The keys, once: this table is what the loop looks keys up in, what the footer shows and what the help prints.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::action::Action;

/// Where a key means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere but in the filter line and on a screen that is too small.
    Everywhere,
    /// In the overview.
    Overview,
    /// In the listener view.
    Listener,
    /// In the help and the table of coverage.
    Text,
    /// While a filter is typed.
    Filter,
    /// While the terminal is too small for anything else.
    TooSmall,
}

impl Scope {
    /// Its heading in the help.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Everywhere => "Keys everywhere",
            Self::Overview => "Keys in the overview",
            Self::Listener => "Keys in the listener view",
            Self::Text => "Keys in help and coverage",
            Self::Filter => "Keys while typing a filter",
            Self::TooSmall => "Keys while the terminal is too small",
        }
    }

    /// Every scope, in the order of the help.
    pub const ALL: [Self; 6] =
        [Self::Everywhere, Self::Overview, Self::Listener, Self::Text, Self::Filter, Self::TooSmall];
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Without Ctrl.
    Plain(KeyCode),
    /// With Ctrl.
    Ctrl(char),
}

/// One line of the table.
#[derive(Debug)]
pub struct Binding {
    /// Where it holds.
    pub scope: Scope,
    /// Keys that mean it.
    pub keys: &'static [Key],
    /// What they do.
    pub action: Action,
    /// One word or two for the footer; empty: not in the footer. A `/` joins it with the binding before it.
    pub footer: &'static str,
    /// A sentence for the help.
    pub help: &'static str,
}

const fn char(c: char) -> Key {
    Plain(KeyCode::Char(c))
}

const fn bind(scope: Scope, keys: &'static [Key], action: Action, footer: &'static str, help: &'static str) -> Binding {
    Binding { scope, keys, action, footer, help }
}

use Key::{Ctrl, Plain};
use Scope::{Everywhere, Filter, Listener, Overview, Text, TooSmall};

/// The table. Of two bindings of a key, that of the narrower scope wins.
pub const BINDINGS: &[Binding] = &[
    bind(Overview, &[Plain(KeyCode::Enter)], Action::Open, "open", "open the selected listener; unfold a folded group"),
    bind(Overview, &[Plain(KeyCode::Up), char('k')], Action::Up, "", "one row up"),
    bind(Overview, &[Plain(KeyCode::Down), char('j')], Action::Down, "", "one row down"),
    bind(Overview, &[Plain(KeyCode::PageUp), Ctrl('b')], Action::PageUp, "", "one page up"),
    bind(Overview, &[Plain(KeyCode::PageDown), Ctrl('f')], Action::PageDown, "", "one page down"),
    bind(Overview, &[Plain(KeyCode::Home), char('g')], Action::First, "", "first row"),
    bind(Overview, &[Plain(KeyCode::End), char('G')], Action::Last, "", "last row"),
    bind(Overview, &[char(' ')], Action::ToggleFold, "fold", "fold or unfold the group of the selected row"),
    bind(Overview, &[Plain(KeyCode::Right), char('l')], Action::Unfold, "", "unfold the selected group"),
    bind(Overview, &[Plain(KeyCode::Left)], Action::Fold, "", "fold the group of the selected row"),
    bind(Overview, &[char('a')], Action::ToggleFoldAll, "", "unfold all groups, or fold them all"),
    bind(Overview, &[char('<'), char(',')], Action::SortPrevious, "", "sort by the column before"),
    bind(Overview, &[char('>'), char('.')], Action::SortNext, "sort", "sort by the next column"),
    bind(Overview, &[char('r')], Action::SortReverse, "", "reverse the order"),
    bind(
        Overview,
        &[char('/')],
        Action::FilterStart,
        "filter",
        "filter as you type: address, port, process, pid, network namespace, pattern; words are joined by and",
    ),
    bind(Overview, &[Plain(KeyCode::Esc)], Action::FilterClear, "", "drop the filter"),
    bind(
        Overview,
        &[char('x')],
        Action::ToggleClosed,
        "",
        "show every listener that closed in the interval, or only those of the last 30 s",
    ),
    bind(Listener, &[Plain(KeyCode::Esc), Plain(KeyCode::Backspace)], Action::Back, "back", "back to the overview"),
    bind(
        Listener,
        &[char('n'), Plain(KeyCode::Right)],
        Action::NextListener,
        "next",
        "the next listener, in the order of the overview",
    ),
    bind(Listener, &[char('b'), Plain(KeyCode::Left)], Action::PreviousListener, "", "the listener before"),
    bind(
        Listener,
        &[Plain(KeyCode::Tab)],
        Action::NextSection,
        "section",
        "the next section: findings, distributions, over time, threads",
    ),
    bind(Listener, &[Plain(KeyCode::BackTab)], Action::PreviousSection, "", "the section before"),
    bind(
        Listener,
        &[Plain(KeyCode::Up), char('k')],
        Action::Up,
        "",
        "scroll the section up; choose the distribution before",
    ),
    bind(
        Listener,
        &[Plain(KeyCode::Down), char('j')],
        Action::Down,
        "",
        "scroll the section down; choose the next distribution",
    ),
    bind(Listener, &[Plain(KeyCode::PageUp)], Action::PageUp, "", "scroll the section up by a page"),
    bind(Listener, &[Plain(KeyCode::PageDown)], Action::PageDown, "", "scroll the section down by a page"),
    bind(Listener, &[Plain(KeyCode::Home), char('g')], Action::First, "", "top of the section"),
    bind(Listener, &[Plain(KeyCode::End), char('G')], Action::Last, "", "end of the section"),
    bind(
        Listener,
        &[char('i')],
        Action::ToggleSpan,
        "span",
        "distributions over the whole interval, or over the recent span",
    ),
    bind(Text, &[Plain(KeyCode::Esc), Plain(KeyCode::Backspace)], Action::Back, "back", "back"),
    bind(Text, &[Plain(KeyCode::Up), char('k')], Action::Up, "scroll", "one line up"),
    bind(Text, &[Plain(KeyCode::Down), char('j')], Action::Down, "", "one line down"),
    bind(Text, &[Plain(KeyCode::PageUp), Ctrl('b')], Action::PageUp, "", "one page up"),
    bind(Text, &[Plain(KeyCode::PageDown), Ctrl('f'), char(' ')], Action::PageDown, "", "one page down"),
    bind(Text, &[Plain(KeyCode::Home), char('g')], Action::First, "", "to the top"),
    bind(Text, &[Plain(KeyCode::End), char('G')], Action::Last, "", "to the end"),
    bind(Everywhere, &[char('p')], Action::Pause, "pause", "freeze what is shown, or go on; measuring goes on anyway"),
    bind(Everywhere, &[char('+'), char('=')], Action::Faster, "", "refresh more often"),
    bind(Everywhere, &[char('-')], Action::Slower, "", "refresh less often"),
    bind(
        Everywhere,
        &[char('c')],
        Action::Coverage,
        "coverage",
        "what is measured here, by which hook, and why not more",
    ),
    bind(Everywhere, &[char('?'), char('h'), Plain(KeyCode::F(1))], Action::Help, "help", "this help, and back"),
    bind(Everywhere, &[Ctrl('z')], Action::Suspend, "", "suspend; fg brings it back"),
    bind(Everywhere, &[char('q'), Ctrl('c')], Action::Quit, "quit", "quit"),
    bind(Filter, &[Plain(KeyCode::Enter)], Action::FilterAccept, "keep", "keep the filter and go back to the rows"),
    bind(Filter, &[Plain(KeyCode::Esc), Ctrl('u')], Action::FilterClear, "drop", "drop the filter"),
    bind(Filter, &[Plain(KeyCode::Backspace), Ctrl('h')], Action::FilterErase, "", "take back a character"),
    bind(Filter, &[Ctrl('c')], Action::Quit, "", "quit"),
    bind(Filter, &[Plain(KeyCode::Up)], Action::Up, "", "one row up"),
    bind(Filter, &[Plain(KeyCode::Down)], Action::Down, "", "one row down"),
    bind(TooSmall, &[char('q'), Ctrl('c')], Action::Quit, "", "quit, also if a filter was being typed"),
    bind(TooSmall, &[Ctrl('z')], Action::Suspend, "", "suspend; fg brings it back"),
];

/// What `event` means in `scope`.
#[must_use]
pub fn action(event: KeyEvent, scope: Scope) -> Option<Action> {
    let key = match event.code {
        KeyCode::Char(c) if event.modifiers.contains(KeyModifiers::CONTROL) => Ctrl(c.to_ascii_lowercase()),
        _ if event.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SUPER) => return None,
        code => Plain(code),
    };
    let find = |scope| BINDINGS.iter().find(|b| b.scope == scope && b.keys.contains(&key)).map(|b| b.action);
    match (scope, key) {
        (Filter, Plain(KeyCode::Char(c))) => Some(Action::FilterInput(c)),
        (Filter | TooSmall, _) => find(scope),
        _ => find(scope).or_else(|| find(Everywhere)),
    }
}

/// How a key is written.
#[must_use]
pub fn name(key: Key) -> String {
    match key {
        Ctrl(c) => format!("^{}", c.to_ascii_uppercase()),
        Plain(KeyCode::Char(' ')) => "Space".to_owned(),
        Plain(KeyCode::Char(c)) => c.to_string(),
        Plain(KeyCode::Up) => "↑".to_owned(),
        Plain(KeyCode::Down) => "↓".to_owned(),
        Plain(KeyCode::Left) => "←".to_owned(),
        Plain(KeyCode::Right) => "→".to_owned(),
        Plain(KeyCode::PageUp) => "PgUp".to_owned(),
        Plain(KeyCode::PageDown) => "PgDn".to_owned(),
        Plain(KeyCode::BackTab) => "⇧Tab".to_owned(),
        Plain(KeyCode::Backspace) => "⌫".to_owned(),
        Plain(code) => code.to_string(),
    }
}

/// What the footer shows in `scope`: key and word, the most useful first.
pub fn footer(scope: Scope) -> impl Iterator<Item = (String, &'static str)> {
    let of = move |wanted| BINDINGS.iter().filter(move |b| b.scope == wanted && !b.footer.is_empty());
    let common = (!matches!(scope, Filter | TooSmall)).then(|| of(Everywhere)).into_iter().flatten();
    of(scope).chain(common).map(|b| (name(b.keys[0]), b.footer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode, scope: Scope) -> Option<Action> {
        action(KeyEvent::new(code, KeyModifiers::NONE), scope)
    }

    #[test]
    fn a_key_has_one_meaning_per_scope() {
        for (i, a) in BINDINGS.iter().enumerate() {
            for b in &BINDINGS[i + 1..] {
                for key in a.keys {
                    assert!(a.scope != b.scope || !b.keys.contains(key), "{} is bound twice", name(*key));
                }
            }
        }
    }

    #[test]
    fn every_binding_is_reachable_and_explained() {
        for b in BINDINGS {
            assert_ne!(b.help, "");
            for key in b.keys {
                let event = match *key {
                    Ctrl(c) => KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL),
                    Plain(code) => KeyEvent::new(code, KeyModifiers::NONE),
                };
                assert_eq!(action(event, b.scope), Some(b.action), "{}", name(*key));
            }
        }
    }

    #[test]
    fn typing_a_filter_takes_every_letter() {
        assert_eq!(press(KeyCode::Char('q'), Filter), Some(Action::FilterInput('q')));
        assert_eq!(press(KeyCode::Char('q'), Overview), Some(Action::Quit));
        assert_eq!(press(KeyCode::Esc, Filter), Some(Action::FilterClear));
    }

    #[test]
    fn where_nothing_is_seen_only_the_way_out_is_open() {
        assert_eq!(press(KeyCode::Char('q'), TooSmall), Some(Action::Quit));
        for code in [KeyCode::Char('p'), KeyCode::Char('?'), KeyCode::Esc, KeyCode::Enter] {
            assert_eq!(press(code, TooSmall), None, "{code}");
        }
    }

    #[test]
    fn ctrl_and_alt() {
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for scope in Scope::ALL {
            assert_eq!(action(ctrl_c, scope), Some(Action::Quit));
        }
        assert_eq!(press(KeyCode::Char('c'), Overview), Some(Action::Coverage));
        assert_eq!(action(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::ALT), Overview), None);
    }

    #[test]
    fn the_footer_fits_the_smallest_screen() {
        for scope in Scope::ALL {
            let used: usize = footer(scope).map(|(key, word)| key.chars().count() + word.len() + 3).sum();
            assert!(used < 80, "{scope:?}: {used}");
        }
    }

    #[test]
    fn the_footer_ends_with_the_way_out() {
        for scope in [Overview, Listener, Text] {
            assert_eq!(footer(scope).last(), Some(("q".to_owned(), "quit")));
        }
    }
}
