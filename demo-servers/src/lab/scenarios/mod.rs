//! A file per scenario: which servers, which load, and what to look for.
//!
//! A new scenario is a file here, with its `mod` line and its entry in [`ALL`].

mod overflow;
mod patterns;

use super::options::{Cookies, Options};

/// The scenario that is shown when the command line names none.
pub const DEFAULT: &str = "patterns";

/// A demo server of a scenario. It listens on 127.0.0.1 in the lab's namespace.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its name in the lab's output. The kernel keeps the first 15 bytes as the name of the process.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Options of `demo-server`, without port and name.
    pub arguments: Vec<String>,
    /// Options of the `stress` that loads it, without the target.
    pub load: Vec<String>,
}

/// Servers under load, and what listentop should show of them.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line for `--list`.
    pub summary: &'static str,
    /// What to look for on the screen.
    pub look_for: &'static [&'static str],
    /// SYN cookies, unless the command line says otherwise.
    pub cookies: Cookies,
    /// The servers, for these options.
    pub servers: fn(&Options) -> Vec<Server>,
}

/// All scenarios.
pub const ALL: &[Scenario] = &[patterns::SCENARIO, overflow::SCENARIO];

/// The scenario of this name.
///
/// # Errors
/// No scenario has this name. The message lists those that exist.
pub fn find(name: &str) -> anyhow::Result<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name).ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
        crate::cli::usage(format!("unknown scenario '{name}': the scenarios are {}", known.join(", ")))
    })
}

/// Splits options written as on a command line.
fn arguments(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse;
    use crate::target::Place;
    use crate::{server, stress};
    use clap::Parser;
    use std::collections::HashSet;

    /// The command line with the options that the lab adds.
    fn complete(program: &str, fixed: &str, own: &[String]) -> Vec<std::ffi::OsString> {
        [program]
            .into_iter()
            .chain(fixed.split_whitespace())
            .chain(own.iter().map(String::as_str))
            .map(Into::into)
            .collect()
    }

    #[test]
    fn every_scenario_is_a_valid_command_line() {
        for scenario in ALL {
            let servers = (scenario.servers)(&Options::parse_from(["lab"]));
            assert!(!servers.is_empty());
            for one in &servers {
                let options: server::options::Options =
                    parse(complete("demo-server", "--port 1", &one.arguments)).expect(scenario.name);
                options.check().expect(scenario.name);
                let load: stress::options::Options =
                    parse(complete("stress", "--target 127.0.0.1:1", &one.load)).expect(scenario.name);
                load.check(&Place { own_namespace: Some(false), addresses: Vec::new() }).expect(scenario.name);
            }
            // The kernel keeps 15 bytes of a process's name.
            let names: HashSet<_> =
                servers.iter().map(|server| server.name.bytes().take(15).collect::<Vec<_>>()).collect();
            assert_eq!(names.len(), servers.len(), "{}: two processes have the same name", scenario.name);
            let ports: HashSet<_> = servers.iter().map(|server| server.port).collect();
            assert_eq!(ports.len(), servers.len(), "{}: two servers have the same port", scenario.name);
        }
    }

    #[test]
    fn the_seed_reaches_every_load() {
        for server in (find(DEFAULT).unwrap().servers)(&Options::parse_from(["lab", "--seed", "77"])) {
            assert!(server.load.windows(2).any(|pair| pair == ["--seed", "77"]), "{:?}", server.load);
        }
    }

    #[test]
    fn a_scenario_has_its_file_and_a_file_its_scenario() {
        // `cargo xtask demo` goes by the files.
        let dir = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lab/scenarios")).unwrap();
        let mut files: Vec<_> = dir.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.retain(|file| file != "mod.rs");
        files.sort_unstable();
        let mut names: Vec<_> = ALL.iter().map(|scenario| format!("{}.rs", scenario.name)).collect();
        names.sort_unstable();
        assert_eq!(files, names);
        for scenario in ALL {
            let path = format!("{}/src/lab/scenarios/{}.rs", env!("CARGO_MANIFEST_DIR"), scenario.name);
            let line = format!("    summary: {:?},", scenario.summary);
            assert!(std::fs::read_to_string(path).unwrap().lines().any(|other| other == line), "{line}");
        }
    }

    #[test]
    fn an_unknown_scenario_names_the_known_ones() {
        let error = find("x").unwrap_err().to_string();
        assert!(error.contains("patterns") && error.contains("overflow") && error.lines().count() == 1);
    }
}
