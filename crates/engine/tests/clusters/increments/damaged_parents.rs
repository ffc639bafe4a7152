//! A backup to build on of which something is damaged or lost: it is not built on, it stops no backup, and somebody hears of it.

use std::path::{Path, PathBuf};

use engine::{
    Error,
    backup::{Difference, Summary, Wanted},
    database::Opened,
    event::Event,
    repo::ledger::{Level, Outcome},
    restore::{self, At},
    verify,
};

use super::fallbacks::{change, flip, in_a_frame, in_the_directory, small};
use crate::scene::{Depth, Scene};

/// The packs of a backup.
pub(crate) fn packs(scene: &Scene, id: &str) -> Vec<PathBuf> {
    let folder = scene.world.target("repository/shop/packs").join(id);
    let mut packs: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    packs.sort();
    packs
}

/// As the repository names it.
pub(crate) fn name(scene: &Scene, pack: &Path) -> String {
    let root = scene.world.target("repository/shop");
    pack.strip_prefix(root).unwrap().to_str().unwrap().to_owned()
}

pub(crate) async fn verified(scene: &Scene, id: &str) -> Outcome {
    verified_to(scene, id, Level::Pages).await
}

pub(crate) async fn verified_to(scene: &Scene, id: &str, level: Level) -> Outcome {
    verified_by(scene, &scene.world.open().await, id, level).await
}

/// By who knows of the ledger what was read when it was opened.
pub(crate) async fn verified_by(scene: &Scene, opened: &Opened, id: &str, level: Level) -> Outcome {
    let postgres = scene.cluster.binaries().program("postgres");
    let request = verify::Request {
        backup: Some(id.to_owned()),
        level,
        jobs: 1,
        binaries: postgres.parent().map(Path::to_path_buf),
        scratch: None,
    };
    let report = verify::run(&scene.world.context, opened, &request).await.unwrap();
    println!("{id}: {:?} {:?}", report.outcome, report.found);
    report.outcome
}

