//! One boot of one kernel: what is run in it, and what came of it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::guest::{self, Programs};
use super::image::Image;
use super::machine::{Clock, End, Machine};
use super::outcome::{Outcome, Purpose};
use super::packages::Kernel;
use super::plan::{Event, Plan, Run};
use super::{Options, machine};
use crate::process;

/// The sources of samples, as `--probes` names them.
pub(crate) const BACKENDS: [&str; 3] = ["fentry", "tracepoint", "sock_diag"];

/// How much slower than a usual machine an emulated one is taken to be.
const SLOWNESS: u32 = 10;

/// Tests that are left out without `--all`: another kernel makes no difference to them, or others show the same, and an
/// emulated machine takes long.
const LEFT_OUT: [&str; 24] = [
    "command_line::a_table",
    "command_line::dashboard",
    "command_line::filters",
    "command_line::full_disk",
    "command_line::json",
    "command_line::mistakes",
    "command_line::nothing_stays",
    "command_line::reader",
    "command_line::signals",
    "command_line::without_rights",
    "dashboard::",
    "lifecycle::a_thousand_short_lived_threads",
    "lifecycle::another",
    "lifecycle::client_gives_up",
    "lifecycle::connections_outlive",
    "lifecycle::inherited",
    "lifecycle::passed",
    "lifecycle::shared",
    // Those of the whole machine run with many possible CPUs.
    "machine::clock_steps_under_a_report",
    "machine::many_possible_cpus",
    "refused::functions_one_by_one",
    "scale::",
    "tables_full::",
    "times::residency_of",
];

/// Tests that say themselves which probes they are of, or start by their own choice: once for each kernel is enough.
const OF_NO_BACKEND: [&str; 4] =
    ["backends::", "failures::btf_that_cannot_be_read", "failures::fallback_without_btf", "refused::"];

/// Tests of what a refused tracepoint costs, which start time and again: one of the kernels that have these tracepoints
/// is enough.
const OF_REFUSED_TRACEPOINTS: [&str; 3] =
    ["refused::several_at_once", "refused::tracepoints_one_by_one", "refused::what_nothing_can_do_without"];

/// The kernel that they run on.
const WITH_ALL_TRACEPOINTS: &str = "6.18";

/// A kernel, and the machine that it is booted in.
pub(crate) struct Boot {
    pub(crate) kernel: Kernel,
    pub(crate) image: Image,
    pub(crate) kind: Kind,
}

/// Which machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Two CPUs.
    Usual,
    /// Two CPUs, and room for 62 more: what is kept per CPU is kept for those too.
    ManyCpus,
}

/// What came of a boot.
pub(crate) struct Booted {
    /// By backend.
    pub(crate) outcomes: Vec<(&'static str, Outcome)>,
    /// What went wrong with the machine itself.
    pub(crate) trouble: Option<String>,
}

impl Boot {
    /// As tables call it.
    pub(crate) fn title(&self) -> String {
        match self.kind {
            Kind::Usual => self.kernel.series.clone(),
            Kind::ManyCpus => format!("{} with 64 possible CPUs", self.kernel.series),
        }
    }

    /// Boots it, runs everything, and returns what came of it.
    ///
    /// # Errors
    /// When the machine cannot be started; what goes wrong inside is part of the outcome.
    pub(crate) fn run(&self, programs: &Programs, options: &Options, logs: &Path) -> Result<Booted> {
        let name = match self.kind {
            Kind::Usual => self.kernel.release.clone(),
            Kind::ManyCpus => format!("{}-64-cpus", self.kernel.release),
        };
        let backends =
            BACKENDS.iter().copied().filter(|name| options.probes.as_deref().is_none_or(|only| only == *name));
        // Without probes nothing is kept per CPU.
        let backends = backends.filter(|name| self.kind == Kind::Usual || *name != "sock_diag");
        let backends: Vec<&'static str> = backends.collect();
        let file_system = logs.join(format!("{name}.cpio"));
        guest::write_file_system(&file_system, &programs.files(), &self.image, self.plan(&backends, options))?;
        let machine = Machine {
            kernel: self.image.kernel.clone(),
            file_system: file_system.clone(),
            cpus: match self.kind {
                Kind::Usual => "2".to_owned(),
                // A kernel takes no more CPUs into account in a package that is there already.
                Kind::ManyCpus => "2,sockets=32,cores=2,maxcpus=64".to_owned(),
            },
            clock: Clock::Time,
            limit: machine::LIMIT,
            console: logs.join(format!("{name}.console")),
        };
        let log = logs.join(format!("{name}.log"));
        let log = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut teller = Teller::new(&self.title(), &backends, log);
        let end = machine.run(|event| teller.hear(&event))?;
        fs::remove_file(&file_system)?;
        let trouble = match end {
            End::Complete => teller.trouble,
            End::Broken(why) => Some(why),
        };
        Ok(Booted { outcomes: teller.outcomes, trouble })
    }

