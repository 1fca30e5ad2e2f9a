//! Keys: what a key means, what the footer shows and what the help prints come from the same tables.
//!
//! The keys of a view stand in the view's file. Those that several views share are here.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use listentop_model::words::Charset;

use super::action::Action;

/// A set of keys that hold together.
#[derive(Debug)]
pub struct Scope {
    /// Its heading in the help.
    pub title: &'static str,
    /// The keys.
    pub bindings: &'static [Binding],
    /// What every other key means.
    pub others: Others,
}

/// What keys mean that a scope does not bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// What they mean everywhere.
    AsEverywhere,
    /// A character is typed into the filter, whether the scope binds it or not; the rest means nothing.
    Typed,
    /// Nothing.
    Nothing,
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Without Ctrl.
    Plain(KeyCode),
    /// With Ctrl.
    Ctrl(char),
}

/// Keys that the user gave to actions: they replace those of the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remapped(pub Vec<(Action, Vec<Key>)>);

impl Remapped {
    /// The keys of a line.
    #[must_use]
    pub fn keys<'a>(&'a self, binding: &'a Binding) -> &'a [Key] {
        let own = self.0.iter().find(|(action, _)| *action == binding.action);
        own.map_or(binding.keys, |(_, keys)| keys)
    }

    /// Whether the user gave this key to something.
    fn has(&self, key: Key) -> bool {
        self.0.iter().any(|(_, keys)| keys.contains(&key))
    }
}

/// One line of a table.
#[derive(Debug)]
pub struct Binding {
    /// Keys that mean it.
    pub keys: &'static [Key],
    /// What they do.
    pub action: Action,
    /// One word or two for the footer; empty: not in the footer.
    pub footer: &'static str,
    /// A phrase for the help.
    pub help: &'static str,
}

use Key::{Ctrl, Plain};

/// The key of a character.
pub(super) const fn char(c: char) -> Key {
    Plain(KeyCode::Char(c))
}

/// A line of a table.
pub(super) const fn bind(keys: &'static [Key], action: Action, footer: &'static str, help: &'static str) -> Binding {
    Binding { keys, action, footer, help }
}

/// Heading of the keys that hold everywhere.
pub(super) const EVERYWHERE: &str = "Keys everywhere";

/// They hold in every view, before the keys that open a view.
const FIRST: &[Binding] = &[
    bind(&[char('v')], Action::OpenWorst, "", "open the listener that the verdict is about"),
    bind(&[char('f'), char(']')], Action::NextFinding, "", "the next listener that has a finding"),
    bind(&[char('F'), char('[')], Action::PreviousFinding, "", "the listener before that has a finding"),
    bind(
        &[char('y')],
        Action::Copy,
        "",
        "copy the command that shows the cause, or else the finding, to the terminal's clipboard (OSC 52)",
    ),
    bind(
        &[char('w')],
        Action::Bundle,
        "",
        "write an evidence bundle: report, history and a still of the screen; the last line says where",
    ),
    bind(&[Plain(KeyCode::Left)], Action::Earlier, "", "a second back in time: everything is shown as it was then"),
    bind(&[Plain(KeyCode::Right)], Action::Later, "", "a second forward again"),
    bind(&[char('{')], Action::MinuteEarlier, "", "a minute back"),
    bind(&[char('}')], Action::MinuteLater, "", "a minute forward"),
    bind(&[char('(')], Action::PreviousEvent, "", "back to where something began or ended"),
    bind(&[char(')')], Action::NextEvent, "", "forward to where something begins or ends"),
    bind(&[char('0')], Action::Now, "", "back to now; of a recording, to its end"),
    bind(&[char('p')], Action::Pause, "pause", "freeze what is shown, or continue; measuring continues anyway"),
    bind(&[char('+'), char('=')], Action::Faster, "", "refresh more often"),
    bind(&[char('-')], Action::Slower, "", "refresh less often"),
    bind(&[char('U')], Action::MeasureMore, "", "measure more: the next level; what it brings begins then"),
    bind(&[char('D')], Action::MeasureLess, "", "measure less, for less cost: the level below"),
];

