//! The menu of lessons.

use anyhow::Context;
use lessons::{Lesson, Part};
use nix::sys::signal::Signal;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{
    DisableMouseCapture, EnableMouseCapture, Event, KeyCode, KeyEventKind, KeyModifiers, MouseButton, MouseEventKind,
    poll, read,
};
use ratatui::crossterm::execute;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use std::time::Duration;

/// How often the menu looks for signals.
const TICK: Duration = Duration::from_millis(100);
/// Rows below the list: a rule, the question, the keys.
const BELOW: u16 = 6;
/// Columns from which on the lengths of the lessons are shown.
const WIDE: u16 = 100;
/// Lines that a turn of the wheel scrolls.
const WHEEL: usize = 3;

/// What became of the menu.
#[derive(Debug, Clone, Copy)]
pub(super) enum Chosen {
    /// This lesson.
    Lesson(&'static Lesson),
    /// Nothing: by key.
    Nothing,
    /// A signal came.
    Signal(Signal),
}

/// Shows the menu until something is chosen. `missing` says what a lesson needs that is not built; `signalled` is asked
/// for signals.
///
/// # Errors
/// The terminal cannot be used.
pub(super) fn choose(
    selected: Option<&Lesson>,
    missing: &dyn Fn(&Lesson) -> Option<String>,
    signalled: &mut dyn FnMut() -> Option<Signal>,
) -> anyhow::Result<Chosen> {
    let mut terminal = ratatui::try_init().context("the terminal cannot be used")?;
    let result = (|| {
        execute!(std::io::stdout(), EnableMouseCapture)?;
        let mut menu = Menu::new(selected);
        loop {
            terminal.draw(|frame| menu.draw(frame, missing))?;
            loop {
                if let Some(signal) = signalled() {
                    return Ok(Chosen::Signal(signal));
                }
                if poll(TICK)? {
                    break;
                }
            }
            match menu.handle(&read()?) {
                Choice::Stay => {}
                Choice::Leave => return Ok(Chosen::Nothing),
                Choice::Start(lesson) => match missing(lesson) {
                    None => return Ok(Chosen::Lesson(lesson)),
                    Some(needed) => menu.message = Some(needed),
                },
            }
        }
    })();
    // What fails here failed above, too.
    let _ = execute!(std::io::stdout(), DisableMouseCapture);
    ratatui::restore();
    result.map_err(|error: std::io::Error| anyhow::Error::new(error).context("the terminal cannot be used"))
}

/// What a key or click means.
#[derive(Debug)]
enum Choice {
    Stay,
    Leave,
    Start(&'static Lesson),
}

/// A row of the list.
#[derive(Debug, Clone, Copy)]
enum Row {
    Part(Part),
    Lesson(&'static Lesson),
}

/// The menu without its terminal.
#[derive(Debug)]
struct Menu {
    rows: Vec<Row>,
    /// Place of the selected lesson in `rows`.
    selected: usize,
    scroll: usize,
    /// Rows of the list on the last frame.
    height: usize,
    message: Option<String>,
}

impl Menu {
    fn new(selected: Option<&Lesson>) -> Self {
        let mut rows = Vec::new();
        for part in Part::ALL {
            let lessons = lessons::ALL.iter().filter(|lesson| lesson.part == part);
            let before = rows.len();
            rows.push(Row::Part(part));
            rows.extend(lessons.map(|lesson| Row::Lesson(lesson)));
            if rows.len() == before + 1 {
                rows.pop();
            }
        }
        let is_it =
            |row: &Row| matches!(row, Row::Lesson(lesson) if selected.is_some_and(|one| one.name == lesson.name));
        let selected = rows.iter().position(is_it).unwrap_or(1);
        Self { rows, selected, scroll: 0, height: 1, message: None }
    }

    fn lesson(&self) -> Option<&'static Lesson> {
        match self.rows.get(self.selected) {
            Some(Row::Lesson(lesson)) => Some(lesson),
            _ => None,
        }
    }

    /// Selects the lesson that is so many lessons away, or the last one in that direction.
    fn travel(&mut self, step: isize) {
        let lessons: Vec<usize> =
            self.rows.iter().enumerate().filter(|(_, row)| matches!(row, Row::Lesson(_))).map(|(at, _)| at).collect();
        let now = lessons.iter().position(|at| *at == self.selected).unwrap_or(0);
        let to = now.saturating_add_signed(step).min(lessons.len().saturating_sub(1));
        self.selected = lessons.get(to).copied().unwrap_or(self.selected);
    }

