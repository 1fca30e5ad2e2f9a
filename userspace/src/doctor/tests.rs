use caps::Capability;
use listentop_btf::{BtfError, Symbol};
use listentop_model::coverage::{Measure, Status};

use super::{Diagnosis, Fact, Hindrance, Verdict, facts, table};
use crate::source::{
    Examination, Origin,
    coverage::{Entry, Reason},
    live::{Event, Failure, Kind, Level, Refusal, Target, Trial},
};

/// Every measure: these with these statuses and reasons, the others measured.
fn covered(lacking: &[(Measure, Status, Reason)]) -> Vec<Entry> {
    let entry = |measure: &Measure| match lacking.iter().find(|(lacking, ..)| lacking == measure) {
        None => Entry::available(*measure, "a hook", Vec::new()),
        Some((_, Status::Unavailable, reason)) => Entry::unavailable(*measure, vec![reason.clone()]),
        Some((.., reason)) => Entry::available(*measure, "a hook", vec![reason.clone()]),
    };
    Measure::ALL.iter().map(entry).collect()
}

fn trial(target: Target, outcome: Result<(), Refusal>, measures: &'static [Measure]) -> Trial {
    let kind = Some(if target.is_function() { Kind::Fentry } else { Kind::Tracepoint });
    Trial { event: Event::Syn, method: 0, program: "a_program", target, kind, outcome, measures }
}

/// The kernel refuses it for lack of permission. The sentence is no part of that.
fn not_permitted() -> Result<(), Refusal> {
    Err(Refusal::NotPermitted("in any words".to_owned()))
}

fn missing(name: &str) -> Refusal {
    Refusal::Missing(Symbol::Function(name.to_owned()))
}

const FUNCTION: Target = Target::Exit("a");
const TRACEPOINT: Target = Target::Tracepoint("b", 1);
const SYN: &[Measure] = &[Measure::SynRequests, Measure::CookiesSent];

fn machine(btf: &str) -> Vec<Fact> {
    let hindrance = (btf == "none").then_some(Hindrance::NoBtf);
    vec![Fact { name: "BTF", value: Some(btf.to_owned()), effect: None, hindrance }]
}

#[test]
fn complete_partial_impossible() {
    let of = |origin, coverage| {
        let found = Examination { origin, refusal: None, trials: Vec::new(), coverage, walks_by_test_runs: None };
        Diagnosis::of(&found, machine("valid"), |_| true).verdict
    };
    assert_eq!(of(Origin::Probes, covered(&[])), Verdict::Complete);
    assert_eq!(
        of(Origin::Probes, covered(&[(Measure::Drops, Status::Sampled, Reason::Limit("a bound"))])),
        Verdict::Complete
    );
    assert_eq!(
        of(Origin::Probes, covered(&[(Measure::Drops, Status::Unavailable, Reason::Limit("why"))])),
        Verdict::Partial
    );
    assert_eq!(of(Origin::SockDiag, covered(&[])), Verdict::Impossible);
    assert_eq!(of(Origin::Nothing, Vec::new()), Verdict::Impossible);
}

#[test]
fn a_policy_is_distinguished_from_missing_rights() {
    let trials = [trial(FUNCTION, not_permitted(), SYN), trial(TRACEPOINT, Ok(()), &[])];
    assert!(facts::fentry_is_refused(&trials, |_| true));
    assert!(!facts::fentry_is_refused(&trials, |held| held == Capability::CAP_BPF), "a right is missing");
    assert!(!facts::fentry_is_refused(&trials[..1], |_| true), "nothing else works either");
    let another = [trial(FUNCTION, Err(missing("a")), SYN), trial(TRACEPOINT, Ok(()), &[])];
    assert!(!facts::fentry_is_refused(&another, |_| true), "not for lack of permission");
    let some =
        [trial(FUNCTION, not_permitted(), SYN), trial(Target::Entry("c"), Ok(()), SYN), trial(TRACEPOINT, Ok(()), &[])];
    assert!(!facts::fentry_is_refused(&some, |_| true), "others are not refused");
}

#[test]
fn advice_is_in_order_of_benefit_and_names_what_is_missing() {
    let coverage = covered(&[
        (Measure::SynRequests, Status::Unavailable, Reason::Limit("no tracepoint fires")),
        (Measure::Owners, Status::Sampled, Reason::HiddenOwners(3)),
        (Measure::ProbeTime, Status::Unavailable, Reason::NotTimed("an error".to_owned())),
    ]);
    let trials = vec![trial(FUNCTION, not_permitted(), SYN), trial(TRACEPOINT, Ok(()), &[])];
    let found = Examination { origin: Origin::Probes, refusal: None, trials, coverage, walks_by_test_runs: None };
    let has = |held| !matches!(held, Capability::CAP_SYS_PTRACE | Capability::CAP_SYS_ADMIN | Capability::CAP_SYSLOG);
    let advice = Diagnosis::of(&found, machine("valid"), has).advice;
    let heads: Vec<_> = advice.iter().map(|advice| (advice.action.as_str(), advice.measures.as_slice())).collect();
    assert!(heads[0].0.contains("grant CAP_SYS_PTRACE") && heads[0].1 == [Measure::Owners], "{heads:#?}");
    assert!(heads[1].0.contains("grant CAP_SYS_ADMIN") && heads[1].1 == [Measure::ProbeTime], "{heads:#?}");
    // Cookies are still measured. No measure is worse without CAP_SYSLOG.
    assert!(heads[2].0.contains("security policy") && heads[2].1 == [Measure::SynRequests], "{heads:#?}");
    assert_eq!(heads.len(), 3);
}