/// They hold in every view, after the keys that open a view.
const LAST: &[Binding] = &[
    bind(&[Ctrl('z')], Action::Suspend, "", "suspend; fg brings it back"),
    bind(&[char('q'), Ctrl('c')], Action::Quit, "quit", "quit"),
];

/// The keys of a text that scrolls.
pub(super) static TEXT: Scope = Scope {
    title: "Keys in help and coverage",
    others: Others::AsEverywhere,
    bindings: &[
        bind(&[Plain(KeyCode::Esc), Plain(KeyCode::Backspace)], Action::Back, "back", "back"),
        bind(&[Plain(KeyCode::Up), char('k')], Action::Up, "scroll", "one line up"),
        bind(&[Plain(KeyCode::Down), char('j')], Action::Down, "", "one line down"),
        bind(&[Plain(KeyCode::PageUp), Ctrl('b')], Action::PageUp, "", "one page up"),
        bind(&[Plain(KeyCode::PageDown), Ctrl('f'), char(' ')], Action::PageDown, "", "one page down"),
        bind(&[Plain(KeyCode::Home), char('g')], Action::First, "", "to the top"),
        bind(&[Plain(KeyCode::End), char('G')], Action::Last, "", "to the end"),
    ],
};

/// The keys on a screen that is too small for a view.
pub(super) static TOO_SMALL: Scope = Scope {
    title: "Keys while the terminal is too small",
    others: Others::Nothing,
    bindings: &[
        bind(&[char('q'), Ctrl('c')], Action::Quit, "", "quit, also if a filter was being typed"),
        bind(&[Ctrl('z')], Action::Suspend, "", "suspend; fg brings it back"),
    ],
};

/// The keys that hold everywhere; `openers` are those that open a view.
pub(super) fn everywhere(openers: impl Iterator<Item = &'static Binding>) -> impl Iterator<Item = &'static Binding> {
    FIRST.iter().chain(openers).chain(LAST)
}

/// What `event` means in `scope`. A key that the user gave to an action comes first, then a key of the scope itself,
/// then what the key means everywhere.
#[must_use]
pub fn action(
    event: KeyEvent,
    scope: &Scope,
    openers: impl Iterator<Item = &'static Binding>,
    remapped: &Remapped,
) -> Option<Action> {
    let key = match event.code {
        KeyCode::Char(c) if event.modifiers.contains(KeyModifiers::CONTROL) => Ctrl(c.to_ascii_lowercase()),
        _ if event.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SUPER) => return None,
        code => Plain(code),
    };
    if let (Others::Typed, Plain(KeyCode::Char(c))) = (scope.others, key) {
        return Some(Action::FilterInput(c));
    }
    let common = (scope.others == Others::AsEverywhere).then(|| everywhere(openers)).into_iter().flatten();
    let all: Vec<&Binding> = scope.bindings.iter().chain(common).collect();
    let given = |binding: &&&Binding| remapped.0.iter().any(|(a, keys)| *a == binding.action && keys.contains(&key));
    let means = |binding: &&&Binding| remapped.keys(binding).contains(&key);
    let first = if remapped.has(key) { all.iter().find(given) } else { None };
    first.or_else(|| all.iter().find(means)).map(|binding| binding.action)
}

/// How a key is written: in words where its sign cannot be.
#[must_use]
pub fn name(key: Key, charset: Charset) -> String {
    if charset == Charset::Ascii
        && let Some(word) = word(key)
    {
        return word.to_owned();
    }
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

/// The word for a key that has a sign.
const fn word(key: Key) -> Option<&'static str> {
    Some(match key {
        Plain(KeyCode::Up) => "Up",
        Plain(KeyCode::Down) => "Down",
        Plain(KeyCode::Left) => "Left",
        Plain(KeyCode::Right) => "Right",
        Plain(KeyCode::BackTab) => "S-Tab",
        Plain(KeyCode::Backspace) => "BkSp",
        _ => return None,
    })
}