/// A backup that looks at nothing of its parent but what it has to.
pub(crate) async fn taken(scene: &Scene) -> Summary {
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
        flip(&pack, in_a_frame);
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
        flip(pack, in_a_frame);
    }
    assert_eq!(verified(&scene, &child.backup.id).await, Outcome::Failed);
    let anew = taken(&scene).await;
    assert!(anew.full_because.is_some(), "{:?}", anew.increment);
    brings_back_what_is_there(&mut scene, &anew).await;

    // Packs of the child alone say nothing against its parent; nor does what its own verification has seen whole since.
    flip(&packs(&scene, &anew.backup.id)[0], in_a_frame);
    assert_eq!(verified(&scene, &anew.backup.id).await, Outcome::Failed);
    for pack in &shared {
        flip(pack, in_a_frame);
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
        flip(pack, in_the_directory);
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

    // It would read nothing of the pack, and not meet the damage.
    let anew = taken(&scene).await;
    let why = anew.full_because.clone().unwrap();
    let expected = format!("{} is not built on: packs/", full.backup.id);
    assert!(why.starts_with(&expected) && why.contains("was found damaged"), "{why}");
    assert_eq!(anew.unsound, None);
    brings_back_what_is_there(&mut scene, &anew).await;
    change(&scene, 2).await;
    scene.by_wal(100, "after it").await;

    // The alerts stand until somebody has read what they are about.
    assert!(!scene.alerts().await.is_empty());
    for pack in &damaged {
        flip(pack, in_the_directory);
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

/// The refusal of a restore of a backup, of which something is damaged.
pub(crate) async fn refusal(scene: &Scene, opened: &Opened, id: &str) -> String {
    let mut request = scene.world.request("refused");
    request.at = At::Backup(id.to_owned());
    let context = &scene.world.context;
    let plan = restore::plan(context, opened, &request).await.unwrap();
    let refused = restore::run(context, opened, &request, plan).await.unwrap_err();
    assert!(!request.to.exists());
    refused.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_finds_damaged_is_not_built_on() {
    let mut scene = small(true, &[]).await;
    let full = scene.take(|options| options.jobs = 1).await.unwrap();
    change(&scene, 1).await;
    let (child, _) = scene.by_wal(0, "child").await;
    let damaged = packs(&scene, &full.backup.id).remove(0);
    flip(&damaged, in_a_frame);
    let name = name(&scene, &damaged);

    // Where nothing can be written, the restore has its own error, and nothing is remembered.
    let opened = scene.world.open().await;
    let sessions = scene.world.target("repository/shop/sessions");
    let aside = sessions.with_extension("aside");
    std::fs::rename(&sessions, &aside).unwrap();
    std::fs::write(&sessions, "no directory").unwrap();
    let refused = refusal(&scene, &opened, &child.backup.id).await;
    assert!(refused.starts_with(&format!("{name} is damaged")), "{refused}");
    std::fs::remove_file(&sessions).unwrap();
    std::fs::rename(&aside, &sessions).unwrap();
    assert_eq!(scene.alerts().await, Vec::<String>::new());

    // The second time it is known already.
    for _ in 0..2 {
        let opened = scene.world.open().await;
        let refused = refusal(&scene, &opened, &child.backup.id).await;
        assert!(refused.starts_with(&format!("{name} is damaged")), "{refused}");
        assert_eq!(scene.alerts().await, [format!("object-damaged-{name}")]);
    }
    let anew = taken(&scene).await;
    let why = anew.full_because.clone().unwrap();
    let expected = format!("{} is not built on: {name} was found damaged", child.backup.id);
    assert!(why.starts_with(&expected), "{why}");
    brings_back_what_is_there(&mut scene, &anew).await;

    // It comes back from a copy.
    flip(&damaged, in_a_frame);
    assert_eq!(verified(&scene, &child.backup.id).await, Outcome::Passed);
    assert_eq!(scene.alerts().await, Vec::<String>::new());
    scene.stop_receiving().await;
}

/// The file with the key of the session that a backup was written in.
pub(crate) async fn session(scene: &Scene, id: &str) -> PathBuf {
    let opened = scene.world.open().await;
    let session = opened.with_state(|state| state.run(id).unwrap().session.clone()).await;
    scene.world.target("repository/shop/sessions").join(session)
}

/// By its id alone nobody can tell what was written in it: all that was there is in doubt.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_session_is_told_of_until_it_opens_again() {
    let mut scene = small(true, &[]).await;
    let full = scene.take(|_| {}).await.unwrap();
    let session = session(&scene, &full.backup.id).await;
    change(&scene, 1).await;
    let (first, _) = scene.by_wal(0, "first child").await;
    change(&scene, 2).await;
    let (second, _) = scene.by_wal(0, "second child").await;
    flip(&session, |length| length / 2);
    let alert = format!("object-damaged-{}", name(&scene, &session));

    // A verification tells of it in its own words, and speaks against all that may be written in it.
    assert_eq!(verified(&scene, &second.backup.id).await, Outcome::Failed);
    assert_eq!(scene.alerts().await, Vec::<String>::new());
    let anew = taken(&scene).await;
    let why = anew.full_because.clone().unwrap();
    assert!(why.contains(&second.backup.id), "{why}");
    let said = scene.warnings();
    let passed_over = format!(
        "{} is not built on: a verification of {}",
        first.backup.id, second.backup.id
    );
    assert!(said.iter().any(|(_, what)| what.starts_with(&passed_over)), "{said:?}");

    let opened = scene.world.open().await;
    let refused = refusal(&scene, &opened, &first.backup.id).await;
    assert!(refused.contains("sessions/"), "{refused}");
    assert_eq!(scene.alerts().await, std::slice::from_ref(&alert));
    let full_again = taken(&scene).await;
    let why = full_again.full_because.clone().unwrap();
    let expected = format!("{} is not built on: sessions/", anew.backup.id);
    assert!(why.starts_with(&expected), "{why}");
    // What was taken since then is written in others.
    change(&scene, 3).await;
    let (child, _) = scene.by_wal(0, "since then").await;
    let parent = scene.manifest(&child.backup.id).await.facts.parent.unwrap();
    assert_eq!(parent.to_string(), full_again.backup.id);

    // It is still damaged, whatever else is whole.
    assert_eq!(verified(&scene, &child.backup.id).await, Outcome::Passed);
    assert_eq!(scene.alerts().await, [alert]);
    flip(&session, |length| length / 2);
    assert_eq!(verified(&scene, &child.backup.id).await, Outcome::Passed);
    assert_eq!(scene.alerts().await, Vec::<String>::new());
    brings_back_what_is_there(&mut scene, &child).await;
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_meets_a_damaged_session_of_an_older_one_is_full() {
    let mut scene = small(true, &[]).await;
    let full = scene.take(|_| {}).await.unwrap();
    let session = session(&scene, &full.backup.id).await;
    change(&scene, 1).await;
    let (child, _) = scene.by_wal(0, "child").await;
    flip(&session, |length| length / 2);
    change(&scene, 2).await;
    let refused = scene.take(|options| {
        options.wanted = Wanted::Incremental;
        options.audit = 100;
    });
    let Err(Error::Unproven { what, .. }) = refused.await else {
        panic!("it was to be refused")
    };
    assert!(what.contains("sessions/") && what.contains("is damaged"), "{what}");
    assert_eq!(
        scene.alerts().await,
        [format!("object-damaged-{}", name(&scene, &session))]
    );
    let anew = taken(&scene).await;
    let why = anew.full_because.clone().unwrap();
    let expected = format!("{} is not built on: sessions/", child.backup.id);
    assert!(why.starts_with(&expected), "{why}");
    brings_back_what_is_there(&mut scene, &anew).await;
    scene.stop_receiving().await;
}
