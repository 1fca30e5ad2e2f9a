//! Whether the terminal's background is light. The terminal is asked (OSC 11) and nobody waits for it: its answer comes
//! among the keys, if it comes, and is taken out of them here. No key is lost by that: what turns out to be no part of
//! an answer is given back.

use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

/// The question.
pub(super) const QUESTION: &[u8] = b"\x1b]11;?\x1b\\";
/// How long an answer may take. Later, what looks like one is keys.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what may be the beginning of an answer is held back. The terminal sends it at once; a network may split it.
const HELD: Duration = Duration::from_millis(200);
/// What every answer begins with.
const BEGINNING: &str = "11;";
/// What answers name a colour with, and of how many parts.
const COLOURS: [(&str, usize); 2] = [("11;rgb:", 3), ("11;rgba:", 4)];
/// The most digits of a part.
const DIGITS: usize = 4;

/// An answer that is awaited.
#[derive(Debug)]
pub(super) struct Background {
    asked: Instant,
    at: At,
    /// Keys that may be the beginning of the answer, and when the first came.
    held: Vec<Event>,
    since: Instant,
    /// What has come of the answer.
    answer: String,
}

/// Where in the answer the next key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before it.
    Before,
    /// Behind an ESC that may be its first byte: a network may split it from the next one.
    Escape,
    /// In it.
    Within,
    /// Behind an ESC that may be the first byte of its end.
    EndEscape,
    /// Behind it, or none is awaited.
    Behind,
}

/// What an event was.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Events that are no part of the answer, in order: this one, and those that were held back before.
    pub(super) events: Vec<Event>,
    /// The answer has ended, and says whether the background is light.
    pub(super) light: Option<bool>,
}

impl Background {
    /// Awaits an answer; with `asked`, the question was sent.
    pub(super) fn new(asked: bool) -> Self {
        let now = Instant::now();
        let at = if asked { At::Before } else { At::Behind };
        Self { asked: now, at, held: Vec::new(), since: now, answer: String::new() }
    }

    /// When the keys that are held back are no answer, if nothing more comes; `None` if none are.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.held.is_empty()).then(|| self.since + HELD)
    }

    /// The keys that were held back are no answer.
    pub(super) fn release(&mut self) -> Vec<Event> {
        if self.at == At::EndEscape {
            self.at = At::Within;
        } else if self.at != At::Behind {
            self.at = At::Before;
            self.answer.clear();
        }
        std::mem::take(&mut self.held)
    }

    /// Looks at an event.
    pub(super) fn take(&mut self, event: Event) -> Taken {
        let mut taken = Taken::default();
        if self.asked.elapsed() > PATIENCE {
            taken.events = self.release();
            self.at = At::Behind;
        }
        match &event {
            Event::Key(key) if self.at != At::Behind => self.take_key(*key, &mut taken),
            _ => taken.events.push(event),
        }
        taken
    }

    fn take_key(&mut self, key: KeyEvent, taken: &mut Taken) {
        let plain = |c| key == KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE);
        let alt = |c| key == KeyEvent::new(KeyCode::Char(c), KeyModifiers::ALT);
        let escape = key == KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE);
        match self.at {
            // ESC ] is Alt with ].
            At::Before if alt(']') => self.hold(key, At::Within),
            At::Before if escape => self.hold(key, At::Escape),
            At::Before | At::Behind => taken.events.push(Event::Key(key)),
            At::Escape if plain(']') => self.hold(key, At::Within),
            At::EndEscape if plain('\\') => self.end(key, taken),
            At::Escape | At::EndEscape => {
                taken.events.extend(self.release());
                self.take_key(key, taken);
            }
            // ESC \ is Alt with \, BEL is Ctrl with g.
            At::Within if alt('\\') || key == KeyEvent::new(KeyCode::Char('g'), KeyModifiers::CONTROL) => {
                self.end(key, taken);
            }
            At::Within if escape && self.has_begun() => self.hold(key, At::EndEscape),
            At::Within => self.go_on(key, taken),
        }
    }

    /// It has begun for certain: nobody types that.
    fn has_begun(&self) -> bool {
        self.answer.starts_with(BEGINNING)
    }

    fn hold(&mut self, key: KeyEvent, at: At) {
        if self.held.is_empty() {
            self.since = Instant::now();
        }
        self.held.push(Event::Key(key));
        self.at = at;
    }

    /// A key within the answer: its next character, or one that was typed meanwhile.
    fn go_on(&mut self, key: KeyEvent, taken: &mut Taken) {
        if let (KeyCode::Char(c), KeyModifiers::NONE | KeyModifiers::SHIFT) = (key.code, key.modifiers) {
            self.answer.push(c);
            if is_beginning(&self.answer) {
                if self.has_begun() {
                    self.held.clear();
                } else {
                    self.held.push(Event::Key(key));
                }
                return;
            }
            self.answer.pop();
        }
        if !self.has_begun() {
            taken.events.extend(self.release());
        }
        taken.events.push(Event::Key(key));
    }

    fn end(&mut self, key: KeyEvent, taken: &mut Taken) {
        if self.has_begun() {
            taken.light = is_light(&self.answer);
            self.held.clear();
            self.at = At::Behind;
        } else {
            taken.events.extend(self.release());
            taken.events.push(Event::Key(key));
        }
    }
}

/// Whether an answer may begin so.
fn is_beginning(text: &str) -> bool {
    COLOURS.iter().any(|(name, parts)| match text.strip_prefix(name) {
        None => name.starts_with(text),
        Some(colour) => {
            let is_part = |part: &str| part.len() <= DIGITS && part.chars().all(|c| c.is_ascii_hexdigit());
            !colour.starts_with('/')
                && !colour.contains("//")
                && colour.split('/').count() <= *parts
                && colour.split('/').all(is_part)
        }
    })
}

