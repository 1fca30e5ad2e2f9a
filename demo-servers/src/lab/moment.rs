//! What is known at a moment of a running lesson: asked of the programs and of listentop, and read from the kernel.

use super::counters::of_process;
use super::crew::{Crew, Kind, LOAD, PATIENCE};
use super::outcome::{Total, totals};
use super::run::{ANSWER, Run, Stop};
use super::snapshot::Snapshot;
use crate::sys::say;
use anyhow::{Context, anyhow};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// How long a check waits for a server whose counters are behind the kernel's, before it asks again.
const BEHIND: Duration = Duration::from_millis(200);

/// The last report of a dashboard is of its last sample. That is not older than this: it samples four times a second,
/// later on a busy machine.
const SAMPLED: Duration = Duration::from_secs(2);

/// How long the last report may take after listentop's end: it was sent before, and is read by a thread of its own.
const LAST_REPORT: Duration = Duration::from_millis(500);

/// How long programs may take to print their counters when somebody has ended the lesson, and waits.
const LAST_ANSWER: Duration = Duration::from_secs(2);

impl Run<'_> {
    /// Keeps what /proc says of a process, for the time after its end.
    pub(super) fn remember(&mut self, number: usize) {
        let member = &self.crew.members[number];
        if member.status.is_none()
            && let Some(figures) = of_process(member.pid())
        {
            let name = member.name.strip_prefix(LOAD).unwrap_or(&member.name);
            // A server and its load may have the same name: then the server is meant.
            if member.kind == Kind::Server || !self.plan.servers.iter().any(|server| server.name == name) {
                self.now.processes.insert(name.to_owned(), figures);
            }
        }
    }

    /// All figures at this moment, from the programs' own counters before and after listentop's report. `None` if no
    /// listentop is connected.
    pub(super) fn take(&mut self) -> Result<Option<Snapshot>, Stop> {
        self.counters_printed(ANSWER)?;
        let before = self.gather().servers;
        let Some(number) = self.hub.ask_report() else {
            return if self.options.check {
                Err(anyhow!("listentop is not connected to the lab").into())
            } else {
                Ok(None)
            };
        };
        let came = |crew: &Crew| crew.report.as_ref().is_some_and(|(last, _)| *last >= number);
        let deadline = Instant::now() + ANSWER;
        while !came(self.crew) {
            if !self.wait(deadline, &mut |crew, _| came(crew))? {
                return Err(anyhow!("listentop does not send its report").into());
            }
        }
        self.counters_printed(ANSWER)?;
        let mut snapshot = self.gather();
        snapshot.servers_before = before;
        // A thread that lost its CPU between a call and its count is behind the kernel until it runs again.
        let deadline = Instant::now() + ANSWER;
        let lesson = self.plan.lesson;
        let agree = |snapshot: &Snapshot| totals(lesson, snapshot).iter().all(Total::ok);
        while self.options.check && !agree(&snapshot) && Instant::now() < deadline {
            self.wait(Instant::now() + BEHIND, &mut |_, _| false)?;
            self.counters_printed(ANSWER)?;
            snapshot.servers = self.gather().servers;
        }
        self.now = snapshot.clone();
        self.taken = snapshot.clone();
        Ok(Some(snapshot))
    }

    /// All figures after an end before the last step's: ends listentop, whose last report then lies between the
    /// programs' own counters from before its last sample and from now.
    pub(super) fn take_last(&mut self) {
        self.crew.end(Kind::Listentop, PATIENCE);
        let deadline = Instant::now() + LAST_REPORT;
        // It has the number 0.
        while self.crew.report.as_ref().is_some_and(|(number, _)| *number != 0) && Instant::now() < deadline {
            self.crew.next(Duration::from_millis(10));
        }
        self.kernel = self.sampler.counters().unwrap_or_default();
        // Those that do not answer have what they printed last.
        let _ = self.counters_printed(LAST_ANSWER);
        let mut printed = self.printed.iter().rev();
        let before = printed.find(|(when, _)| when.elapsed() >= SAMPLED).or(self.printed.front());
        let before = before.map(|(_, servers)| servers.clone()).unwrap_or_default();
        self.now = self.gather();
        self.now.servers_before = before;
    }

    /// Notes what the servers print when the measuring begins: no sample is older.
    ///
    /// # Errors
    /// One does not answer, or the run is over.
    pub(super) fn note_first(&mut self) -> Result<(), Stop> {
        self.counters_printed(ANSWER)?;
        self.now = self.gather();
        self.note_printed();
        Ok(())
    }

    /// Notes what the servers have printed, for [`Self::take_last`].
    pub(super) fn note_printed(&mut self) {
        self.printed.push_back((Instant::now(), self.now.servers.clone()));
        // One that is old enough is kept.
        while self.printed.get(1).is_some_and(|(when, _)| when.elapsed() >= SAMPLED) {
            self.printed.pop_front();
        }
    }

    /// Has all programs print their counters within this time.
    fn counters_printed(&mut self, patience: Duration) -> Result<(), Stop> {
        let mut asked = Vec::new();
        for (number, member) in self.crew.members.iter().enumerate() {
            if matches!(member.kind, Kind::Server | Kind::Load) && member.ask(Signal::SIGUSR1) {
                asked.push((number, member.printed));
            }
        }
        let printed = |crew: &Crew| {
            asked.iter().all(|&(number, before)| {
                let member = &crew.members[number];
                member.printed > before || member.status.is_some()
            })
        };
        let deadline = Instant::now() + patience;
        while !printed(self.crew) {
            if !self.wait(deadline, &mut |crew, _| printed(crew))? {
                return Err(anyhow!("a program does not print its counters").into());
            }
        }
        Ok(())
    }

    /// What was printed, sent and read last.
    pub(super) fn gather(&mut self) -> Snapshot {
        for number in 0..self.crew.members.len() {
            self.remember(number);
        }
        let mut snapshot = Snapshot {
            seconds: self.began.elapsed().as_secs_f64(),
            blame: self.blame.clone(),
            report: self.crew.report.as_ref().map(|(_, report)| report.clone()),
            processes: self.now.processes.clone(),
            kernel: self.kernel.clone(),
            queues: self.sampler.queues().unwrap_or_default(),
            late_us: self.sampler.late(),
            ..Snapshot::default()
        };
        for member in &self.crew.members {
            let printed = member.last_out.as_deref().and_then(|line| serde_json::from_str(line).ok());
            let Some(printed) = printed else { continue };
            match member.kind {
                Kind::Server => snapshot.servers.insert(member.name.clone(), printed),
                Kind::Load => {
                    let name = member.name.strip_prefix(LOAD).unwrap_or(&member.name);
                    snapshot.loads.insert(name.to_owned(), printed)
                }
                Kind::Listentop | Kind::Blame => None,
            };
        }
        snapshot
    }

    /// Warns of figures that could not be read.
    pub(super) fn warn(&self) {
        if let Err(why) = self.sampler.queues() {
            say(format_args!("lab: the accept queues could not be read: {why}"));
        }
        if let Err(error) = self.sampler.counters().context("the kernel's counters could not be read") {
            say(format_args!("lab: {error:#}"));
        }
    }
}
