//! Python: a handler that sleeps, and one that computes. What a Python without perf maps shows, and one with.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use test_support::{Lab, Test, lab::PORT, not_packaged};

use super::{BUSY, NEARLY_ALL, NEEDS, while_busy};
use crate::support::{
    alone,
    blame::Blame,
    exchange::{http_once, page},
    server::{Folder, Server, installed},
    side_by_side,
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "blame::python::sleeping_handler", needs: NEEDS, run: sleeping },
    Test { name: "blame::python::computing_handler", needs: NEEDS, run: computing },
    Test { name: "blame::python::handlers_with_a_perf_map", needs: NEEDS, run: with_perf_map },
];

/// The interpreter's loop. (Python 3.11 and later run calls between Python functions in one frame of it.)
const LOOP: &str = "_PyEval_EvalFrameDefault";

fn slow(lab: &Lab, program: &Path, options: &[&str], path: &str) -> Blame {
    let folder = Folder::new();
    folder.write("server.py", include_str!("../programs/single_server.py"));
    let (port, busy) = (PORT.to_string(), BUSY.as_secs_f64().to_string());
    let arguments = [options, &["server.py", &port, &busy]].concat();
    let server = Server::start_contained(&folder, program, &arguments);
    server.listens(PORT, 1);
    while_busy(lab, http_once, || drop(page(PORT, path)))
}

fn usual() -> PathBuf {
    installed("/usr/bin", "python3", "python3-minimal")
}

fn sleeping(lab: &Lab) {
    let _machine = side_by_side();
    let blame = slow(lab, &usual(), &[], "/stock");
    blame.state_is("asleep", NEARLY_ALL);
    blame.is_guilty("asleep", &["nanosleep"]);
    blame.stacks_have("asleep", &["nanosleep", LOOP], NEARLY_ALL);
}

fn computing(lab: &Lab) {
    let _machine = alone();
    let blame = slow(lab, &usual(), &[], "/prices");
    blame.state_is("running", NEARLY_ALL);
    blame.is_guilty("running", &[LOOP]);
    blame.stacks_have("running", &[LOOP], NEARLY_ALL);
}

/// Python 3.12 and later have perf maps.
fn with_perf_map(lab: &Lab) {
    let _machine = alone();
    let Some(program) = has_perf_maps() else {
        not_packaged("no python3 on the path has perf maps: Python 3.12 and later have");
    };
    let options = ["-X", "perf"];
    let blame = slow(lab, &program, &options, "/stock");
    blame.is_guilty("asleep", &["wait_for_stock"]);
    blame.stacks_have("asleep", &["nanosleep", "wait_for_stock", "do_GET", "serve_forever"], NEARLY_ALL);
    drop(blame);
    let blame = slow(lab, &program, &options, "/prices");
    blame.is_guilty("running", &["compute_prices"]);
    blame.stacks_have("running", &["compute_prices", "do_GET", "serve_forever"], 0.7);
}

/// The file of a Python on the path that has perf maps: `python3` or one of a version of its own.
fn has_perf_maps() -> Option<PathBuf> {
    // Turning them on would leave a file in /tmp.
    const PROGRAM: &str =
        "import sys, sysconfig; assert sysconfig.get_config_var('PY_HAVE_PERF_TRAMPOLINE'); print(sys.executable)";
    let names = ["/usr/bin/python3", "python3", "python3.14", "python3.13", "python3.12"];
    names.into_iter().find_map(|name| {
        let output = Command::new(name).args(["-c", PROGRAM]).output().ok()?;
        output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
    })
}
