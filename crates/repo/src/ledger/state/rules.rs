//! Judges an entry by the rules at the head of [`super`].

use super::State;
use crate::ledger::{Condemned, Entry, Record, References, Summary};

/// Whether an entry counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Valid,
    /// It does not, by this rule.
    Void(Rule),
}

/// The rules by which an entry is void; the numbers are those of the stored format's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Rule 1.
    Order = 1,
    /// Rule 2.
    Unreadable = 2,
    /// Rule 4.
    UnknownKind = 4,
    /// Rule 5.
    WriterNotAdmitted = 5,
    /// Rule 6.
    RunKnown = 6,
    /// Rule 7.
    ParentUnusable = 7,
    /// Rule 8.
    RunNotOpen = 8,
    /// Rule 9.
    ReferenceUnknown = 9,
    /// Rule 10.
    ReferenceCondemned = 10,
    /// Rule 11.
    Generation = 11,
    /// Rule 12.
    BackupUnknown = 12,
    /// Rule 13.
    Held = 13,
    /// Rule 14.
    PinUnusable = 14,
    /// Rule 15.
    NotCondemnable = 15,
    /// Rule 16.
    NeededByBackup = 16,
    /// Rule 17.
    NeededByRun = 17,
    /// Rule 18.
    NeededByPin = 18,
    /// Rule 19.
    NotSweepable = 19,
    /// Rule 20.
    Alarmed = 20,
    /// Rule 21.
    RequestUnknown = 21,
}

impl std::fmt::Display for Rule {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Rule::Order => "it is not the next entry",
            Rule::Unreadable => "it cannot be read",
            Rule::UnknownKind => "its kind is unknown",
            Rule::WriterNotAdmitted => "its writer may not append this kind",
            Rule::RunKnown => "a run of that id was started before",
            Rule::ParentUnusable => "its parent is no backup, or is being removed",
            Rule::RunNotOpen => "the run is not open",
            Rule::ReferenceUnknown => "it references what is no backup",
            Rule::ReferenceCondemned => "it needs what is being removed",
            Rule::Generation => "the generation has not begun, or it or the timeline began before",
            Rule::BackupUnknown => "there is no such backup, or it has expired",
            Rule::Held => "the backup is on hold",
            Rule::PinUnusable => "the pin stands already or not at all, or the backup is being removed",
            Rule::NotCondemnable => "a run in it was never started, or is being removed already",
            Rule::NeededByBackup => "a backup needs it",
            Rule::NeededByRun => "an open run needs it",
            Rule::NeededByPin => "a pinned backup needs it",
            Rule::NotSweepable => "what it names is not condemned, not being swept, or swept already",
            Rule::Alarmed => "an alarm about the ledger is not cleared",
            Rule::RequestUnknown => "that restore was not requested",
        })
    }
}

impl State {
    /// What [`State::apply`] would say of `record`.
    pub fn judge(&self, record: &Record) -> Verdict {
        match self.check(record) {
            Ok(()) => Verdict::Valid,
            Err(rule) => Verdict::Void(rule),
        }
    }

    fn void_if(&self, broken: bool, rule: Rule) -> Result<(), Rule> {
        #[cfg(feature = "mutants")]
        if self.ignored == Some(rule) {
            return Ok(());
        }
        if broken { Err(rule) } else { Ok(()) }
    }

    fn check(&self, record: &Record) -> Result<(), Rule> {
        self.void_if(self.n.checked_add(1) != Some(record.n), Rule::Order)?;
        self.void_if(matches!(record.entry, Entry::Unknown { .. }), Rule::UnknownKind)?;
        self.void_if(!self.admits(&record.writer, &record.entry), Rule::WriterNotAdmitted)?;
        match &record.entry {
            Entry::GenerationBegun { generation, .. } => {
                self.void_if(self.generations.contains_key(generation), Rule::Generation)
            }
            Entry::TimelineBegun {
                generation, timeline, ..
            } => {
                let known = self.generations.get(generation);
                self.void_if(
                    known.is_none_or(|timelines| timelines.contains(timeline)),
                    Rule::Generation,
                )
            }
            Entry::ArchivingBegun { generation, .. } | Entry::WalGap { generation, .. } => {
                self.void_if(!self.generations.contains_key(generation), Rule::Generation)
            }
            Entry::RunStarted { run, parent, .. } => {
                self.void_if(self.runs.contains_key(run), Rule::RunKnown)?;
                self.void_if(
                    parent
                        .as_ref()
                        .is_some_and(|parent| !self.usable(parent) && !self.may_be_backup(parent)),
                    Rule::ParentUnusable,
                )
            }
            Entry::Committed {
                run,
                references,
                summary,
                ..
            } => self.check_commit(run, references, summary),
            Entry::Failed { run, .. } | Entry::Abandoned { run } => self.void_if(!self.is_open(run), Rule::RunNotOpen),
            Entry::Expired { backup } => {
                let known = self.unexpired(backup);
                self.void_if(known.is_none(), Rule::BackupUnknown)?;
                self.void_if(known.is_some_and(|backup| !backup.holds.is_empty()), Rule::Held)
            }
            Entry::HoldSet { backup, .. } | Entry::HoldReleased { backup, .. } => {
                self.void_if(self.unexpired(backup).is_none(), Rule::BackupUnknown)
            }
            Entry::Pinned { pin, backup, .. } => {
                self.void_if(!self.backups.contains_key(backup), Rule::BackupUnknown)?;
                self.void_if(self.pins.contains_key(pin) || !self.usable(backup), Rule::PinUnusable)
            }
            Entry::Unpinned { pin } => self.void_if(!self.pins.contains_key(pin), Rule::PinUnusable),
            Entry::Condemned { objects, .. } => self.check_condemned(objects),
            Entry::Sweeping { condemned } => {
                let ready = self
                    .condemnations
                    .get(condemned)
                    .is_some_and(|found| found.swept.is_none());
                self.void_if(!ready, Rule::NotSweepable)?;
                self.void_if(!self.alarms.is_empty(), Rule::Alarmed)
            }
            Entry::Swept { condemned } => {
                let found = self.condemnations.get(condemned);
                let ready = found.is_some_and(|found| found.sweeping.is_some() && found.swept.is_none());
                self.void_if(!ready, Rule::NotSweepable)
            }
            Entry::Verified { backup, .. } | Entry::Drilled { backup, .. } => {
                self.void_if(!self.backups.contains_key(backup), Rule::BackupUnknown)
            }
            Entry::RestoreApproved { request, .. } | Entry::RestoreDone { request, .. } => {
                self.void_if(!self.requests.contains(request), Rule::RequestUnknown)
            }
            Entry::RestoreRequested { .. }
            | Entry::KeyEpochOpened { .. }
            | Entry::KeyRetired { .. }
            | Entry::PolicySet { .. }
            | Entry::AlertRaised { .. }
            | Entry::AlertCleared { .. }
            | Entry::WriterAdmitted { .. }
            | Entry::Imported { .. }
            | Entry::NoOp {}
            | Entry::Unknown { .. } => Ok(()),
        }
    }

