//! Help on a standard output that cannot be written.

use std::fs::File;
use std::process::{Command, Stdio};

#[test]
fn help_that_cannot_be_written_is_an_error() {
    for (name, program) in [
        ("demo-server", env!("CARGO_BIN_EXE_demo-server")),
        ("stress", env!("CARGO_BIN_EXE_stress")),
        ("storm", env!("CARGO_BIN_EXE_storm")),
        ("flood", env!("CARGO_BIN_EXE_flood")),
        ("wire", env!("CARGO_BIN_EXE_wire")),
        ("real-server", env!("CARGO_BIN_EXE_real-server")),
        ("lab", env!("CARGO_BIN_EXE_lab")),
    ] {
        let full = File::create("/dev/full").expect("every Linux has it");
        let output = Command::new(program).arg("--help").stdout(full).stderr(Stdio::piped()).output();
        let output = output.expect("it starts");
        let line = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{line}");
        assert!(line.starts_with(&format!("{name}: standard output cannot be written: No space left")), "{line}");
    }
}
