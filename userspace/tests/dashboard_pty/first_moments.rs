//! No key is lost that is typed in the first moments: before the terminal is the dashboard's, before there is anything
//! to show, and while the terminal answers what its background is.

use std::time::Duration;

use crate::session::{ENTER_ALTERNATE, Session};

/// What the terminal is asked.
const QUESTION: &str = "\x1b]11;?\x1b\\";
/// What only the view has that Enter opens.
const OPENED: &str = "ACCEPTORS";

fn asked() -> Session {
    let mut session = Session::start("ask", (80, 24), true);
    session.wait_for(QUESTION);
    session
}

/// Sends these one after the other, so that each is likely read by itself, and soon enough on a busy machine.
fn send(session: &mut Session, parts: &[&str]) {
    for part in parts {
        session.send(part);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Enter was heard, nothing else was, and it goes on.
fn assert_opened(mut session: Session) {
    session.wait_for(OPENED);
    session.send("?");
    session.wait_for("How to read it");
    session.send("?");
    session.wait_for(OPENED);
    session.send("q");
    session.assert_end(10);
}

#[test]
fn enter_before_the_terminal_is_taken() {
    let mut session = Session::start("slow", (80, 24), true);
    // The terminal makes a line feed of it, as for a shell.
    session.send("\r");
    session.wait_for(ENTER_ALTERNATE);
    assert_opened(session);
}

#[test]
fn enter_before_there_is_anything_to_show() {
    let mut session = Session::start("late", (80, 24), true);
    session.wait_for(ENTER_ALTERNATE);
    session.send("\r");
    assert_opened(session);
}

#[test]
fn q_needs_nothing_to_show() {
    let mut session = Session::start("never", (80, 24), true);
    session.wait_for(ENTER_ALTERNATE);
    send(&mut session, &["\r", "j", "q"]);
    session.assert_end(10);
}

#[test]
fn enter_around_and_within_the_answer() {
    for parts in [
        // In one piece with it, before and behind.
        &["\r\x1b]11;rgb:ffff/ffff/ffff\x1b\\"][..],
        &["\x1b]11;rgb:ffff/ffff/ffff\x1b\\\r"],
        &["\r", "\x1b]11;rgb:1e1e/1e1e/1e1e\x07"],
        &["\x1b]11;rgb:1e1e/1e1e/1e1e\x07", "\r"],
        // In the middle of it.
        &["\x1b]11;rgb:ffff/\rffff/ffff\x1b\\"],
        &["\x1b]11;rgb:ffff/", "\r", "ffff/ffff\x1b\\"],
        // Where the network splits it.
        &["\x1b", "]11;rgb:ffff/ffff/ffff\x1b", "\\", "\r"],
        &["\x1b]", "11;rgb:ffff/ffff/ffff", "\x1b\\\r"],
        // The terminal answers nothing.
        &["\r"],
        &["\x1b]\r"],
    ] {
        let mut session = asked();
        send(&mut session, parts);
        assert_opened(session);
    }
}

/// Esc is held back for a moment only.
#[test]
fn esc_without_an_answer() {
    let mut session = asked();
    session.send("\r");
    session.wait_for(OPENED);
    session.send("\x1b");
    session.wait_for("LISTENER");
    session.send("q");
    session.assert_end(10);
}