/// What the footer shows in `scope`: key, word and what a click on them does, the most useful first.
pub(super) fn footer<'a>(
    scope: &'static Scope,
    openers: impl Iterator<Item = &'static Binding> + 'a,
    charset: Charset,
    remapped: &'a Remapped,
) -> impl Iterator<Item = (String, &'static str, Action)> + 'a {
    let common = (scope.others == Others::AsEverywhere).then(|| everywhere(openers)).into_iter().flatten();
    let shown = scope.bindings.iter().chain(common).filter(|binding| !binding.footer.is_empty());
    shown.filter_map(move |binding| {
        let key = remapped.keys(binding).first()?;
        Some((name(*key, charset), binding.footer, binding.action))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::views;

    static NONE: Remapped = Remapped(Vec::new());

    fn openers() -> impl Iterator<Item = &'static Binding> {
        views::ALL.iter().filter_map(|view| view.key.as_ref())
    }

    fn scopes() -> Vec<&'static Scope> {
        views::ALL.iter().flat_map(|view| view.scopes).copied().chain([&TOO_SMALL]).collect()
    }

    fn scope(title: &str) -> &'static Scope {
        scopes().into_iter().find(|scope| scope.title == title).expect("there is such a scope")
    }

    fn means(event: KeyEvent, scope: &Scope) -> Option<Action> {
        action(event, scope, openers(), &Remapped::default())
    }

    fn press(code: KeyCode, scope: &Scope) -> Option<Action> {
        means(KeyEvent::new(code, KeyModifiers::NONE), scope)
    }

    #[test]
    fn a_key_has_one_meaning_per_scope() {
        let tables = scopes().into_iter().map(|scope| scope.bindings.iter().collect());
        for table in tables.chain([everywhere(openers()).collect::<Vec<_>>()]) {
            let keys: Vec<Key> = table.iter().flat_map(|binding| binding.keys).copied().collect();
            for (i, key) in keys.iter().enumerate() {
                assert!(!keys[..i].contains(key), "{} is bound twice", name(*key, Charset::Unicode));
            }
        }
    }

    #[test]
    fn every_binding_is_reachable_and_explained() {
        let overview = scope("Keys in the overview");
        let own = scopes().into_iter().flat_map(|scope| scope.bindings.iter().map(move |binding| (binding, scope)));
        for (binding, scope) in own.chain(everywhere(openers()).map(|binding| (binding, overview))) {
            assert_ne!(binding.help, "");
            for key in binding.keys {
                let event = match *key {
                    Ctrl(c) => KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL),
                    Plain(code) => KeyEvent::new(code, KeyModifiers::NONE),
                };
                assert_eq!(means(event, scope), Some(binding.action), "{}", name(*key, Charset::Ascii));
            }
        }
    }

    #[test]
    fn typing_a_filter_takes_every_letter() {
        let (filter, overview) = (scope("Keys while typing a filter"), scope("Keys in the overview"));
        assert_eq!(press(KeyCode::Char('q'), filter), Some(Action::FilterInput('q')));
        assert_eq!(press(KeyCode::Char('q'), overview), Some(Action::Quit));
        assert_eq!(press(KeyCode::Esc, filter), Some(Action::FilterClear));
        assert_eq!(press(KeyCode::Tab, filter), None);
    }

    #[test]
    fn on_a_screen_that_is_too_small_only_leaving_works() {
        assert_eq!(press(KeyCode::Char('q'), &TOO_SMALL), Some(Action::Quit));
        for code in [KeyCode::Char('p'), KeyCode::Char('?'), KeyCode::Esc, KeyCode::Enter] {
            assert_eq!(press(code, &TOO_SMALL), None, "{code}");
        }
    }

    #[test]
    fn ctrl_and_alt() {
        let ctrl = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
        for scope in scopes() {
            assert_eq!(means(ctrl('c'), scope), Some(Action::Quit));
            assert_eq!(means(ctrl('C'), scope), Some(Action::Quit));
        }
        let overview = scope("Keys in the overview");
        assert_eq!(press(KeyCode::Char('c'), overview), Some(Action::Show("coverage")));
        for modifier in [KeyModifiers::ALT, KeyModifiers::SUPER] {
            assert_eq!(means(KeyEvent::new(KeyCode::Char('q'), modifier), overview), None);
        }
        let shifted = KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT);
        assert_eq!(means(shifted, overview), Some(Action::Last));
    }

    #[test]
    fn keys_of_the_user_replace_those_of_the_tables() {
        let overview = scope("Keys in the overview");
        let remapped = Remapped(vec![(Action::Quit, vec![char('p'), Ctrl('q')]), (Action::Pause, vec![char('z')])]);
        let means = |key| action(key, overview, openers(), &remapped);
        let plain = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE);
        assert_eq!([means(plain('p')), means(plain('z'))], [Some(Action::Quit), Some(Action::Pause)]);
        assert_eq!(means(plain('q')), None, "it has other keys now");
        assert_eq!(means(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::CONTROL)), Some(Action::Quit));
        let footer: Vec<_> = footer(overview, openers(), Charset::Unicode, &remapped).collect();
        assert_eq!(footer.last(), Some(&("p".to_owned(), "quit", Action::Quit)));
    }

    #[test]
    fn keys_have_names() {
        for (key, text) in [
            (Ctrl('c'), "^C"),
            (char(' '), "Space"),
            (char('?'), "?"),
            (Plain(KeyCode::Up), "↑"),
            (Plain(KeyCode::Down), "↓"),
            (Plain(KeyCode::Left), "←"),
            (Plain(KeyCode::Right), "→"),
            (Plain(KeyCode::PageUp), "PgUp"),
            (Plain(KeyCode::PageDown), "PgDn"),
            (Plain(KeyCode::BackTab), "⇧Tab"),
            (Plain(KeyCode::Backspace), "⌫"),
            (Plain(KeyCode::Enter), "Enter"),
            (Plain(KeyCode::F(1)), "F1"),
        ] {
            assert_eq!(name(key, Charset::Unicode), text);
            let ascii = name(key, Charset::Ascii);
            assert!(ascii.is_ascii() && (!text.is_ascii() || ascii == text), "{ascii}");
        }
    }

    #[test]
    fn the_footer_fits_the_smallest_screen() {
        for (scope, charset) in scopes().into_iter().flat_map(|s| [(s, Charset::Unicode), (s, Charset::Ascii)]) {
            let footer = footer(scope, openers(), charset, &NONE);
            let used: usize = footer.map(|(key, word, _)| key.chars().count() + word.len() + 3).sum();
            assert!(used < 80, "{}: {used} {charset:?}", scope.title);
        }
    }

    #[test]
    fn the_footer_ends_with_how_to_leave() {
        for scope in scopes() {
            let words: Vec<&str> = footer(scope, openers(), Charset::Unicode, &NONE).map(|(_, word, _)| word).collect();
            match scope.others {
                Others::AsEverywhere => {
                    let views = openers().map(|binding| binding.footer).filter(|word| !word.is_empty());
                    let common: Vec<&str> = ["pause"].into_iter().chain(views).chain(["quit"]).collect();
                    assert!(words.ends_with(&common), "{words:?}");
                }
                Others::Typed => assert_eq!(words, ["keep", "drop"]),
                Others::Nothing => assert!(words.is_empty() || words == ["take", "close"], "{words:?}"),
            }
        }
    }
}
