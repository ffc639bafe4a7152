//! A backup to build on of which something is damaged or lost: it is not built on, it stops no backup, and somebody hears of it.

use std::path::{Path, PathBuf};

use engine::{
    Error,
    backup::{Difference, Summary, Wanted},
    event::Event,
    repo::ledger::{Level, Outcome},
    verify,
};

use crate::{
    fallbacks::{change, flip, small},
    scene::{Depth, Scene},
};

/// The packs of a backup.
fn packs(scene: &Scene, id: &str) -> Vec<PathBuf> {
    let folder = scene.world.target("repository/shop/packs").join(id);
    let mut packs: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    packs.sort();
    packs
}

/// As the repository names it.
fn name(scene: &Scene, pack: &Path) -> String {
    let root = scene.world.target("repository/shop");
    pack.strip_prefix(root).unwrap().to_str().unwrap().to_owned()
}

async fn verified(scene: &Scene, id: &str) -> Outcome {
    let opened = scene.world.open().await;
    let request = verify::Request {
        backup: Some(id.to_owned()),
        level: Level::Pages,
        jobs: 1,
        binaries: None,
        scratch: None,
    };
    let report = verify::run(&scene.world.context, &opened, &request).await.unwrap();
    println!("{id}: {:?} {:?}", report.outcome, report.found);
    report.outcome
}

/// A backup that looks at nothing of its parent but what it has to.
async fn taken(scene: &Scene) -> Summary {
    let incurious = scene.take(|options| {
        options.audit = 0;
        options.difference = Difference::Never;
    });
    incurious.await.unwrap()
}

async fn brings_back_what_is_there(scene: &mut Scene, summary: &Summary) {
    let rows = scene.rows().await;
    scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_of_what_is_known_to_be_damaged_is_not_built_on() {
    let mut scene = small(true, &[]).await;
    let full = scene.take(|_| {}).await.unwrap();
    change(&scene, 1).await;
    let (child, _) = scene.by_wal(0, "child").await;
    for pack in packs(&scene, &full.backup.id) {
        flip(&pack, |_| 300);
    }
    assert_eq!(verified(&scene, &full.backup.id).await, Outcome::Failed);
    let anew = taken(&scene).await;
    let why = anew.full_because.clone().unwrap();
    let expected = format!("{} is not built on: a verification found", child.backup.id);
    assert!(why.contains(&expected) && why.contains(&full.backup.id), "{why}");
    brings_back_what_is_there(&mut scene, &anew).await;

    // What the newest is made of is whole: the ones before it are of no account.
    change(&scene, 2).await;
    scene.by_wal(100, "after it").await;
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_damaged_of_a_child_its_parent_is_not_trusted_with_either() {
    let mut scene = small(true, &[]).await;
    let full = scene.take(|_| {}).await.unwrap();
    change(&scene, 1).await;
    let (child, _) = scene.by_wal(0, "child").await;
    let shared = packs(&scene, &full.backup.id);
    for pack in &shared {
        flip(pack, |_| 300);
    }
    assert_eq!(verified(&scene, &child.backup.id).await, Outcome::Failed);
    let anew = taken(&scene).await;
    assert!(anew.full_because.is_some(), "{:?}", anew.increment);
    brings_back_what_is_there(&mut scene, &anew).await;

    // Packs of the child alone say nothing against its parent; nor does what its own verification has seen whole since.
    flip(&packs(&scene, &anew.backup.id)[0], |_| 300);
    assert_eq!(verified(&scene, &anew.backup.id).await, Outcome::Failed);
    for pack in &shared {
        flip(pack, |_| 300);
    }
    assert_eq!(verified(&scene, &full.backup.id).await, Outcome::Passed);
    let (increment, _) = scene.by_wal(0, "on the first").await;
    let parent = scene.manifest(&increment.backup.id).await.facts.parent.unwrap();
    assert_eq!(parent.to_string(), full.backup.id);
    brings_back_what_is_there(&mut scene, &increment).await;
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_parent_does_not_stop_all_backups() {
    let mut scene = small(true, &[]).await;
    let full = scene.take(|_| {}).await.unwrap();
    let damaged = packs(&scene, &full.backup.id);
    for pack in &damaged {
        flip(pack, |length| length - 200);
    }
    change(&scene, 1).await;

    // Who wants no full backup is told how to get one.
    let refused = scene.take(|options| options.wanted = Wanted::Incremental).await;
    let Err(Error::Unproven { what, hint }) = refused else {
        panic!("{refused:?}")
    };
    assert!(what.contains(&full.backup.id) && what.contains("is damaged"), "{what}");
    assert!(hint.contains("--full"), "{hint}");
    let alerts = scene.alerts().await;
    let alert = |pack: &PathBuf| format!("object-damaged-{}", name(&scene, pack));
    let known: Vec<String> = damaged.iter().map(alert).collect();
    assert!(alerts.len() == 1 && known.contains(&alerts[0]), "{alerts:?}");

    let anew = scene.take(|_| {}).await.unwrap();
    let why = anew.full_because.clone().unwrap();
    let expected = format!("{} cannot be built on: packs/", full.backup.id);
    assert!(why.starts_with(&expected) && why.contains("is damaged"), "{why}");
    assert_eq!(anew.unsound, None);
    brings_back_what_is_there(&mut scene, &anew).await;
    change(&scene, 2).await;
    scene.by_wal(100, "after it").await;

    // The alerts stand until somebody has read what they are about.
    assert!(!scene.alerts().await.is_empty());
    for pack in &damaged {
        flip(pack, |length| length - 200);
    }
    assert_eq!(verified(&scene, &anew.backup.id).await, Outcome::Passed);
    assert!(!scene.alerts().await.is_empty());
    assert_eq!(verified(&scene, &full.backup.id).await, Outcome::Passed);
    assert_eq!(scene.alerts().await, Vec::<String>::new());
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_pack_of_the_parent_is_missed_before_anything_is_copied() {
    let mut scene = small(true, &[]).await;
    let full = scene.take(|_| {}).await.unwrap();
    change(&scene, 1).await;
    let (child, _) = scene.by_wal(0, "child").await;
    let lost = packs(&scene, &full.backup.id).remove(0);
    std::fs::remove_file(&lost).unwrap();
    let copies = |scene: &Scene| {
        let heard = scene.world.heard.0.lock().unwrap();
        let copies = heard
            .iter()
            .filter(|event| matches!(event, Event::Step { step, .. } if *step == "copy"));
        copies.count()
    };
    let before = copies(&scene);
    let anew = taken(&scene).await;
    assert_eq!(copies(&scene) - before, 1);
    let why = anew.full_because.clone().unwrap();
    let expected = format!(
        "{} cannot be built on: {} is missing",
        child.backup.id,
        name(&scene, &lost)
    );
    assert!(why.starts_with(&expected), "{why}");
    let alerts = scene.alerts().await;
    assert_eq!(alerts, [format!("object-damaged-{}", name(&scene, &lost))]);
    brings_back_what_is_there(&mut scene, &anew).await;
    scene.stop_receiving().await;
}
