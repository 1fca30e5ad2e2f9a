//! accept(2) fails.

use super::{FindingInput, plural};
use crate::{
    model::{Finding, Severity},
    words::grouped,
};

pub(super) fn find(input: &FindingInput<'_>) -> Option<Finding> {
    let l = input.listener;
    let failed = l.total.accept_failed.filter(|n| *n > 0)?;
    let accepts = l.total.accepts.unwrap_or(0);
    let going_on = l.rate.accept_failed.is_some_and(|rate| rate > 0.0);
    Some(Finding {
        id: "accept_errors",
        severity: if going_on && l.rate.accepts == Some(0.0) { Severity::Critical } else { Severity::Warning },
        summary: format!("{} failed, beside {} that succeeded.", plural(failed, "accept"), grouped(accepts)),
        evidence: vec![("failed", failed as f64), ("accepts", accepts as f64)],
        advice: "Most often the process has no descriptor left (EMFILE): compare /proc/PID/limits with the number of entries in \
                 /proc/PID/fd, raise LimitNOFILE or find the leak. ENFILE is the whole machine (fs.file-max), ENOMEM and \
                 ENOBUFS its memory. The connection stays in the queue, so a loop that retries at once burns a CPU; the backlog \
                 is not at fault."
            .to_owned(),
    })
}
