//! What a run starts: a lesson's set-up with the changes of the command line.

use super::options::Options;
use lessons::format::Program;
use lessons::real::{Kind, REAL_SERVER, configuration};
use lessons::{Change, Lesson};

/// What runs when, with all its options.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The lesson.
    pub lesson: &'static Lesson,
    /// Paths below /proc/sys with their values.
    pub sysctls: Vec<(String, String)>,
    /// In the lesson's order.
    pub servers: Vec<Server>,
    /// In the lesson's order.
    pub loads: Vec<Load>,
}

/// A server to be started.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its name in the lesson.
    pub name: &'static str,
    /// Its port.
    pub port: u16,
    /// The step in which it starts.
    pub step: usize,
    /// The program.
    pub program: Program,
    /// All its options.
    pub arguments: Vec<String>,
}

/// A load to be started.
#[derive(Debug, Clone)]
pub struct Load {
    /// Its name in the lesson.
    pub name: &'static str,
    /// The step in which it starts.
    pub step: usize,
    /// The program.
    pub program: Program,
    /// All its options but `--for`.
    pub arguments: Vec<String>,
    /// For how long it makes new connections; `None`: until it ends by itself, or is ended.
    pub length_ms: Option<u64>,
}

/// Replaced by the options of the command line.
const COOKIES: &str = "net/ipv4/tcp_syncookies";
const ABORT: &str = "net/ipv4/tcp_abort_on_overflow";

impl Plan {
    /// The plan for these options.
    #[must_use]
    pub fn new(lesson: &'static Lesson, options: &Options) -> Self {
        let port =
            |name: &str| lesson.setup.servers.iter().find(|server| server.name == name).map(|server| server.port);
        let change = options.spoil.then_some(lesson.spoiler.change);
        let servers = lesson.setup.servers.iter().map(|server| {
            let own = match change {
                Some(Change::Server(name, from, to)) if name == server.name => server.options.replace(from, to),
                _ => server.options.to_owned(),
            };
            // The program's own options come first: they may be a subcommand.
            let fixed = format!("{} --port {} --name {}", server.program.options, server.port, server.name);
            let arguments = arguments(&format!("{fixed} {own}"), port);
            Server { name: server.name, port: server.port, step: server.step, program: server.program, arguments }
        });
        let loads = lesson.setup.loads.iter().map(|load| {
            let own = match change {
                Some(Change::Load(name, from, to)) if name == load.name => load.options.replace(from, to),
                _ => load.options.to_owned(),
            };
            let target = port(load.server).unwrap_or_default();
            let seed = if load.program.seeded { format!("--seed {}", options.seed) } else { String::new() };
            let fixed = format!("{} --target 127.0.0.1:{target} {seed}", load.program.options);
            Load {
                name: load.name,
                step: load.step,
                program: load.program,
                arguments: arguments(&format!("{fixed} {own}"), port),
                length_ms: load_length(lesson, load, options),
            }
        });
        Self { lesson, sysctls: sysctls(lesson, options, change), servers: servers.collect(), loads: loads.collect() }
    }

    /// The same with other options for one program: `load:NAME --option value` or `server:NAME …`.
    ///
    /// # Errors
    /// The lesson has no such program. The message is one line.
    pub fn with_options(mut self, change: &str) -> Result<Self, String> {
        self.lesson.has_program(change)?;
        let mut words = change.split_whitespace();
        let program = words.next().unwrap_or_default();
        let servers = self.servers.iter_mut().map(|one| (format!("server:{}", one.name), &mut one.arguments));
        let loads = self.loads.iter_mut().map(|one| (format!("load:{}", one.name), &mut one.arguments));
        let words: Vec<String> = words.map(str::to_owned).collect();
        for (_, arguments) in servers.chain(loads).filter(|(name, _)| name == program) {
            for option in words.iter().filter(|word| word.starts_with("--")) {
                remove(arguments, option);
            }
            arguments.extend(words.iter().cloned());
        }
        Ok(self)
    }

