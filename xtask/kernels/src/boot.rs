//! One boot of one kernel: its plan and its outcome.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::architecture::Architecture;
use crate::expected::{Entry, Expected};
use crate::guest::{self, Programs};
use crate::image::Image;
use crate::machine::{Clock, End, Machine};
use crate::outcome::{Outcome, Purpose};
use crate::packages::Kernel;
use crate::{Options, machine};
use listentop_guest::plan::{Event, Plan, Run};
use xtask_support::process;

/// The sources of samples, as `--probes` names them. `auto` mixes the next two, and is what users get.
pub(crate) const BACKENDS: [&str; 4] = ["auto", "fentry", "tracepoint", "sock_diag"];

/// With this variable the kernel tests are those of what `--probes fentry` sees in another way than `auto`.
const ONLY_DIFFERENT: &str = "LISTENTOP_TEST_ONLY_DIFFERENT";

/// How much slower an emulated machine is than a usual one: the tests multiply their limits by it.
const SLOWNESS: u32 = 10;

/// Tests that run only with `--all`. The kernel makes no difference to them, or other tests show the same; and
/// emulation is slow.
const LEFT_OUT: [&str; 24] = [
    // They compare times to 2 points of a hundred, which an emulated machine does not keep.
    "blame::",
    "blame_reads::",
    "blame_stacks::",
    "characters::",
    "command_line::",
    "dashboard::",
    // Which hooks a level attaches is in unit tests, for every kind of probes.
    "levels::",
    // They take minutes, and attach and detach some hundred times.
    "level_changes::",
    "lifecycle::a_thousand_short_lived_threads",
    "lifecycle::another",
    "lifecycle::client_gives_up",
    "lifecycle::connections_outlive",
    "lifecycle::inherited",
    "lifecycle::passed",
    "lifecycle::shared",
    "limits::",
    "patterns::",
    "recordings::",
    // These change the whole machine. They run on the one with many possible CPUs.
    "machine::clock_steps_under_a_report",
    "machine::many_possible_cpus",
    "refused::functions_one_by_one",
    "scale::",
    "tables_full::",
    "times::residency_of",
];

/// Tests that choose their probes themselves: once for each kernel is enough, with its first source.
const OF_NO_BACKEND: [&str; 4] =
    ["backends::", "failures::btf_that_cannot_be_read", "failures::fallback_without_btf", "refused::"];

/// Tests of what iterators and /proc show, whatever the probes: what was there before the start, and whose a listener
/// is, and where; and of what takes the iterators' place. The oldest kernel is enough, with its first source: `cargo
/// xtask test` runs them on the running one.
const OF_SURROUNDINGS: [&str; 4] = ["before_start::", "identity::", "sight::", "walks::"];

/// The kernel that runs them.
const OLDEST: &str = "5.10";

/// Tests that have nothing to do with packets that are processed while others are, which is what a real-time kernel
/// has of its own. They are left out too on the kernel whose hooks are refused one after the other, which takes long:
/// the kernels before and after it have the same hooks.
const NOT_OF_PACKETS: [&str; 6] = ["addresses::", "calls::", "clients::", "lifecycle::", "reuseport::", "unread::"];

/// Tests that start listentop many times: one kernel with every kind of hook is enough, with its first source.
const OF_MANY_STARTS: [&str; 3] =
    ["refused::several_at_once", "refused::tracepoints_one_by_one", "refused::what_nothing_can_do_without"];

/// The kernel that runs them.
const WITH_ALL_HOOKS: &str = "6.18";

/// Tests of what listentop says of counts that other tests have proven, and of how it ends: one kernel is enough.
/// `cargo xtask test` runs them on the running kernel as well, by tracepoints where it refuses functions.
const OF_WORDS: [&str; 5] =
    ["failures::killed_under_load", "failures::two_at_once", "findings::", "owners::", "probe_log::"];

/// Tests that load every program of blame, several times. Verifiers have become better at proving: what an old one
/// accepts, newer ones do.
const OF_BLAME: [&str; 1] = ["blame_programs::"];

/// The kernel that runs them: functions are all that it has.
const BY_FUNCTIONS: &str = "6.1";

