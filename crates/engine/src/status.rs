//! What can be recovered, in one word, and why that word.
//!
//! Invariant: the word is computed from what was restored and checked, never from a job's exit code. What is not
//! known is not good.

use repo::ledger::{Level, Outcome};
use serde::Serialize;

use crate::{
    Result,
    database::Opened,
    event::Context,
    list::{self, Backup, Proof},
};

/// A backup older than this leaves too much to be lost: 25 hours, a day and some slack for a daily one.
const OLD_MICROS: i64 = 25 * 3600 * 1_000_000;
/// A proof older than this is stale: a week and a day.
const STALE_MICROS: i64 = 8 * 24 * 3600 * 1_000_000;

/// The one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A young backup was restored and checked, recently.
    Proven,
    /// There is a young backup; nobody has restored it.
    Unproven,
    /// Something is wrong that a restore may survive: an old backup, a stale proof, an alarm.
    AtRisk,
    /// No backup can be trusted to restore.
    NotRecoverable,
    /// There is no backup yet.
    SettingUp,
}

impl State {
    /// As it is shown everywhere.
    pub fn word(self) -> &'static str {
        match self {
            State::Proven => "PROVEN",
            State::Unproven => "UNPROVEN",
            State::AtRisk => "AT RISK",
            State::NotRecoverable => "NOT RECOVERABLE",
            State::SettingUp => "SETTING UP",
        }
    }
}

/// A database at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The one word.
    pub state: State,
    /// Why that word, the gravest first.
    pub because: Vec<String>,
    /// The newest backup whose last check did not fail: the moment to which one can go back.
    pub newest: Option<Backup>,
    /// How many backups there are.
    pub backups: usize,
    /// Their bytes in the repository.
    pub stored: u64,
    /// The newest proof by a restore.
    pub proven: Option<Proof>,
    /// How long that restore took until the server was open and checked, seconds.
    pub restore_seconds: Option<u64>,
    /// Runs that were started and did not end: under way, or dead.
    pub unfinished: Vec<String>,
    /// What the ledger itself found wrong.
    pub alarms: Vec<String>,
}

/// Looks at the ledger. `context` says what time it is.
pub async fn of(context: &Context, opened: &Opened) -> Result<Status> {
    let backups = list::backups(opened).await;
    let (unfinished, alarms) = opened
        .with_state(|state| {
            let unfinished = state.open_runs().map(|run| run.id.clone()).collect();
            let alarms = state
                .alarms()
                .map(|alarm| format!("{}: {}", alarm.id(), alarm.what))
                .collect();
            (unfinished, alarms)
        })
        .await;
    let name = opened.repository.identity().name.clone();
    Ok(judge(
        name,
        context.runtime.clock.now_micros(),
        backups,
        unfinished,
        alarms,
    ))
}

fn judge(name: String, now: i64, backups: Vec<Backup>, unfinished: Vec<String>, alarms: Vec<String>) -> Status {
    let failed = |backup: &&Backup| latest(backup).is_some_and(|proof| proof.outcome == Outcome::Failed);
    let broken: Vec<&Backup> = backups.iter().filter(failed).collect();
    let newest = backups.iter().rev().find(|backup| !failed(backup)).cloned();
    let proven = backups
        .iter()
        .filter_map(proof_by_restore)
        .max_by_key(|proof| proof.at)
        .cloned();
    let mut because = Vec::new();
    for backup in &broken {
        let found = latest(backup)
            .and_then(|proof| proof.found.first())
            .cloned()
            .unwrap_or_default();
        because.push(format!("the backup {} failed its last check: {found}", backup.id));
    }
    because.extend(alarms.iter().map(|alarm| format!("alarm {alarm}")));
    let state = match &newest {
        None if backups.is_empty() => {
            because.push("there is no backup yet".into());
            State::SettingUp
        }
        None => State::NotRecoverable,
        Some(newest) => {
            let old = now - newest.stopped > OLD_MICROS;
            if old {
                because.push(format!(
                    "the newest good backup is {} hours old",
                    (now - newest.stopped) / 3_600_000_000
                ));
            }
            let recent = proven.as_ref().filter(|proof| now - proof.at <= STALE_MICROS);
            match (&proven, recent) {
                (None, _) => because.push(format!(
                    "no backup was restored yet; run `lastgood verify {name} --level restore`"
                )),
                (Some(proof), None) => {
                    because.push(format!(
                        "the last proof by a restore is {} days old",
                        (now - proof.at) / 86_400_000_000
                    ));
                }
                _ => {}
            }
            match (
                old || !broken.is_empty() || !alarms.is_empty(),
                proven.is_some(),
                recent.is_some(),
            ) {
                (true, ..) | (_, true, false) => State::AtRisk,
                (false, _, true) => State::Proven,
                (false, false, false) => State::Unproven,
            }
        }
    };
    Status {
        name,
        state,
        because,
        backups: backups.len(),
        stored: backups.iter().map(|backup| backup.stored).sum(),
        restore_seconds: proven.as_ref().map(|proof| proof.seconds),
        newest,
        proven,
        unfinished,
        alarms,
    }
}