    fn check_commit(&self, run: &str, references: &References, summary: &Summary) -> Result<(), Rule> {
        self.void_if(!self.is_open(run), Rule::RunNotOpen)?;
        let unknown = references
            .backups
            .iter()
            .any(|reference| !self.backups.contains_key(reference) && !self.may_be_backup(reference));
        self.void_if(unknown, Rule::ReferenceUnknown)?;
        let mut used = references.backups.iter().map(String::as_str).chain([run]);
        let condemned = used.any(|run| self.condemned_runs.contains_key(run));
        self.void_if(condemned || self.wal_is_condemned(summary), Rule::ReferenceCondemned)?;
        let generation = summary.generation.as_ref();
        self.void_if(
            generation.is_some_and(|found| !self.generations.contains_key(found)),
            Rule::Generation,
        )
    }

    fn wal_is_condemned(&self, summary: &Summary) -> bool {
        let (Some(generation), Some(timeline), Some(start)) =
            (&summary.generation, summary.timeline, summary.start_lsn)
        else {
            return false;
        };
        self.wal_horizons
            .get(&(generation.clone(), timeline))
            .is_some_and(|horizon| start < *horizon)
    }

    fn check_condemned(&self, objects: &Condemned) -> Result<(), Rule> {
        let free = |run: &String| {
            let earlier = self.condemned_runs.get(run).and_then(|n| self.condemnations.get(n));
            self.runs.contains_key(run) && earlier.is_none_or(|earlier| earlier.swept.is_some())
        };
        self.void_if(!objects.runs().iter().all(free), Rule::NotCondemnable)?;
        self.void_if(self.backups().any(|backup| backup.needs(objects)), Rule::NeededByBackup)?;
        self.void_if(self.open_runs_need(objects), Rule::NeededByRun)?;
        let mut pinned = self.pins.values().filter_map(|pin| self.backups.get(&pin.backup));
        self.void_if(pinned.any(|backup| backup.needs(objects)), Rule::NeededByPin)?;
        self.void_if(!self.alarms.is_empty(), Rule::Alarmed)
    }

    fn open_runs_need(&self, objects: &Condemned) -> bool {
        self.open_runs().any(|run| {
            let parent = run.parent.as_ref().and_then(|parent| self.backups.get(parent));
            objects.runs().contains(&run.id) || parent.is_some_and(|parent| parent.needs(objects))
        })
    }

    fn admits(&self, writer: &str, entry: &Entry) -> bool {
        if self.writers.is_empty() || matches!(entry, Entry::NoOp {}) {
            return true;
        }
        self.writers
            .get(writer)
            .is_some_and(|kinds| kinds.contains("*") || kinds.contains(entry.kind()))
    }

    fn is_open(&self, run: &str) -> bool {
        self.runs.get(run).is_some_and(|run| run.ended.is_none())
    }

    /// Whether an entry that cannot be read may have made it a backup. Who wrote later saw that entry: without this rule one
    /// damaged entry would take all backups with it that were built on its one.
    fn may_be_backup(&self, run: &str) -> bool {
        !self.alarms.is_empty() && !self.backups.contains_key(run) && !self.condemned_runs.contains_key(run)
    }

    fn usable(&self, backup: &str) -> bool {
        self.backups.get(backup).is_some_and(|backup| {
            !self.condemned_runs.contains_key(&backup.id)
                && !backup
                    .references
                    .iter()
                    .any(|reference| self.condemned_runs.contains_key(reference))
                && !self.wal_is_condemned(&backup.summary)
        })
    }
}
