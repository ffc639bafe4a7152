//! Questions to a state.

use super::{Alarm, Backup, Condemnation, Gap, Pin, Proof, Run, State};
use crate::ledger::{Level, Lsn, ObjectReference, Outcome};

impl State {
    /// Unexpired backups, in the order of their commits.
    pub fn backups(&self) -> impl Iterator<Item = &Backup> {
        let mut backups: Vec<&Backup> = self
            .backups
            .values()
            .filter(|backup| backup.expired.is_none())
            .collect();
        backups.sort_by_key(|backup| backup.committed);
        backups.into_iter()
    }

    /// A backup by its id, expired ones included.
    pub fn backup(&self, id: &str) -> Option<&Backup> {
        self.backups.get(id)
    }

    pub(super) fn unexpired(&self, id: &str) -> Option<&Backup> {
        self.backups.get(id).filter(|backup| backup.expired.is_none())
    }

    /// A run by its id.
    pub fn run(&self, id: &str) -> Option<&Run> {
        self.runs.get(id)
    }

    /// Runs that were started and have not ended. A dead process leaves its run open until somebody
    /// abandons it.
    pub fn open_runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.values().filter(|run| run.ended.is_none())
    }

    /// Pins that stand.
    pub fn pins(&self) -> impl Iterator<Item = &Pin> {
        self.pins.values()
    }

    /// The newest passed check of `backup`, of at least this depth.
    pub fn newest_proof(&self, backup: &str, level: Level) -> Option<&Proof> {
        let fits = |proof: &&Proof| proof.backup == backup && proof.level >= level && proof.outcome == Outcome::Passed;
        self.proofs.iter().rev().find(fits)
    }

    /// All checks and rehearsals, in order.
    pub fn proofs(&self) -> &[Proof] {
        &self.proofs
    }

    /// WAL that will never be here, in the order of the entries.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Alarms about the ledger itself that nobody cleared. While there are any, nothing is collected.
    pub fn alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.alarms.values()
    }

    /// Runs whose folders nothing needs and nobody has condemned: what a collector may condemn.
    pub fn collectable(&self) -> Vec<&str> {
        if !self.alarms.is_empty() {
            return Vec::new();
        }
        let needed = |run: &str| {
            let mut pinned = self.pins.values().filter_map(|pin| self.backups.get(&pin.backup));
            let mut parents = self
                .open_runs()
                .filter_map(|run| self.backups.get(run.parent.as_ref()?));
            self.backups().any(|backup| backup.uses(run))
                || pinned.any(|backup| backup.uses(run))
                || parents.any(|backup| backup.uses(run))
        };
        let ended = self
            .runs
            .values()
            .filter(|run| run.ended.is_some())
            .map(|run| run.id.as_str());
        ended
            .filter(|run| !self.condemned_runs.contains_key(*run) && !needed(run))
            .collect()
    }

    /// Condemnations that are not swept, oldest first. One with `sweeping` set may be carried out by
    /// anybody, after a crash also by somebody else.
    pub fn condemnations(&self) -> impl Iterator<Item = &Condemnation> {
        self.condemnations
            .values()
            .filter(|condemnation| condemnation.swept.is_none())
    }

    /// A condemnation by the number of its entry, swept ones included.
    pub fn condemnation(&self, n: u64) -> Option<&Condemnation> {
        self.condemnations.get(&n)
    }

    /// Whether a valid entry condemned the folder of `run`.
    pub fn is_condemned(&self, run: &str) -> bool {
        self.condemned_runs.contains_key(run)
    }

    /// The system identifiers, in decimal, whose generations have begun.
    pub fn generations(&self) -> impl Iterator<Item = &str> {
        self.generations.keys().map(String::as_str)
    }

    /// Whether the generation of that system identifier has begun.
    pub fn knows_generation(&self, generation: &str) -> bool {
        self.generations.contains_key(generation)
    }

    /// Whether that timeline of a generation has begun.
    pub fn knows_timeline(&self, generation: &str, timeline: u32) -> bool {
        self.generations
            .get(generation)
            .is_some_and(|timelines| timelines.contains(&timeline))
    }

    /// From where on a receiver said that it archives that timeline of a generation.
    pub fn archived_from(&self, generation: &str, timeline: u32) -> Option<Lsn> {
        self.archived.get(&(generation.to_owned(), timeline)).copied()
    }

    /// The last entry copied from `source`, and the hash of its object.
    pub fn imported(&self, source: &str) -> Option<(u64, &str)> {
        self.imported.get(source).map(|(n, hash)| (*n, hash.as_str()))
    }

    /// The newest key epoch that is not retired, with its public key.
    pub fn open_epoch(&self) -> Option<(u32, &str)> {
        let mut open = self.epochs.iter().rev().filter(|(_, (_, open))| *open);
        open.next().map(|(epoch, (key, _))| (*epoch, key.as_str()))
    }

    /// The policy in force.
    pub fn policy(&self) -> Option<&ObjectReference> {
        self.policy.as_ref()
    }

    /// Alerts raised and not cleared, with the entries that raised them last.
    pub fn alerts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.alerts.iter().map(|(alert, n)| (alert.as_str(), *n))
    }

    /// The entry that raised an alert last, whether or not it was cleared since.
    pub fn raised(&self, alert: &str) -> Option<u64> {
        self.raised.get(alert).copied()
    }

    /// The entry that cleared an alert; none if it was never raised, or was raised again since.
    pub fn cleared(&self, alert: &str) -> Option<u64> {
        self.cleared.get(alert).copied()
    }
}
