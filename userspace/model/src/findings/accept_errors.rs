//! accept(2) fails.

use super::{FindingInput, FindingKind, Found, plural};
use crate::{model::Severity, words::prose::grouped};

pub(super) const KIND: FindingKind = FindingKind {
    id: "accept_errors",
    meaning: "The program cannot take connections, most often because it has no file descriptor left. The connection stays \
              queued, so the backlog looks like the culprit and is not, and the thread looks stuck and is not. It takes the \
              place of `hung_acceptor` and `busy_acceptor`.",
    when: "An accept failed in the interval. EAGAIN, EINTR, ECONNABORTED and EINVAL are no failures. It holds for {HOLD_US} after \
           the last failure, and while connections wait and none is accepted. It ended with the last failure.",
    severity: "critical if accepts fail and none succeeds, else warning",
    follows_from: &[],
    thresholds: &[],
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let failed = l.total.accept_failed.filter(|n| *n > 0)?;
    let accepts = l.total.accepts.unwrap_or(0);
    let waits = l.now.accept_depth > 0;
    let fails = input.activity.fails(waits, input.now_us());
    let (emfile, enfile, nomem) = (
        l.total.accept_failed_emfile.unwrap_or(0),
        l.total.accept_failed_enfile.unwrap_or(0),
        l.total.accept_failed_nomem.unwrap_or(0),
    );
    let known: Vec<(u64, &str)> = [(emfile, "EMFILE"), (enfile, "ENFILE"), (nomem, "ENOMEM or ENOBUFS")]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .collect();
    let causes = match &known[..] {
        [] => String::new(),
        [(n, name)] if *n >= failed => format!(" ({name})"),
        some => {
            let named = some.iter().map(|(n, name)| format!("{} {name}", grouped(*n)));
            let rest = failed.saturating_sub(emfile + enfile + nomem);
            let rest = (rest > 0).then(|| format!("{} otherwise", grouped(rest)));
            format!(" ({})", named.chain(rest).collect::<Vec<_>>().join(", "))
        }
    };
    let pid = l.process.as_ref().map_or_else(|| "PID".to_owned(), |process| process.pid.to_string());
    let limit = format!(
        "compare /proc/{pid}/limits with the number of entries in /proc/{pid}/fd, then raise LimitNOFILE or find the leak"
    );
    let descriptors = input.descriptors_in_words();
    let (has, stays) = match (fails, waits) {
        (true, true) => ("has", " The connection stays in the queue, so a loop that retries at once burns a CPU."),
        (true, false) => ("has", " Nothing waits at the moment."),
        (false, true) => ("had", ""),
        (false, false) => ("had", " Nothing waits now: it will come back with as many clients."),
    };
    let advice = match known.iter().max_by_key(|(n, _)| *n) {
        Some((_, "EMFILE")) => format!("The process {has} no file descriptor left (EMFILE{descriptors}): {limit}."),
        Some((_, "ENFILE")) => {
            format!(
                "The whole machine {has} no file descriptor left (ENFILE): compare /proc/sys/fs/file-nr with fs.file-max, and \
                 find the process that holds most."
            )
        }
        Some(_) => format!(
            "The kernel {has} no memory for connections (ENOMEM, ENOBUFS): look at the cgroup's memory limit, net.ipv4.tcp_mem \
             and dmesg."
        ),
        None => format!(
            "Most often the process {has} no file descriptor left (EMFILE{descriptors}): {limit}. ENFILE means that the whole machine has \
             none left (fs.file-max), ENOMEM and ENOBUFS that it is out of memory."
        ),
    };
    let mut evidence = vec![("failed", failed as f64), ("accepts", accepts as f64)];
    for (name, n) in [("emfile", emfile), ("enfile", enfile), ("enomem", nomem)] {
        evidence.extend((n > 0).then_some((name, n as f64)));
    }
    let critical = fails && l.rate.accepts == Some(0.0);
    Some(
        Found::new(
            &KIND,
            if critical { Severity::Critical } else { Severity::Warning },
            format!("{} failed{causes}, {} succeeded.", plural(failed, "accept"), grouped(accepts)),
            evidence,
            format!("{advice}{stays} The backlog is not at fault."),
        )
        .holding(fails)
        .over(input.activity.failed_us()),
    )
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{CRITICAL, Case, NONE, WARNING, severities},
        *,
    };
    use crate::sample::Descriptors;

    /// So many accepts have failed, the last one so many seconds ago; so many succeed per second.
    fn failing(case: &mut Case, (failed, ago, accepting): (u64, u64, f64)) {
        case.listener.total.accepts = Some(1_200);
        if failed > 0 {
            case.listener.total.accept_failed = Some(failed);
            case.observe(ago);
        }
        case.listener.total.accepts = Some(1_234);
        case.observe(0);
        case.listener.rate.accepts = Some(accepting);
    }

    #[test]
    fn one_failed_accept_is_enough() {
        let found = severities(&KIND, failing, [(0, 0, 9.0), (1, 9, 9.0), (1, 9, 0.0), (1, 1, 9.0)]);
        assert_eq!(found, [NONE, WARNING, WARNING, WARNING]);
    }

    #[test]
    fn it_is_critical_while_all_accepts_fail() {
        assert_eq!(severities(&KIND, failing, [(1, 5, 0.0), (1, 6, 0.0), (1, 5, 0.5)]), [CRITICAL, WARNING, WARNING]);
    }

    #[test]
    fn it_holds_until_one_succeeds() {
        let mut case = Case::with(|case| {
            case.listener.total.accept_failed = Some(1);
            case.observe(9);
            case.observe(0);
        });
        assert!(!case.find(&KIND).unwrap().holds, "nothing waits");
        case.listener.now.accept_depth = 1;
        assert!(case.find(&KIND).unwrap().holds, "none was tried since");
        case.listener.total.accepts = Some(1);
        case.observe(0);
        assert!(!case.find(&KIND).unwrap().holds);
    }

    /// What is said when it has passed is in the past tense, with the time and the descriptors of the failure.
    #[test]
    fn what_has_passed_is_told_so() {
        let mut case = Case::with(|case| {
            case.listener.total.accept_failed = Some(9);
            case.listener.total.accept_failed_emfile = Some(9);
            case.listener.descriptors = Some(Descriptors { pid: 1, open: 60, soft_limit: 60 });
            case.listener.now.accept_depth = 4;
            case.observe(9);
            case.listener.descriptors = Some(Descriptors { pid: 1, open: 22, soft_limit: 60 });
            case.observe(0);
        });
        let found = case.find(&KIND).unwrap();
        assert!(found.advice.starts_with("The process has no file descriptor left (EMFILE: 60 of 60 open): "));
        assert!(found.holds && found.over_us.is_none() && found.advice.contains("The connection stays in the queue"));
        case.listener.now.accept_depth = 0;
        let found = case.find(&KIND).unwrap();
        assert_eq!((found.holds, found.severity), (false, Severity::Warning));
        assert_eq!(found.over_us, Some(case.input().now_us() - 9_000_000));
        assert!(found.advice.starts_with("The process had no file descriptor left (EMFILE: 60 of 60 open): "));
        assert!(found.advice.contains("Nothing waits now") && !found.advice.contains("stays"), "{}", found.advice);
    }

    #[test]
    fn descriptors_that_were_not_seen_at_their_limit_are_not_told() {
        let case = Case::with(|case| {
            case.listener.total.accept_failed = Some(9);
            case.listener.total.accept_failed_emfile = Some(9);
            case.listener.descriptors = Some(Descriptors { pid: 1, open: 22, soft_limit: 60 });
            case.observe(1);
        });
        assert!(case.find(&KIND).unwrap().advice.contains("(EMFILE: the limit is 60)"));
    }

    #[test]
    fn what_it_reports() {
        let some = Case::with(|case| failing(case, (2, 1, 9.0))).find(&KIND).unwrap();
        assert_eq!(some.summary, "2 accepts failed, 1,234 succeeded.");
        assert_eq!(some.evidence, [("failed", 2.0), ("accepts", 1234.0)]);
        assert!(
            some.advice
                .starts_with("Most often the process has no file descriptor left (EMFILE): compare /proc/PID/limits")
        );
        let one = Case::with(|case| failing(case, (1, 1, 9.0))).find(&KIND).unwrap();
        assert_eq!(one.summary, "1 accept failed, 1,234 succeeded.");
    }

    #[test]
    fn the_error_decides_what_to_do() {
        let with = |emfile, enfile, nomem| {
            let mut case = Case::with(|case| failing(case, (10, 1, 9.0)));
            case.listener.total.accept_failed_emfile = Some(emfile);
            case.listener.total.accept_failed_enfile = Some(enfile);
            case.listener.total.accept_failed_nomem = Some(nomem);
            let found = case.find(&KIND).unwrap();
            (found.summary, found.advice.split([':', '(']).next().unwrap().to_owned(), found.evidence.len())
        };
        let cases = [
            ((10, 0, 0), "10 accepts failed (EMFILE), 1,234", "The process has no file descriptor left ", 3),
            ((0, 10, 0), "10 accepts failed (ENFILE), 1,234", "The whole machine has no file descriptor left ", 3),
            (
                (0, 0, 10),
                "10 accepts failed (ENOMEM or ENOBUFS), 1,234",
                "The kernel has no memory for connections ",
                3,
            ),
            ((7, 1, 0), "10 accepts failed (7 EMFILE, 1 ENFILE, 2 otherwise)", "The process has no", 4),
            ((0, 0, 0), "10 accepts failed, 1,234", "Most often the process has no", 2),
        ];
        for ((emfile, enfile, nomem), summary, advice, evidence) in cases {
            let seen = with(emfile, enfile, nomem);
            assert!(seen.0.starts_with(summary) && seen.1.starts_with(advice) && seen.2 == evidence, "{seen:?}");
        }
    }

    #[test]
    fn where_failures_are_not_measured_there_is_none() {
        assert_eq!(Case::with(|case| case.listener.total.accept_failed = None).find(&KIND), None);
    }
}
