//! What can be recovered, in one word, and why that word.
//!
//! Invariant: the word is computed from what was restored and checked, never from a job's exit code. What is not
//! known is not good.

mod wal;

use pgclient::Conninfo;
use repo::ledger::{Level, Outcome};
use serde::Serialize;

use crate::{
    Result,
    database::Opened,
    doctor,
    event::Context,
    list::{self, Backup, Proof},
};

/// A backup older than this leaves too much to be lost: 25 hours, a day and some slack for a daily one.
const OLD_MICROS: i64 = 25 * 3600 * 1_000_000;
/// A proof older than this is stale: a week and a day.
const STALE_MICROS: i64 = 8 * 24 * 3600 * 1_000_000;
/// Clocks of two machines may differ by this much, five minutes, before a moment counts as lying in the future.
const SKEW_MICROS: i64 = 300 * 1_000_000;
const HOUR_MICROS: i64 = 3600 * 1_000_000;

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
    /// The last moment that can be reached, where WAL is archived: microseconds since 1970-01-01 UTC.
    pub reaches: Option<i64>,
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

/// Looks at the ledger, and at the WAL that piles up at the `server`, if it answers. `context` says what time it is.
pub async fn of(context: &Context, opened: &Opened, server: Option<&Conninfo>) -> Result<Status> {
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
    let newest = backups.last().map(|backup| backup.id.clone());
    let mut wal = wal::look(context, opened, newest.as_deref()).await?;
    if let Some(server) = server {
        wal.because.extend(doctor::wal_warnings(context, server).await);
    }
    let now = context.runtime.clock.now_micros();
    let mut status = judge(name, now, backups, unfinished, alarms);
    status.reaches = wal.reaches;
    if !wal.because.is_empty() && matches!(status.state, State::Proven | State::Unproven) {
        status.state = State::AtRisk;
    }
    status.because.extend(wal.because);
    Ok(status)
}

fn judge(name: String, now: i64, backups: Vec<Backup>, unfinished: Vec<String>, alarms: Vec<String>) -> Status {
    let failed = |backup: &Backup| list::failure(backup).is_some();
    let newest = backups.iter().rev().find(|backup| !failed(backup)).cloned();
    let proofs = backups
        .iter()
        .filter_map(|backup| Some((backup, proof_by_restore(backup)?)));
    let proven = proofs.max_by_key(|(_, proof)| proof.at);
    let mut because = Vec::new();
    for (backup, failure) in backups
        .iter()
        .filter_map(|backup| Some((backup, list::failure(backup)?)))
    {
        let found = failure.found.first().cloned().unwrap_or_default();
        because.push(format!("the backup {} failed its last check: {found}", backup.id));
    }
    let broken = !because.is_empty();
    because.extend(alarms.iter().map(|alarm| format!("alarm {alarm}")));
    let state = match &newest {
        None if backups.is_empty() => {
            because.push("there is no backup yet".into());
            State::SettingUp
        }
        None => State::NotRecoverable,
        Some(newest) => {
            let age = Age::of(newest.stopped, now, OLD_MICROS);
            match age {
                Age::Young => {}
                Age::Old(micros) => {
                    because.push(format!("the newest good backup is {} hours old", micros / HOUR_MICROS))
                }
                Age::Unknown => because.push(
                    "the newest good backup ended in the future: this machine's clock or that of the backup is wrong"
                        .into(),
                ),
            }
            let proof = proven.map(|(backup, proof)| {
                let stale = Age::of(proof.at, now, STALE_MICROS);
                (stale, Age::of(backup.stopped, now, OLD_MICROS))
            });
            match &proof {
                None => because.push(format!(
                    "no backup was restored yet; run `lastgood verify {name} --level restore`"
                )),
                Some((Age::Old(micros), _)) => {
                    because.push(format!(
                        "the last proof by a restore is {} days old",
                        micros / (24 * HOUR_MICROS)
                    ));
                }
                Some((Age::Young, Age::Old(micros))) => because.push(format!(
                    "the backup that was proven is {} hours old; run `lastgood verify {name} --level restore`",
                    micros / HOUR_MICROS
                )),
                Some((Age::Unknown, _) | (_, Age::Unknown)) if age != Age::Unknown => {
                    because
                        .push("the last proof lies in the future: this machine's clock or another's is wrong".into());
                }
                _ => {}
            }
            if broken || !alarms.is_empty() || matches!(age, Age::Old(_)) || matches!(proof, Some((Age::Old(_), _))) {
                State::AtRisk
            } else if age == Age::Young && proof == Some((Age::Young, Age::Young)) {
                State::Proven
            } else {
                State::Unproven
            }
        }
    };
    let proven = proven.map(|(_, proof)| proof.clone());
    Status {
        name,
        state,
        because,
        reaches: None,
        backups: backups.len(),
        stored: backups.iter().map(|backup| backup.stored).sum(),
        restore_seconds: proven.as_ref().map(|proof| proof.seconds),
        newest,
        proven,
        unfinished,
        alarms,
    }
}

/// How old something is. What lies in the future has an age that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Young,
    Old(i64),
    Unknown,
}

impl Age {
    fn of(moment: i64, now: i64, most: i64) -> Age {
        match now.saturating_sub(moment) {
            age if age < -SKEW_MICROS => Age::Unknown,
            age if age > most => Age::Old(age),
            _ => Age::Young,
        }
    }
}

fn proof_by_restore(backup: &Backup) -> Option<&Proof> {
    if list::failure(backup).is_some() {
        return None;
    }
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
            proofs: list::telling(&proofs.iter().map(proof).collect::<Vec<_>>()),
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
            (Level::Objects, Outcome::Failed, 2),
            (Level::Restore, Outcome::Passed, 1),
        ];
        check(&[backup(2, &healed)], &[], State::Proven);
        let looked_less_deep = [
            (Level::Restore, Outcome::Failed, 2),
            (Level::Objects, Outcome::Passed, 1),
        ];
        check(&[backup(2, &looked_less_deep)], &[], State::NotRecoverable);
    }

    #[test]
    fn only_a_young_backup_with_an_age_that_is_known_proves() {
        let proof = [(Level::Restore, Outcome::Passed, 1)];
        check(&[backup(30, &proof), backup(2, &[])], &[], State::Unproven);
        check(&[backup(-2, &proof)], &[], State::Unproven);
        check(
            &[backup(2, &[(Level::Restore, Outcome::Passed, -2)])],
            &[],
            State::Unproven,
        );
        check(
            &[backup(0, &[(Level::Restore, Outcome::Passed, 0)])],
            &[],
            State::Proven,
        );
    }
}
