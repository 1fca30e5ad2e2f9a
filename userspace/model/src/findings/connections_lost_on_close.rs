//! The listener closed while connections waited on its accept queue.

use super::{FindingInput, FindingKind, Found, agree, plural};
use crate::model::Severity;

pub(super) const KIND: FindingKind = FindingKind {
    id: "connections_lost_on_close",
    meaning: "These clients were connected and waited to be accepted when the listener closed. The kernel resets each of them: to the \
              client the server fails although it may be restarting only.",
    when: "Connections left the accept queue without being accepted, because the listener closed or stopped listening.",
    severity: "warning",
    follows_from: &[
        "accept_errors",
        "acceptor_gone",
        "dead_shard",
        "acceptor_paused",
        "hung_acceptor",
        "busy_acceptor",
    ],
    thresholds: &[],
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let lost = l.total.aborted.filter(|n| *n > 0)?;
    let accepts = l.total.accepts;
    let mut evidence = vec![("lost", lost as f64)];
    evidence.extend(accepts.map(|n| ("accepts", n as f64)));
    let found = Found::new(
        &KIND,
        Severity::Warning,
        format!(
            "{} waited to be accepted when the listener closed, and {} reset.",
            plural(lost, "connection"),
            agree(lost, "was", "were")
        ),
        evidence,
        "Before it closes, let the program accept what waits: stop what sends it new clients, accept until EAGAIN, then close. For \
         a restart keep the socket open: let the old process pass it on, let the service manager hold it (socket activation), or \
         let the new process listen first (SO_REUSEPORT), with net.ipv4.tcp_migrate_req=1 on Linux 5.14 and later, which moves \
         what waits to another listener of the group. A larger backlog makes more clients lose their connection.",
    );
    Some(found.holding(l.rate.aborted.is_some_and(|rate| rate > 0.0)))
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{Case, NONE, WARNING, severities},
        *,
    };

    fn lost(case: &mut Case, lost: Option<u64>) {
        case.listener.total.aborted = lost;
        case.listener.total.accepts = Some(9);
    }

    #[test]
    fn one_connection_is_enough() {
        assert_eq!(severities(&KIND, lost, [None, Some(0), Some(1)]), [NONE, NONE, WARNING]);
    }

    #[test]
    fn what_it_reports() {
        let found = Case::with(|case| lost(case, Some(28))).find(&KIND).unwrap();
        assert_eq!(found.summary, "28 connections waited to be accepted when the listener closed, and were reset.");
        assert_eq!(found.evidence, [("lost", 28.0), ("accepts", 9.0)]);
        let one = Case::with(|case| lost(case, Some(1))).find(&KIND).unwrap().summary;
        assert_eq!(one, "1 connection waited to be accepted when the listener closed, and was reset.");
    }

    #[test]
    fn it_holds_only_where_it_goes_on() {
        let holds = |rate| {
            let mut case = Case::with(|case| lost(case, Some(28)));
            case.listener.rate.aborted = rate;
            case.find(&KIND).unwrap().holds
        };
        assert_eq!([None, Some(0.0), Some(28.0)].map(holds), [false, false, true]);
    }
}
