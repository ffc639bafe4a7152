//! Whose turn it is, among segments that are made ready side by side.
//!
//! Invariant: a turn comes once the one before is over, or never.

use async_channel::{Receiver, Sender};

use crate::{Error, Result};

/// A segment's place in the order.
pub(super) struct Turn {
    /// Hears when the turn before is over; closed without a word if what had it failed.
    before: Option<Receiver<()>>,
    /// Who comes next listens to this.
    after: Option<Sender<()>>,
}

impl Turn {
    /// That of the first, which waits for nobody.
    pub(super) fn first() -> Turn {
        Turn {
            before: None,
            after: None,
        }
    }

    /// The turn after this one.
    pub(super) fn next(&mut self) -> Turn {
        let (after, before) = async_channel::bounded(1);
        self.after = Some(after);
        Turn {
            before: Some(before),
            after: None,
        }
    }

    /// Waits until everything before is stored; asked once.
    ///
    /// # Errors
    /// [`Error::Failed`] if something before was not.
    pub(super) async fn comes(&self) -> Result<()> {
        let Some(before) = &self.before else { return Ok(()) };
        before.recv().await.map_err(|_| Error::Failed {
            code: "segment-before",
            what: "the segment before it was not stored".into(),
            hint: "Look for what is said of that one.".into(),
        })
    }

    /// It is stored: the next one may be.
    pub(super) fn over(self) {
        if let Some(after) = &self.after {
            // Nobody may wait any more.
            let _ = after.try_send(());
        }
    }
}