/// The kernel that runs the tests by tracepoints alone: the oldest that has them all. `cargo xtask test` runs them on
/// the running kernel, and `auto` uses most of them.
const BY_TRACEPOINTS: &str = "6.12";

/// The kernel that also runs what `--probes fentry` sees in another way than `auto`.
const NEWEST: &str = "7";

/// A kernel and its machine.
pub(crate) struct Boot {
    pub(crate) kernel: Kernel,
    pub(crate) image: Image,
    pub(crate) kind: Kind,
}

/// The kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Two CPUs.
    Usual,
    /// Two CPUs and 62 more possible ones: per-CPU maps have room for all.
    ManyCpus,
    /// Two CPUs, and a kernel whose processing of packets can be preempted.
    RealTime,
}

/// The outcome of a boot.
pub(crate) struct Booted {
    /// The outcome of each backend.
    pub(crate) outcomes: Vec<(&'static str, Outcome)>,
    /// A failure of the machine itself.
    pub(crate) trouble: Option<String>,
}

impl Boot {
    /// Its name in tables.
    pub(crate) fn title(&self) -> String {
        match self.kind {
            Kind::Usual | Kind::RealTime => self.kernel.series.clone(),
            Kind::ManyCpus => format!("{} with 64 possible CPUs", self.kernel.series),
        }
    }

    /// Boots it, runs everything, and returns the outcome.
    ///
    /// # Errors
    /// When the machine cannot be started. Failures inside are part of the outcome.
    pub(crate) fn run(
        &self,
        programs: &Programs,
        expected: &Expected,
        options: &Options,
        logs: &Path,
    ) -> Result<Booted> {
        let name = match self.kind {
            Kind::Usual | Kind::RealTime => self.kernel.release.clone(),
            Kind::ManyCpus => format!("{}-64-cpus", self.kernel.release),
        };
        let backends = self.backends(expected, options.probes.as_deref());
        let file_system = logs.join(format!("{name}.cpio"));
        guest::write_file_system(&file_system, &programs.files(), &self.image, self.plan(&backends, options))?;
        let machine = Machine {
            architecture: self.kernel.architecture(),
            kernel: self.image.kernel.clone(),
            file_system: file_system.clone(),
            cpus: match self.kind {
                Kind::Usual | Kind::RealTime => "2".to_owned(),
                // The kernel counts possible CPUs only in further sockets.
                Kind::ManyCpus => "2,sockets=32,cores=2,maxcpus=64".to_owned(),
            },
            clock: Clock::Time,
            limit: machine::LIMIT,
            console: logs.join(format!("{name}.console")),
        };
        let log = logs.join(format!("{name}.log"));
        let log = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut sorter = EventSorter::new(&self.title(), &backends, log);
        let end = machine.run(|event| sorter.hear(&event))?;
        fs::remove_file(&file_system)?;
        let trouble = match end {
            End::Complete => sorter.trouble,
            End::Broken(why) => Some(why),
        };
        Ok(Booted { outcomes: sorter.outcomes, trouble })
    }

    /// How long its tests take beside others, as far as they are known: in units of a test without probes. One by
    /// functions took 3.8 to 4.6 s, one by other probes 2.5 to 3.5 s, one without probes 0.6 s.
    pub(crate) fn duration(&self, expected: &Expected) -> usize {
        let title = self.title();
        let took = |entry: &Entry| match entry.backend.as_str() {
            "fentry" => 7 * entry.tests,
            "sock_diag" => entry.tests,
            _ => 5 * entry.tests,
        };
        expected.runs.iter().filter(|entry| entry.kernel == title).map(took).sum()
    }

    /// The sources of samples that are tested there; `only`: the one that was asked for.
    fn backends(&self, expected: &Expected, only: Option<&str>) -> Vec<&'static str> {
        // Where tracepoints do not suffice, `auto` is functions.
        let by_tracepoints = expected.entry(&self.title(), "tracepoint").is_none_or(|entry| entry.refused.is_none());
        let chosen = |name: &str| match (only, self.kind) {
            (Some(only), _) => only == name,
            (None, Kind::Usual) => name != "auto" || by_tracepoints,
            // Without probes there are no per-CPU maps.
            (None, Kind::ManyCpus) => name == "fentry" || name == "tracepoint",
            // `auto` uses programs of both kinds there.
            (None, Kind::RealTime) => name == "auto",
        };
        BACKENDS.into_iter().filter(|name| chosen(name)).collect()
    }