    /// The same with a real server in the place of the lesson's own.
    ///
    /// # Errors
    /// The lesson has no place for it, or it is not installed.
    pub fn with_real(mut self, kind: Kind) -> Result<Self, String> {
        for real in lessons::real::find(self.lesson, kind)? {
            let setup = &self.lesson.setup;
            for server in self.servers.iter_mut().filter(|server| server.name == real.server) {
                server.program = REAL_SERVER;
                let fixed = format!("--kind {} --port {} --name {}", kind.name(), server.port, server.name);
                server.arguments = arguments(&fixed, |_| None);
                server.arguments.extend(["--configuration".to_owned(), configuration(real, setup.servers)]);
            }
            let Some((program, own)) = real.load else { continue };
            for load in setup.loads.iter().filter(|load| load.server == real.server) {
                let Some(planned) = self.loads.iter_mut().find(|planned| planned.name == load.name) else { continue };
                let target = setup.servers.iter().find(|server| server.name == real.server);
                let port = target.map_or(0, |server| server.port);
                planned.program = program;
                planned.arguments =
                    arguments(&format!("{} --target 127.0.0.1:{port} {own}", program.options), |_| None);
            }
        }
        Ok(self)
    }
}

/// Removes an option with its values: what follows up to the next option.
fn remove(arguments: &mut Vec<String>, option: &str) {
    if let Some(at) = arguments.iter().position(|argument| argument == option) {
        let values = arguments[at + 1..].iter().take_while(|argument| !argument.starts_with("--")).count();
        arguments.drain(at..=at + values);
    }
}

/// How long a load lasts. One that lasts to the end goes on where somebody watches, until that is over.
fn load_length(lesson: &Lesson, load: &lessons::Load, options: &Options) -> Option<u64> {
    if let Some(length) = options.load_for {
        return Some(length.as_millis() as u64);
    }
    let end = load.step + load.steps;
    let open_ended = !options.check && end >= lesson.steps.len();
    (load.steps > 0 && !open_ended)
        .then(|| lesson.steps[load.step..end].iter().map(|step| step.length(options.short)).sum())
}

fn sysctls(lesson: &Lesson, options: &Options, change: Option<Change>) -> Vec<(String, String)> {
    let mut all: Vec<(&str, &str)> = vec![
        (COOKIES, "0"),
        (ABORT, "0"),
        // The clients may use all ports.
        ("net/ipv4/ip_local_port_range", "10000 65535"),
    ];
    let mut set = |path, value| match all.iter_mut().find(|(known, _)| *known == path) {
        Some(entry) => entry.1 = value,
        None => all.push((path, value)),
    };
    lesson.setup.sysctls.iter().for_each(|(path, value)| set(path, value));
    if let Some(Change::Sysctl(path, value)) = change {
        set(path, value);
    }
    if let Some(cookies) = options.cookies {
        set(COOKIES, cookies.value());
    }
    if options.abort_on_overflow {
        set(ABORT, "1");
    }
    all.into_iter().map(|(path, value)| (path.to_owned(), value.to_owned())).collect()
}

