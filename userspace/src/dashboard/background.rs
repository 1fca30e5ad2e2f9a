//! Whether the terminal's background is light. The terminal is asked (OSC 11) and nobody waits for it: its answer comes
//! among the keys, if it comes, and is taken out of them here.

use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

/// The question.
pub(super) const QUESTION: &[u8] = b"\x1b]11;?\x1b\\";
/// How long an answer may take. Later, what looks like one is keys.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one may be: `11;rgba:ffff/ffff/ffff/ffff`.
const LONGEST: usize = 32;

/// An answer that is awaited.
#[derive(Debug)]
pub(super) struct Background {
    asked: Instant,
    /// What has come of it.
    answer: Option<String>,
    done: bool,
}

/// What an event was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// No part of the answer.
    Other,
    /// A part of the answer.
    Part,
    /// Its end; whether the background is light, if it said so.
    End(Option<bool>),
}

impl Background {
    /// Awaits an answer; with `asked`, the question was sent.
    pub(super) fn new(asked: bool) -> Self {
        Self { asked: Instant::now(), answer: None, done: !asked }
    }

    /// Looks at an event.
    pub(super) fn take(&mut self, event: &Event) -> Taken {
        let Event::Key(key) = event else { return Taken::Other };
        if self.done || self.asked.elapsed() > PATIENCE {
            return Taken::Other;
        }
        let Some(answer) = &mut self.answer else {
            // ESC ] is Alt with ].
            if *key == KeyEvent::new(KeyCode::Char(']'), KeyModifiers::ALT) {
                self.answer = Some(String::new());
                return Taken::Part;
            }
            return Taken::Other;
        };
        // ESC \ is Alt with \, BEL is Ctrl with g.
        match (key.code, key.modifiers) {
            (KeyCode::Char('\\'), KeyModifiers::ALT) | (KeyCode::Char('g'), KeyModifiers::CONTROL) => {
                self.done = true;
                return Taken::End(is_light(answer));
            }
            (KeyCode::Char(c), _) if answer.len() < LONGEST => answer.push(c),
            _ => {
                self.done = true;
                return Taken::End(None);
            }
        }
        Taken::Part
    }
}

/// Whether an answer names a light colour: `11;rgb:ffff/ffff/ffff`.
fn is_light(answer: &str) -> Option<bool> {
    let (_, colour) = answer.split_once("rgb")?;
    let mut parts = colour.trim_start_matches('a').strip_prefix(':')?.split('/').map(|hex| {
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

    fn answered(text: &str, end: &Event) -> Taken {
        let mut background = Background::new(true);
        assert_eq!(background.take(&key('q', KeyModifiers::NONE)), Taken::Other);
        assert_eq!(background.take(&key(']', KeyModifiers::ALT)), Taken::Part);
        for c in text.chars() {
            assert_eq!(background.take(&key(c, KeyModifiers::NONE)), Taken::Part);
        }
        let taken = background.take(end);
        assert_eq!(background.take(&key(']', KeyModifiers::ALT)), Taken::Other, "it comes once");
        taken
    }

    #[test]
    fn answers_are_taken_out_of_the_keys() {
        let (st, bel) = (key('\\', KeyModifiers::ALT), key('g', KeyModifiers::CONTROL));
        for (text, light) in [
            ("11;rgb:ffff/ffff/ffff", Some(true)),
            ("11;rgb:fd/f6/e3", Some(true)),
            ("11;rgba:0000/2b2b/3636/ffff", Some(false)),
            ("11;rgb:1e1e/1e1e/1e1e", Some(false)),
            ("11;rgb:1e1e/1e1e", None),
            ("11;rgb://", None),
            ("11;?", None),
            ("", None),
        ] {
            assert_eq!(answered(text, &st), Taken::End(light), "{text}");
            assert_eq!(answered(text, &bel), Taken::End(light), "{text}");
        }
    }

    #[test]
    fn keys_stay_keys() {
        let mut unasked = Background::new(false);
        assert_eq!(unasked.take(&key(']', KeyModifiers::ALT)), Taken::Other);
        // Someone who presses Alt with ] loses a few keys at most.
        let mut asked = Background::new(true);
        asked.take(&key(']', KeyModifiers::ALT));
        let lost = (0..100).filter(|_| asked.take(&key('j', KeyModifiers::NONE)) != Taken::Other).count();
        assert_eq!(lost, LONGEST + 1);
    }
}
