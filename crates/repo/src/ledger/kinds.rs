//! The kinds of entries a ledger holds, with their fields.
//!
//! Invariant: the fields of a kind never change. What a kind cannot say is said by a new kind, which
//! older programs honour as void or, where it is marked `"required":true`, refuse to go past.

use serde::{Deserialize, Serialize};

use super::{Condemned, Level, Lsn, ObjectReference, Outcome, References, Severity, Summary, What};

/// What happened. In JSON an object tagged by `"kind":"kebab-case"`; unknown fields are refused.
///
/// Ids of runs, backups, pins, requests and alerts are chosen by the writer; a backup's id is its
/// run's. Times are microseconds since 1970-01-01 UTC and for people only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[allow(
    missing_docs,
    reason = "the variants' comments and the fields' names say it all; a comment on each would repeat them"
)]
pub enum Entry {
    /// A cluster's WAL begins; `generation` is its system identifier in decimal. A person confirmed it.
    GenerationBegun {
        generation: String,
        segment_size: u32,
        block_size: u32,
        major: u32,
    },
    /// A timeline appeared in a generation; `parent` and `switch` are absent for the first.
    TimelineBegun {
        generation: String,
        timeline: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        switch: Option<Lsn>,
    },
    /// A receiver stores all WAL of a timeline from `from` on: what is missing after it is lost.
    ArchivingBegun {
        generation: String,
        timeline: u32,
        from: Lsn,
    },
    /// A run is about to write objects in its own folder. `parent` is the backup it builds on: that
    /// one, and all it references, stay while the run is open.
    RunStarted {
        run: String,
        session: String,
        what: What,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// The one commit point: from here on the backup exists.
    Committed {
        run: String,
        manifest: ObjectReference,
        references: References,
        summary: Summary,
    },
    /// The run's own writer gave up.
    Failed { run: String, reason: String },
    /// Somebody else declared the run dead.
    Abandoned { run: String },
    /// Retention no longer wants the backup.
    Expired { backup: String },
    /// The backup may not expire while the hold stands; `until` tells people when to release it.
    HoldSet {
        backup: String,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<i64>,
    },
    /// A hold ends.
    HoldReleased { backup: String, name: String },
    /// A reader needs the backup. Only `unpinned` ends a pin: after `until` anybody may append it.
    Pinned { pin: String, backup: String, until: i64 },
    /// A pin ends.
    Unpinned { pin: String },
    /// Objects that nothing needs; deleted after the grace, by a sweep.
    Condemned { objects: Condemned, cause: String },
    /// The objects condemned at entry `condemned` are about to be deleted.
    Sweeping { condemned: u64 },
    /// The objects condemned at entry `condemned` are gone.
    Swept { condemned: u64 },
    /// WAL from `from` up to, not including, `to` will never be here.
    WalGap {
        generation: String,
        timeline: u32,
        from: Lsn,
        to: Lsn,
        cause: String,
    },
    /// A backup was checked.
    Verified {
        backup: String,
        level: Level,
        outcome: Outcome,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<ObjectReference>,
        seconds: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        found: Vec<String>,
    },
    /// A restore was rehearsed from `backup` to `target`, which took `seconds`.
    Drilled {
        backup: String,
        target: String,
        outcome: Outcome,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<ObjectReference>,
        seconds: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        found: Vec<String>,
    },
    /// Somebody asks for a restore.
    RestoreRequested {
        request: String,
        backup: String,
        target: String,
        by: String,
    },
    /// Somebody agrees to it.
    RestoreApproved { request: String, by: String },
    /// It ended.
    RestoreDone { request: String, outcome: Outcome },
    /// New sessions seal to this epoch's public half, in hexadecimal.
    KeyEpochOpened { epoch: u32, public_key: String },
    /// The epoch's private half is gone or distrusted; no session may seal to it.
    KeyRetired { epoch: u32 },
    /// The retention and objectives agreed on, as an object.
    PolicySet { policy: ObjectReference, by: String },
    /// Something needs attention.
    AlertRaised {
        alert: String,
        severity: Severity,
        text: String,
    },
    /// It no longer does. The alert `ledger-<n, 12 digits>` clears the alarms of entry n.
    AlertCleared { alert: String, by: String },
    /// A writer may append these kinds from here on; `*` stands for all. Public key in hexadecimal.
    WriterAdmitted {
        writer: String,
        public_key: String,
        kinds: Vec<String>,
    },
    /// A copy took over its source up to entry `n`, whose object hashes to `hash` (BLAKE3, hexadecimal).
    Imported { source: String, n: u64, hash: String },
    /// Nothing happened: the position is taken so that no delayed entry can appear there.
    NoOp {},
    /// A kind of a later version.
    #[serde(skip)]
    Unknown { kind: String, required: bool },
}

/// All kinds this version knows.
pub const KINDS: [&str; 29] = [
    "generation-begun",
    "timeline-begun",
    "archiving-begun",
    "run-started",
    "committed",
    "failed",
    "abandoned",
    "expired",
    "hold-set",
    "hold-released",
    "pinned",
    "unpinned",
    "condemned",
    "sweeping",
    "swept",
    "wal-gap",
    "verified",
    "drilled",
    "restore-requested",
    "restore-approved",
    "restore-done",
    "key-epoch-opened",
    "key-retired",
    "policy-set",
    "alert-raised",
    "alert-cleared",
    "writer-admitted",
    "imported",
    "no-op",
];

impl Entry {
    /// The kind's name in the stored format.
    pub fn kind(&self) -> &str {
        match self {
            Entry::GenerationBegun { .. } => "generation-begun",
            Entry::TimelineBegun { .. } => "timeline-begun",
            Entry::ArchivingBegun { .. } => "archiving-begun",
            Entry::RunStarted { .. } => "run-started",
            Entry::Committed { .. } => "committed",
            Entry::Failed { .. } => "failed",
            Entry::Abandoned { .. } => "abandoned",
            Entry::Expired { .. } => "expired",
            Entry::HoldSet { .. } => "hold-set",
            Entry::HoldReleased { .. } => "hold-released",
            Entry::Pinned { .. } => "pinned",
            Entry::Unpinned { .. } => "unpinned",
            Entry::Condemned { .. } => "condemned",
            Entry::Sweeping { .. } => "sweeping",
            Entry::Swept { .. } => "swept",
            Entry::WalGap { .. } => "wal-gap",
            Entry::Verified { .. } => "verified",
            Entry::Drilled { .. } => "drilled",
            Entry::RestoreRequested { .. } => "restore-requested",
            Entry::RestoreApproved { .. } => "restore-approved",
            Entry::RestoreDone { .. } => "restore-done",
            Entry::KeyEpochOpened { .. } => "key-epoch-opened",
            Entry::KeyRetired { .. } => "key-retired",
            Entry::PolicySet { .. } => "policy-set",
            Entry::AlertRaised { .. } => "alert-raised",
            Entry::AlertCleared { .. } => "alert-cleared",
            Entry::WriterAdmitted { .. } => "writer-admitted",
            Entry::Imported { .. } => "imported",
            Entry::NoOp {} => "no-op",
            Entry::Unknown { kind, .. } => kind,
        }
    }
}
