//! Java: a method that computes on the thread that accepts, with names of compiled methods and without.

use std::process::Command;

use test_support::{Lab, Test, lab::PORT};

use super::{BUSY, NEARLY_ALL, NEEDS, while_busy};
use crate::support::{
    alone,
    blame::Blame,
    exchange::{http_once, page},
    server::{Folder, Server, installed},
};

const PACKAGE: &str = "default-jdk-headless";

pub(crate) const TESTS: &[Test] = &[
    Test { name: "blame::java::computing_method", needs: NEEDS, run: computing },
    Test { name: "blame::java::computing_method_with_a_perf_map", needs: NEEDS, run: with_perf_map },
];

/// The server is kept busy. Before that its method was compiled, and `prepare` gets its process id.
fn busy(lab: &Lab, prepare: impl FnOnce(u32)) -> Blame {
    let _machine = alone();
    let program = installed("/usr/bin", "java", PACKAGE);
    let folder = Folder::new();
    folder.write("Orders.java", include_str!("../programs/Orders.java"));
    let (port, busy) = (PORT.to_string(), BUSY.as_millis().to_string());
    // Without the option, compiled methods use the frame pointer for something else.
    let arguments = ["-XX:+PreserveFramePointer", "-Xmx256m", "Orders.java", &port, &busy];
    let server = Server::start_contained(&folder, &program, &arguments);
    server.listens(PORT, 1);
    // Until its method is compiled for the last time.
    for _ in 0..8 {
        drop(page(PORT, "/orders"));
    }
    prepare(server.pid());
    let blame = while_busy(lab, http_once, || drop(page(PORT, "/orders")));
    blame.state_is("running", NEARLY_ALL);
    blame
}

/// The methods have no names; what they called has.
fn computing(lab: &Lab) {
    let blame = busy(lab, |_| ());
    blame.is_guilty("running", &["[Java]"]);
    blame.stacks_have("running", &["JavaCalls::call_helper"], 0.7);
}

/// The virtual machine writes one when it is asked to.
fn with_perf_map(lab: &Lab) {
    let blame = busy(lab, |pid| {
        let jcmd = installed("/usr/bin", "jcmd", PACKAGE);
        let output = Command::new(jcmd).args([&pid.to_string(), "Compiler.perfmap"]).output().expect("jcmd runs");
        assert!(output.status.success(), "{output:?}");
    });
    blame.is_guilty("running", &["Orders.addUpPrices"]);
    blame.stacks_have("running", &["Orders.addUpPrices", "JavaCalls::call_helper"], 0.7);
}