/// Advice follows from types: it is the same however the sentences are worded.
#[test]
fn a_newer_kernel_is_advised_where_this_one_lacks_a_hook() {
    let advised = |refusal: Refusal| {
        let failure = Failure { refusals: vec![(FUNCTION, refusal)], ..Failure::default() };
        let coverage = covered(&[(Measure::SynRequests, Status::Unavailable, Reason::NotAttached(None, failure))]);
        let found = Examination {
            origin: Origin::Probes,
            refusal: None,
            trials: Vec::new(),
            coverage,
            walks_by_test_runs: None,
        };
        let advice = Diagnosis::of(&found, machine("valid"), |_| true).advice;
        let newer = advice.iter().find(|advice| advice.action.starts_with("boot a newer kernel"));
        newer.map(|advice| advice.measures.clone())
    };
    // An error of the BTF reader; its text does not matter.
    let from_btf = Refusal::from(BtfError::Missing(Symbol::Function("a".to_owned())));
    assert_eq!(advised(from_btf), Some(vec![Measure::SynRequests]));
    let too_few = Refusal::TooFewArguments { tracepoint: "kfree_skb", present: 3, needed: 4 };
    assert_eq!(advised(too_few), Some(vec![Measure::SynRequests]));
    // The sentence alone does not make it one.
    let sentence = BtfError::Missing(Symbol::Function("a".to_owned())).to_string();
    assert_eq!(advised(Refusal::Failed(sentence.clone())), None);
    assert_eq!(advised(Refusal::NotPermitted(sentence)), None);
}

#[test]
fn what_is_left_out_on_purpose_is_no_fault() {
    let coverage = covered(&[
        (Measure::Accepts, Status::Unavailable, Reason::LeftOut(Level::Accepts)),
        (Measure::Reads, Status::Unavailable, Reason::LeftOut(Level::All)),
    ]);
    assert_eq!(Verdict::of(Origin::Probes, &coverage), Verdict::Complete);
    let found =
        Examination { origin: Origin::Probes, refusal: None, trials: Vec::new(), coverage, walks_by_test_runs: None };
    let advice = Diagnosis::of(&found, machine("valid"), |_| true).advice;
    assert_eq!(advice.len(), 1, "{advice:?}");
    assert!(advice[0].action.starts_with("measure more (--measure accepts, --measure all)"), "{advice:?}");
    assert_eq!(advice[0].measures, [Measure::Accepts, Measure::Reads]);
    let reads = found.coverage.iter().find(|entry| entry.measure == Measure::Reads).expect("it is there");
    assert_eq!(reads.in_words().reason, "left out; --measure all has it");
}

#[test]
fn without_anything_it_still_says_what_it_can() {
    let refusal = Some("nothing of it can be read".to_owned());
    let found = Examination {
        origin: Origin::Nothing,
        refusal,
        trials: Vec::new(),
        coverage: Vec::new(),
        walks_by_test_runs: None,
    };
    let diagnosis = Diagnosis::of(&found, machine("none"), |_| false);
    let text = table(&diagnosis, 80);
    for words in ["impossible", "nothing of it can be read", "CONFIG_DEBUG_INFO_BTF", "CAP_BPF and CAP_PERFMON"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn lines_fit_the_terminal() {
    let long = "words and words and ".repeat(20);
    let failed = || Refusal::Failed(long.clone());
    let failure = Failure { refusals: vec![(FUNCTION, failed())], ..Failure::default() };
    let coverage = covered(&[(Measure::SynRequests, Status::Unavailable, Reason::NotAttached(None, failure))]);
    let target = Target::Exit("a_function_with_a_name_that_is_longer_than_any_column");
    let trials = vec![trial(target, Err(failed()), SYN)];
    let found =
        Examination { origin: Origin::Probes, refusal: Some(long.clone()), trials, coverage, walks_by_test_runs: None };
    let diagnosis = Diagnosis::of(&found, facts::all(&found), |_| true);
    for columns in [60, 80, 110] {
        let text = table(&diagnosis, columns);
        let longest = text.lines().max_by_key(|line| line.chars().count()).expect("lines");
        assert!(longest.chars().count() <= columns, "{columns}: {longest}");
    }
}
