//! Tabs, scrolling and neighbours of the listener view.

use std::sync::Arc;

use listentop_model::{fixtures, sample::Sample, tracker::Tracker};

use super::*;
use crate::dashboard::DashboardOptions;

fn opened(samples: &[Sample], size: (u16, u16)) -> (Listener, State) {
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|sample| tracker.push(sample));
    let mut state = State::new(DashboardOptions::default());
    state.size = size;
    state.set_model(Arc::new(tracker.model().clone()));
    let mut listener = Listener::default();
    listener.open(&state);
    (listener, state)
}

#[test]
fn tabs_go_round_and_leave_out_what_is_in_sight() {
    use Section::{Distributions, Findings, OverTime, Threads};
    for (size, tabs) in [
        ((80, 24), &[Findings, Distributions, OverTime, Threads][..]),
        ((120, 40), &[Findings, Distributions, OverTime, Threads]),
        ((200, 60), &[Findings, Threads]),
    ] {
        let (mut listener, mut state) = opened(&fixtures::overflow(), size);
        assert_eq!(Parts::of(state.body()).tabs(), tabs);
        let mut went = |step| -> Vec<Section> {
            let step = |_| {
                listener.update(step, &mut state);
                listener.section
            };
            tabs.iter().map(step).collect()
        };
        let forwards: Vec<Section> = tabs.iter().copied().cycle().skip(1).take(tabs.len()).collect();
        assert_eq!(went(Action::NextSection), forwards, "{size:?}");
        let backwards: Vec<Section> = tabs.iter().rev().copied().collect();
        assert_eq!(went(Action::PreviousSection), backwards, "{size:?}");
    }
}

/// A section that was chosen on a small screen may have a separate place on a larger one.
#[test]
fn what_has_a_place_of_its_own_is_no_tab() {
    let (mut listener, mut state) = opened(&fixtures::overflow(), (80, 24));
    listener.update(Action::NextSection, &mut state);
    assert_eq!(listener.current(&Parts::of(state.body())), Section::Distributions);
    state.size = (200, 60);
    assert_eq!(listener.current(&Parts::of(state.body())), Section::Findings);
}

#[test]
fn sections_scroll_to_their_end() {
    let (mut listener, mut state) = opened(&fixtures::overflow(), (80, 24));
    let parts = Parts::of(state.body());
    assert_eq!((parts.tabbed.y, parts.tabbed.height), (14, 9));
    let long = state.listener(listener.id.expect("one is selected")).expect("it is there");
    let lines = findings::lines(&long, 80, &state).len();
    // The graphs take four of the nine rows.
    assert!(lines > 5, "{lines} lines show no scrolling");
    assert_eq!(listener.update(Action::Last, &mut state), Outcome::Changed);
    assert_eq!(listener.scroll, lines - 5);
    assert_eq!(listener.update(Action::Down, &mut state), Outcome::Unchanged);
    listener.update(Action::First, &mut state);
    listener.update(Action::PageDown, &mut state);
    assert_eq!(listener.scroll, 5.min(lines - 5));
    listener.update(Action::NextSection, &mut state);
    assert_eq!(listener.scroll, 0);
}

#[test]
fn threads_scroll_under_their_head() {
    let mut samples = fixtures::overflow();
    let threads = &mut samples.last_mut().expect("there are samples").listeners[0].threads;
    let thread = threads[0].clone();
    threads.extend((0..20).map(|n| listentop_model::sample::ThreadSample { tid: 9_000 + n, ..thread.clone() }));
    let (mut listener, mut state) = opened(&samples, (80, 24));
    listener.section = Section::Threads;
    let parts = Parts::of(state.body());
    let count = state.listener(listener.id.expect("one is selected")).expect("it is there").threads.len();
    assert!(count > 20, "{count}");
    // Nine rows, of which one is the head.
    assert_eq!(listener.extent(&parts, &state), (8, count + 1 - 9));
    listener.update(Action::Last, &mut state);
    assert_eq!(listener.scroll, count - 8);
}

#[test]
fn movements_choose_a_distribution_where_there_are_some() {
    let (mut listener, mut state) = opened(&fixtures::overflow(), (80, 24));
    listener.section = Section::Distributions;
    for (action, chosen) in [
        (Action::Down, 1),
        (Action::Down, 2),
        (Action::Up, 1),
        (Action::Last, 7),
        (Action::Down, 7),
        (Action::PageUp, 0),
    ] {
        listener.update(action, &mut state);
        assert_eq!((listener.distributions.chosen, listener.scroll), (chosen, 0), "{action:?}");
    }
    assert!(!listener.distributions.recent);
    assert_eq!(listener.update(Action::ToggleSpan, &mut state), Outcome::Changed);
    assert!(listener.distributions.recent);
    listener.update(Action::ToggleSpan, &mut state);
    assert!(!listener.distributions.recent);
}

#[test]
fn neighbours_are_those_of_the_overview() {
    let (mut listener, mut state) = opened(&fixtures::quiet(), (80, 24));
    let port = |listener: &Listener, state: &State| listener.id.and_then(|id| state.listener(id)).map(|l| l.port);
    let mut ports = Vec::new();
    for action in [Action::NextListener, Action::NextListener, Action::NextListener, Action::PreviousListener] {
        listener.scroll = 3;
        listener.update(action, &mut state);
        ports.push(port(&listener, &state));
        assert_eq!(listener.scroll, 0);
    }
    assert_eq!(ports, [80, 6379, 6379, 80].map(Some));
    listener.scroll = 0;
    state.select(0);
    listener.follow_selection(&state);
    assert_eq!(listener.update(Action::PreviousListener, &mut state), Outcome::Unchanged);
}
