//! The dashboard in a pseudo-terminal: keys, resizing, every way to end it, and the terminal's modes afterwards.

mod first_moments;
mod keys;
mod replay;
mod session;

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use listentop::dashboard::{DashboardOptions, Ended, run};
use listentop_model::{fixtures, tracker::Tracker};
use nix::sys::{signal::Signal, termios::tcgetattr};
use tokio::sync::{mpsc, watch};

use self::session::{ENTER_ALTERNATE, LEAVE_ALTERNATE, MODE, PATIENCE, SHOW_CURSOR, Session, started};

/// The program in the terminal: this test binary again, in the role of listentop's main.
#[test]
#[ignore = "it is what the other tests run in their pseudo-terminals"]
fn child() {
    let Ok(mode) = std::env::var(MODE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let samples = fixtures::overflow();
        let mut tracker = Tracker::new(&samples[0]);
        for sample in &samples[1..] {
            tracker.push(sample);
        }
        let model = Some(Arc::new(tracker.model().clone()));
        let has_none = matches!(mode.as_str(), "late" | "never");
        let (models, receiver) = watch::channel(if has_none { None } else { model.clone() });
        let (controls, _controlled) = mpsc::unbounded_channel();
        match mode.as_str() {
            "panic" => {
                std::thread::spawn(|| {
                    std::thread::sleep(Duration::from_secs(1));
                    panic!("a panic elsewhere");
                });
                tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(Duration::from_millis(250)).await;
                        models.send_modify(|_| ());
                    }
                });
            }
            "source ends" => {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    drop(models);
                });
            }
            "late" => {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(700)).await;
                    models.send_replace(model);
                    std::future::pending::<()>().await;
                });
            }
            "slow" => {
                // As long as probes take.
                std::thread::sleep(Duration::from_millis(700));
                std::mem::forget(models);
            }
            _ => std::mem::forget(models),
        }
        let options = DashboardOptions { ask_background: mode == "ask", ..DashboardOptions::default() };
        run(receiver, controls, options).await
    });
    let code = match ended {
        Ok(Ended::Quit) => 10,
        Ok(Ended::Signal(signal)) => 100 + signal,
        Ok(Ended::TerminalLost) => 11,
        Ok(Ended::SourceEnded) => 12,
        Err(error) => {
            eprintln!("{error:#}");
            13
        }
    };
    std::process::exit(code);
}

#[test]
fn keys_open_screens_and_quit() {
    let mut session = started();
    session.send("\r");
    session.wait_for("ACCEPTORS");
    session.send("?");
    session.wait_for("How to read it");
    session.send("\x1b");
    session.wait_for("ACCEPTORS");
    session.send("q");
    session.assert_end(10);
}

#[test]
fn ctrl_c_quits_also_while_a_filter_is_typed() {
    let mut session = started();
    session.send("/qq");
    session.wait_for("No listener passes the filter");
    session.send("\x03");
    session.assert_end(10);
}

/// All that would end a process.
const ENDING: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];

#[test]
fn signals_end_it() {
    for signal in ENDING {
        let mut session = started();
        session.signal(signal);
        session.assert_end(100 + signal as i32);
    }
}

