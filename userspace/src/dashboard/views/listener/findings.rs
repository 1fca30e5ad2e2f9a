//! The findings about a listener, and its pattern, each with the evidence.

use listentop_model::{
    model::{Finding, ListenerModel, depth},
    words::{self, verdict},
};
use ratatui::{
    style::Style,
    text::{Line, Span},
};

use crate::dashboard::state::State;

/// Findings, each root cause with what follows from it, then the pattern, then what is known of limit and processes,
/// wrapped to `width`.
pub(super) fn lines(listener: &ListenerModel, width: u16, state: &State) -> Vec<Line<'static>> {
    let theme = state.theme;
    let mut lines = Vec::new();
    let paragraph = |lines: &mut Vec<Line<'static>>, indent: &str, text: &str, style: Style| {
        let room = usize::from(width).saturating_sub(indent.len() + 3);
        for line in words::wrap(text, room) {
            lines.push(Line::styled(format!("{indent}{line}"), style));
        }
    };
    match state.model.as_ref().and_then(|model| verdict::unfound_line(model, listener)) {
        Some((severity, text)) => {
            let text = format!("{} {}: {text}", words::severity_mark(severity), severity.name());
            paragraph(&mut lines, "", &text, theme.severity(severity));
        }
        None if listener.findings.is_empty() => {
            lines.push(Line::raw("No findings: no measure shows clients that wait too long or are refused."));
        }
        None => {}
    }
    let blamed = state.model.as_ref().and_then(|model| model.blame.as_ref()?.of(&[listener.id])?.sentence());
    let blamed = blamed.map(|did| words::clean(&did));
    for (at, finding) in listener.findings.iter().enumerate() {
        let margin = "    ".repeat(depth(&listener.findings, at));
        let inner = format!("{margin}  ");
        let (mark, when) = (words::severity_mark(finding.severity), words::finding_time(finding));
        let summary = words::clean(&finding.summary);
        let expected = if state.expects(finding) { EXPECTED } else { "" };
        // The line to copy stands before what acceptors did, so that it is seen on a small screen.
        let (summary, did) = match blamed.as_deref().filter(|_| finding.follows_from.is_none()) {
            Some(did) => summary.strip_suffix(did).map_or((&*summary, None), |summary| (summary.trim_end(), Some(did))),
            None => (&*summary, None),
        };
        let head = format!("{mark} {}{expected}{when} {}: {summary}", finding.severity.name(), finding.id);
        paragraph(&mut lines, &margin, &head, theme.severity(finding.severity));
        // What follows from something else has its advice there.
        if finding.follows_from.is_none() {
            if let Some(command) = verdict::command(&finding.advice).filter(|_| at == 0) {
                lines.push(Line::from(vec![
                    Span::styled(format!("{inner}y copies: "), theme.label()),
                    Span::styled(words::clean(command), theme.strong()),
                ]));
            }
            did.into_iter().for_each(|did| paragraph(&mut lines, &inner, did, theme.severity(finding.severity)));
            paragraph(&mut lines, &inner, &words::clean(&finding.advice), Style::new());
        }
        let evidence = evidence(finding);
        if !evidence.is_empty() {
            paragraph(&mut lines, &inner, &evidence, theme.label());
        }
    }
    lines.push(Line::raw(""));
    let pattern = &listener.pattern;
    let fits = if pattern.confidence > 0.0 {
        format!(" fits {} of what was seen", words::whole_percent(pattern.confidence))
    } else {
        String::new()
    };
    lines.push(Line::from(vec![
        Span::styled("Pattern ", theme.label()),
        Span::styled(pattern.name.name(), theme.title()),
        Span::raw(fits),
    ]));
    for sentence in &pattern.evidence {
        paragraph(&mut lines, "  ", sentence, Style::new());
    }
    let behind =
        [words::behind::limit(listener), words::behind::waiters(listener), words::behind::descriptors(listener)];
    if behind.iter().any(Option::is_some) {
        lines.push(Line::raw(""));
    }
    for (label, sentence) in ["Limit: ", "Waiters: ", "Descriptors: "].into_iter().zip(behind) {
        if let Some(sentence) = sentence {
            paragraph(&mut lines, "", &format!("{label}{sentence}"), Style::new());
        }
    }
    lines
}

/// Behind the severity of a finding that a lab's lesson is about.
pub(in crate::dashboard::views) const EXPECTED: &str = " (expected by the lesson)";

/// The figures behind a finding, in a line.
pub(in crate::dashboard::views) fn evidence(finding: &Finding) -> String {
    let figures = finding.evidence.iter().map(|(name, value)| format!("{name} {}", figure(*value)));
    figures.collect::<Vec<_>>().join(" · ")
}

/// A figure of any kind: whole numbers without decimals, others with three.
fn figure(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        let sign = if value < 0.0 { "-" } else { "" };
        format!("{sign}{}", words::grouped(value.abs() as u64))
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        assert_eq!(figure(12_345.0), "12,345");
        assert_eq!(figure(-3.0), "-3");
        assert_eq!(figure(0.5), "0.500");
    }
}
