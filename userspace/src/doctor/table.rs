//! The diagnosis for people.

use listentop_model::coverage::{Measure, Status};

use super::{Diagnosis, Verdict};
use listentop_model::words::{clean, width, wrap};

/// On a terminal narrower than this, lines are longer than the terminal is wide.
const MIN_WIDTH: usize = 60;
/// Lines longer than this are hard to read.
const MAX_WIDTH: usize = 110;

/// The diagnosis in lines of at most `width` columns (at least 60), each ended by a newline.
#[must_use]
pub fn table(diagnosis: &Diagnosis, width: usize) -> String {
    let mut page = Page { width: width.clamp(MIN_WIDTH, MAX_WIDTH), text: String::new() };
    verdict(diagnosis, &mut page);
    page.heading("What to do, the most useful first");
    for (number, advice) in (1..).zip(&diagnosis.advice) {
        page.hanging(&format!("{number}. "), &advice.action);
        if !advice.measures.is_empty() {
            page.hanging("   ", &format!("for {}", names(&advice.measures)));
        }
    }
    if diagnosis.advice.is_empty() {
        page.hanging("", "nothing: this kernel cannot show more");
    }
    page.heading("Machine");
    let column = column(diagnosis.machine.iter().map(|fact| fact.name));
    for fact in &diagnosis.machine {
        page.entry(fact.name, column, fact.value.as_deref().unwrap_or("not known"), fact.effect.as_deref());
    }
    page.heading("Capabilities");
    let column = self::column(diagnosis.capabilities.iter().map(|right| right.name.as_str()));
    for right in &diagnosis.capabilities {
        let value = if right.held { format!("held: {}", right.brings) } else { format!("MISSING: {}", right.without) };
        page.entry(&right.name, column, &value, None);
    }
    page.heading("Hooks, tried and detached again");
    let column = self::column(diagnosis.hooks.iter().map(|hook| hook.hook.as_str()));
    let mut said: Vec<(&str, bool, &str)> = Vec::new();
    let mut last = None;
    for hook in &diagnosis.hooks {
        // Several programs may have been tried on one.
        let key = (hook.hook.as_str(), hook.attached, hook.event);
        if said.contains(&key) {
            continue;
        }
        said.push(key);
        let value = format!("{}: {}", if hook.attached { "ok" } else { "NO" }, hook.event);
        // Most share their reason, which is shown once.
        let reason = hook.reason.as_deref();
        page.entry(&hook.hook, column, &value, reason.filter(|_| reason != last));
        last = reason;
    }
    if diagnosis.hooks.is_empty() {
        page.hanging("", "none was tried: the start failed before");
    }
    measures(diagnosis, &mut page);
    page.text
}

fn verdict(diagnosis: &Diagnosis, page: &mut Page) {
    let count = |status| format!("{} {status}", diagnosis.count(status));
    let counts = [Status::Measured, Status::Sampled, Status::Unavailable].map(count).join(", ");
    let words = match (diagnosis.verdict, diagnosis.source) {
        (Verdict::Complete, _) => format!("complete: every measure is available ({counts})"),
        (Verdict::Partial, _) => format!("partial: probes run, and some measures are unavailable ({counts})"),
        (Verdict::Impossible, Some(_)) => {
            format!("impossible: no probes run; only what the kernel shows to everybody is available ({counts})")
        }
        (Verdict::Impossible, None) => "impossible: nothing can be measured".to_owned(),
    };
    page.hanging("", &words);
    if let Some(reason) = &diagnosis.source_reason {
        page.hanging("  ", reason);
    }
}

fn measures(diagnosis: &Diagnosis, page: &mut Page) {
    page.heading("Measures");
    let column = column(diagnosis.coverage.iter().map(|entry| entry.measure));
    let mut said: Vec<&Option<String>> = Vec::new();
    for entry in &diagnosis.coverage {
        if let Some(via) = &entry.via {
            page.entry(entry.measure, column, &format!("{}: {via}", entry.status), entry.reason.as_deref());
        } else if !said.contains(&&entry.reason) {
            // Measures that are unavailable for the same reason share a line.
            said.push(&entry.reason);
            let same = diagnosis.coverage.iter().filter(|other| other.via.is_none() && other.reason == entry.reason);
            let names: Vec<&str> = same.map(|other| other.measure).collect();
            page.hanging("  ", &names.join(", "));
            let reason = entry.reason.as_deref().unwrap_or_default();
            page.entry("", column, &format!("UNAVAILABLE: {reason}"), None);
        }
    }
}

fn names(measures: &[Measure]) -> String {
    measures.iter().map(|measure| measure.name()).collect::<Vec<_>>().join(", ")
}

/// Width of a column of names. A very long name continues on the next line.
fn column<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(width).max().unwrap_or(0).min(34)
}

struct Page {
    width: usize,
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn heading(&mut self, heading: &str) {
        self.line("");
        self.line(heading);
    }

    /// Text behind `first`. Further lines are aligned with the first one.
    fn hanging(&mut self, first: &str, text: &str) {
        let margin = width(first);
        for (number, line) in wrap(&clean(text), self.width - margin).into_iter().enumerate() {
            let before = if number == 0 { first.to_owned() } else { " ".repeat(margin) };
            self.line(&format!("{before}{line}"));
        }
    }

    /// A name, its value to the right, and a note below the value.
    fn entry(&mut self, name: &str, column: usize, value: &str, note: Option<&str>) {
        let mut first = format!("  {name:column$}  ");
        let margin = " ".repeat(column + 4);
        if width(&first) > width(&margin) {
            self.hanging("  ", name);
            first.clone_from(&margin);
        }
        self.hanging(&first, value);
        if let Some(note) = note {
            self.hanging(&margin, note);
        }
    }
}