    fn start(&self) -> Choice {
        self.lesson().map_or(Choice::Stay, Choice::Start)
    }

    fn handle(&mut self, event: &Event) -> Choice {
        let page = self.height.saturating_sub(2).max(1) as isize;
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                self.message = None;
                match key.code {
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Choice::Leave,
                    KeyCode::Char('q') | KeyCode::Esc => return Choice::Leave,
                    KeyCode::Enter | KeyCode::Char(' ') => return self.start(),
                    KeyCode::Up | KeyCode::Char('k') => self.travel(-1),
                    KeyCode::Down | KeyCode::Char('j') => self.travel(1),
                    KeyCode::PageUp => self.travel(-page),
                    KeyCode::PageDown => self.travel(page),
                    KeyCode::Home | KeyCode::Char('g') => self.travel(isize::MIN),
                    KeyCode::End | KeyCode::Char('G') => self.travel(isize::MAX),
                    _ => {}
                }
            }
            Event::Mouse(mouse) => match mouse.kind {
                MouseEventKind::ScrollUp => self.travel(-(WHEEL as isize)),
                MouseEventKind::ScrollDown => self.travel(WHEEL as isize),
                MouseEventKind::Down(MouseButton::Left) => {
                    self.message = None;
                    let at = self.scroll + usize::from(mouse.row).saturating_sub(1);
                    let in_list = mouse.row >= 1 && usize::from(mouse.row) <= self.height;
                    if in_list && matches!(self.rows.get(at), Some(Row::Lesson(_))) {
                        if at == self.selected {
                            return self.start();
                        }
                        self.selected = at;
                    }
                }
                _ => {}
            },
            _ => {}
        }
        Choice::Stay
    }

    fn draw(&mut self, frame: &mut Frame<'_>, missing: &dyn Fn(&Lesson) -> Option<String>) {
        let area = frame.area();
        let buf = frame.buffer_mut();
        self.height = usize::from(area.height.saturating_sub(BELOW + 1)).max(1);
        // The heading of the first lesson is seen with it.
        let top = if self.selected <= 1 { 0 } else { self.selected };
        let least = (self.selected + 1).saturating_sub(self.height);
        // A list of one row shows the lesson, not the heading.
        self.scroll = self.scroll.clamp(least, top.max(least));
        let (bold, dim) = (Style::new().add_modifier(Modifier::BOLD), Style::new().add_modifier(Modifier::DIM));
        let title = format!(" The course: {} lessons on this machine's own kernel", lessons::ALL.len());
        put(buf, area, 0, 0, &title, bold);
        for (y, (at, row)) in (1..).zip(self.rows.iter().enumerate().skip(self.scroll).take(self.height)) {
            match row {
                Row::Part(part) => put(buf, area, 0, y, part.title(), bold),
                Row::Lesson(lesson) => {
                    let mark = if at == self.selected { '>' } else { ' ' };
                    let style = match (at == self.selected, missing(lesson)) {
                        (true, _) => Style::new().add_modifier(Modifier::REVERSED),
                        (false, Some(_)) => dim,
                        (false, None) => Style::new(),
                    };
                    // Of each part alone, as in the list: one long name must not push all titles off the screen.
                    let part = lessons::ALL.iter().filter(|other| other.part == lesson.part);
                    let width = part.map(|other| other.name.len()).max().unwrap_or(0);
                    put(buf, area, 0, y, &format!("{mark} {:<width$}  {}", lesson.name, lesson.title), style);
                    if area.width >= WIDE {
                        let seconds = format!("{:>4} s", lesson.length_ms(false) / 1000);
                        put(buf, area, area.width - 8, y, &seconds, dim);
                    }
                }
            }
        }
        self.draw_below(buf, area, (bold, dim));
    }