/// Whether an answer names a light colour: `11;rgb:ffff/ffff/ffff`.
fn is_light(answer: &str) -> Option<bool> {
    let colour = COLOURS.iter().find_map(|(name, _)| answer.strip_prefix(name))?;
    let mut parts = colour.split('/').map(|hex| {
        let most = 16_u32.checked_pow(hex.len() as u32)?.checked_sub(1).filter(|most| *most > 0)?;
        Some(f64::from(u32::from_str_radix(hex, 16).ok()?) / f64::from(most))
    });
    let mut next = || parts.next().flatten();
    let (red, green, blue) = (next()?, next()?, next()?);
    Some(0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(c: char, modifiers: KeyModifiers) -> Event {
        Event::Key(KeyEvent::new(KeyCode::Char(c), modifiers))
    }

    fn code(code: KeyCode) -> Event {
        Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn plain(text: &str) -> Vec<Event> {
        text.chars().map(|c| key(c, KeyModifiers::NONE)).collect()
    }

    /// What is left of these events, and what the answer among them said.
    fn left(events: impl IntoIterator<Item = Event>) -> (Vec<Event>, Option<bool>) {
        let mut background = Background::new(true);
        let (mut left, mut light) = (Vec::new(), None);
        for event in events {
            let taken = background.take(event);
            left.extend(taken.events);
            light = light.or(taken.light);
        }
        left.extend(background.release());
        (left, light)
    }

    const WHITE: &str = "11;rgb:ffff/ffff/ffff";

    fn starts() -> [Vec<Event>; 2] {
        [vec![key(']', KeyModifiers::ALT)], [vec![code(KeyCode::Esc)], plain("]")].concat()]
    }

    fn ends() -> [Vec<Event>; 3] {
        [
            vec![key('\\', KeyModifiers::ALT)],
            vec![key('g', KeyModifiers::CONTROL)],
            [vec![code(KeyCode::Esc)], plain("\\")].concat(),
        ]
    }

    #[test]
    fn answers_are_taken_out_of_the_keys() {
        for (text, light) in [
            (WHITE, Some(true)),
            ("11;rgb:fd/f6/e3", Some(true)),
            ("11;rgba:0000/2b2b/3636/ffff", Some(false)),
            ("11;rgb:1e1e/1e1e/1e1e", Some(false)),
            ("11;rgb:1e1e/1e1e", None),
            ("11;", None),
        ] {
            for start in starts() {
                for end in ends() {
                    let answer = [start.clone(), plain(text), end].concat();
                    assert_eq!(left(answer.clone()), (Vec::new(), light), "{text}");
                    // It comes once.
                    let behind = [answer, plain("q"), vec![key(']', KeyModifiers::ALT), code(KeyCode::Esc)]].concat();
                    assert_eq!(left(behind).0.len(), 3, "{text}");
                }
            }
        }
    }

    /// Wherever in the answer a key is typed that is none of it, it is left, and the answer is understood.
    #[test]
    fn keys_before_in_and_behind_an_answer_stay() {
        let typed =
            [code(KeyCode::Enter), code(KeyCode::Down), key('j', KeyModifiers::NONE), key('?', KeyModifiers::NONE)];
        let answer = [vec![key(']', KeyModifiers::ALT)], plain(WHITE), vec![key('\\', KeyModifiers::ALT)]].concat();
        let certain = 1 + BEGINNING.len();
        for pressed in typed {
            for at in (0..=answer.len()).filter(|at| *at == 0 || *at >= certain) {
                let mut events = answer.clone();
                events.insert(at, pressed.clone());
                assert_eq!(left(events), (vec![pressed.clone()], Some(true)), "{pressed:?} at {at}");
            }
        }
    }

    /// Without an answer every key stays, whatever it resembles.
    #[test]
    fn without_an_answer_no_key_is_lost() {
        for events in [
            plain("]11;rgb"),
            vec![code(KeyCode::Esc)],
            vec![code(KeyCode::Esc), code(KeyCode::Esc), key(']', KeyModifiers::ALT)],
            [vec![code(KeyCode::Esc)], plain("]q")].concat(),
            [vec![key(']', KeyModifiers::ALT)], plain("1")].concat(),
            [vec![key(']', KeyModifiers::ALT)], plain("11x")].concat(),
            [vec![key(']', KeyModifiers::ALT)], vec![code(KeyCode::Enter), key('g', KeyModifiers::CONTROL)]].concat(),
            [vec![key(']', KeyModifiers::ALT)], vec![key('\\', KeyModifiers::ALT)]].concat(),
        ] {
            assert_eq!(left(events.clone()), (events, None));
        }
        let mut unasked = Background::new(false);
        assert_eq!(unasked.take(key(']', KeyModifiers::ALT)).events.len(), 1);
    }

    #[test]
    fn what_is_held_back_has_a_deadline() {
        let mut background = Background::new(true);
        assert_eq!(background.deadline(), None);
        assert_eq!(background.take(code(KeyCode::Esc)), Taken::default());
        assert!(background.deadline().is_some_and(|at| at <= Instant::now() + HELD));
        assert_eq!(background.release(), [code(KeyCode::Esc)]);
        assert_eq!(background.deadline(), None);
        // Then it is awaited still.
        let taken: Vec<Taken> =
            [vec![key(']', KeyModifiers::ALT)], plain(WHITE), vec![key('g', KeyModifiers::CONTROL)]]
                .concat()
                .into_iter()
                .map(|event| background.take(event))
                .collect();
        assert_eq!(taken.last().and_then(|taken| taken.light), Some(true));
    }
}
