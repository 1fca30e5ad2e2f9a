//! Tests of the options.

use std::time::Duration;

use clap::Parser as _;

use super::{Cli, Command};
use crate::report;

#[test]
fn the_definition_is_consistent() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
}

#[test]
fn filters_work_before_and_behind_the_command() {
    for line in ["listentop --port 80 report", "listentop report --port 80"] {
        let cli = Cli::try_parse_from(line.split(' ')).expect("valid");
        assert_eq!(cli.filter.port, [80]);
    }
}

#[test]
fn a_refresh_works_before_and_behind_the_command() {
    for (line, milliseconds) in [
        ("listentop", 0),
        ("listentop top", 0),
        ("listentop --refresh 2s", 2_000),
        ("listentop --refresh 2s top", 2_000),
        ("listentop top --refresh 2s", 2_000),
        ("listentop --refresh 1s top --refresh 2s", 2_000),
    ] {
        let cli = Cli::try_parse_from(line.split(' ')).expect("valid");
        let refresh = cli.top().refresh.unwrap_or_default();
        assert_eq!((refresh, cli.misplaced()), (Duration::from_millis(milliseconds), None), "{line}");
    }
}

#[test]
fn an_option_that_is_not_for_the_command_is_not_ignored() {
    for (line, says) in [
        ("listentop --refresh 2s report", "--refresh is not for 'report'"),
        ("listentop --refresh 2s doctor", "--refresh is not for 'doctor'"),
        ("listentop --theme light report", "--theme is not for 'report'"),
        ("listentop --bell report", "--bell is not for 'report'"),
        ("listentop --no-mouse doctor", "--no-mouse is not for 'doctor'"),
        ("listentop --units si report", "--units is not for 'report'"),
        ("listentop --config x doctor", "--config is not for 'doctor'"),
        ("listentop --port 80 doctor", "--port 80 is not for 'doctor'"),
        ("listentop doctor --comm nginx", "--comm nginx is not for 'doctor'"),
        ("listentop record x --port 80", "--port 80 is not for 'record'"),
        ("listentop --refresh 1s events", "--refresh is not for 'events'"),
        ("listentop --refresh 2s serve", "--refresh is not for 'serve'"),
    ] {
        let cli = Cli::try_parse_from(line.split(' ')).expect("valid");
        assert_eq!(cli.misplaced().as_deref(), Some(says));
    }
    assert!(Cli::try_parse_from(["listentop", "report", "--refresh", "2s"]).is_err());
}

#[test]
fn a_wrong_number_is_answered_with_what_is_expected() {
    for (argument, says) in [
        ("--port=x", "a port is expected, a whole number from 1 to 65535"),
        ("--port=70000", "a whole number from 1 to 65535"),
        ("--port=0", "a whole number from 1 to 65535"),
        ("--pid=nginx", "a process id is expected, a whole number from 1 to 4194304"),
        ("--max-listeners=many", "a number of listeners is expected, a whole number from 1 to 1048576"),
        ("--max-connections=0", "a number of connections is expected, a whole number from 1 to 8388608"),
        ("--max-threads=-1", "a number of threads is expected, a whole number from 1 to 1048576"),
    ] {
        let error = Cli::try_parse_from(["listentop", argument]).expect_err(argument).to_string();
        assert!(error.contains(says), "{argument}: {error}");
    }
}

#[test]
fn the_report_has_the_formats_of_the_registry() {
    for format in report::FORMATS {
        let cli = Cli::try_parse_from(["listentop", "report", "--format", format.name]).expect("valid");
        let Some(Command::Report(options)) = cli.command else { panic!("another command") };
        assert_eq!(options.format.name, format.name);
    }
    let error = Cli::try_parse_from(["listentop", "report", "--format", "xml"]).expect_err("no such format");
    assert!(error.to_string().contains("[possible values: table, json, html"), "{error}");
}
