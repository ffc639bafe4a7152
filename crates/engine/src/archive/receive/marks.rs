//! Says now and then that all is here that the server had written: an idle server and a dead receiver look alike
//! otherwise.
//!
//! Only a server that is not in recovery is asked: a standby tells what it has, not what was written.
//!
//! Invariant: a mark's time is one at which the server had written nothing past its position. What a server says with a
//! message was true a moment before it put its clock's time in; so the time of one message counts once the next one,
//! for which it looked again, shows nothing new.

use std::time::Duration;

use repo::{
    Repository, Result,
    session::Session,
    wal::{Mark, WalStream, newest_mark, put_mark},
};

/// What the server said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// How far its WAL reached, and when, by its own clock. With WAL comes no time that counts: a server looks how far it
    /// is, reads, and only then puts the time in.
    last: Option<(u64, Option<i64>)>,
    /// The same, looked at twice.
    sure: Option<(u64, i64)>,
}

impl Said {
    /// WAL came.
    pub(super) fn data(&mut self, server_end: u64) {
        *self = Said {
            last: Some((server_end, None)),
            sure: None,
        };
    }

    /// It lives, and had sent everything before `sent`.
    pub(super) fn alive(&mut self, sent: u64, at: i64) {
        if let Some((end, before)) = self.last {
            if end > sent {
                return;
            }
            if end == sent {
                self.sure = before.map(|before| (end, before));
            }
        }
        self.last = Some((sent, Some(at)));
    }

    /// When the server had nothing past `position`, if it is sure.
    pub(super) fn nothing_past(&self, position: u64) -> Option<i64> {
        self.sure.filter(|(end, _)| *end == position).map(|(_, at)| at)
    }
}

/// The marks of one stream.
pub(super) struct Marks {
    interval: Duration,
    due: Duration,
    newest: Option<Mark>,
}

impl Marks {
    /// The next one is due an interval from `now`, the first of a timeline at once.
    pub(super) async fn new(
        repository: &Repository,
        stream: &WalStream,
        interval: Duration,
        now: Duration,
    ) -> Result<Marks> {
        let newest = newest_mark(repository, stream).await?;
        // The first of a timeline says that it is archived: as soon as one can be made.
        let wait = newest.map_or(Duration::ZERO, |_| interval);
        Ok(Marks {
            interval,
            due: now.saturating_add(wait),
            newest,
        })
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// It could not be made yet: it is looked at again after `wait`.
    pub(super) fn later(&mut self, now: Duration, wait: Duration) {
        self.due = now.saturating_add(wait);
    }

    /// Says that at `at` there was nothing past `position`, all before which is durable.
    pub(super) async fn put(
        &mut self,
        repository: &Repository,
        session: &Session,
        stream: &WalStream,
        (position, at): (u64, i64),
        now: Duration,
    ) -> Result<()> {
        self.due = now.saturating_add(self.interval);
        // At the same position also an earlier time counts: the other one was told by a clock that was ahead, and would
        // speak for a time in which the server may yet write.
        let news = self
            .newest
            .is_none_or(|mark| mark.position.0 <= position && (mark.position.0, mark.at) != (position, at));
        if news {
            // Of two receivers, one's mark may be there already and go with ours: then the next one says it again.
            self.newest = Some(put_mark(repository, session, stream, position, at, self.newest).await?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_marked_once_the_server_was_seen_to_have_looked_again() {
        let mut said = Said::default();
        said.alive(100, 1);
        assert_eq!(said.nothing_past(100), None);
        said.alive(100, 2);
        assert_eq!(said.nothing_past(100), Some(1));
        said.data(150);
        assert_eq!((said.nothing_past(100), said.nothing_past(150)), (None, None));
        said.alive(150, 9);
        assert_eq!(said.nothing_past(150), None);
        said.alive(150, 12);
        assert_eq!(said.nothing_past(150), Some(9));
        assert_eq!(said.nothing_past(140), None);
        // It has flushed more than it has sent: not all is here.
        said.data(200);
        said.alive(180, 11);
        assert_eq!((said.nothing_past(180), said.nothing_past(200)), (None, None));
    }
}
