//! The facts a state keeps. Numbers are those of the entries that made them true.

use crate::ledger::{Condemned, Level, Lsn, ObjectReference, Outcome, Summary, What};

/// A run that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// The session it writes with.
    pub session: String,
    /// What it is for.
    pub what: What,
    /// The backup it builds on.
    pub parent: Option<String>,
    /// Who started it.
    pub writer: String,
    /// Its `run-started`.
    pub started: u64,
    /// Its `committed`, `failed` or `abandoned`; none while it is open.
    pub ended: Option<u64>,
}

/// A committed run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its id, which is its run's.
    pub id: String,
    /// Its `committed`.
    pub committed: u64,
    /// Its `expired`; an expired backup is listed no more and goes as soon as nothing uses it.
    pub expired: Option<u64>,
    /// Its manifest.
    pub manifest: ObjectReference,
    /// Every other backup it uses.
    pub references: Vec<String>,
    /// What a list shows.
    pub summary: Summary,
    /// Holds that stand, each with the time it was meant to last.
    pub holds: std::collections::BTreeMap<String, Option<i64>>,
}

impl Backup {
    /// Whether it uses the folder of `run`.
    pub fn uses(&self, run: &str) -> bool {
        self.id == run || self.references.iter().any(|reference| reference == run)
    }

    /// Whether it needs WAL of that generation and timeline below `before`. Timelines that branch off
    /// have greater ids, so all from its own on may lie on its path.
    pub(super) fn needs_wal(&self, generation: &str, timeline: u32, before: Lsn) -> bool {
        self.summary.generation.as_deref() == Some(generation)
            && self.summary.timeline.is_none_or(|own| own <= timeline)
            && self.summary.start_lsn.is_none_or(|start| start < before)
    }

    /// Whether it needs anything of what is to be condemned.
    pub(super) fn needs(&self, objects: &Condemned) -> bool {
        match objects {
            Condemned::Runs { runs } | Condemned::List { runs, .. } => runs.iter().any(|run| self.uses(run)),
            Condemned::Wal {
                generation,
                timeline,
                before,
            } => self.needs_wal(generation, *timeline, *before),
        }
    }
}

/// A reader's claim on a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Its id.
    pub id: String,
    /// The backup.
    pub backup: String,
    /// When anybody may end it, microseconds since 1970-01-01 UTC.
    pub until: i64,
    /// Its `pinned`.
    pub pinned: u64,
}

/// A condemnation and how far it was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condemnation {
    /// Its `condemned`, by which it is named.
    pub n: u64,
    /// What it covers.
    pub objects: Condemned,
    /// Why.
    pub cause: String,
    /// The first valid `sweeping`: from there on its objects may be deleted.
    pub sweeping: Option<u64>,
    /// Its `swept`.
    pub swept: Option<u64>,
}

/// WAL that will never be here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The entry.
    pub n: u64,
    /// System identifier in decimal.
    pub generation: String,
    /// Timeline.
    pub timeline: u32,
    /// First position missing.
    pub from: Lsn,
    /// First position no longer missing.
    pub to: Lsn,
    /// Why.
    pub cause: String,
}

/// How a check of a backup ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The entry.
    pub n: u64,
    /// The writer's time of the entry, microseconds since 1970-01-01 UTC.
    pub at: i64,
    /// The backup.
    pub backup: String,
    /// How deep it went. A rehearsal counts as a restore.
    pub level: Level,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub seconds: u64,
    /// What was found.
    pub found: Vec<String>,
}

/// An entry that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The entry.
    pub n: u64,
    /// What is wrong with it.
    pub what: String,
}

impl Alarm {
    /// The id under which `alert-cleared` clears it.
    pub fn id(&self) -> String {
        format!("ledger-{:012}", self.n)
    }
}
