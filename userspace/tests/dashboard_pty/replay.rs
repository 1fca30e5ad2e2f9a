//! `listentop replay`, in a pseudo-terminal.

use crate::session::Session;

/// Four seconds of a listener that refuses clients.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/overflow_format_1.rec");

#[test]
fn a_recording_is_played_and_travelled() {
    let mut session = Session::program(&["replay", RECORDING, "--at", "+4s"], (120, 40), None);
    session.wait_for("PAUSED");
    session.wait_for("refuses clients");
    // Back to where it was well, and on to where it began.
    session.send("{");
    session.wait_for("no findings");
    session.output.clear();
    session.send(")");
    session.wait_for("critical");
    session.send("{");
    session.wait_for("no findings");
    session.output.clear();
    session.send("p");
    session.wait_for("replay");
    session.wait_for("critical");
    session.send("q");
    session.assert_end(0);
}

/// Events that come later than what was played are listed at once, and Enter goes there.
#[test]
fn the_events_of_the_whole_recording_are_there() {
    let mut session = Session::program(&["replay", RECORDING, "--at", "+0s"], (120, 40), None);
    session.wait_for("PAUSED");
    session.send("4");
    session.wait_for("in the recording, the newest first");
    session.wait_for("◀ shown");
    session.wait_for("accept queue overflow began, critical");
    session.output.clear();
    session.send("g\r");
    session.wait_for("refuses clients");
    session.send("q");
    session.assert_end(0);
}

#[test]
fn what_is_no_recording_leaves_the_terminal_alone() {
    for (file, at, says) in [
        (concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "+0", "this is not a recording of listentop"),
        (RECORDING, "2001-01-01T00:00Z", "the recording does not have this time"),
    ] {
        let mut session = Session::program(&["replay", file, "--at", at], (80, 24), None);
        session.wait_for(says);
        assert!(!session.output.contains(crate::session::ENTER_ALTERNATE), "{}", session.output);
        let status = session.end();
        assert!(!status.success());
    }
}
