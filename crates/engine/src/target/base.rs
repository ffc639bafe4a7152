//! The backups that a recovery may begin with.

use repo::ledger::Lsn;

use crate::{
    Error, Result,
    list::{self, Backup},
};

/// What the ledger says of a backup, as far as moments are concerned.
#[derive(Debug, Clone)]
pub(super) struct Base {
    pub(super) id: String,
    pub(super) timeline: u32,
    pub(super) start: u64,
    /// Where the record ends that makes it consistent: that record is the earliest target.
    pub(super) stop: u64,
    pub(super) started: i64,
    pub(super) failed: bool,
}

impl Base {
    /// `None` of another cluster's backup than `generation`.
    pub(super) fn of(backup: &Backup, generation: u64) -> Option<Base> {
        let position = |text: &Option<String>| text.as_deref()?.parse::<Lsn>().ok().map(|lsn| lsn.0);
        if backup.generation.as_deref() != Some(generation.to_string().as_str()) {
            return None;
        }
        Some(Base {
            id: backup.id.clone(),
            timeline: backup.timeline?,
            start: position(&backup.start_lsn)?,
            stop: position(&backup.stop_lsn)?,
            started: backup.started,
            failed: list::failure(backup).is_some(),
        })
    }
}

/// Refusals that concern the way from one backup: another one may have a way.
const OF_THE_WAY: [&str; 3] = ["wal-gap", "wal-missing", "lsn-not-reached"];

/// Backups are tried one after the other; if none leads there, the first one's reason counts.
#[derive(Debug, Default)]
pub(super) struct First(Option<Error>);

impl First {
    /// What trying one came to: found, or go on with the next.
    pub(super) fn of<T>(&mut self, tried: Result<Option<T>>) -> Result<Option<T>> {
        match tried {
            Err(Error::Refused { code, what, hint }) if OF_THE_WAY.contains(&code) => {
                self.0.get_or_insert(Error::Refused { code, what, hint });
                Ok(None)
            }
            tried => tried,
        }
    }

    /// After the last.
    pub(super) fn none<T>(self) -> Result<Option<T>> {
        self.0.map_or(Ok(None), Err)
    }
}
