//! Keys, clicks and answers of the terminal, in a pseudo-terminal.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use crate::session::{MODE, Session, started};

/// A directory for what a test writes.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("listentop-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The made samples, in this directory.
fn show_in(directory: &Directory, size: (u16, u16)) -> Session {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]).env(MODE, "show").current_dir(&directory.0);
    let mut session = Session::of(command, size, true);
    session.wait_for("quit");
    session
}

/// Separates what is sent from what comes next: ESC and a letter together are another key.
fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Has everything handled that was sent so far: the overview comes, then the help, and it goes again.
fn settle(session: &mut Session) {
    for key in ["\x1b", "1"] {
        session.send(key);
        pause(200);
        session.read(Duration::from_millis(1));
    }
    session.send("?");
    session.wait_for("How to read it");
    session.send("?");
    session.read(Duration::from_millis(50));
}

/// Every key in every view, and a click on every third cell: it goes on, and ends as it should.
#[test]
fn every_key_and_click_in_every_view() {
    let directory = Directory::new("keys");
    let mut session = show_in(&directory, (120, 40));
    let keys: Vec<String> = (0x21..0x7f)
        .map(|byte| char::from(byte).to_string())
        // What ends or stops it, what takes letters, and what opens other views, to which these belong.
        .filter(|key| !"q/?1234568chw".contains(key.as_str()))
        .chain(
            ["\r", "\t", " ", "\x7f", "\x1b[A", "\x1b[B", "\x1b[5~", "\x1b[6~", "\x1b[H", "\x1b[F"].map(str::to_owned),
        )
        .chain(["\x02", "\x06", "\x15", "\x1b[Z", "\x1b[C", "\x1b[D"].map(str::to_owned))
        .collect();
    for view in ["1", "2", "3", "4", "5", "6", "8", "c"] {
        for key in &keys {
            session.send(&format!("{view}{key}"));
            if matches!(key.as_str(), "s" | "o") {
                // A menu takes no other key.
                pause(50);
                session.send("\x1b");
                pause(50);
            }
            session.read(Duration::from_millis(1));
        }
        settle(&mut session);
        for y in (1..=40).step_by(3) {
            for x in (1..=120).step_by(3) {
                // Not on the words of the last line, one of which is quit.
                if y < 40 {
                    session.send(&format!("{view}\x1b[<0;{x};{y}M\x1b[<0;{x};{y}m"));
                }
            }
            session.read(Duration::from_millis(1));
        }
        session.send("\x1b[<64;9;9M\x1b[<65;9;9M");
        settle(&mut session);
    }
    session.send("q");
    session.assert_end(10);
}

#[test]
fn a_click_selects_and_opens() {
    let mut session = Session::start("show", (120, 40), true);
    session.wait_for("quit");
    // The eighth line is the first row.
    session.send("\x1b[<0;6;8M\x1b[<0;6;8m");
    session.wait_for("ACCEPTORS");
    // The first view in the first line.
    session.send("\x1b[<0;15;1M\x1b[<0;15;1m");
    // Only what differs is drawn, unless the size does; and a new size must not come before the click.
    pause(300);
    session.resize(90, 30);
    session.wait_for("PROCESS");
    session.send("q");
    session.assert_end(10);
}

#[test]
fn the_mouse_is_taken_and_given_back() {
    let mut session = started();
    assert!(session.output.contains("\x1b[?1000h\x1b[?1006h"));
    session.send("q");
    session.end();
    assert!(session.output.contains("\x1b[?1006l\x1b[?1000l"), "{}", session.output);
    let mut without = Session::program(&["--no-mouse"], (80, 24), None);
    without.wait_for("quit");
    assert!(!without.output.contains("\x1b[?1000h"));
    without.send("q");
    without.assert_end(0);
}

#[test]
fn frames_are_drawn_at_once_where_the_terminal_can() {
    let session = started();
    let begins = session.output.matches("\x1b[?2026h").count();
    assert!(begins > 0 && session.output.matches("\x1b[?2026l").count() >= begins - 1, "{:?}", session.output);
}

/// The terminal's answer is no key, also if it comes late, and a light background is believed.
#[test]
fn the_background_is_asked_for() {
    for (answer, light) in [("rgb:ffff/ffff/ffff", true), ("rgb:1e1e/1e1e/1e1e", false)] {
        let mut session = Session::start("ask", (80, 24), true);
        session.wait_for("quit");
        session.wait_for("\x1b]11;?\x1b\\");
        session.send(&format!("\x1b]11;{answer}\x1b\\"));
        session.read(Duration::from_millis(300));
        // `r` in the answer would reverse the order, `q` quits.
        session.send("?");
        session.wait_for("How to read it");
        // Titles are in another blue on a light background.
        assert_eq!(session.output.contains("\x1b[38;5;25"), light, "{answer}: {}", session.output);
        session.send("q");
        session.assert_end(10);
    }
}

#[test]
fn a_command_is_copied_and_a_bundle_is_written() {
    let directory = Directory::new("bundle");
    let mut session = show_in(&directory, (200, 60));
    session.send("y");
    session.wait_for("\x1b]52;c;");
    session.wait_for("copied: ");
    session.send("w");
    // The end of the message, which says where.
    session.wait_for("-bundle-");
    session.send("q");
    session.assert_end(10);
    let bundle = fs::read_dir(&directory.0).unwrap().next().expect("a bundle").unwrap().path();
    let mut names: Vec<String> =
        fs::read_dir(bundle).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.retain(|name| name != "screen.png");
    assert_eq!(names, ["history.json", "report.html", "report.json", "report.txt", "screen.svg", "screen.txt"]);
}

#[test]
fn the_configuration_changes_keys_columns_and_colours() {
    let directory = Directory::new("configuration");
    let file = directory.0.join("config.toml");
    let text = "theme = '16'\nmouse = false\n[columns]\nnever = ['process']\n[keys]\nquit = ['x']\n";
    fs::write(&file, text).unwrap();
    let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let arguments = ["--config", file.to_str().unwrap()];
    let mut session = Session::program(&arguments, (120, 40), None);
    session.wait_for("LISTENER");
    session.wait_for("quit");
    assert!(!session.output.contains("PROCESS") && !session.output.contains("\x1b[?1000h"));
    assert!(!session.output.contains("38;5;"), "sixteen colours are not from 256");
    // The old key has no meaning.
    session.send("q");
    session.read(Duration::from_millis(300));
    session.send("x");
    session.assert_end(0);
    fs::write(&file, "refesh = '1s'").unwrap();
    let mut wrong = Session::program(&arguments, (120, 40), None);
    let status = wrong.end();
    assert_eq!((status.code(), wrong.output.lines().count()), (Some(2), 1), "{}", wrong.output);
    assert!(wrong.output.contains("config.toml:1: unknown field `refesh`"), "{}", wrong.output);
}

/// The first frame with listeners comes soon, without probes.
#[test]
fn the_first_frame_comes_soon() {
    let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let begin = Instant::now();
    let mut session = Session::program(&[], (120, 40), None);
    session.wait_for("LISTENER");
    // A loaded machine may take longer than the 500 ms that the benchmarks bound.
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    session.send("q");
    session.assert_end(0);
}
