//! Every lesson in its short form: what it expects holds, and with its deliberate mistake it does not. Needs root, and
//! a listentop in the directory of the lab's program.

use demo_test_support::program;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use test_harness::{Arguments, Beside, Trial, alone, not_root, skip, skipped, twice};

/// Lessons at a time. Each has a namespace of its own, and sleeps most of the time.
const AT_A_TIME: usize = 3;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    let hindrance = not_root();
    let trial = |lesson: &'static lessons::Lesson, spoil: bool| {
        let name = if spoil { format!("{}_can_fail", lesson.name) } else { lesson.name.to_owned() };
        let hindrance = hindrance.clone();
        Trial::ignorable_test(name.clone(), move || match hindrance {
            Some(reason) => skipped(lesson.name, &reason),
            None => twice(&name, Beside::Others, || {
                alone(lesson.name, move || if spoil { it_fails(lesson) } else { it_holds(lesson) })
            }),
        })
    };
    let trials = lessons::ALL.iter().flat_map(|lesson| [trial(lesson, false), trial(lesson, true)]).collect();
    test_harness::conclude(&arguments, trials)
}

/// The program that the workspace builds.
fn listentop() -> PathBuf {
    let path = program("lab").with_file_name("listentop");
    if !path.is_file() {
        skip(format!("{} is not there: `cargo xtask test` builds it", path.display()));
    }
    path
}

/// Runs a lesson in its short form: exit status, and what it proved.
fn check(lesson: &lessons::Lesson, spoil: bool) -> (Option<i32>, Value) {
    for server in lesson.setup.servers {
        let path = program("lab").with_file_name(server.program.binary);
        if !path.is_file() {
            skip(format!("{} is not there: `cargo build -p {}` builds it", path.display(), server.program.package));
        }
    }
    let mut lab = Command::new(program("lab"));
    lab.args([lesson.name, "--check", "--short", "--format", "json", "--listentop"]).arg(listentop());
    lab.args(spoil.then_some("--spoil")).stdin(Stdio::null());
    let output = lab.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let proof: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    for expectation in proof["expectations"].as_array().unwrap() {
        if let Some(reason) = expectation["unknown"].as_str()
            && reason.ends_with("is not known")
        {
            skip(format!("{} cannot be measured here: {reason}", expectation["figure"]));
        }
    }
    (output.status.code(), proof)
}

fn it_holds(lesson: &lessons::Lesson) {
    let (status, proof) = check(lesson, false);
    let failed: Vec<&Value> =
        proof["expectations"].as_array().unwrap().iter().filter(|one| one["ok"] != true).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(status, Some(0), "{:#}\n{:#}", proof["totals"], proof["littles_law"]);
    assert_eq!(proof["expectations"].as_array().map(Vec::len), Some(lesson.expectations.len()));
    assert_eq!((&proof["ok"], &proof["finished"]), (&true.into(), &true.into()));
}

fn it_fails(lesson: &lessons::Lesson) {
    let (status, proof) = check(lesson, true);
    for id in lesson.spoiler.fails {
        let one = proof["expectations"].as_array().unwrap().iter().find(|one| one["id"] == **id).unwrap();
        assert_eq!(one["ok"], false, "with {} it must fail: {one:#}", lesson.spoiler.what);
    }
    assert_eq!((status, &proof["ok"]), (Some(1), &false.into()));
}
