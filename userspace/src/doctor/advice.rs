//! What to do, in order of benefit.

use caps::Capability;
use listentop_model::coverage::{Measure, Status};
use serde::Serialize;

use super::facts::{self, Fact};
use crate::{
    rights::GRANTS,
    source::{Examination, Origin},
};

/// Something that would make measures better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// What to do.
    pub action: String,
    /// The measures that it would, or may, bring or better; none: it lowers the cost.
    pub measures: Vec<Measure>,
}

/// Rights that bring nothing without each other.
const TOGETHER: [&[Capability]; 4] = [
    &[Capability::CAP_BPF, Capability::CAP_PERFMON],
    &[Capability::CAP_DAC_READ_SEARCH, Capability::CAP_SYS_PTRACE],
    &[Capability::CAP_SYS_ADMIN],
    &[Capability::CAP_SYSLOG],
];

/// What would help here.
pub(super) fn of(examination: &Examination, machine: &[Fact], has: &impl Fn(Capability) -> bool) -> Vec<Advice> {
    let mut advice = Vec::new();
    let value = |name: &str| machine.iter().find(|fact| fact.name == name)?.value.as_deref();
    let lacking = |measure: &Measure| {
        let found = examination.coverage.iter().find(|entry| entry.measure == *measure);
        found.is_none_or(|entry| entry.status != Status::Measured)
    };
    let all_lacking = || Measure::ALL.iter().copied().filter(lacking).collect::<Vec<_>>();
    if examination.origin != Origin::Probes && value("BTF") == Some("none") {
        let action = "boot a kernel with CONFIG_DEBUG_INFO_BTF: without it there are no probes".to_owned();
        advice.push(Advice { action, measures: all_lacking() });
    }
    for group in TOGETHER {
        let missing: Vec<Capability> = group.iter().copied().filter(|capability| !has(*capability)).collect();
        let measures = match group[0] {
            _ if missing.is_empty() => continue,
            // Whatever is lacking, without probes it cannot be told what else would be.
            Capability::CAP_BPF if examination.origin != Origin::Probes => all_lacking(),
            Capability::CAP_BPF => continue,
            _ => concerned(examination, &missing),
        };
        if measures.is_empty() {
            continue;
        }
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let brings = GRANTS.iter().find(|grant| grant.capability == missing[0]).map_or("", |grant| grant.brings);
        let names = names.join(" and ");
        let action = if nix::unistd::geteuid().is_root() {
            format!("grant {names}, which this root lacks (a container's --cap-add): {brings}")
        } else {
            format!("run it as root, or grant {names}: {brings}")
        };
        advice.push(Advice { action, measures });
    }
    if examination.origin != Origin::Probes && TOGETHER[0].iter().all(|capability| has(*capability)) {
        let reason = examination.refusal.as_deref().unwrap_or("they were not asked for");
        let action = format!("find out what keeps probes from running although the rights are there: {reason}");
        advice.push(Advice { action, measures: all_lacking() });
    }
    let functions = examination.trials.iter().filter(|trial| facts::on_function(trial) && trial.outcome.is_err());
    let mut measures: Vec<Measure> = functions.flat_map(|trial| trial.measures).copied().filter(lacking).collect();
    measures.sort_unstable();
    measures.dedup();
    if facts::fentry_is_refused(&examination.trials, has) && !measures.is_empty() {
        let action = "have the security policy (an LSM, a BPF program, the cloud's guest kernel) allow fentry programs"
            .to_owned();
        advice.push(Advice { action, measures });
    }
    let unknown = concerned_by(examination, "BTF has no");
    if !unknown.is_empty() {
        let action = "boot a newer kernel, which has the hooks that this one lacks".to_owned();
        advice.push(Advice { action, measures: unknown });
    }
    if value("net.core.bpf_jit_enable") == Some("0") {
        let action =
            "switch on the BPF compiler (sysctl net.core.bpf_jit_enable=1): probes cost several times less".to_owned();
        advice.push(Advice { action, measures: Vec::new() });
    }
    advice
}

/// Measures whose reason names one of these.
fn concerned(examination: &Examination, missing: &[Capability]) -> Vec<Measure> {
    let mut measures: Vec<Measure> =
        missing.iter().flat_map(|capability| concerned_by(examination, &capability.to_string())).collect();
    measures.sort_unstable();
    measures.dedup();
    measures
}

fn concerned_by(examination: &Examination, words: &str) -> Vec<Measure> {
    let lacking = examination.coverage.iter().filter(|entry| entry.status != Status::Measured);
    lacking.filter(|entry| entry.reason.contains(words)).map(|entry| entry.measure).collect()
}
