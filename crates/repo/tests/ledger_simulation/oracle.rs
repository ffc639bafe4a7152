//! Judges a run from the history of the store and from what the processes reported.

use std::collections::BTreeSet;

use repo::ledger::{Entry, EntryCodec, Record, State, Verdict, name, number};
use testkit::sim::What;

use crate::players::objects;
use crate::{Report, Sealed, World};

/// Replays everything that happened. What is wrong, if anything.
pub(crate) fn judge(world: &World) -> Result<(), String> {
    // With the same rule broken: then only lost objects and wrong reports can give it away.
    let mut state = world.broken.rule.map_or_else(State::new, State::ignoring);
    let mut entries = Vec::new();
    let mut present = BTreeSet::new();
    for change in world.store.history() {
        match change.what {
            What::Created(bytes) => {
                present.insert(change.name.clone());
                let Some(n) = number(&change.name) else { continue };
                let body = Sealed.open(n, &bytes).map_err(|error| error.to_string())?;
                let record = Record::decode(n, &body).map_err(|error| error.to_string())?;
                let verdict = state.read(*blake3::hash(&bytes).as_bytes(), Ok(&record));
                if verdict != Verdict::Valid {
                    return Err(format!("{} is {verdict:?}: {record:?}", change.name));
                }
                entries.push(record.entry);
            }
            What::Deleted => {
                present.remove(&change.name);
            }
            What::Damaged(_) => return Err(format!("{} was damaged", change.name)),
        }
        if let Some(lost) = needed(&state).into_iter().find(|object| !present.contains(object)) {
            return Err(format!(
                "{lost} is needed and not there after {} by {}",
                change.name, change.process
            ));
        }
    }
    if let Some(alarm) = state.alarms().next() {
        return Err(format!("{} raised an alarm: {}", name(alarm.n), alarm.what));
    }
    for report in world.reports.lock().unwrap().iter() {
        judge_report(report, &entries)?;
    }
    Ok(())
}

fn judge_report(report: &Report, entries: &[Entry]) -> Result<(), String> {
    match report {
        Report::Done(n, entry) => {
            let found = usize::try_from(n - 1).ok().and_then(|index| entries.get(index));
            if found != Some(entry) {
                return Err(format!("reported as done, but entry {n} is {found:?}, not {entry:?}"));
            }
        }
        // Only what a single process says a single time: others may repeat what one has failed to say.
        Report::Failed(entry @ (Entry::RunStarted { .. } | Entry::Committed { .. } | Entry::Pinned { .. })) => {
            if entries.contains(entry) {
                return Err(format!("reported as failed, but it is in the ledger: {entry:?}"));
            }
        }
        Report::Failed(_) => {}
        Report::Lost(what) => return Err(what.clone()),
    }
    Ok(())
}

/// Objects that backups, pins and the parents of open runs use.
fn needed(state: &State) -> BTreeSet<String> {
    let pinned = state.pins().filter_map(|pin| state.backup(&pin.backup));
    let parents = state.open_runs().filter_map(|run| state.backup(run.parent.as_ref()?));
    let backups = state.backups().chain(pinned).chain(parents);
    backups
        .flat_map(|backup| std::iter::once(&backup.id).chain(&backup.references))
        .flat_map(|run| objects(run))
        .collect()
}
