//! The dashboard on a terminal of a test's own.

use std::{
    fs,
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

/// More time than a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Size of a [`Screen`].
const COLUMNS: u16 = 120;
const ROWS: u16 = 24;

/// The dashboard on a terminal of its own. Dropping it ends the program.
///
/// Only what changes is drawn, cell by cell. So a text is looked for on the screen, not in the output.
pub(crate) struct Screen {
    child: Child,
    keyboard: fs::File,
    drawn: Receiver<Vec<u8>>,
    /// What came, and is no whole sequence or character yet.
    rest: Vec<u8>,
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Screen {
    pub(crate) fn of(mut command: Command) -> Self {
        let size = nix::pty::Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = nix::pty::openpty(Some(&size), None).expect("a pseudo-terminal");
        command.env("TERM", "xterm").stdin(terminal.slave.try_clone().expect("open"));
        command.stdout(Stdio::from(terminal.slave));
        let child = command.spawn().expect("it starts");
        // The command holds the terminal open too.
        drop(command);
        let keyboard = fs::File::from(terminal.master);
        let mut screen = keyboard.try_clone().expect("open");
        let (sender, drawn) = channel();
        // It ends with the program: then nobody has the other side.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = screen.read(&mut buffer) {
                if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let cells = vec![vec![' '; COLUMNS.into()]; ROWS.into()];
        Self { child, keyboard, drawn, rest: Vec::new(), cells, row: 0, column: 0 }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, key: u8) {
        self.keyboard.write_all(&[key]).expect("it reads");
    }

    /// Waits until one of these texts is on the screen, in one line, and returns which.
    pub(crate) fn until_one<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        let begin = Instant::now();
        loop {
            let lines: Vec<String> = self.cells.iter().map(|line| line.iter().collect()).collect();
            if let Some(found) = texts.iter().find(|text| lines.iter().any(|line| line.contains(**text))) {
                return found;
            }
            assert!(begin.elapsed() < PATIENCE, "none of {texts:?} on the screen:\n{}", lines.join("\n"));
            if let Ok(more) = self.drawn.recv_timeout(Duration::from_millis(50)) {
                self.draw(&more);
            }
        }
    }

    /// Draws what the program wrote: characters, and sequences that move or clear.
    fn draw(&mut self, output: &[u8]) {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(output);
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let length = match byte {
                b'\x1b' => sequence(&bytes[at..]),
                0..0x80 => Some(1),
                0xc0..0xe0 => Some(2),
                0xe0..0xf0 => Some(3),
                _ => Some(4),
            };
            let Some(next) = length.map(|length| at + length).filter(|next| *next <= bytes.len()) else { break };
            match byte {
                b'\x1b' => self.obey(&bytes[at..next]),
                0..0x20 => {}
                _ => self.put(std::str::from_utf8(&bytes[at..next]).ok().and_then(|text| text.chars().next())),
            }
            at = next;
        }
        self.rest = bytes.split_off(at);
    }

    fn put(&mut self, character: Option<char>) {
        if let Some(cell) = self.cells.get_mut(self.row).and_then(|line| line.get_mut(self.column)) {
            *cell = character.unwrap_or(' ');
        }
        self.column += 1;
    }

    /// `ESC [ ROW ; COLUMN H` moves, `ESC [ 2 J` clears. The others say how it looks.
    fn obey(&mut self, sequence: &[u8]) {
        let text = String::from_utf8_lossy(sequence);
        if let Some(place) = text.strip_prefix("\x1b[").and_then(|text| text.strip_suffix('H')) {
            let mut numbers = place.split(';').map(|number| number.parse::<usize>().unwrap_or(1) - 1);
            (self.row, self.column) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        } else if text == "\x1b[2J" {
            self.cells.iter_mut().for_each(|line| line.fill(' '));
        }
    }

    pub(crate) fn until(&mut self, text: &str) {
        self.until_one(&[text]);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It has ended already, or is ended here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long the sequence is that begins here; `None` if its end has not come yet.
fn sequence(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'[' => bytes[2..].iter().position(|byte| (0x40..0x7f).contains(byte)).map(|at| at + 3),
        _ => Some(2),
    }
}