/// Draws more than the kernel holds for a terminal that nobody reads.
fn stall(session: &mut Session) {
    for key in std::iter::repeat_n("?", 60) {
        session.send(key);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A terminal that takes nothing any more, as that of an ssh whose connection stalls: signals end the dashboard all the
/// same, and what the terminal takes later restores it.
#[test]
fn signals_end_it_on_a_terminal_that_takes_nothing() {
    for signal in ENDING {
        let mut session = started();
        stall(&mut session);
        session.signal(signal);
        let start = Instant::now();
        let status = loop {
            if let Some(status) = session.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "it is deaf to {signal}");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(100 + signal as i32));
        assert_eq!(tcgetattr(&session.slave).unwrap(), session.before, "the terminal's modes are not as before");
        session.wait_for(LEAVE_ALTERNATE);
        let leave = session.output.rfind(LEAVE_ALTERNATE).unwrap();
        session.wait_for(SHOW_CURSOR);
        assert!(!session.output[leave..].contains("coverage"), "it draws after giving the screen back");
    }
}

/// When it takes something again, it shows what is, not all that was.
#[test]
fn a_terminal_that_stalled_shows_the_present() {
    let mut session = started();
    stall(&mut session);
    // The help is closed again.
    session.send("/qq");
    session.wait_for("No listener passes the filter");
    // It is not far behind: no frame was drawn while another waited.
    assert!(session.output.matches("How to read it").count() < 20, "old frames were kept");
    session.send("\x03");
    session.assert_end(10);
}

/// Every view in the C locale, and the same on Linux's console, whatever the locale.
#[test]
fn only_ascii_where_nothing_else_can_be_shown() {
    let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (term, locale, ascii) in
        [("xterm", "C", true), ("xterm", "POSIX", true), ("linux", "C.UTF-8", true), ("xterm", "C.UTF-8", false)]
    {
        let mut session = Session::on_terminal(term, locale);
        session.wait_for("quit");
        let mut drawn = std::mem::take(&mut session.output);
        for (key, view) in [("\r", "ACCEPTORS"), ("?", "How to read it"), ("c", "STATUS"), ("c", "ACCEPTORS")] {
            session.send(key);
            session.wait_for(view);
            drawn.push_str(&session.output);
        }
        let foreign: Vec<char> = drawn.chars().filter(|c| !c.is_ascii()).collect();
        assert_eq!(foreign.is_empty(), ascii, "{term} {locale}: {foreign:?}");
        // Colours by number are for terminals that have 256.
        assert!(!drawn.contains("38;5;") && !drawn.contains("48;5;"), "{term}");
        assert!(colours(&drawn) > 0, "{term}");
        session.send("q");
        session.assert_end(0);
    }
}

#[test]
fn a_terminal_that_cannot_place_its_cursor_is_refused_in_one_line() {
    let mut session = Session::on_terminal("dumb", "C.UTF-8");
    let status = session.end();
    assert!(session.output.starts_with("listentop: this terminal cannot place its cursor (TERM=dumb)"));
    assert_eq!((status.code(), session.output.lines().count()), (Some(1), 1), "{}", session.output);
    assert_eq!(tcgetattr(&session.slave).unwrap(), session.before, "the terminal was touched");
}

#[test]
fn resizing_draws_anew_and_too_small_says_so() {
    let mut session = started();
    session.resize(120, 40);
    session.wait_for("unavailable");
    session.resize(60, 10);
    session.wait_for("needs");
    session.resize(80, 24);
    session.wait_for("coverage");
    session.send("q");
    session.assert_end(10);
}

#[test]
fn q_ends_it_on_a_screen_that_is_too_small_also_while_a_filter_is_typed() {
    let mut session = started();
    session.send("/nothing");
    session.wait_for("No listener passes the filter");
    session.resize(60, 10);
    session.wait_for("needs");
    session.send("xq");
    session.assert_end(10);
}

#[test]
fn a_screen_that_is_too_small_at_the_start_is_refused_in_one_line() {
    for size in [(60, 10), (79, 24), (80, 23)] {
        let mut session = Session::program(&[], size, None);
        let status = session.end();
        let (columns, rows) = size;
        let line = format!("listentop: this terminal is {columns}x{rows}, and the dashboard needs at least 80x24");
        assert!(session.output.starts_with(&line) && session.output.contains("listentop report"), "{}", session.output);
        assert_eq!((status.code(), session.output.lines().count()), (Some(1), 1), "{}", session.output);
        assert_eq!(tcgetattr(&session.slave).unwrap(), session.before, "the terminal was touched");
    }
}

/// Sequences that set a colour, other than the terminal's own (39 and 49).
fn colours(output: &str) -> usize {
    let sequences = output.split("\x1b[").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';')?;
        rest[end..].starts_with('m').then(|| &rest[..end])
    });
    let sets =
        |code: &str| code.parse::<u32>().is_ok_and(|code| matches!(code, 30..=38 | 40..=48 | 90..=97 | 100..=107));
    sequences.filter(|sequence| sequence.split(';').any(sets)).count()
}

