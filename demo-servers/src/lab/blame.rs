//! `listentop blame` beside a lesson: its start, and what it printed.

use super::ATTACH;
use super::crew::{Crew, Event, Kind};
use super::run::{ANSWER, Run, Stop};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

/// Its exit status where nobody can be blamed: the kernel or a right is missing.
const IMPOSSIBLE: i32 = 3;
/// How often it is looked whether it has ended.
const TICK: Duration = Duration::from_millis(20);

impl Run<'_> {
    /// Starts it for all listeners of the namespace, and waits until it measures, or has failed.
    ///
    /// # Errors
    /// It cannot be run, or does neither.
    pub(super) fn start_blame(&mut self) -> Result<(), Stop> {
        if self.options.headless {
            // Only listentop's own report is printed.
            return Ok(());
        }
        let mut command = Command::new(&self.programs.listentop);
        // It is ended by a signal.
        command.args(["blame", "--for", "1d", "--format", "json", "--netns", &self.namespace.inode.to_string()]);
        let number = self.crew.start(Kind::Blame, "listentop blame", command, None)?;
        let measures = |crew: &Crew, event: &Event| {
            crew.members[number].is_over()
                || matches!(event, Event::Err(of, line) if *of == number && line == "measuring")
        };
        self.tell();
        if self.wait(Instant::now() + ATTACH, &mut |crew, event| measures(crew, event))? {
            return Ok(());
        }
        Err(anyhow::anyhow!("listentop blame does not measure within {} s", ATTACH.as_secs()).into())
    }

    /// Ends it, if it runs, and keeps what it printed.
    ///
    /// # Errors
    /// It does not end.
    pub(super) fn end_blame(&mut self) -> Result<(), Stop> {
        let Some(number) = self.crew.members.iter().position(|member| member.kind == Kind::Blame) else {
            return Ok(());
        };
        self.crew.members[number].signal(Signal::SIGTERM);
        let deadline = Instant::now() + ANSWER;
        while !self.crew.members[number].is_over() {
            if Instant::now() >= deadline {
                return Err(anyhow::anyhow!("listentop blame does not end").into());
            }
            self.wait(Instant::now() + TICK, &mut |_, _| false)?;
        }
        // Its last lines wait as events.
        self.wait(Instant::now() + TICK, &mut |_, _| false)?;
        let member = &self.crew.members[number];
        let report = serde_json::from_str::<Value>(&member.out);
        self.blame = Some(report.map_err(|_| match member.status.and_then(|status| status.code()) {
            Some(IMPOSSIBLE) => format!("{}: blame is not known", member.errors.back().map_or("", String::as_str)),
            _ => format!("listentop blame failed: {}", member.describe_end()),
        }));
        Ok(())
    }
}
