//! How far a run without a dashboard has come, on stderr: in place on a terminal, now and then elsewhere.

use crate::sys::say;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// From one word to the next on a terminal.
const IN_PLACE: Duration = Duration::from_secs(1);
/// Elsewhere, where they stay.
const SPARSE: Duration = Duration::from_secs(10);
/// The report follows at once when time is up, on the same terminal perhaps: the line goes so long before.
const MARGIN: Duration = Duration::from_millis(100);
/// Erases a line that was told in place: the cursor is at its beginning.
const ERASE: &str = "\x1b[K";

/// Time that passes.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    total: Duration,
    in_place: bool,
}

impl Progress {
    /// Begins now.
    pub(super) fn begin(total: Duration) -> Self {
        Self { began: Instant::now(), total, in_place: std::io::stderr().is_terminal() }
    }

    /// When there is something to tell, if there still is.
    pub(super) fn next(&self) -> Option<Instant> {
        next(self.began.elapsed(), self.total, self.in_place).map(|elapsed| self.began + elapsed)
    }

    /// Tells how far it has come.
    pub(super) fn tell(&self) {
        let elapsed = self.began.elapsed();
        let line = format!("lab: {} of {} s", elapsed.as_secs(), self.total.as_secs_f64());
        if !self.in_place {
            say(line);
        } else if elapsed + MARGIN >= self.total {
            erase();
        } else {
            let _ = write!(std::io::stderr(), "{ERASE}{line}\r");
        }
    }
}

/// The elapsed time at which to tell next.
fn next(elapsed: Duration, total: Duration, in_place: bool) -> Option<Duration> {
    let step = if in_place { IN_PLACE } else { SPARSE };
    let next = step * (elapsed.as_secs() / step.as_secs() + 1) as u32;
    let end = total.saturating_sub(MARGIN);
    if in_place { (elapsed < end).then_some(next.min(end)) } else { (next < total).then_some(next) }
}

/// Makes room for another line on stderr.
pub(super) fn erase() {
    if std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr(), "{ERASE}");
    }
}

#[cfg(test)]
mod tests {
    use super::next;
    use std::time::Duration;

    fn times(total: u64, in_place: bool) -> Vec<u64> {
        let mut elapsed = Duration::ZERO;
        let step = || {
            elapsed = next(elapsed, Duration::from_millis(total), in_place)?;
            Some(elapsed.as_millis() as u64)
        };
        std::iter::from_fn(step).collect()
    }

    #[test]
    fn each_second_on_a_terminal_and_the_line_is_gone_before_the_end() {
        assert_eq!(times(3000, true), [1000, 2000, 2900]);
        assert_eq!(times(2500, true), [1000, 2000, 2400]);
        assert_eq!(times(500, true), [400]);
        assert_eq!(times(50, true), [0; 0]);
    }

    #[test]
    fn seldom_elsewhere() {
        assert_eq!(times(35_000, false), [10_000, 20_000, 30_000]);
        assert_eq!(times(10_000, false), [0; 0]);
    }
}
