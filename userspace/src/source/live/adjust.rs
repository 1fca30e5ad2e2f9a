//! Changing how much is measured while the source runs.
//!
//! What a level counts below the highest is counted all the time, and a change leaves it alone. What comes back begins
//! anew: connections that there are by then count as open, as those at a start do. So it goes in this order:
//!
//! 1. records of connections are brought up to date, while nothing else writes what was not measured
//! 2. the hooks are attached, and the settings follow
//! 3. what happened in between is caught up with, socket by socket
//! 4. coverage says since when each measure holds, and the next sample is the baseline of what came back

use std::{cmp::Ordering, collections::HashMap, io, path::PathBuf};

use caps::Capability;
use listentop_model::{
    coverage::Measure,
    sample::{LEVEL_MARK, MarkSample},
};

use super::{
    Level, LiveSource,
    attach::{
        coverage,
        events::Target,
        links::{self, Links},
        programs::LoadedPrograms,
        refusal::Refusal,
    },
    error::StartError,
    start::{self, loader::visitor, maps, takeover::visit},
    visitor::{Visitor, Visitors},
};
use crate::{
    rights,
    source::{coverage::in_words, machine, namespaces},
};

/// How much is measured, and how that may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// How much now.
    pub level: Level,
    /// What the source is called at this level.
    pub name: &'static str,
    /// The levels that cannot be had, and why: what would help is part of it.
    pub refused: Vec<(Level, String)>,
}

impl Levels {
    /// Why a level cannot be had; `None` if it can.
    #[must_use]
    pub fn refusal(&self, level: Level) -> Option<&str> {
        self.refused.iter().find(|(refused, _)| *refused == level).map(|(_, why)| why.as_str())
    }
}

/// The iterators that bring records up to date.
pub(super) struct Resume {
    sets: Visitor,
    spilled: Visitor,
    sockets: Visitor,
}

impl Resume {
    /// Loads them, at the start: the right to do so is gone later.
    pub(super) fn load(ebpf: &mut aya::Ebpf, visitors: Visitors<'_>) -> Result<Self, StartError> {
        let mut over = |map: &str, program| {
            let map = maps::descriptor(ebpf, map)?.try_clone_to_owned();
            let map = map.map_err(|error| StartError::Io("a map cannot be opened", error))?;
            visitor(ebpf, program, visitors, Some(&map))
        };
        let (sets, spilled) = (over("CONNECTIONS", "resume")?, over("SPILLED", "resume_spilled")?);
        Ok(Self { sets, spilled, sockets: visitor(ebpf, "catch_up", visitors, None)? })
    }
}

/// What it takes to change the level.
pub(super) struct Adjusting {
    level: Level,
    links: Links,
    /// Or why records cannot be brought up to date, so that nothing can be raised.
    resume: Result<Resume, String>,
    /// Programs may count on being alone.
    exclusive: bool,
    /// When each measure came or went; those that are missing are as at the start.
    since: HashMap<Measure, u64>,
    /// The changes that no sample has yet.
    marks: Vec<MarkSample>,
    /// What was found out about rights, and by the last attempt.
    refused: Option<Vec<(Level, String)>>,
}

impl Adjusting {
    pub(super) fn new(level: Level, links: Links, resume: Result<Resume, StartError>, exclusive: bool) -> Self {
        let resume = resume.map_err(|error| error.to_string());
        Self { level, links, resume, exclusive, since: HashMap::new(), marks: Vec::new(), refused: None }
    }

    /// The changes since the last sample.
    pub(super) fn take_marks(&mut self) -> Vec<MarkSample> {
        std::mem::take(&mut self.marks)
    }

    /// Links to hooks that are attached.
    pub(super) fn links(&self) -> usize {
        self.links.count()
    }

    /// Whether a measure is other since then than at the start.
    pub(super) fn since(&self, measure: Measure) -> Option<u64> {
        self.since.get(&measure).copied()
    }
}

/// What attaching takes, in words, where it is refused.
fn remedy() -> String {
    format!("start it with the level that you need (--measure), or with more rights: {}", wanted())
}

/// The capabilities that allow attaching later.
fn wanted() -> String {
    rights::remedy(&[Capability::CAP_PERFMON, Capability::CAP_BPF])
}

impl LiveSource {
    /// How much is measured, and which levels there are; `None` if that cannot change.
    pub(super) fn find_levels(&mut self) -> Option<Levels> {
        let found = self.refused_levels();
        let adjusting = self.adjusting.as_mut()?;
        let refused = adjusting.refused.get_or_insert(found).clone();
        Some(Levels { level: adjusting.level, name: start::name(adjusting.level), refused })
    }

