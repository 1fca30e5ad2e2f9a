//! `listentop blame` beside real servers: while something keeps the server busy, clients come. The guilty function is
//! in the first lines, the shares are what the fault dictates, and the charges add up to what the clients waited by
//! their own clocks.

pub(crate) mod java;
pub(crate) mod nginx;
pub(crate) mod node;
pub(crate) mod php_fpm;
pub(crate) mod postgresql;
pub(crate) mod python;
pub(crate) mod redis;

use std::time::Duration;

use listentop_model::coverage::Measure;
use test_support::{Lab, lab::PORT};

use crate::support::{
    blame::{Blame, Blaming},
    exchange::Exchange,
    waits::Waits,
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts];

/// How long a server is kept busy: several times as long as its clients take to come.
const BUSY: Duration = Duration::from_millis(500);
/// Clients that come meanwhile.
const CLIENTS: u32 = 20;
/// The share of the wait that the fault is charged with, if little else happens on the machine. What remains is the
/// server's way to the connections when it is over.
const NEARLY_ALL: f64 = 0.85;

/// Keeps the server busy several times while clients come; what blame says. It adds up to what the clients waited.
fn while_busy(lab: &Lab, exchange: Exchange, busy: impl Fn() + Sync) -> Blame {
    let blaming = Blaming::start(lab);
    let waits = Waits::rounds(PORT, CLIENTS, exchange, busy);
    let blame = blaming.end();
    blame.adds_up();
    blame.total_is(waits.queued_us());
    blame
}
