//! Brings a cluster back into a new directory, or onto one that mostly matches.
//!
//! Invariants: nothing is touched before the plan was judged; every page written hashed to what it was when it
//! was read from its source; `pg_control` comes last, so that nothing half restored can be started.

mod claim;
mod config;
mod copy;
mod delta;
mod inline;
mod left_out;
mod owner;
mod place;
mod plan;
mod recovery;
mod room;
mod run;
mod start;
mod sync;
mod wal;

pub use crate::target::At;
pub use delta::{Delta, DeltaPlan};
pub(crate) use inline::write_new;
pub use owner::Ids;
pub(crate) use owner::{for_scratch as owner_for_scratch, give, of as owner_of};
pub(crate) use plan::for_scratch as plan_for_scratch;
pub use plan::{Plan, TablespacePlan, plan};
pub(crate) use run::into_scratch;
pub use run::{Restored, run};
pub use start::Running;
pub(crate) use start::{find as find_binaries, ready, without_bad_advice};

use std::path::PathBuf;

use repo::{BackupId, envelope::Pin, ledger, manifest::Manifest};

use crate::{Error, Result, database::Opened};

/// What a user wants.
#[derive(Debug, Clone)]
pub struct Request {
    /// The moment.
    pub at: At,
    /// The timeline, where it has to be said.
    pub timeline: Option<u32>,
    /// The new data directory.
    pub to: PathBuf,
    /// What may be there already.
    pub onto: Onto,
    /// Writers at work side by side.
    pub jobs: usize,
    /// Where tablespaces go: location recorded, location now.
    pub tablespaces: Vec<(PathBuf, PathBuf)>,
    /// Whether and how to start a server on it.
    pub start: Option<Start>,
}

/// What a restore may find where it is to write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Onto {
    /// Nothing: an empty or a new directory.
    #[default]
    Empty,
    /// An older state of the same cluster, or a restore that was cut off: pages that are right stay, all else is written
    /// or removed.
    Delta,
}

/// How a restored server is started.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Its port; `None`: the one in its configuration.
    pub port: Option<u16>,
    /// Where `postgres` is; `None`: the usual places.
    pub binaries: Option<PathBuf>,
}

/// Reads the manifest that the ledger pins.
pub(crate) async fn manifest(opened: &Opened, backup: &ledger::state::Backup) -> Result<Manifest> {
    let damaged = |what: &str| repo::Error::Damaged {
        name: backup.manifest.object.clone(),
        what: what.into(),
    };
    let id = BackupId::parse(&backup.id).ok_or_else(|| damaged("the ledger names it by an impossible id"))?;
    let mut hash = [0; 32];
    hex::decode_to_slice(&backup.manifest.hash, &mut hash).map_err(|_| damaged("the ledger has no hash of it"))?;
    let pin = Pin {
        size: backup.manifest.size,
        hash,
    };
    Ok(Manifest::read(&opened.repository, &id, Some(pin)).await?)
}

/// A hole in the arguments of who calls us, worth a sentence.
pub(crate) fn refused(code: &'static str, what: String, hint: impl Into<String>) -> Error {
    Error::Refused {
        code,
        what,
        hint: hint.into(),
    }
}