/// <https://no-color.org>: set and not empty.
#[test]
fn no_color_is_heeded() {
    for (no_color, coloured) in [(None, true), (Some(""), true), (Some("1"), false), (Some("0"), false)] {
        let mut session = Session::program(&[], (80, 24), no_color);
        session.wait_for("quit");
        let drawn = std::mem::take(&mut session.output);
        assert_eq!(colours(&drawn) > 0, coloured, "NO_COLOR {no_color:?}: {} colours", colours(&drawn));
        // Weight is no colour, and stays.
        assert!(drawn.contains("\x1b[1m"), "nothing is bold");
        session.send("q");
        session.assert_end(0);
    }
}

/// The keys reach the thread that samples: at its first pace no second sample would come within a minute.
#[test]
fn another_refresh_makes_the_source_sample_at_that_pace() {
    let mut session = Session::program(&["--refresh", "60s"], (80, 24), None);
    session.wait_for("60s");
    session.wait_for("00:00:00");
    // 60 s → 10 s → … → 250 ms.
    session.send("++++++");
    let start = Instant::now();
    let mut columns = 80;
    let later = |output: &str| output.contains("250ms") && (2..9).any(|s| output.contains(&format!("00:00:0{s}")));
    while !later(&session.output) {
        assert!(start.elapsed() < PATIENCE, "no newer sample:\n{}", session.output);
        std::thread::sleep(Duration::from_millis(400));
        // Another width, so that all of the screen is drawn and not what changed of the clock.
        columns += 1;
        session.resize(columns, 24);
        session.read(Duration::from_millis(100));
    }
    session.send("q");
    session.assert_end(0);
}

/// No shell could continue it here, so that it must not stay stopped.
#[test]
fn ctrl_z_without_a_shell_continues() {
    let mut session = started();
    session.send("\x1a");
    session.wait_for(LEAVE_ALTERNATE);
    session.wait_for(ENTER_ALTERNATE);
    session.wait_for("quit");
    session.send("q");
    session.assert_end(10);
}

#[test]
fn it_continues_after_a_stop_from_outside() {
    let mut session = started();
    session.signal(Signal::SIGSTOP);
    session.signal(Signal::SIGCONT);
    session.wait_for("quit");
    session.send("q");
    session.assert_end(10);
}

#[test]
fn a_panic_elsewhere_gives_the_terminal_back_before_its_message() {
    let mut session = Session::start("panic", (80, 24), true);
    session.wait_for("a panic elsewhere");
    let leave = session.output.rfind(LEAVE_ALTERNATE).expect("it leaves the alternate screen");
    assert!(leave < session.output.find("a panic elsewhere").unwrap());
    session.assert_end(13);
}

#[test]
fn the_end_of_the_source_ends_it() {
    Session::start("source ends", (80, 24), true).assert_end(12);
}

/// Without a controlling terminal no SIGHUP reports the loss.
#[test]
fn a_lost_terminal_ends_it() {
    for controlling in [true, false] {
        let mut session = Session::start("show", (80, 24), controlling);
        session.wait_for("quit");
        session.master = None;
        let code = session.end().code();
        assert!(code == Some(11) || (controlling && code == Some(100 + libc::SIGHUP)), "{code:?}");
    }
}

#[test]
fn without_a_terminal_it_refuses_in_one_line() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]).env(MODE, "show");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(13));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "standard output is not a terminal; use 'listentop report'\n");
}
