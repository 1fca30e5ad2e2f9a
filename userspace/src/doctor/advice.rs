//! What to do, in order of benefit.

use caps::Capability;
use listentop_model::coverage::{Measure, Status};
use serde::Serialize;

use super::facts::{self, Fact, Hindrance};
use crate::{
    rights::GRANTS,
    source::{Examination, Origin, coverage::Entry},
};

/// Something that would make measures better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// What to do.
    pub action: String,
    /// The measures that it would, or may, provide or improve; empty if it only lowers the cost.
    pub measures: Vec<Measure>,
}

/// Groups of capabilities that help only together.
const TOGETHER: [&[Capability]; 4] = [
    PROBES,
    &[Capability::CAP_DAC_READ_SEARCH, Capability::CAP_SYS_PTRACE],
    &[Capability::CAP_SYS_ADMIN],
    &[Capability::CAP_SYSLOG],
];

/// Those that probes need.
const PROBES: &[Capability] = &[Capability::CAP_BPF, Capability::CAP_PERFMON];

/// What would help here.
pub(super) fn of(examination: &Examination, machine: &[Fact], has: &impl Fn(Capability) -> bool) -> Vec<Advice> {
    let hindered = |by| machine.iter().any(|fact| fact.hindrance == Some(by));
    let mut advice = Vec::new();
    if examination.origin != Origin::Probes && hindered(Hindrance::NoBtf) {
        let action = "boot a kernel with CONFIG_DEBUG_INFO_BTF: without it there are no probes".to_owned();
        advice.push(Advice { action, measures: all_lacking(examination) });
    }
    advice.extend(TOGETHER.iter().filter_map(|group| capabilities(group, examination, has)));
    if examination.origin != Origin::Probes && PROBES.iter().all(|capability| has(*capability)) {
        let reason = examination.refusal.as_deref().unwrap_or("they were not requested");
        let action = format!("find out what keeps probes from running although the rights are there: {reason}");
        advice.push(Advice { action, measures: all_lacking(examination) });
    }
    let measures = refused_functions(examination);
    if facts::fentry_is_refused(&examination.trials, has) && !measures.is_empty() {
        let action = "have the security policy (an LSM, a BPF program, the cloud's guest kernel) allow fentry programs"
            .to_owned();
        advice.push(Advice { action, measures });
    }
    let measures = concerned_by(examination, Entry::is_age);
    if !measures.is_empty() {
        let action = "boot a newer kernel, which has the hooks that this one lacks".to_owned();
        advice.push(Advice { action, measures });
    }
    let measures = concerned_by(examination, Entry::is_left_out);
    if !measures.is_empty() {
        let action = "measure more (--measure accepts, --measure all), where its cost is acceptable".to_owned();
        advice.push(Advice { action, measures });
    }
    if hindered(Hindrance::NoJit) {
        let action =
            "switch on the BPF compiler (sysctl net.core.bpf_jit_enable=1): probes cost several times less".to_owned();
        advice.push(Advice { action, measures: Vec::new() });
    }
    advice
}

/// Advice to grant those of a group that are missing, if that would help.
fn capabilities(group: &[Capability], examination: &Examination, has: &impl Fn(Capability) -> bool) -> Option<Advice> {
    let missing: Vec<Capability> = group.iter().copied().filter(|capability| !has(*capability)).collect();
    let first = missing.first()?;
    let measures = match (group == PROBES, examination.origin) {
        // Without probes it is unknown which other measures would be missing.
        (true, Origin::SockDiag | Origin::Nothing) => all_lacking(examination),
        (true, Origin::Probes) => return None,
        (false, _) => concerned_by(examination, |entry| entry.wanted().iter().any(|wanted| missing.contains(wanted))),
    };
    if measures.is_empty() {
        return None;
    }
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let names = names.join(" and ");
    let brings = GRANTS.iter().find(|grant| grant.capability == *first).map_or("", |grant| grant.brings);
    let action = if nix::unistd::geteuid().is_root() {
        format!("grant {names}, which this root lacks (a container's --cap-add): {brings}")
    } else {
        format!("run it as root, or grant {names}: {brings}")
    };
    Some(Advice { action, measures })
}

/// Whether a measure is not, or not wholly, measured.
fn is_lacking(examination: &Examination, measure: Measure) -> bool {
    let found = examination.coverage.iter().find(|entry| entry.measure == measure);
    found.is_none_or(|entry| entry.status() != Status::Measured)
}

fn all_lacking(examination: &Examination) -> Vec<Measure> {
    Measure::ALL.iter().copied().filter(|measure| is_lacking(examination, *measure)).collect()
}

/// Measures that hooks on functions would provide or improve, but these hooks are refused.
fn refused_functions(examination: &Examination) -> Vec<Measure> {
    let refused = examination.trials.iter().filter(|trial| trial.target.is_function() && trial.outcome.is_err());
    let measures = refused.flat_map(|trial| trial.measures).copied();
    let mut measures: Vec<Measure> = measures.filter(|measure| is_lacking(examination, *measure)).collect();
    measures.sort_unstable();
    measures.dedup();
    measures
}

/// Measures that are not wholly measured, for reasons of this sort.
fn concerned_by(examination: &Examination, is_so: impl Fn(&Entry) -> bool) -> Vec<Measure> {
    let lacking = examination.coverage.iter().filter(|entry| entry.status() != Status::Measured);
    lacking.filter(|entry| is_so(entry)).map(|entry| entry.measure).collect()
}
