//! Why a walk over WAL stops.

use crate::{Lsn, Major, Tli};

/// Where valid WAL stops, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("WAL stops at {lsn}: {cause}")]
pub struct Stop {
    /// The record or page at fault.
    pub lsn: Lsn,
    /// What is wrong with it.
    pub cause: Cause,
}

impl Stop {
    /// Whether this looks like the end of what the server wrote, and not like damage.
    ///
    /// The bytes alone cannot tell zeros never written from zeros that replaced what was written. In a
    /// finished segment, or before a position known to be written, even such an end is a gap. And after
    /// a crash the server itself takes any stop for the end.
    pub fn is_end(&self) -> bool {
        matches!(
            self.cause,
            Cause::NoRecord | Cause::UnwrittenPage | Cause::RecycledPage { .. }
        )
    }
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// A record of length zero: nothing was written here yet.
    #[error("no record was written there")]
    NoRecord,
    /// The page is zeros: nothing was written here yet.
    #[error("the page was never written")]
    UnwrittenPage,
    /// The page is what the file held before it was recycled.
    #[error("the page still holds that of {address}, from before the file was recycled")]
    RecycledPage {
        /// The position it was written for.
        address: Lsn,
    },
    /// A page of no supported version.
    #[error("page magic {found:04X} is of no PostgreSQL version from 13 to 18")]
    Magic {
        /// The magic number.
        found: u16,
    },
    /// A page of another version than the walk is over.
    #[error("the page was written by PostgreSQL {found}, not {expected}")]
    Version {
        /// The version that wrote the page.
        found: Major,
        /// The version of the walk.
        expected: Major,
    },
    /// A segment of another cluster.
    #[error("the segment is of the cluster with system identifier {found}, not {expected}")]
    OtherSystem {
        /// The cluster that wrote it.
        found: u64,
        /// The cluster of the walk.
        expected: u64,
    },
    /// A page header that no server writes.
    #[error("the page header is damaged")]
    PageHeader,
    /// A page that belongs elsewhere, and later.
    #[error("the page says that it belongs at {found}")]
    PageAddress {
        /// Where it belongs.
        found: Lsn,
    },
    /// The long header is missing, misplaced, or tells other sizes.
    #[error("the page header does not go with the size of segments and pages")]
    Geometry,
    /// Timelines never go back.
    #[error("the page is of timeline {found}, older than the page before")]
    TimelineBackwards {
        /// The page's timeline.
        found: Tli,
    },
    /// What the page begins with does not fit what the page before left open.
    #[error("the page does not go on where the page before ended")]
    Continuation {
        /// Where the record begins that was left open.
        open: Option<Lsn>,
    },
    /// A record was given up, and the next one does not say so.
    #[error("the record does not tell that the one at {expected} was given up")]
    NotOverwritten {
        /// The record that was given up.
        expected: Lsn,
    },
    /// A length that no record has.
    #[error("a record cannot have {found} bytes")]
    Length {
        /// Bytes, as the record says.
        found: u32,
    },
    /// A resource manager that the version does not know.
    #[error("resource manager {found} does not exist")]
    ResourceManager {
        /// Its number.
        found: u8,
    },
    /// The record does not link to the one before.
    #[error("the record links back to {found}, not to {expected}")]
    Link {
        /// The link.
        found: Lsn,
        /// Where the record before begins.
        expected: Lsn,
    },
    /// The first record links to itself or to a later one.
    #[error("the record links forward to {found}")]
    LinkForward {
        /// The link.
        found: Lsn,
    },
    /// The checksum does not fit.
    #[error("the record's checksum does not fit")]
    Checksum,
}