    /// The levels above that cannot be had, as far as that can be told without trying.
    fn refused_levels(&self) -> Vec<(Level, String)> {
        let Some(Adjusting { level, resume, refused: None, .. }) = &self.adjusting else { return Vec::new() };
        let above = Level::ALL.into_iter().filter(|above| above > level);
        // Tried where it would be done.
        let missing: Vec<_> = self.attached.missing().collect();
        let may = rights::privileged(|| links::may_attach(missing.iter().copied()));
        above
            .filter_map(|above| {
                let why = match resume {
                    Err(error) => format!("this kernel does not take what brings connections up to date: {error}"),
                    Ok(_) => match self.attached.brings_nothing((*level, above)) {
                        // What somebody can do something about comes before what a policy refuses: a line of the
                        // screen has room for one of them.
                        Some(failure) => match failure.remediable() {
                            Some(refusal) => refusal.to_string(),
                            None => format!("this kernel shows no more: {failure}"),
                        },
                        None if !may => {
                            let calls = missing.iter().any(|hook| matches!(hook.target, Target::Syscall(_)));
                            let what = if calls { "hooks on system calls" } else { "hooks" };
                            format!("{what} may not be attached any more; {}", remedy())
                        }
                        None => return None,
                    },
                };
                Some((above, why))
            })
            .collect()
    }

    /// Measures so much from now on.
    ///
    /// # Errors
    /// Why not, and what would help. Then everything is as before.
    pub fn set_level(&mut self, level: Level) -> Result<(), String> {
        let Some(adjusting) = &self.adjusting else {
            return Err("the level of this source is that of its start".to_owned());
        };
        match level.cmp(&adjusting.level) {
            Ordering::Greater => self.raise(level)?,
            Ordering::Less => self.lower(level),
            Ordering::Equal => return Ok(()),
        }
        self.note_level(level);
        Ok(())
    }

    fn lower(&mut self, level: Level) {
        let Some(adjusting) = &mut self.adjusting else { return };
        let (ebpf, attached, links) = (&self.ebpf, &mut self.attached, &mut adjusting.links);
        // What can be had again is found out anew.
        adjusting.refused = None;
        // Closing what attaches needs no right.
        attached.lower(&mut LoadedPrograms { ebpf, links }, level);
        // Settings without a program that heeds them do no harm, if they cannot be written.
        let settings = start::settings_for(&self.attached, adjusting.exclusive);
        let _ = maps::change_settings(&mut self.ebpf, settings | listentop_abi::settings::STARTED);
    }

    fn raise(&mut self, level: Level) -> Result<(), String> {
        let refused = self.find_levels().and_then(|levels| levels.refusal(level).map(str::to_owned));
        if let Some(refused) = refused {
            return Err(refused);
        }
        let Some(Adjusting { links, resume: Ok(resume), exclusive, refused, .. }) = &mut self.adjusting else {
            return Err("the level of this source is that of its start".to_owned());
        };
        let failed = |error: io::Error| format!("connections cannot be brought up to date: {error}");
        resume.sets.run().map_err(failed)?;
        resume.spilled.run().map_err(failed)?;
        let (ebpf, attached) = (&self.ebpf, &mut self.attached);
        let raised = rights::privileged(|| attached.raise(&mut LoadedPrograms { ebpf, links }, level));
        if let Err(Refusal::NotPermitted(error) | Refusal::Failed(error)) = &raised {
            let why = format!("the kernel refuses hooks ({error}); {}", remedy());
            refused.get_or_insert_default().push((level, why.clone()));
            return Err(why);
        }
        let settings = start::settings_for(&self.attached, *exclusive);
        maps::change_settings(&mut self.ebpf, settings | listentop_abi::settings::STARTED)
            .map_err(|error| error.to_string())?;
        let mut files = self.files.clone();
        files.extend(namespaces::scanned(self.owners.current()));
        let inhabited = self.listeners.inhabited();
        let files: Vec<&PathBuf> =
            files.iter().filter(|(inode, _)| inhabited.contains(inode)).map(|(_, f)| f).collect();
        visit(&resume.sockets, &files);
        Ok(())
    }

    /// What follows from another level: coverage, figures that are known, the source's name, a mark.
    fn note_level(&mut self, level: Level) {
        let Some(adjusting) = &mut self.adjusting else { return };
        let now_ns = machine::monotonic_ns();
        adjusting.level = level;
        let what = format!("{LEVEL_MARK}{}", level.name());
        adjusting.marks.push(MarkSample { monotonic_ns: now_ns, what, netns: 0, port: None });
        let before = std::mem::replace(&mut self.entries, coverage::of(&self.attached, &self.circumstances));
        for (entry, before) in self.entries.iter_mut().zip(before) {
            if entry.available != before.available {
                adjusting.since.insert(entry.measure, now_ns);
            }
            entry.since_ns = adjusting.since(entry.measure);
        }
        self.coverage = in_words(&self.entries);
        self.listeners.set_parts(self.attached.parts());
        self.listeners.see_reads(level == Level::All);
        self.lists.iter_mut().for_each(|lists| lists.see_reads(level == Level::All));
        self.name = start::name(level);
    }
}
