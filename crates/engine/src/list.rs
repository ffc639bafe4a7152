//! What backups there are, and what is known of each.

use repo::ledger::{self, Level, Outcome, Summary};
use serde::Serialize;

use crate::{Result, database::Opened, event::Context};

/// How a backup was proven, or not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proof {
    /// The backup that was looked at.
    pub backup: String,
    /// `objects`, `pages` or `restore`.
    pub level: Level,
    /// `passed`, `failed` or `incomplete`.
    pub outcome: Outcome,
    /// When, microseconds since 1970-01-01 UTC.
    pub at: i64,
    /// How long it took, seconds.
    pub seconds: u64,
    /// What was found wrong.
    pub found: Vec<String>,
}

/// One backup, as `list` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backup {
    /// Its id.
    pub id: String,
    /// `full` or `incremental`.
    pub kind: ledger::BackupKind,
    /// The user's name for it.
    pub label: Option<String>,
    /// When it began, microseconds since 1970-01-01 UTC.
    pub started: i64,
    /// When it ended: the moment a restore of it brings back.
    pub stopped: i64,
    /// Where recovery begins.
    pub start_lsn: Option<String>,
    /// What recovery must reach.
    pub stop_lsn: Option<String>,
    /// The timeline it ended on.
    pub timeline: Option<u32>,
    /// The cluster's system identifier.
    pub generation: Option<String>,
    /// PostgreSQL's major version.
    pub major: Option<u32>,
    /// Bytes a restore writes.
    pub bytes: u64,
    /// Bytes it added to the repository.
    pub stored: u64,
    /// Files a restore writes.
    pub files: u64,
    /// Databases in it.
    pub databases: u64,
    /// The ledger's entry that made it a backup.
    pub committed: u64,
    /// A failed check that no later one has cleared comes first; then the last check of each level, deepest first.
    pub proofs: Vec<Proof>,
}

/// One backup and everything in its manifest's facts.
#[derive(Debug, Clone, Serialize)]
pub struct Detail {
    /// As `list` shows it.
    pub backup: Backup,
    /// Frame 0 of the manifest.
    pub facts: repo::manifest::Facts,
    /// Packs that it needs, its own and others'.
    pub packs: usize,
    /// The largest tables, as the catalogs listed them.
    pub relations: Vec<repo::manifest::Relation>,
}

/// All backups, oldest first.
pub async fn backups(opened: &Opened) -> Vec<Backup> {
    opened
        .with_state(|state| {
            let live = state.backups().filter(|backup| backup.expired.is_none());
            live.map(|backup| with_proofs(state, backup)).collect()
        })
        .await
}

/// One backup, by id.
pub async fn show(_: &Context, opened: &Opened, id: &str) -> Result<Detail> {
    let found = opened.find(Some(id)).await?;
    let manifest = crate::restore::manifest(opened, &found).await?;
    let backup = opened.with_state(|state| with_proofs(state, &found)).await;
    let packs = manifest.needed.packs.len();
    Ok(Detail {
        backup,
        facts: manifest.facts,
        packs,
        relations: manifest.relations,
    })
}

pub(crate) fn with_proofs(state: &ledger::State, backup: &ledger::state::Backup) -> Backup {
    let mut line = of_line(&backup.id, &backup.summary, backup.committed);
    let made = state.proofs().iter().filter(|proof| proof.backup == backup.id);
    let made: Vec<Proof> = made.map(of_proof).collect();
    line.proofs = telling(&made);
    line
}

/// Every check of every backup, in the order of the ledger, of those too that are no longer listed.
pub(crate) fn proofs(state: &ledger::State) -> Vec<Proof> {
    state.proofs().iter().map(of_proof).collect()
}

fn of_proof(proof: &ledger::state::Proof) -> Proof {
    Proof {
        backup: proof.backup.clone(),
        level: proof.level,
        outcome: proof.outcome,
        at: proof.at,
        seconds: proof.seconds,
        found: proof.found.clone(),
    }
}