    /// The question of the selected lesson, and the keys.
    fn draw_below(&self, buf: &mut Buffer, area: Rect, (bold, dim): (Style, Style)) {
        let top = area.height.saturating_sub(BELOW);
        put(buf, area, 0, top, &"─".repeat(area.width.into()), dim);
        let room = usize::from(area.width).saturating_sub(2);
        let text = match (&self.message, self.lesson()) {
            (Some(message), _) => message.clone(),
            (None, Some(lesson)) => lesson.question.to_owned(),
            (None, None) => String::new(),
        };
        let style = if self.message.is_some() { bold } else { Style::new() };
        for (y, line) in (top + 1..area.height.saturating_sub(1)).zip(listentop_model::words::wrap(&text, room)) {
            put(buf, area, 1, y, &line, style);
        }
        let keys = "Enter start   ↑↓ select   PgUp PgDn page   q leave   (or click, click again)";
        put(buf, area, 0, area.height.saturating_sub(1), &format!(" {keys}"), dim);
    }
}

/// Writes what fits.
fn put(buf: &mut Buffer, area: Rect, x: u16, y: u16, text: &str, style: Style) {
    if x < area.width && y < area.height {
        buf.set_stringn(x, y, text, (area.width - x).into(), style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyEvent, MouseEvent};

    fn picture(menu: &mut Menu, columns: u16, rows: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        let missing = |lesson: &Lesson| (!lesson.extra_packages().is_empty()).then(|| "not built".to_owned());
        terminal.draw(|frame| menu.draw(frame, &missing)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..rows).map(row).collect::<Vec<_>>().join("\n")
    }

    fn press(menu: &mut Menu, code: KeyCode) -> Choice {
        menu.handle(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    fn click(menu: &mut Menu, row: u16) -> Choice {
        let kind = MouseEventKind::Down(MouseButton::Left);
        menu.handle(&Event::Mouse(MouseEvent { kind, column: 5, row, modifiers: KeyModifiers::NONE }))
    }

    #[test]
    fn every_lesson_can_be_reached_and_is_seen() {
        for (columns, rows) in [(80, 24), (120, 40)] {
            let mut menu = Menu::new(None);
            for lesson in lessons::ALL {
                let text = picture(&mut menu, columns, rows);
                assert_eq!(menu.lesson().map(|one| one.name), Some(lesson.name));
                let shown = text.lines().find(|line| line.starts_with("> ")).expect("one is selected");
                assert!(shown.contains(lesson.name) && shown.contains(lesson.title), "{text}");
                let question: Vec<&str> = lesson.question.split_whitespace().collect();
                let words: Vec<&str> = text.split_whitespace().collect();
                assert!(words.windows(question.len()).any(|window| window == question), "{text}");
                press(&mut menu, KeyCode::Down);
            }
            press(&mut menu, KeyCode::Home);
            assert!(picture(&mut menu, columns, rows).contains("Accepting"), "the first heading is seen again");
            press(&mut menu, KeyCode::End);
            assert_eq!(menu.lesson().map(|one| one.name), lessons::ALL.last().map(|one| one.name));
        }
    }

    #[test]
    fn keys_and_clicks_start_and_leave() {
        let mut menu = Menu::new(lessons::find("overflow").ok());
        picture(&mut menu, 80, 24);
        assert!(matches!(press(&mut menu, KeyCode::Enter), Choice::Start(lesson) if lesson.name == "overflow"));
        assert!(matches!(press(&mut menu, KeyCode::Char('q')), Choice::Leave));
        // Row 1 is the first heading, row 2 the first lesson.
        assert!(matches!(click(&mut menu, 1), Choice::Stay));
        assert!(matches!(click(&mut menu, 2), Choice::Stay));
        assert!(matches!(click(&mut menu, 2), Choice::Start(lesson) if lesson.name == lessons::ALL[0].name));
        assert!(matches!(click(&mut menu, 23), Choice::Stay), "the keys are no lesson");
        press(&mut menu, KeyCode::PageDown);
        press(&mut menu, KeyCode::PageUp);
        assert_eq!(menu.lesson().map(|one| one.name), Some(lessons::ALL[0].name));
    }

    #[test]
    fn no_size_makes_it_panic() {
        for (columns, rows) in [(1, 1), (5, 3), (20, 7), (80, 8), (80, 9), (300, 100)] {
            for lesson in lessons::ALL {
                picture(&mut Menu::new(Some(lesson)), columns, rows);
            }
        }
    }
}
