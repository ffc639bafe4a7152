//! What the store holds, and all that ever happened to it.

use std::collections::BTreeMap;

use bytes::Bytes;

/// How many operations reached the store, failed ones included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Puts.
    pub puts: u64,
    /// Whole and ranged reads.
    pub gets: u64,
    /// Heads.
    pub heads: u64,
    /// Pages of listings.
    pub lists: u64,
    /// Deletes.
    pub deletes: u64,
}

/// One change of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Virtual wall clock, microseconds since 1970-01-01 UTC.
    pub at_micros: i64,
    /// The process whose doing it was.
    pub process: String,
    /// The object.
    pub name: String,
    /// What was done.
    pub what: What,
}

/// What was done to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It came into being.
    Created(Bytes),
    /// It was removed.
    Deleted,
    /// A test damaged it; it holds this now, or is gone.
    Damaged(Option<Bytes>),
}

#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) bytes: Bytes,
    pub(super) modified_micros: i64,
}

#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) stored: BTreeMap<String, Stored>,
    pub(super) history: Vec<Change>,
    pub(super) counts: Counts,
    /// Until when everything fails, in virtual time.
    pub(super) burst_until: std::time::Duration,
}

impl Objects {
    /// Creates the object if it is absent; whether it did.
    pub(super) fn create(&mut self, at_micros: i64, process: &str, name: &str, bytes: Bytes) -> bool {
        if self.stored.contains_key(name) {
            return false;
        }
        self.stored.insert(
            name.to_owned(),
            Stored {
                bytes: bytes.clone(),
                modified_micros: at_micros,
            },
        );
        self.record(at_micros, process, name, What::Created(bytes));
        true
    }

    pub(super) fn delete(&mut self, at_micros: i64, process: &str, name: &str) {
        if self.stored.remove(name).is_some() {
            self.record(at_micros, process, name, What::Deleted);
        }
    }

    pub(super) fn record(&mut self, at_micros: i64, process: &str, name: &str, what: What) {
        self.history.push(Change {
            at_micros,
            process: process.to_owned(),
            name: name.to_owned(),
            what,
        });
    }
}
