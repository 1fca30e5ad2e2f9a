//! accept(2) fails.

use super::{FindingInput, FindingKind, plural};
use crate::{
    model::{Finding, Severity},
    words::prose::grouped,
};

pub(super) const KIND: FindingKind = FindingKind {
    id: "accept_errors",
    meaning: "The program cannot take connections, most often because it has no file descriptor left. The connection \
              stays queued, so the backlog looks like the culprit and is not.",
    when: "An accept failed in the interval. EAGAIN, EINTR, ECONNABORTED and EINVAL are no failures.",
    severity: "critical if accepts still fail and none succeeds, else warning",
    thresholds: &[],
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Finding> {
    let l = input.listener;
    let failed = l.total.accept_failed.filter(|n| *n > 0)?;
    let accepts = l.total.accepts.unwrap_or(0);
    let still_failing = l.rate.accept_failed.is_some_and(|rate| rate > 0.0);
    Some(Finding {
        id: KIND.id,
        severity: if still_failing && l.rate.accepts == Some(0.0) { Severity::Critical } else { Severity::Warning },
        summary: format!("{} failed, {} succeeded.", plural(failed, "accept"), grouped(accepts)),
        evidence: vec![("failed", failed as f64), ("accepts", accepts as f64)],
        advice: "Most often the process has no file descriptor left (EMFILE): compare /proc/PID/limits with the number of entries in \
                 /proc/PID/fd, then raise LimitNOFILE or find the leak. ENFILE means that the whole machine has none left \
                 (fs.file-max), ENOMEM and ENOBUFS that it is out of memory. The connection stays in the queue, so a loop that \
                 retries at once burns a CPU. The backlog is not at fault."
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{CRITICAL, Case, NONE, WARNING, severities},
        *,
    };

    fn failing(case: &mut Case, (failed, failing, accepting): (u64, f64, f64)) {
        case.listener.total.accept_failed = Some(failed);
        case.listener.total.accepts = Some(1_234);
        case.listener.rate.accept_failed = Some(failing);
        case.listener.rate.accepts = Some(accepting);
    }

    #[test]
    fn one_failed_accept_is_enough() {
        let found = severities(&KIND, failing, [(0, 0.0, 9.0), (1, 0.0, 9.0), (1, 0.0, 0.0), (1, 0.5, 9.0)]);
        assert_eq!(found, [NONE, WARNING, WARNING, WARNING]);
    }

    #[test]
    fn it_is_critical_while_all_accepts_fail() {
        assert_eq!(severities(&KIND, failing, [(1, 0.5, 0.0), (1, 0.5, 0.5)]), [CRITICAL, WARNING]);
    }

    #[test]
    fn what_it_reports() {
        let some = Case::with(|case| failing(case, (2, 1.0, 9.0))).find(&KIND).unwrap();
        assert_eq!(some.summary, "2 accepts failed, 1,234 succeeded.");
        assert_eq!(some.evidence, [("failed", 2.0), ("accepts", 1234.0)]);
        let one = Case::with(|case| failing(case, (1, 1.0, 9.0))).find(&KIND).unwrap();
        assert_eq!(one.summary, "1 accept failed, 1,234 succeeded.");
    }

    #[test]
    fn where_failures_are_not_measured_there_is_none() {
        assert_eq!(Case::with(|case| case.listener.total.accept_failed = None).find(&KIND), None);
    }
}
