//! How fast the work goes and how long it will take. Pure: the time is handed in.

use std::time::Duration;

/// How far back the rate looks: long enough to be steady, short enough to follow a slow disk.
const WINDOW: Duration = Duration::from_secs(20);
/// Points kept of that window.
const SPACING: Duration = Duration::from_millis(500);

/// What was done when, of one step.
#[derive(Debug, Default)]
pub(super) struct Pace {
    points: std::collections::VecDeque<(Duration, u64)>,
    last: Option<(Duration, u64)>,
}

impl Pace {
    /// Takes note that `done` bytes are done at `now`.
    pub(super) fn at(&mut self, now: Duration, done: u64) {
        let due = self
            .points
            .back()
            .is_none_or(|(then, _)| now.saturating_sub(*then) >= SPACING);
        if due {
            self.points.push_back((now, done));
        }
        // The oldest point stays just outside of the window, so that the whole window counts.
        while self
            .points
            .get(1)
            .is_some_and(|(then, _)| now.saturating_sub(*then) >= WINDOW)
        {
            self.points.pop_front();
        }
        self.last = Some((now, done));
    }

    /// Bytes a second over the window; `None` until that can be said.
    pub(super) fn rate(&self) -> Option<f64> {
        let ((begin, before), (end, after)) = (self.points.front()?, self.last?);
        let seconds = end.saturating_sub(*begin).as_secs_f64();
        let bytes = after.saturating_sub(*before);
        (seconds >= SPACING.as_secs_f64() && bytes > 0).then(|| bytes as f64 / seconds)
    }

    /// Seconds until `total` is done at this rate.
    pub(super) fn seconds_left(&self, total: u64) -> Option<f64> {
        let (_, done) = self.last?;
        Some(total.saturating_sub(done) as f64 / self.rate()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_gives_the_time_left() {
        let mut pace = Pace::default();
        for second in 0..=100 {
            pace.at(Duration::from_secs(second), second * 10);
        }
        assert_eq!((pace.rate(), pace.seconds_left(2000)), (Some(10.0), Some(100.0)));
        assert!(pace.points.len() < 50);
    }

    #[test]
    fn the_rate_follows_a_change_within_the_window() {
        let mut pace = Pace::default();
        for second in 0..=60_u64 {
            pace.at(
                Duration::from_secs(second),
                second.min(30) * 1000 + second.saturating_sub(30),
            );
        }
        assert_eq!(pace.rate(), Some(1.0));
    }

    #[test]
    fn nothing_is_promised_before_it_is_known() {
        let mut pace = Pace::default();
        assert_eq!(pace.rate(), None);
        pace.at(Duration::ZERO, 5);
        assert_eq!((pace.rate(), pace.seconds_left(9)), (None, None));
        pace.at(Duration::from_secs(9), 5);
        assert_eq!(pace.rate(), None);
    }
}