    /// Whether the tests run with this source; otherwise only its coverage is looked at.
    fn is_tested(&self, backend: &str, backends: &[&str], options: &Options) -> bool {
        if options.measures {
            return false;
        }
        if options.all || options.test.is_some() || options.probes.is_some() || self.kind != Kind::Usual {
            return true;
        }
        match backend {
            "fentry" => !backends.contains(&"auto") || self.kernel.series == NEWEST,
            "tracepoint" if self.kernel.architecture() == Architecture::Arm => false,
            "tracepoint" => self.kernel.series == BY_TRACEPOINTS || !crate::SERIES.contains(&&*self.kernel.series),
            _ => true,
        }
    }

    /// Tests that do not run there, by the beginnings of their names. `first`: with the kernel's first source.
    fn left_out(&self, first: bool) -> Vec<&'static str> {
        let is = |series: &str| self.kernel.series == series;
        [
            (false, &LEFT_OUT[..]),
            (first && is(WITH_ALL_HOOKS), &OF_MANY_STARTS),
            (first && is(OLDEST), &OF_SURROUNDINGS),
            (first && is(BY_FUNCTIONS), &OF_WORDS),
            (first && is(BY_FUNCTIONS), &OF_BLAME),
            (first, &OF_NO_BACKEND),
            (self.kind != Kind::RealTime && !is(WITH_ALL_HOOKS), &NOT_OF_PACKETS),
        ]
        .into_iter()
        .filter(|(run, _)| !run)
        .flat_map(|(_, names)| names.iter().copied())
        .collect()
    }

    fn plan(&self, backends: &[&'static str], options: &Options) -> Plan {
        let mut plan = Plan { timed: true, ..Plan::default() };
        for backend in backends {
            let report = [guest::LISTENTOP, "--probes", backend, "report", "--for", "200ms", "--format", "json"];
            plan.runs.push(run(Purpose::Coverage, backend, &report, Duration::from_secs(120)));
            if !self.is_tested(backend, backends, options) {
                continue;
            }
            // Without probes other tests run.
            let program = if *backend == "sock_diag" { guest::SOCK_DIAG_TESTS } else { guest::TESTS };
            let mut tests = vec![program, "--format", "json"];
            match (&options.test, self.kind) {
                (Some(name), _) => tests.push(name),
                (None, Kind::ManyCpus) => tests.push("machine::"),
                (None, Kind::Usual | Kind::RealTime) => {}
            }
            // What `auto` has shown already need not be shown again.
            let only_different = *backend == "fentry" && backends.contains(&"auto") && !options.all;
            if !options.all && options.test.is_none() && self.kind != Kind::ManyCpus {
                let first = backends.first() == Some(backend);
                self.left_out(first).into_iter().for_each(|name| tests.extend(["--skip", name]));
            }
            let mut run = run(Purpose::Tests, backend, &tests, Duration::from_mins(30));
            if only_different {
                run.environment.push((ONLY_DIFFERENT.to_owned(), "1".to_owned()));
            }
            plan.runs.push(run);
        }
        plan
    }
}

/// With this variable listentop prints the verifier's log of a refused program.
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
    // The machine's log then has the reason why a kernel refuses a program.
    environment.extend(std::env::var(VERIFIER_LOG).map(|value| (VERIFIER_LOG.to_owned(), value)));
    Run {
        name: format!("{} {backend}", purpose.name()),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        environment,
        seconds: limit.as_secs(),
    }
}

/// Sorts the events of a machine into outcomes, writes them to the log and announces the most important.
struct EventSorter {
    title: String,
    outcomes: Vec<(&'static str, Outcome)>,
    /// The current run: its purpose and the place of its outcome.
    current: Option<(Purpose, usize)>,
    begun: Instant,
    trouble: Option<String>,
    /// All events, with the time since the start.
    log: File,
    start: Instant,
}

impl EventSorter {
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
        // The log only helps to find a mistake: the run goes on without it.
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
