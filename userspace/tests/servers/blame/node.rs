//! Node.js: an event loop that a JSON parse keeps busy, with names of JavaScript functions and without.

use test_support::{Lab, Test, lab::PORT};

use super::{BUSY, NEARLY_ALL, NEEDS, while_busy};
use crate::support::{
    alone,
    blame::Blame,
    exchange::{http, page},
    server::{Folder, Server, installed},
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "blame::node::json_parse", needs: NEEDS, run: parse },
    Test { name: "blame::node::json_parse_with_a_perf_map", needs: NEEDS, run: parse_with_perf_map },
];

fn blocked(lab: &Lab, options: &[&str]) -> Blame {
    let _machine = alone();
    let program = installed("/usr/bin", "node", "nodejs");
    let folder = Folder::new();
    folder.write("orders.js", include_str!("../programs/orders.js"));
    let (port, busy) = (PORT.to_string(), BUSY.as_millis().to_string());
    let arguments = [options, &["orders.js", &port, &busy]].concat();
    let server = Server::start_contained(&folder, &program, &arguments);
    server.listens(PORT, 1);
    let blame = while_busy(lab, http, || drop(page(PORT, "/orders")));
    blame.state_is("running", NEARLY_ALL);
    blame
}

/// V8's own functions have names, those of the program do not.
fn parse(lab: &Lab) {
    let blame = blocked(lab, &[]);
    blame.is_guilty("running", &["Json"]);
}

fn parse_with_perf_map(lab: &Lab) {
    let blame = blocked(lab, &["--perf-basic-prof", "--interpreted-frames-native-stack"]);
    blame.is_guilty("running", &["loadOrders"]);
    blame.stacks_have("running", &["Json", "loadOrders"], 0.7);
}