    fn plan(&self, backends: &[&'static str], options: &Options) -> Plan {
        let mut plan = Plan { timed: true, ..Plan::default() };
        for backend in backends {
            let report = [guest::LISTENTOP, "--probes", backend, "report", "--for", "200ms", "--format", "json"];
            plan.runs.push(run(Purpose::Coverage, backend, &report, Duration::from_secs(120)));
            if options.measures {
                continue;
            }
            // Without probes there are other tests.
            let program = if *backend == "sock_diag" { guest::SOCK_DIAG_TESTS } else { guest::TESTS };
            let mut tests = vec![program, "--format", "json"];
            match (&options.test, self.kind) {
                (Some(name), _) => tests.push(name),
                (None, Kind::ManyCpus) => tests.push("machine::"),
                (None, Kind::Usual) => {}
            }
            if !options.all && options.test.is_none() && self.kind == Kind::Usual {
                LEFT_OUT.iter().for_each(|name| tests.extend(["--skip", name]));
                if self.kernel.series != WITH_ALL_TRACEPOINTS {
                    OF_REFUSED_TRACEPOINTS.iter().for_each(|name| tests.extend(["--skip", name]));
                }
                if *backend == "tracepoint" {
                    OF_NO_BACKEND.iter().for_each(|name| tests.extend(["--skip", name]));
                }
            }
            plan.runs.push(run(Purpose::Tests, backend, &tests, Duration::from_mins(15)));
        }
        plan
    }
}

/// Has listentop print what the kernel's verifier says of a program that it refuses.
const VERIFIER_LOG: &str = "LISTENTOP_VERIFIER_LOG";

fn run(purpose: Purpose, backend: &str, command: &[&str], limit: Duration) -> Run {
    let slowness = SLOWNESS.to_string();
    let environment = [
        ("PATH", "/bin"),
        ("LISTENTOP_TEST_VM", "1"),
        ("LISTENTOP_TEST_SLOWNESS", &slowness),
        ("LISTENTOP_TEST_PROGRAM", guest::LISTENTOP),
        ("LISTENTOP_TEST_PROBES", backend),
    ];
    let mut environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    // Whoever asks why a kernel refuses a program finds the answer in the machine's log.
    environment.extend(std::env::var(VERIFIER_LOG).map(|value| (VERIFIER_LOG.to_owned(), value)));
    Run {
        name: format!("{} {backend}", purpose.name()),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        environment,
        seconds: limit.as_secs(),
    }
}

/// Sorts what a machine tells, and tells it on.
struct Teller {
    title: String,
    outcomes: Vec<(&'static str, Outcome)>,
    /// What the events are about: the purpose, and the place of the outcome.
    current: Option<(Purpose, usize)>,
    begun: Instant,
    trouble: Option<String>,
    /// Everything, with the time since the start.
    log: File,
    start: Instant,
}

impl Teller {
    fn new(title: &str, backends: &[&'static str], log: File) -> Self {
        Self {
            title: title.to_owned(),
            outcomes: backends.iter().map(|backend| (*backend, Outcome::default())).collect(),
            current: None,
            begun: Instant::now(),
            trouble: None,
            log,
            start: Instant::now(),
        }
    }

    fn hear(&mut self, event: &Event) {
        // Only who looks for a mistake reads it.
        let _ = writeln!(self.log, "{:8.2} {event}", self.start.elapsed().as_secs_f64());
        match event {
            Event::Booted { release, possible, .. } => {
                process::announce(&format!("{}: Linux {release} is up, possible CPUs {possible}", self.title));
            }
            Event::Begin { run } => {
                let place = |name: &str| self.outcomes.iter().position(|(backend, _)| *backend == name);
                self.current =
                    run.split_once(' ').and_then(|(purpose, name)| Some((Purpose::named(purpose)?, place(name)?)));
                self.begun = Instant::now();
            }
            Event::Trouble { what } if self.current.is_none() => self.trouble = Some(what.clone()),
            _ => {}
        }
        let Some((purpose, place)) = self.current else { return };
        let (backend, outcome) = &mut self.outcomes[place];
        outcome.take(purpose, event);
        if matches!(event, Event::End { .. }) {
            if purpose == Purpose::Tests {
                let seconds = self.begun.elapsed().as_secs();
                process::announce(&format!("{} × {backend}: {} in {seconds} s", self.title, outcome.in_short()));
            }
            self.current = None;
        }
    }
}
