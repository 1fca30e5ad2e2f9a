//! The recent span of one listener: where its sums stood before each step that changed them.

use std::collections::VecDeque;

use crate::{
    histogram::Histogram,
    model::{Counts, Distributions, Drops, Rates},
};

/// One step in which something changed. Steps in which nothing did are left out: idle listeners cost nothing.
#[derive(Debug, Clone)]
struct Step {
    number: u64,
    counts_before: Counts,
    drops_before: Drops,
    added: Option<Box<Distributions>>,
}

/// The steps of the recent span.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent {
    steps: VecDeque<Step>,
}

impl Recent {
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Remembers a step's start, once per step, and what the step added to the distributions.
    pub(crate) fn begin(&mut self, number: u64, counts: &Counts, drops: &Drops, added: Option<Distributions>) {
        match self.steps.back_mut() {
            Some(last) if last.number == number => {
                if let Some(added) = added {
                    let sum = last.added.get_or_insert_default();
                    for_each(sum, &added, Histogram::merge);
                }
            }
            _ => self.steps.push_back(Step {
                number,
                counts_before: *counts,
                drops_before: *drops,
                added: added.map(Box::new),
            }),
        }
    }

    /// Forgets these counters and distributions.
    pub(crate) fn forget(&mut self, counts: [bool; Counts::N], distributions: [bool; Distributions::N]) {
        for step in &mut self.steps {
            for (before, _) in step.counts_before.values_mut().into_iter().zip(counts).filter(|(_, which)| *which) {
                *before = None;
            }
            let added = step.added.as_mut().map(|added| added.each_mut());
            for (added, _) in added.into_iter().flatten().zip(distributions).filter(|(_, which)| *which) {
                *added = None;
            }
        }
    }

    /// What this step added to the distributions, if it is the last one in which something changed.
    pub(crate) fn added(&self, number: u64) -> Option<&Distributions> {
        self.steps.back().filter(|step| step.number == number)?.added.as_deref()
    }

    /// Forgets the steps before `first`, taking what they added out of `distributions`.
    pub(crate) fn expire(&mut self, first: u64, distributions: &mut Distributions) {
        while let Some(step) = self.steps.pop_front_if(|s| s.number < first) {
            if let Some(added) = step.added {
                for_each(distributions, &added, Histogram::subtract);
            }
        }
        if self.steps.is_empty() {
            // Most listeners are idle. The memory kept for their next steps would be a third of all that they need.
            self.steps = VecDeque::new();
        }
    }

    /// Rates over the recent span; all `None` while there is no span.
    pub(crate) fn rates(&self, now: &Counts, drops: &Drops, seconds: f64) -> Rates {
        if seconds <= 0.0 {
            return Rates::default();
        }
        let before = self.steps.front().map_or(*now, |s| s.counts_before);
        let drops_before = self.steps.front().map_or(drops.total, |s| s.drops_before.total);
        Rates::between(now, &before, (drops.total, drops_before), seconds)
    }

    /// Drops within the recent span. Causes of attempts from before the span are left out, even if found only now.
    pub(crate) fn drops(&self, now: &Drops) -> Drops {
        let before = self.steps.front().map_or(*now, |s| s.drops_before);
        let mut recent = now.since(&before);
        if let Some(mut left) = recent.total {
            let causes = [
                &mut recent.accept_queue_full_on_ack,
                &mut recent.accept_queue_full_on_syn,
                &mut recent.syn_queue_full,
                &mut recent.other,
                &mut recent.unexplained,
            ];
            for count in causes.into_iter().flatten() {
                *count = (*count).min(left);
                left -= *count;
            }
        }
        recent
    }
}

/// Applies `f` to each distribution that `added` has.
pub(crate) fn for_each(to: &mut Distributions, added: &Distributions, f: impl Fn(&mut Histogram, &Histogram)) {
    for (to, added) in to.each_mut().into_iter().zip(added.each()) {
        if let Some(added) = added {
            f(to.get_or_insert_default(), added);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_never_add_up_to_more_than_the_recent_total() {
        let mut recent = Recent::default();
        let before = Drops { total: Some(10), ..Drops::default() };
        recent.begin(1, &Counts::default(), &before, None);
        let drops = recent.drops(&Drops {
            accept_queue_full_on_ack: Some(3),
            syn_queue_full: Some(1),
            unexplained: Some(4),
            total: Some(15),
            ..Drops::default()
        });
        let causes = (drops.accept_queue_full_on_ack, drops.syn_queue_full, drops.unexplained);
        assert_eq!((drops.total, causes), (Some(5), (Some(3), Some(1), Some(1))));
    }
}