/// Splits options written as on a command line, and fills in ports.
fn arguments(line: &str, port: impl Fn(&str) -> Option<u16>) -> Vec<String> {
    let fill = |word: &str| match word.split_once("{port:").and_then(|(head, rest)| Some((head, rest.split_once('}')?)))
    {
        Some((head, (name, tail))) => format!("{head}{}{tail}", port(name).unwrap_or_default()),
        None => word.to_owned(),
    };
    line.split_whitespace().map(fill).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse;
    use crate::target::Place;
    use crate::{server, stress};
    use clap::Parser;
    use std::ffi::OsString;

    fn plan(name: &str, options: &str) -> Plan {
        let options = Options::parse_from(std::iter::once("lab").chain(options.split_whitespace()));
        Plan::new(lessons::find(name).unwrap(), &options)
    }

    fn line(program: &str, arguments: &[String]) -> Vec<OsString> {
        std::iter::once(program).chain(arguments.iter().map(String::as_str)).map(Into::into).collect()
    }

    #[test]
    fn every_lesson_is_a_valid_command_line_with_and_without_its_spoiler() {
        for (lesson, options) in
            lessons::ALL.iter().flat_map(|lesson| [(lesson, "--check"), (lesson, "--check --spoil")])
        {
            let plan = plan(lesson.name, options);
            for one in plan.servers.iter().filter(|server| server.program == lessons::format::DEMO_SERVER) {
                let options: server::options::Options = parse(line("demo-server", &one.arguments))
                    .unwrap_or_else(|refusal| panic!("{}: {}", lesson.name, refusal.line));
                options.check().expect(lesson.name);
            }
            for one in plan.loads.iter().filter(|load| load.program == lessons::format::STRESS) {
                let options: stress::options::Options = parse(line("stress", &one.arguments))
                    .unwrap_or_else(|refusal| panic!("{}: {}", lesson.name, refusal.line));
                options
                    .check(&Place { own_namespace: Some(false), addresses: Vec::new(), far_ends: Vec::new() })
                    .expect(lesson.name);
            }
        }
    }

    #[test]
    fn the_seed_reaches_every_load() {
        for load in plan("patterns", "--seed 77").loads {
            assert!(load.arguments.windows(2).any(|pair| pair == ["--seed", "77"]), "{:?}", load.arguments);
        }
    }

    #[test]
    fn sysctls_come_from_lesson_spoiler_and_command_line() {
        let value = |plan: &Plan, path: &str| {
            let all: Vec<_> =
                plan.sysctls.iter().filter(|(known, _)| known == path).map(|(_, value)| value.clone()).collect();
            assert_eq!(all.len(), 1, "{path}");
            all[0].clone()
        };
        assert_eq!(value(&plan("overflow", ""), COOKIES), "0");
        assert_eq!(value(&plan("patterns", ""), COOKIES), "1");
        assert_eq!(value(&plan("patterns", "--cookies=always"), COOKIES), "2");
        assert_eq!(value(&plan("overflow", "--abort-on-overflow"), ABORT), "1");
    }

    fn flood_lesson_ms() -> u64 {
        lessons::find("syn-flood").unwrap().length_ms(false)
    }

    #[test]
    fn a_load_to_the_end_goes_on_where_somebody_watches() {
        let length = |options| plan("patterns", options).loads[0].length_ms;
        assert_eq!((length(""), length("--check"), length("--check --short")), (None, Some(10_000), Some(4_000)));
        assert_eq!(length("--load-for 3s"), Some(3_000));
        assert_eq!(plan("overflow", "").loads[0].length_ms, Some(12_000));
        // Without `--for` each program goes on for as long as it may: a flood must end some day.
        let flood =
            plan("syn-flood", "").loads.into_iter().find(|load| load.program == lessons::format::FLOOD).unwrap();
        assert_eq!(flood.length_ms, None);
        let options: crate::flood::Options = parse(line("flood", &flood.arguments)).ok().unwrap();
        assert!(options.duration.as_millis() as u64 >= 10 * flood_lesson_ms(), "{options:?}");
    }

    #[test]
    fn other_options_take_the_place_of_the_lessons_own() {
        let plan = |change| plan("nagle", "").with_options(change);
        let load = |plan: &Plan| plan.loads[0].arguments.join(" ");
        let own = load(&self::plan("nagle", ""));
        assert_eq!(load(&plan("load:default --pieces 3").unwrap()), own.replace(" --pieces 2", "") + " --pieces 3");
        assert_eq!(load(&plan("load:default --nodelay").unwrap()), own + " --nodelay");
        let error = plan("default --pieces 3").unwrap_err();
        assert!(error.contains("load:default") && error.lines().count() == 1, "{error}");
    }

    #[test]
    fn ports_are_filled_in() {
        assert_eq!(
            arguments("--to 127.0.0.1:{port:a} -x", |name| (name == "a").then_some(7)),
            ["--to", "127.0.0.1:7", "-x"]
        );
    }
}
