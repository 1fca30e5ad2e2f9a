//! Attempts that were refused, and it is not known why.

use super::{FindingInput, FindingKind, Found, plural};
use crate::{catalogue::thresholds, model::Severity, words::prose::percent};

thresholds! {
    /// Refused attempts. Fewer may be in doubt until the next refresh.
    MIN_REFUSED: u64 = 20, Count;
    /// Share of all that the listener refused. The others' causes then do not stand for these.
    MOST: f64 = 0.5, Share;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "refused_unexplained",
    meaning: "Clients are refused in numbers, and the kernel's counters do not say by what.",
    when: "At least {MIN_REFUSED} attempts, and {MOST} of all that were refused, have no known cause.",
    severity: "critical if any was refused in the recent span, else warning",
    follows_from: &["accept_queue_overflow", "syn_queue_overflow", "syn_backlog_reserve", "refused_otherwise"],
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let unexplained = l.drops.unexplained.filter(|n| *n >= MIN_REFUSED)?;
    let total = l.drops.total?.max(unexplained);
    let share = unexplained as f64 / total as f64;
    if share < MOST {
        return None;
    }
    let recent = l.recent_drops.unexplained.unwrap_or(0);
    let mut evidence = vec![
        ("unexplained", unexplained as f64),
        ("refused", total as f64),
        ("recent", recent as f64),
        ("depth", f64::from(l.now.accept_depth)),
        ("limit", f64::from(l.now.limit)),
    ];
    evidence.extend(l.now.accept_peak.map(|n| ("peak", f64::from(n))));
    evidence.extend(l.now.syn_peak.map(|n| ("syn_queue_peak", f64::from(n))));
    let peak = l.now.accept_peak.map_or(String::new(), |peak| {
        let full = if peak >= l.now.limit { "was full" } else { "was not full" };
        format!(" The accept queue {full} (peak {peak}, limit {}).", l.now.limit)
    });
    let found = Found::new(
        &KIND,
        if recent > 0 { Severity::Critical } else { Severity::Warning },
        format!(
            "{} were refused without a known cause: {} of all.{peak}",
            plural(unexplained, "attempt"),
            percent(share)
        ),
        evidence,
        "Causes of refused SYNs are known one by one where functions of the kernel can be traced (listentop doctor says why they \
         cannot); otherwise only if one listener of the namespace refuses at a time. Compare nstat -az TcpExtListenOverflows \
         TcpExtListenDrops TcpExtTCPReqQFullDrop while it goes on.",
    );
    Some(found.holding(recent > 0))
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{CRITICAL, Case, NONE, WARNING, severities},
        *,
    };

    fn refuse(case: &mut Case, (unexplained, total, recent): (u64, u64, u64)) {
        case.listener.drops.unexplained = Some(unexplained);
        case.listener.drops.total = Some(total);
        case.listener.recent_drops.unexplained = Some(recent);
    }

    #[test]
    fn bounds() {
        let found = severities(&KIND, refuse, [(19, 19, 0), (20, 20, 0), (20, 40, 0), (20, 41, 0), (20, 20, 1)]);
        assert_eq!(found, [NONE, WARNING, WARNING, NONE, CRITICAL]);
        assert_eq!(Case::with(|case| case.listener.drops.unexplained = None).find(&KIND), None);
    }

    #[test]
    fn what_it_reports() {
        let mut case = Case::with(|case| refuse(case, (30, 40, 7)));
        case.listener.now.accept_peak = Some(17);
        let found = case.find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "30 attempts were refused without a known cause: 75% of all. The accept queue was full (peak 17, limit 17)."
        );
        let figures = [("unexplained", 30.0), ("refused", 40.0), ("recent", 7.0), ("depth", 0.0), ("limit", 17.0)];
        assert_eq!(found.evidence[..5], figures);
        case.listener.now.accept_peak = Some(16);
        assert!(case.find(&KIND).unwrap().summary.ends_with("was not full (peak 16, limit 17)."));
        case.listener.now.accept_peak = None;
        assert!(case.find(&KIND).unwrap().summary.ends_with("75% of all."));
    }
}