/// Of all checks of a backup, in the order of the ledger, those that say how it stands.
pub(crate) fn telling(made: &[Proof]) -> Vec<Proof> {
    let failure = uncleared(made).next();
    let last = |level| made.iter().rposition(|proof| proof.level == level);
    let last = [Level::Restore, Level::Pages, Level::Objects].map(last);
    let last = last.into_iter().flatten().filter(|number| Some(*number) != failure);
    failure
        .into_iter()
        .chain(last)
        .map(|number| made[number].clone())
        .collect()
}

/// The failures that still stand, the last one first: a check that was cut short or looked less deep has not seen whether
/// what was wrong still is.
pub(crate) fn uncleared(made: &[Proof]) -> impl Iterator<Item = usize> {
    let cleared = |number: usize, failure: &Proof| {
        let mut later = made.iter().skip(number + 1);
        later.any(|proof| proof.outcome == Outcome::Passed && proof.level >= failure.level)
    };
    let failures = made.iter().enumerate().rev();
    failures
        .filter(move |(number, proof)| proof.outcome == Outcome::Failed && !cleared(*number, proof))
        .map(|(number, _)| number)
}

/// The failed check that stands against a backup, if one does.
pub(crate) fn failure(backup: &Backup) -> Option<&Proof> {
    // No other can be first and failed: see `telling`.
    backup.proofs.first().filter(|proof| proof.outcome == Outcome::Failed)
}

pub(crate) fn of_line(id: &str, line: &Summary, committed: u64) -> Backup {
    Backup {
        id: id.into(),
        kind: line.kind,
        label: line.label.clone(),
        started: line.started,
        stopped: line.stopped,
        start_lsn: line.start_lsn.map(|lsn| lsn.to_string()),
        stop_lsn: line.stop_lsn.map(|lsn| lsn.to_string()),
        timeline: line.timeline,
        generation: line.generation.clone(),
        major: line.major,
        bytes: line.bytes,
        stored: line.stored,
        files: line.files,
        databases: line.databases,
        committed,
        proofs: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proofs(made: &[(Level, Outcome)]) -> Vec<Proof> {
        let proof = |&(level, outcome): &(Level, Outcome)| Proof {
            backup: "b".into(),
            level,
            outcome,
            at: 0,
            seconds: 0,
            found: Vec::new(),
        };
        made.iter().map(proof).collect()
    }

    fn check(made: &[(Level, Outcome)], expected: &[(Level, Outcome)]) {
        let told = telling(&proofs(made));
        let told: Vec<_> = told.iter().map(|proof| (proof.level, proof.outcome)).collect();
        assert_eq!(told, expected, "{made:?}");
    }

    #[test]
    fn a_failure_stands_until_a_check_as_deep_has_passed() {
        use Level::{Objects, Pages, Restore};
        use Outcome::{Failed, Incomplete, Passed};
        check(
            &[(Pages, Passed), (Restore, Passed)],
            &[(Restore, Passed), (Pages, Passed)],
        );
        check(
            &[(Restore, Failed), (Pages, Passed)],
            &[(Restore, Failed), (Pages, Passed)],
        );
        check(
            &[(Restore, Failed), (Restore, Incomplete)],
            &[(Restore, Failed), (Restore, Incomplete)],
        );
        check(
            &[(Pages, Failed), (Restore, Passed)],
            &[(Restore, Passed), (Pages, Failed)],
        );
        check(
            &[(Restore, Passed), (Objects, Failed)],
            &[(Objects, Failed), (Restore, Passed)],
        );
        check(&[], &[]);
    }

    #[test]
    fn a_failure_hides_none_that_was_deeper() {
        use Level::{Objects, Pages, Restore};
        use Outcome::{Failed, Passed};
        let standing = |made: &[(Level, Outcome)]| uncleared(&proofs(made)).collect::<Vec<usize>>();
        assert_eq!(standing(&[(Pages, Failed), (Objects, Failed)]), [1, 0]);
        assert_eq!(standing(&[(Restore, Failed), (Objects, Failed), (Pages, Passed)]), [0]);
        assert_eq!(
            standing(&[(Pages, Failed), (Restore, Passed), (Objects, Passed)]),
            Vec::<usize>::new()
        );
    }
}
