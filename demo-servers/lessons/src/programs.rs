//! The programs of the package `demo-protocols`, which is built only when a lesson needs it.

use crate::format::Program;

const PACKAGE: &str = "demo-protocols";

const fn server(mode: &'static str) -> Program {
    Program { package: PACKAGE, binary: "proto-server", options: mode, seeded: false }
}

const fn load(mode: &'static str) -> Program {
    Program { package: PACKAGE, binary: "proto-load", options: mode, seeded: true }
}

/// Answers requests in one protocol.
pub(crate) const ECHO: Program = server("echo");
/// Sends them.
pub(crate) const ECHO_LOAD: Program = load("echo");
/// Sends them from a host of its own, 20 ms away. The server must listen on more than loopback.
pub(crate) const FAR_ECHO_LOAD: Program =
    Program { package: PACKAGE, binary: "wire", options: "--delay-ms 20 proto-load echo", seeded: true };
/// Brings messages to subscribers.
pub(crate) const PUSH: Program = server("push");
/// Subscribes.
pub(crate) const PUSH_LOAD: Program = load("push");
/// Keeps sessions.
pub(crate) const SESSIONS: Program = server("sessions");
/// Users who come back.
pub(crate) const SESSIONS_LOAD: Program = load("sessions");
/// Stands in front of another server.
pub(crate) const PROXY: Program = server("proxy");
