//! The ledger: what happened to a repository, in order. The one place where writers meet.
//!
//! Entry `n` is the object `ledger/<n>`, twelve digits from `000000000001`, created once and never
//! touched again. [`state`] says what a prefix of it means, [`append`] how an entry gets in; this
//! file carries both out over a [`crate::Store`].
//!
//! Invariant: entry n+1 is written only by somebody who has taken in entries 1 to n.

pub mod append;
pub mod state;

mod handle;
mod kinds;
mod load;
mod lsn;
mod parts;
mod record;

pub use append::Limits;
pub use handle::{Appended, Decision, Ledger, Remembered};
pub use kinds::{Entry, KINDS};
pub use lsn::Lsn;
pub use parts::{BackupKind, Condemned, Level, ObjectReference, Outcome, References, Severity, Summary, What};
pub use record::{Hash, MAX_ENTRIES, MAX_RECORD_BYTES, Record, name, number};
pub use state::{Rule, State, Verdict};

use bytes::Bytes;

use crate::Result;

/// Seals and signs entries, and opens them again.
///
/// The number must be authenticated: an object moved to another name must not open.
pub trait EntryCodec: Send + Sync {
    /// Fetches what opening `object` needs, such as a session's key. An error means that it could not be
    /// fetched now; what is damaged shows when the entry is opened.
    fn prepare<'a>(&'a self, _n: u64, _object: &'a Bytes) -> futures::future::BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
    /// The object to store for entry `n`.
    fn seal(&self, n: u64, body: &[u8]) -> Result<Bytes>;
    /// The body of entry `n`. An error makes the entry void, raises an alarm, and work goes on; only
    /// [`crate::Error::Unsupported`] and [`crate::Error::WrongKey`] stop the reader, because then it
    /// is the reader that lacks something.
    fn open(&self, n: u64, object: &Bytes) -> Result<Vec<u8>>;
}
