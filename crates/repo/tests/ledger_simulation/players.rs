//! What the processes do.

use std::time::Duration;

use repo::ledger::{
    Appended, BackupKind, Condemned, Decision, Entry, Ledger, ObjectReference, References, Summary, What,
};
use repo::store::Put;
use repo::{Error, Store};
use testkit::sim::Process;

use crate::{Report, World};

/// Packs of one backup.
const PACKS: u64 = 2;

pub(crate) fn objects(backup: &str) -> Vec<String> {
    let packs = (1..=PACKS).map(|pack| format!("packs/{backup}/{pack}"));
    packs.chain([format!("backups/{backup}/manifest")]).collect()
}

/// Appends `entry` and reports what the shell said. Its number, if it is there.
async fn append(world: &World, ledger: &mut Ledger, entry: Entry) -> Option<u64> {
    match ledger.append(|_| Decision::Append(entry.clone())).await {
        Ok(Appended::Done { n }) => {
            world.report(Report::Done(n, entry));
            Some(n)
        }
        Ok(Appended::Stopped(_) | Appended::Refused(_)) | Err(Error::Store { .. } | Error::Conflict { .. }) => {
            world.report(Report::Failed(entry));
            None
        }
        Ok(Appended::Unknown { .. }) => None,
        Err(error) => {
            world.report(Report::Lost(format!("the ledger does not read: {error}")));
            None
        }
    }
}

async fn pause(process: &Process, seconds: u64) {
    let wait = Duration::from_millis(process.sim().below(seconds * 1000));
    process.runtime().clock.sleep(wait).await;
}

async fn load(world: &World, process: &Process) -> Option<Ledger> {
    let mut ledger = world.ledger(process);
    match ledger.refresh().await {
        Ok(()) => Some(ledger),
        Err(Error::Store { .. }) => None,
        Err(error) => {
            world.report(Report::Lost(format!("the ledger does not read: {error}")));
            None
        }
    }
}

/// Backs up on the newest backup there is, or afresh.
pub(crate) async fn writer(world: World, process: Process, run: String) {
    pause(&process, 60).await;
    let Some(mut ledger) = load(&world, &process).await else {
        return;
    };
    let newest = ledger.state().backups().last().map(|backup| backup.id.clone());
    let parent = newest.filter(|_| world.sim.chance(600));
    let references = match parent.as_ref().and_then(|parent| ledger.state().backup(parent)) {
        Some(parent) => std::iter::once(parent.id.clone())
            .chain(parent.references.clone())
            .collect(),
        None => Vec::new(),
    };
    let started = Entry::RunStarted {
        run: run.clone(),
        session: process.name().into(),
        what: What::Backup,
        parent,
    };
    if append(&world, &mut ledger, started).await.is_none() {
        return;
    }
    let store = world.store.of(&process);
    for object in objects(&run) {
        pause(&process, 20).await;
        let mut tries = 0;
        while !matches!(
            store.put_new(&object, object.clone().into()).await,
            Ok(Put::Created | Put::Exists)
        ) {
            tries += 1;
            if tries > 20 {
                return;
            }
            pause(&process, 4).await;
        }
    }
    let committed = Entry::Committed {
        run: run.clone(),
        manifest: ObjectReference {
            object: format!("backups/{run}/manifest"),
            hash: String::new(),
            size: 1,
        },
        references: References { backups: references },
        summary: summary(),
    };
    if append(&world, &mut ledger, committed).await.is_none() {
        let failed = Entry::Failed {
            run,
            reason: "its commit was refused".into(),
        };
        append(&world, &mut ledger, failed).await;
    }
}

fn summary() -> Summary {
    Summary {
        kind: BackupKind::Incremental,
        label: None,
        parent: None,
        started: 0,
        stopped: 0,
        generation: None,
        timeline: None,
        start_lsn: None,
        stop_lsn: None,
        major: None,
        bytes: 1,
        stored: 1,
        files: 1,
        databases: 1,
    }
}

/// Expires all but the newest backup, gives up runs at random, condemns what it may, and more than it
/// may: only the rules keep it from harm.
pub(crate) async fn collector(world: World, process: Process) {
    for _ in 0..4 {
        pause(&process, 20).await;
        let Some(mut ledger) = load(&world, &process).await else {
            continue;
        };
        let mut backups: Vec<String> = ledger.state().backups().map(|backup| backup.id.clone()).collect();
        backups.pop();
        for backup in backups {
            append(&world, &mut ledger, Entry::Expired { backup }).await;
        }
        let open: Vec<String> = ledger.state().open_runs().map(|run| run.id.clone()).collect();
        for run in open {
            if world.sim.chance(200) {
                append(&world, &mut ledger, Entry::Abandoned { run }).await;
            }
        }
        for run in [
            "full",
            "backup-0",
            "backup-1",
            "backup-2",
            "backup-7",
            "backup-8",
            "backup-14",
        ] {
            let objects = Condemned::Runs {
                runs: vec![run.to_owned()],
            };
            append(
                &world,
                &mut ledger,
                Entry::Condemned {
                    objects,
                    cause: "model".into(),
                },
            )
            .await;
        }
        pause(&process, 5).await;
        sweep(&world, &process, &mut ledger).await;
    }
}

async fn sweep(world: &World, process: &Process, ledger: &mut Ledger) {
    let condemned: Vec<(u64, Vec<String>)> = ledger
        .state()
        .condemnations()
        .map(|found| (found.n, found.objects.runs().to_vec()))
        .collect();
    let store = world.store.of(process);
    for (n, runs) in condemned {
        if append(world, ledger, Entry::Sweeping { condemned: n }).await.is_none() {
            continue;
        }
        let mut gone = true;
        for object in runs.iter().flat_map(|run| objects(run)) {
            gone &= store.delete(&object).await.is_ok();
        }
        if gone {
            append(world, ledger, Entry::Swept { condemned: n }).await;
        }
    }
}

/// Pins a backup, reads all it uses, and lets go.
pub(crate) async fn reader(world: World, process: Process) {
    for round in 0..3 {
        pause(&process, 20).await;
        let Some(mut ledger) = load(&world, &process).await else {
            continue;
        };
        let backups: Vec<_> = ledger.state().backups().cloned().collect();
        let chosen = usize::try_from(world.sim.below(backups.len() as u64)).unwrap();
        let Some(backup) = backups.get(chosen) else { continue };
        let pin = format!("{}-{round}", process.name());
        let pinned = Entry::Pinned {
            pin: pin.clone(),
            backup: backup.id.clone(),
            until: 0,
        };
        if append(&world, &mut ledger, pinned).await.is_none() {
            continue;
        }
        let store = world.store.of(&process);
        for run in std::iter::once(&backup.id).chain(&backup.references) {
            for object in objects(run) {
                pause(&process, 5).await;
                if let Ok(None) = store.get(&object).await {
                    world.report(Report::Lost(format!("{object} is gone under pin {pin}")));
                }
            }
        }
        append(&world, &mut ledger, Entry::Unpinned { pin }).await;
    }
}
