//! The accepting process has few file descriptors left.

use super::{FindingInput, FindingKind, Found, percent};
use crate::{catalogue::thresholds, model::Severity, words::prose::grouped};

thresholds! {
    /// Share of its limit that the process has open.
    NEAR: f64 = 0.9, Share;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "descriptors_low",
    meaning: "Soon the program cannot accept: each connection takes a file descriptor, and few are left. When accepts fail, \
              `accept_errors` takes its place.",
    when: "The accepting process that is nearest to its limit (RLIMIT_NOFILE, soft) has {NEAR} of it open, and no accept fails.",
    severity: "warning",
    follows_from: &[],
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let descriptors = input.listener.descriptors.as_ref()?;
    let (open, limit) = (descriptors.open, descriptors.soft_limit);
    let share = open as f64 / limit.max(1) as f64;
    if share < NEAR || input.beside("accept_errors") || input.listener.closed {
        return None;
    }
    let pid = descriptors.pid;
    let advice = format!(
        "Raise LimitNOFILE (prlimit --pid {pid} --nofile=NUMBER: changes it at once), or find the leak: ls -l /proc/{pid}/fd. With \
         none left, accepts fail with EMFILE, and clients wait on the accept queue."
    );
    let said = |has: &str| {
        format!(
            "Process {pid} {has} {} of {} file descriptors open ({}).",
            grouped(open),
            grouped(limit),
            percent(share)
        )
    };
    let evidence =
        vec![("open", open as f64), ("soft_limit", limit as f64), ("left", limit.saturating_sub(open) as f64)];
    Some(Found::new(&KIND, Severity::Warning, said("has"), evidence, advice.clone()).remembered(
        share,
        said("had"),
        advice,
    ))
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{Case, NONE, WARNING, severities},
        *,
    };
    use crate::sample::Descriptors;

    fn open(case: &mut Case, open: u64) {
        case.listener.descriptors = Some(Descriptors { pid: 7, open, soft_limit: 1_024 });
    }

    #[test]
    fn nine_tenths_are_near() {
        assert_eq!(severities(&KIND, open, [921, 922, 1_024]), [NONE, WARNING, WARNING]);
        assert_eq!(Case::new().find(&KIND), None, "not known");
    }

    #[test]
    fn where_accepts_fail_there_is_none() {
        let mut case = Case::with(|case| open(case, 1_024));
        case.remember("accept_errors");
        assert_eq!(case.find(&KIND), None);
    }

    #[test]
    fn what_it_reports() {
        let found = Case::with(|case| open(case, 1_000)).find(&KIND).unwrap();
        assert_eq!(found.summary, "Process 7 has 1,000 of 1,024 file descriptors open (98%).");
        assert_eq!(found.evidence, [("open", 1_000.0), ("soft_limit", 1_024.0), ("left", 24.0)]);
        assert!(found.past.unwrap().summary.starts_with("Process 7 had 1,000"));
    }
}
