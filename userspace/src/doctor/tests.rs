use caps::Capability;
use listentop_model::coverage::{Coverage, Measure, Status};

use super::{Diagnosis, Fact, Verdict, facts, table};
use crate::source::{
    Examination, Origin,
    live::{Event, Kind, Trial},
};

fn covered(lacking: &[(Measure, Status, &str)]) -> Vec<Coverage> {
    let entry = |measure: &Measure| {
        let found = lacking.iter().find(|(lacking, ..)| lacking == measure);
        let (status, reason) = found.map_or((Status::Measured, ""), |(_, status, reason)| (*status, *reason));
        let via = if status == Status::Unavailable { "" } else { "a hook" };
        Coverage { measure: *measure, status, via: via.to_owned(), reason: reason.to_owned() }
    };
    Measure::ALL.iter().map(entry).collect()
}

fn trial(target: &str, outcome: Result<(), &str>, measures: &'static [Measure]) -> Trial {
    let kind = Some(if target.starts_with('f') { Kind::Fentry } else { Kind::Tracepoint });
    let outcome = outcome.map_err(str::to_owned);
    Trial { event: Event::Syn, program: "a_program", target: target.to_owned(), kind, outcome, measures }
}

const EPERM: &str = "the kernel refuses the program: Operation not permitted (os error 1)";
const SYN: &[Measure] = &[Measure::SynRequests, Measure::CookiesSent];

fn machine(btf: &str) -> Vec<Fact> {
    vec![Fact { name: "BTF", value: Some(btf.to_owned()), effect: None }]
}

#[test]
fn complete_partial_impossible() {
    let of = |origin, coverage| {
        let found = Examination { origin, refusal: None, trials: Vec::new(), coverage };
        Diagnosis::of(&found, machine("valid"), |_| true).verdict
    };
    assert_eq!(of(Origin::Probes, covered(&[])), Verdict::Complete);
    assert_eq!(of(Origin::Probes, covered(&[(Measure::Drops, Status::Sampled, "a bound")])), Verdict::Complete);
    assert_eq!(of(Origin::Probes, covered(&[(Measure::Drops, Status::Unavailable, "why")])), Verdict::Partial);
    assert_eq!(of(Origin::SockDiag, covered(&[])), Verdict::Impossible);
    assert_eq!(of(Origin::Nothing, Vec::new()), Verdict::Impossible);
}

#[test]
fn a_policy_is_told_from_missing_rights() {
    let trials = [trial("fexit/a", Err(EPERM), SYN), trial("tp_btf/b", Ok(()), &[])];
    assert!(facts::fentry_is_refused(&trials, |_| true));
    assert!(!facts::fentry_is_refused(&trials, |held| held == Capability::CAP_BPF), "a right is missing");
    assert!(!facts::fentry_is_refused(&trials[..1], |_| true), "nothing else works either");
    let another = [trial("fexit/a", Err("this kernel's BTF has no function a"), SYN), trial("tp_btf/b", Ok(()), &[])];
    assert!(!facts::fentry_is_refused(&another, |_| true), "not for lack of permission");
    let some = [trial("fexit/a", Err(EPERM), SYN), trial("fentry/c", Ok(()), SYN), trial("tp_btf/b", Ok(()), &[])];
    assert!(!facts::fentry_is_refused(&some, |_| true), "others are not refused");
}

#[test]
fn advice_is_in_order_of_benefit_and_names_what_is_missing() {
    let coverage = covered(&[
        (Measure::SynRequests, Status::Unavailable, "no tracepoint fires"),
        (Measure::Owners, Status::Sampled, "CAP_SYS_PTRACE would help"),
        (Measure::ProbeTime, Status::Unavailable, "CAP_SYS_ADMIN would help"),
    ]);
    let trials = vec![trial("fexit/a", Err(EPERM), SYN), trial("tp_btf/b", Ok(()), &[])];
    let found = Examination { origin: Origin::Probes, refusal: None, trials, coverage };
    let has = |held| !matches!(held, Capability::CAP_SYS_PTRACE | Capability::CAP_SYS_ADMIN | Capability::CAP_SYSLOG);
    let advice = Diagnosis::of(&found, machine("valid"), has).advice;
    let heads: Vec<_> = advice.iter().map(|advice| (advice.action.as_str(), advice.measures.as_slice())).collect();
    assert!(heads[0].0.contains("grant CAP_SYS_PTRACE") && heads[0].1 == [Measure::Owners], "{heads:#?}");
    assert!(heads[1].0.contains("grant CAP_SYS_ADMIN") && heads[1].1 == [Measure::ProbeTime], "{heads:#?}");
    // Cookies are measured all the same; nothing suffers from the lack of CAP_SYSLOG.
    assert!(heads[2].0.contains("security policy") && heads[2].1 == [Measure::SynRequests], "{heads:#?}");
    assert_eq!(heads.len(), 3);
}

#[test]
fn without_anything_it_still_says_what_it_can() {
    let refusal = Some("nothing of it can be read".to_owned());
    let found = Examination { origin: Origin::Nothing, refusal, trials: Vec::new(), coverage: Vec::new() };
    let diagnosis = Diagnosis::of(&found, machine("none"), |_| false);
    let text = table(&diagnosis, 80);
    for words in ["impossible", "nothing of it can be read", "CONFIG_DEBUG_INFO_BTF", "CAP_BPF and CAP_PERFMON"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn lines_fit_the_terminal() {
    let long = "words and words and ".repeat(20);
    let coverage = covered(&[(Measure::SynRequests, Status::Unavailable, &long)]);
    let trials = vec![trial("fexit/a_function_with_a_name_that_is_longer_than_any_column", Err(&long), SYN)];
    let found = Examination { origin: Origin::Probes, refusal: Some(long.clone()), trials, coverage };
    let diagnosis = Diagnosis::of(&found, facts::all(&found.trials), |_| true);
    for columns in [60, 80, 110] {
        let text = table(&diagnosis, columns);
        let longest = text.lines().max_by_key(|line| line.chars().count()).expect("lines");
        assert!(longest.chars().count() <= columns, "{columns}: {longest}");
    }
}
