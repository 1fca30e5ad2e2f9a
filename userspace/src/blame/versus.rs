//! Two runs side by side.

use std::{collections::BTreeMap, fmt::Write as _};

use listentop_model::words::{fit, precise_duration};

use super::{
    Blamed, Frame,
    frames::way,
    json::{self, FrameEntry, Report},
};

/// Rows that are shown.
const MOST: usize = 30;
/// A row whose share is smaller in both runs is left out.
const LEAST: f64 = 0.005;

/// The waiting by what was done and where, now and in an earlier run: in which that differs most comes first.
#[must_use]
pub fn versus(blamed: &Blamed, before: &Report, columns: usize) -> String {
    let now = json::report(blamed);
    let mut text = String::new();
    let total = |report: &Report| precise_duration(report.total_wait_us);
    let interval = |report: &Report| precise_duration(report.interval_us);
    let _ = writeln!(
        text,
        "{} {} in {} before, {} in {} now.\n",
        blamed.of.waited(),
        total(before),
        interval(before),
        total(&now),
        interval(&now)
    );
    let _ = writeln!(
        text,
        "  {:>8} {:>8} {:>8}   {:>8} {:>8}  {:<8}  WHERE",
        "BEFORE", "NOW", "CHANGE", "BEFORE", "NOW", "STATE"
    );
    let (waits_before, waits_now) = (by_place(before), by_place(&now));
    let mut rows: Vec<(&(String, String), u64, u64)> = waits_before
        .keys()
        .chain(waits_now.keys().filter(|place| !waits_before.contains_key(*place)))
        .map(|place| (place, waits_before.get(place).copied().unwrap_or(0), waits_now.get(place).copied().unwrap_or(0)))
        .collect();
    let part = |wait_us: u64, report: &Report| super::share(wait_us, report.total_wait_us);
    let change = |before_us: u64, now_us: u64| part(now_us, &now) - part(before_us, before);
    rows.sort_by(|a, b| change(b.1, b.2).abs().total_cmp(&change(a.1, a.2).abs()));
    rows.retain(|(_, before_us, now_us)| part(*before_us, before) >= LEAST || part(*now_us, &now) >= LEAST);
    for ((state, place), before_us, now_us) in rows.into_iter().take(MOST) {
        let line = format!(
            "  {:>8} {:>8} {:>8}   {:>8} {:>8}  {state:<8}  ",
            percent(part(before_us, before)),
            percent(part(now_us, &now)),
            format!("{:+.1} %", change(before_us, now_us) * 100.0),
            precise_duration(before_us),
            precise_duration(now_us)
        );
        let _ = writeln!(text, "{line}{}", fit(place, columns.saturating_sub(line.len()).max(20)));
    }
    text
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The waiting of all listeners and threads, by state and function.
fn by_place(report: &Report) -> BTreeMap<(String, String), u64> {
    let mut waits = BTreeMap::new();
    for stack in report.listeners.iter().flat_map(|listener| &listener.stacks) {
        let frames: Vec<Frame> = stack.frames.iter().map(frame).collect();
        *waits.entry((stack.state.clone(), way(&frames))).or_default() += stack.wait_us;
    }
    waits
}

fn frame(entry: &FrameEntry) -> Frame {
    let text = entry.function.as_ref().or(entry.address.as_ref()).or(entry.remark.as_ref());
    Frame {
        function: text.cloned().unwrap_or_default(),
        module: entry.module.clone(),
        kernel: entry.kernel,
        named: entry.function.is_some(),
        is_remark: entry.remark.is_some(),
        is_code: true,
        why: entry.unnamed.clone(),
    }
}
