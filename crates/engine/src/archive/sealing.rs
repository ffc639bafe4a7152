//! Decides when the WAL that has come together is made durable.
//!
//! Pure: bytes, commits and the time in, a decision out. Sealing each message would make an object of every few hundred
//! bytes; waiting for more would let a commit be lost with the server's disk.
//!
//! Invariants: a commit never waits longer than the interval, never more than [`RUN_BYTES`] wait, and what waits never
//! crosses a place where a finished run ends.

use std::time::Duration;

/// At so much a run is sealed at once: enough to compress well, little enough to wait in memory.
pub const RUN_BYTES: usize = 4 << 20;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing that anybody waits for.
    Wait,
    /// Nothing yet, but at this time there will be.
    WaitUntil(Duration),
    /// Make everything durable.
    Seal,
}

/// The WAL that has come and is not durable yet.
#[derive(Debug, Clone)]
pub struct Sealing {
    interval: Duration,
    bytes: usize,
    commit_since: Option<Duration>,
    part_ended: bool,
}

impl Sealing {
    /// Nothing has come yet; a commit may wait for `interval`.
    pub fn new(interval: Duration) -> Sealing {
        Sealing {
            interval,
            bytes: 0,
            commit_since: None,
            part_ended: false,
        }
    }

    /// How many bytes may be taken before something has to be sealed, `left` being in the part of
    /// the segment that one finished run will hold.
    pub fn room(&self, left: u64) -> usize {
        let most = RUN_BYTES.saturating_sub(self.bytes);
        most.min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// At `now` came `bytes`, with which the part ended or not. `commits` says whether a transaction may have ended in
    /// them.
    pub fn took(&mut self, bytes: usize, commits: Commits, part: Part, now: Duration) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.part_ended |= part == Part::Ended;
        if commits == Commits::Perhaps {
            self.commit_since.get_or_insert(now);
        }
    }

    /// What to do at `now`.
    pub fn decide(&self, now: Duration) -> Decision {
        if self.part_ended || self.bytes >= RUN_BYTES {
            return Decision::Seal;
        }
        match self.commit_since {
            None => Decision::Wait,
            Some(since) => match since.saturating_add(self.interval) {
                until if until <= now => Decision::Seal,
                until => Decision::WaitUntil(until),
            },
        }
    }

    /// Everything that had come is durable.
    pub fn sealed(&mut self) {
        *self = Sealing::new(self.interval);
    }
}

/// Whether somebody may wait for what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    /// No transaction ended in it.
    None,
    /// One did, or nobody knows.
    Perhaps,
}

/// Whether that part of a segment ended that one finished run holds. An open run across its end would be lost sight of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// More belongs to it.
    GoesOn,
    /// That was its last byte.
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    fn check(bytes: usize, commits: Commits, part: Part, after: Duration, expect: Decision) {
        let mut sealing = Sealing::new(INTERVAL);
        sealing.took(bytes, commits, part, INTERVAL);
        assert_eq!(sealing.decide(INTERVAL + after), expect);
        sealing.sealed();
        assert_eq!(sealing.decide(INTERVAL * 100), Decision::Wait);
    }

    #[test]
    fn what_nobody_waits_for_waits_and_all_else_is_sealed_in_time() {
        use Decision::{Seal, Wait, WaitUntil};
        let (half, most) = (INTERVAL / 2, RUN_BYTES);
        check(most - 1, Commits::None, Part::GoesOn, INTERVAL * 90, Wait);
        check(most, Commits::None, Part::GoesOn, Duration::ZERO, Seal);
        check(1, Commits::None, Part::Ended, Duration::ZERO, Seal);
        check(1, Commits::Perhaps, Part::GoesOn, half, WaitUntil(INTERVAL * 2));
        check(1, Commits::Perhaps, Part::GoesOn, INTERVAL, Seal);
    }

    proptest! {
        /// Whoever takes only what there is room for and does what is decided keeps every promise.
        #[test]
        fn no_commit_waits_longer_than_the_interval_and_no_run_is_too_long(
            steps in prop::collection::vec((0usize..3 << 20, any::<bool>(), 0u64..700), 1..60),
            segment in prop::sample::select(vec![1u64 << 20, 16 << 20]),
        ) {
            let mut sealing = Sealing::new(INTERVAL);
            let (mut now, mut position, mut unsealed) = (Duration::ZERO, 0u64, 0usize);
            let mut oldest: Option<Duration> = None;
            for (mut bytes, commit, later) in steps {
                // Time passes; who waits wakes up when it was told to.
                let then = now + Duration::from_millis(later);
                if let Decision::WaitUntil(until) = sealing.decide(now)
                    && until <= then
                {
                    prop_assert_eq!(sealing.decide(until), Decision::Seal);
                    prop_assert!(until - oldest.unwrap() <= INTERVAL);
                    sealing.sealed();
                    (oldest, unsealed) = (None, 0);
                }
                now = then;
                while bytes > 0 {
                    let left = segment - position % segment;
                    let now_taken = bytes.min(sealing.room(left));
                    prop_assert!(now_taken > 0, "no room though everything full was sealed");
                    let start = position;
                    position += now_taken as u64;
                    bytes -= now_taken;
                    unsealed += now_taken;
                    let ended = position % segment == 0;
                    prop_assert!(start / segment == (position - 1) / segment);
                    let commits = if commit { Commits::Perhaps } else { Commits::None };
                    sealing.took(now_taken, commits, if ended { Part::Ended } else { Part::GoesOn }, now);
                    if commit {
                        oldest.get_or_insert(now);
                    }
                    prop_assert!(unsealed <= RUN_BYTES);
                    let decision = sealing.decide(now);
                    prop_assert_eq!(ended || unsealed == RUN_BYTES, decision == Decision::Seal);
                    prop_assert_eq!(decision == Decision::Wait, oldest.is_none() && decision != Decision::Seal);
                    if decision == Decision::Seal {
                        sealing.sealed();
                        (oldest, unsealed) = (None, 0);
                    }
                }
            }
        }
    }
}
