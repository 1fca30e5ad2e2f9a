//! What the threads that did most were doing at each step, for graphs.

use super::{Clock, State};
use crate::{history::ThreadRates, model::ThreadModel};

/// Threads of a listener that are followed: as many as are compared. A history takes up to 5 KiB.
pub(super) const FOLLOWED: usize = 8;

/// Notes what the first of these, which did most so far, did since the last step. What is not followed any more is
/// unknown from there on. `alone`: the only thread of a listener does what the listener's history says.
pub(super) fn note(states: &mut [State], models: &mut [ThreadModel], alone: bool, clock: &Clock) {
    let step_ns = clock.elapsed_ns().saturating_sub(clock.previous_ns());
    let followed = if alone { 0 } else { FOLLOWED };
    for (at, (state, model)) in states.iter_mut().zip(models).enumerate() {
        if at >= followed {
            if state.noted.take().is_some() {
                model.history.push(clock.step(), None);
            }
            continue;
        }
        // A sample at the same instant makes no step: what it shows belongs to the next.
        if step_ns == 0 && state.noted.is_some() {
            continue;
        }
        let now = [model.accepts, model.reads, model.writes];
        if let Some(before) = state.noted.replace(now)
            && step_ns > 0
        {
            let rate = |at: usize| (now[at].saturating_sub(before[at]) as f64 * 1e9 / step_ns as f64) as f32;
            let rates = ThreadRates { accepts: rate(0), reads: rate(1), writes: rate(2) };
            model.history.push(clock.step(), Some(rates));
        }
    }
}
