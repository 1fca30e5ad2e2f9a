//! Progress of a run without a dashboard, on stderr: on a terminal one line that is overwritten, elsewhere a line now
//! and then.

use crate::sys::{put, say};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Time between two updates on a terminal.
const IN_PLACE: Duration = Duration::from_secs(1);
/// Time between two lines elsewhere.
const SPARSE: Duration = Duration::from_secs(10);
/// The line is erased this long before the end, because the report may follow at once on the same terminal.
const MARGIN: Duration = Duration::from_millis(100);
/// Erases the line on a terminal: the cursor is at its beginning.
const ERASE: &str = "\x1b[K";

/// The progress of a run.
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

    /// The time of the next update; `None` after the last one.
    pub(super) fn next(&self) -> Option<Instant> {
        next(self.began.elapsed(), self.total, self.in_place).map(|elapsed| self.began + elapsed)
    }

    /// Prints the elapsed time.
    pub(super) fn print(&self) {
        let elapsed = self.began.elapsed();
        let line = format!("lab: {} of {} s", elapsed.as_secs(), self.total.as_secs_f64());
        if !self.in_place {
            say(line);
        } else if elapsed + MARGIN >= self.total {
            erase();
        } else {
            put(&format!("{ERASE}{line}\r"));
        }
    }
}

/// The elapsed time at the next update.
fn next(elapsed: Duration, total: Duration, in_place: bool) -> Option<Duration> {
    let step = if in_place { IN_PLACE } else { SPARSE };
    let next = step * (elapsed.as_secs() / step.as_secs() + 1) as u32;
    let end = total.saturating_sub(MARGIN);
    if in_place { (elapsed < end).then_some(next.min(end)) } else { (next < total).then_some(next) }
}

/// Erases the progress line, so that another line can be printed on stderr.
pub(super) fn erase() {
    if std::io::stderr().is_terminal() {
        put(ERASE);
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
    fn every_second_on_a_terminal_and_erased_before_the_end() {
        assert_eq!(times(3000, true), [1000, 2000, 2900]);
        assert_eq!(times(2500, true), [1000, 2000, 2400]);
        assert_eq!(times(500, true), [400]);
        assert_eq!(times(50, true), [0; 0]);
    }

    #[test]
    fn every_ten_seconds_elsewhere() {
        assert_eq!(times(35_000, false), [10_000, 20_000, 30_000]);
        assert_eq!(times(10_000, false), [0; 0]);
    }
}