/// The check that was made last, of whatever depth.
fn latest(backup: &Backup) -> Option<&Proof> {
    backup.proofs.iter().max_by_key(|proof| proof.at)
}

fn proof_by_restore(backup: &Backup) -> Option<&Proof> {
    let deepest = backup.proofs.iter().find(|proof| proof.level == Level::Restore);
    deepest.filter(|proof| proof.outcome == Outcome::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use repo::ledger::BackupKind;

    const HOUR: i64 = 3_600_000_000;
    const NOW: i64 = 1_000 * HOUR;

    fn backup(age_hours: i64, proofs: &[(Level, Outcome, i64)]) -> Backup {
        let proof = |&(level, outcome, age): &(Level, Outcome, i64)| Proof {
            backup: "b".into(),
            level,
            outcome,
            at: NOW - age * HOUR,
            seconds: 7,
            found: vec!["packs/b/0 is missing".into()],
        };
        Backup {
            id: "b".into(),
            kind: BackupKind::Full,
            label: None,
            started: NOW - age_hours * HOUR,
            stopped: NOW - age_hours * HOUR,
            start_lsn: None,
            stop_lsn: None,
            timeline: None,
            generation: None,
            major: None,
            bytes: 1,
            stored: 1,
            files: 1,
            databases: 1,
            committed: 1,
            proofs: proofs.iter().map(proof).collect(),
        }
    }

    fn check(backups: &[Backup], alarms: &[&str], expect: State) {
        let alarms = alarms.iter().map(|alarm| alarm.to_string()).collect();
        let status = judge("shop".into(), NOW, backups.to_vec(), Vec::new(), alarms);
        assert_eq!(status.state, expect, "{:?}", status.because);
        assert_eq!(
            status.state == State::Proven,
            status.because.is_empty(),
            "{:?}",
            status.because
        );
    }

    #[test]
    fn only_a_restore_proves() {
        check(&[], &[], State::SettingUp);
        check(&[backup(2, &[])], &[], State::Unproven);
        check(
            &[backup(2, &[(Level::Pages, Outcome::Passed, 1)])],
            &[],
            State::Unproven,
        );
        check(
            &[backup(2, &[(Level::Restore, Outcome::Incomplete, 1)])],
            &[],
            State::Unproven,
        );
        check(
            &[backup(2, &[(Level::Restore, Outcome::Passed, 1)])],
            &[],
            State::Proven,
        );
    }

    #[test]
    fn age_staleness_damage_and_alarms_put_it_at_risk() {
        check(
            &[backup(26, &[(Level::Restore, Outcome::Passed, 1)])],
            &[],
            State::AtRisk,
        );
        check(
            &[backup(300, &[(Level::Restore, Outcome::Passed, 200)]), backup(2, &[])],
            &[],
            State::AtRisk,
        );
        check(
            &[backup(2, &[(Level::Restore, Outcome::Passed, 1)])],
            &["ledger-000000000007: cut"],
            State::AtRisk,
        );
        let good = backup(3, &[(Level::Restore, Outcome::Passed, 1)]);
        check(
            &[good, backup(2, &[(Level::Objects, Outcome::Failed, 1)])],
            &[],
            State::AtRisk,
        );
    }

    #[test]
    fn without_a_backup_that_is_not_known_to_be_broken_nothing_is_recoverable() {
        check(
            &[backup(2, &[(Level::Objects, Outcome::Failed, 1)])],
            &[],
            State::NotRecoverable,
        );
        let healed = [
            (Level::Restore, Outcome::Passed, 1),
            (Level::Objects, Outcome::Failed, 2),
        ];
        check(&[backup(2, &healed)], &[], State::Proven);
    }
}
