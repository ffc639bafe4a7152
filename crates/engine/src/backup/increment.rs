//! What an incremental backup takes from the one before it.
//!
//! Invariant: a page is taken from the parent unread only if WAL that is here without a gap, from the parent's start to
//! this backup's, shows that nothing changed it; or after its bytes were read and hashed to what the parent has.

mod changes;
mod files;
mod known;
mod moving;
mod parent;
mod suspect;

pub(super) use changes::{Changes, OfFile};
pub(super) use files::{ParentFile, ParentFiles};
pub(super) use known::{Known, KnownPage, Shared, joined};
pub(super) use moving::{Limit, moving};
pub(super) use parent::{changes, parent};

/// Which kind of backup is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Incremental if there is a sound backup to build on, else full.
    #[default]
    Either,
    /// Full.
    Full,
    /// Incremental, or none.
    Incremental,
}
