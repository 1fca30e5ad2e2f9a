//! What `listentop blame` prints, and what must be true of it.

use std::{fmt::Write as _, ops::RangeInclusive, thread};

use nix::sys::signal::Signal;
use serde_json::Value;
use test_support::{
    Lab,
    command::{Ended, Measuring},
    lab::PORT,
    sleep_ms,
};

use super::report::{number, under_pressure};

/// The guilty function is in one of so many lines.
const FIRST: usize = 3;
/// The charges and the total differ by this part at most.
const IDENTITY: f64 = 0.005;
/// Said where a change of state was charged late, anywhere on the machine: other tests run beside this one.
const LOSSES: &str = "listentop: losses are counted for the whole machine, not only for what the filter passes\n";

/// Two runs of blame at the same time, for people and for programs.
pub(crate) struct Blaming {
    text: Measuring,
    json: Measuring,
}

impl Blaming {
    /// Measures from now on.
    pub(crate) fn start(lab: &Lab) -> Self {
        let start = |format: &str| {
            Measuring::start(&format!("blame --port {PORT} --netns {} --for 5m --format {format}", lab.netns))
        };
        Self { text: start("text"), json: start("json") }
    }

    /// Ends it; what it says.
    pub(crate) fn end(self) -> Blame {
        // Processes that are named are named while they live: at the next tick at the latest.
        sleep_ms(300);
        let end = |measuring: Measuring| {
            measuring.signal(Signal::SIGTERM);
            let Ended { status, stdout, stderr } = measuring.end();
            assert!(status.success() && ["", LOSSES].contains(&stderr.as_str()), "{status}: {stderr}");
            stdout
        };
        let table = end(self.text);
        let report = serde_json::from_str(&end(self.json)).expect("JSON and nothing else");
        Blame { table, report }
    }
}

/// What it says.
pub(crate) struct Blame {
    table: String,
    report: Value,
}

impl Drop for Blame {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{}", self.table);
        }
    }
}

impl Blame {
    /// What connections waited, in microseconds.
    fn total_us(&self) -> u64 {
        number(&self.report, "total_wait_us")
    }

    fn listeners(&self) -> &[Value] {
        self.report["listeners"].as_array().expect("a list")
    }

    /// Checks that the charges add up to the total, and that nothing was lost.
    pub(crate) fn adds_up(&self) {
        let total = self.total_us();
        let sum = |list: &str| -> u64 {
            let parts = self.listeners().iter().flat_map(|listener| listener[list].as_array().expect("a list"));
            parts.map(|part| number(part, "wait_us")).sum()
        };
        let states: u64 = STATES.iter().map(|state| self.state_us(state)).sum();
        let threads = sum("threads") + self.state_us("nobody");
        for (parts, sum) in [("stacks", sum("stacks")), ("states", states), ("threads", threads)] {
            let apart = total.abs_diff(sum) as f64;
            assert!(apart <= total as f64 * IDENTITY, "{parts}: {sum} of {total} µs");
        }
        for (what, lost) in self.report["lost"].as_object().expect("an object") {
            assert!(what == "late" || lost == 0, "{what}: {lost}");
        }
        assert_eq!(self.report["unavailable"], Value::Array(Vec::new()));
    }

    /// Checks the total by another measurement, in microseconds.
    pub(crate) fn total_is(&self, expected: RangeInclusive<f64>) {
        let total = self.total_us() as f64;
        assert!(expected.contains(&total), "{}{total} µs, not within {expected:?}", under_pressure());
    }

    fn state_us(&self, state: &str) -> u64 {
        number(&self.report, &format!("states.{state}.wait_us"))
    }

    /// Checks that acceptors were in this state during at least this share of the wait. What they waited for a CPU is
    /// left out: that is other programs' doing.
    pub(crate) fn state_is(&self, state: &str, least: f64) {
        let others = self.total_us() - self.state_us("runnable");
        let share = self.state_us(state) as f64 / others.max(1) as f64;
        assert!(share >= least, "{state} {share:.3} of the wait without that for a CPU, not {least} at least");
    }

    /// Checks that one of the first lines is of this state and names one of these functions.
    pub(crate) fn is_guilty(&self, state: &str, functions: &[&str]) {
        let guilty = |row: &&Row| row.state == state && functions.iter().any(|function| row.place.contains(function));
        let rows = self.first_rows();
        assert!(rows.iter().any(|row| guilty(&row)), "none of {functions:?} in {rows:#?}");
    }

    /// The first lines of the table.
    fn first_rows(&self) -> Vec<Row> {
        let lines = self.table.lines().skip_while(|line| !line.trim_start().starts_with("SHARE"));
        lines.skip(1).take(FIRST).take_while(|line| !line.is_empty()).filter_map(Row::parse).collect()
    }

    /// Checks that stacks have a frame that contains each of these, one further out than the one before: of those in
    /// this state, they have this share of the wait at least.
    pub(crate) fn stacks_have(&self, state: &str, inside_out: &[&str], least: f64) {
        let stacks = self.listeners().iter().flat_map(|listener| listener["stacks"].as_array().expect("a list"));
        let (mut having, mut all, mut others) = (0, 0, String::new());
        for stack in stacks.filter(|stack| stack["state"] == state) {
            let functions: Vec<&str> = frames(stack).collect();
            let wait_us = number(stack, "wait_us");
            all += wait_us;
            if in_order(&functions, inside_out) {
                having += wait_us;
            } else if others.len() < 4_000 {
                // Writing to a string does not fail.
                let _ = writeln!(others, "{wait_us} µs {functions:?}");
            }
        }
        assert!(having as f64 >= all as f64 * least, "{inside_out:?}: {having} of {all} µs. Others:\n{others}");
    }
}

/// The functions of a stack that have names, the innermost first.
fn frames(stack: &Value) -> impl Iterator<Item = &str> {
    stack["frames"].as_array().expect("a list").iter().filter_map(|frame| frame["function"].as_str())
}

fn in_order(functions: &[&str], wanted: &[&str]) -> bool {
    let mut functions = functions.iter();
    wanted.iter().all(|wanted| functions.any(|function| function.contains(wanted)))
}

const STATES: [&str; 4] = ["running", "runnable", "asleep", "nobody"];

/// A line of the table.
#[derive(Debug)]
struct Row {
    state: String,
    place: String,
}

impl Row {
    /// `share %  [error]  wait  state  thread (id)  place`.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once('%')?;
        let state = rest.split_whitespace().find(|word| STATES.contains(word))?;
        let (_, rest) = rest.split_once(state)?;
        Some(Self { state: state.to_owned(), place: rest.trim().to_owned() })
    }
}
