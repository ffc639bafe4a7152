//! What a valid entry changes.

use super::{Backup, Condemnation, Gap, Pin, Proof, Run, State};
use crate::ledger::{Condemned, Entry, Level, Record};

impl State {
    /// Nothing here judges: a valid entry is taken at its word. What it names may still be absent when
    /// a rule is broken on purpose, so every lookup may find nothing.
    pub(super) fn effect(&mut self, record: &Record) {
        let n = record.n;
        match record.entry.clone() {
            Entry::GenerationBegun { generation, .. } => {
                self.generations.entry(generation).or_default();
            }
            Entry::TimelineBegun {
                generation, timeline, ..
            } => {
                self.generations.entry(generation).or_default().insert(timeline);
            }
            Entry::ArchivingBegun {
                generation,
                timeline,
                from,
            } => {
                let earliest = self.archived.entry((generation, timeline)).or_insert(from);
                *earliest = from.min(*earliest);
            }
            Entry::RunStarted {
                run,
                session,
                what,
                parent,
            } => {
                let writer = record.writer.clone();
                let fact = Run {
                    id: run.clone(),
                    session,
                    what,
                    parent,
                    writer,
                    started: n,
                    ended: None,
                };
                self.runs.insert(run, fact);
            }
            Entry::Committed {
                run,
                manifest,
                references,
                summary,
            } => {
                self.end_run(&run, n);
                let references = references.backups;
                let holds = Default::default();
                let fact = Backup {
                    id: run.clone(),
                    committed: n,
                    expired: None,
                    manifest,
                    references,
                    summary,
                    holds,
                };
                self.backups.insert(run, fact);
            }
            Entry::Failed { run, .. } | Entry::Abandoned { run } => self.end_run(&run, n),
            Entry::Expired { backup } => {
                if let Some(backup) = self.backups.get_mut(&backup) {
                    backup.expired = Some(n);
                }
            }
            Entry::HoldSet { backup, name, until } => {
                if let Some(backup) = self.backups.get_mut(&backup) {
                    backup.holds.insert(name, until);
                }
            }
            Entry::HoldReleased { backup, name } => {
                if let Some(backup) = self.backups.get_mut(&backup) {
                    backup.holds.remove(&name);
                }
            }
            Entry::Pinned { pin, backup, until } => {
                self.pins.insert(
                    pin.clone(),
                    Pin {
                        id: pin,
                        backup,
                        until,
                        pinned: n,
                    },
                );
            }
            Entry::Unpinned { pin } => {
                self.pins.remove(&pin);
            }
            Entry::Condemned { objects, cause } => self.condemn(n, objects, cause),
            Entry::Sweeping { condemned } => {
                if let Some(found) = self.condemnations.get_mut(&condemned) {
                    found.sweeping.get_or_insert(n);
                }
            }
            Entry::Swept { condemned } => {
                if let Some(found) = self.condemnations.get_mut(&condemned) {
                    found.swept = Some(n);
                }
            }
            Entry::WalGap {
                generation,
                timeline,
                from,
                to,
                cause,
            } => {
                self.gaps.push(Gap {
                    n,
                    generation,
                    timeline,
                    from,
                    to,
                    cause,
                });
            }
            Entry::Verified {
                backup,
                level,
                outcome,
                seconds,
                found,
                ..
            } => {
                self.proofs.push(Proof {
                    n,
                    at: record.at,
                    backup,
                    level,
                    outcome,
                    seconds,
                    found,
                });
            }
            Entry::Drilled {
                backup,
                outcome,
                seconds,
                found,
                ..
            } => {
                let level = Level::Restore;
                self.proofs.push(Proof {
                    n,
                    at: record.at,
                    backup,
                    level,
                    outcome,
                    seconds,
                    found,
                });
            }
            Entry::RestoreRequested { request, .. } => {
                self.requests.insert(request);
            }
            Entry::RestoreDone { request, .. } => {
                self.requests.remove(&request);
            }
            Entry::KeyEpochOpened { epoch, public_key } => {
                self.epochs.insert(epoch, (public_key, true));
            }
            Entry::KeyRetired { epoch } => {
                if let Some((_, open)) = self.epochs.get_mut(&epoch) {
                    *open = false;
                }
            }
            Entry::PolicySet { policy, .. } => self.policy = Some(policy),
            Entry::AlertRaised { alert, .. } => {
                self.cleared.remove(&alert);
                self.raised.insert(alert.clone(), n);
                self.alerts.insert(alert, n);
            }
            Entry::AlertCleared { alert, .. } => {
                self.alarms.retain(|_, alarm| alarm.id() != alert);
                if self.alerts.remove(&alert).is_some() {
                    self.cleared.insert(alert, n);
                }
            }
            Entry::WriterAdmitted { writer, kinds, .. } => {
                self.writers.insert(writer, kinds.into_iter().collect());
            }
            Entry::Imported { source, n, hash } => {
                self.imported.insert(source, (n, hash));
            }
            Entry::RestoreApproved { .. } | Entry::NoOp {} | Entry::Unknown { .. } => {}
        }
    }

    fn end_run(&mut self, run: &str, n: u64) {
        if let Some(run) = self.runs.get_mut(run) {
            run.ended = Some(n);
        }
    }

    fn condemn(&mut self, n: u64, objects: Condemned, cause: String) {
        for run in objects.runs() {
            self.condemned_runs.insert(run.clone(), n);
        }
        if let Condemned::Wal {
            generation,
            timeline,
            before,
        } = &objects
        {
            let horizon = self
                .wal_horizons
                .entry((generation.clone(), *timeline))
                .or_insert(*before);
            *horizon = (*horizon).max(*before);
        }
        self.condemnations.insert(
            n,
            Condemnation {
                n,
                objects,
                cause,
                sweeping: None,
                swept: None,
            },
        );
    }
}
