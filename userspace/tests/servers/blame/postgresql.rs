//! PostgreSQL: a process for each connection. Clients wait until the one before has its process.

use test_support::{Lab, Test, lab::PORT};

use super::NEEDS;
use crate::{
    postgresql,
    support::{blame::Blaming, depths::Depths, exchange, load::Load, server::Folder, side_by_side},
};

pub(crate) const TESTS: &[Test] = &[Test { name: "blame::postgresql::forking", needs: NEEDS, run: forking }];

/// Sessions at a time, and in all.
const AT_ONCE: usize = 16;
const CONNECTIONS: u64 = 300;

fn forking(lab: &Lab) {
    let _machine = side_by_side();
    let folder = Folder::new();
    // Those that end are there for a while.
    let server = postgresql::start(&folder, 100);
    let blaming = Blaming::start(lab);
    let depths = Depths::watch(server.pid(), PORT);
    Load { port: PORT, connections: CONNECTIONS, at_once: AT_ONCE, requests: 1, exchange: exchange::postgresql }.run();
    let waited = depths.waited_us();
    let blame = blaming.end();
    blame.adds_up();
    blame.total_is(waited);
    blame.is_guilty("running", &["fork_process"]);
    blame.stacks_have("running", &["Fork", "fork_process", "PostmasterMain", "main"], 0.5);
}
