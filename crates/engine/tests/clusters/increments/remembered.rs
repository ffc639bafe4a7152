//! What somebody met damaged is remembered until somebody has seen that it is over, and no longer.

use engine::{
    backup,
    database::Opened,
    repo::ledger::{Entry, Level, Outcome, Severity},
    restore::{self, At},
};

use super::{
    damaged_parents::{name, packs, refusal, session, taken, verified, verified_by, verified_to},
    fallbacks::{change, flip, in_a_frame, small},
};
use crate::{
    halfway::{copying, halfway, stands_still},
    scene::Scene,
};

fn alert_of(name: &str) -> String {
    format!("object-damaged-{name}")
}

async fn raise(scene: &Scene, name: &str) {
    let opened = scene.world.open().await;
    opened.begin_session().await.unwrap();
    let raised = Entry::AlertRaised {
        alert: alert_of(name),
        severity: Severity::Critical,
        text: "it is damaged".into(),
    };
    opened.append(raised).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_stays_so_until_who_began_since_has_opened_it() {
    let mut scene = small(true, &[]).await;
    let full = scene.take(|options| options.jobs = 1).await.unwrap();
    let id = &full.backup.id;
    let damaged = packs(&scene, id).remove(0);
    flip(&damaged, in_a_frame);
    refusal(&scene, &scene.world.open().await, id).await;
    let long_at_it = scene.world.open().await;
    refusal(&scene, &scene.world.open().await, id).await;
    let alerts = [alert_of(&name(&scene, &damaged))];
    assert_eq!(scene.alerts().await, alerts);
    flip(&damaged, in_a_frame);

    // It may have read the pack before it was met damaged once more.
    let passed = verified_by(&scene, &long_at_it, id, Level::Pages).await;
    assert_eq!((passed, scene.alerts().await), (Outcome::Passed, alerts.to_vec()));
    // It has the bytes that were stored; nobody asked whether they open.
    let passed = verified_to(&scene, id, Level::Objects).await;
    assert_eq!((passed, scene.alerts().await), (Outcome::Passed, alerts.to_vec()));
    let passed = verified_to(&scene, id, Level::Pages).await;
    assert_eq!((passed, scene.alerts().await), (Outcome::Passed, Vec::new()));
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_backup_needs_is_forgotten() {
    let mut scene = small(true, &[]).await;
    let full = scene.take(|_| {}).await.unwrap();
    change(&scene, 1).await;
    let (child, _) = scene.by_wal(0, "child").await;
    let needed = name(&scene, &packs(&scene, &full.backup.id)[0]);
    let names = [
        format!("packs/{}/99999999", full.backup.id),
        format!("files/{}/00000000", full.backup.id),
        needed,
    ];
    for name in &names {
        raise(&scene, name).await;
    }
    // The first is needed by nobody, the second by the first backup alone, the third by both.
    assert_eq!(verified(&scene, &child.backup.id).await, Outcome::Passed);
    assert_eq!(scene.alerts().await, [alert_of(&names[1])]);
    let opened = scene.world.open().await;
    opened.begin_session().await.unwrap();
    let backup = full.backup.id.clone();
    opened.append(Entry::Expired { backup }).await.unwrap();
    assert_eq!(verified(&scene, &child.backup.id).await, Outcome::Passed);
    assert_eq!(scene.alerts().await, Vec::<String>::new());
    scene.stop_receiving().await;
}

/// Whatever is wrong with it may be wrong with all of its folder.
#[tokio::test(flavor = "multi_thread")]
async fn no_backup_is_built_on_a_folder_of_which_something_was_found_damaged() {
    let mut scene = small(true, &[]).await;
    let full = scene.take(|_| {}).await.unwrap();
    change(&scene, 1).await;
    let (child, _) = scene.by_wal(0, "child").await;
    raise(&scene, &format!("packs/{}/99999999", full.backup.id)).await;
    let anew = taken(&scene).await;
    let why = anew.full_because.clone().unwrap();
    let expected = format!("{} is not built on: packs/{}", child.backup.id, full.backup.id);
    assert!(why.starts_with(&expected), "{why}");
    change(&scene, 2).await;
    scene.by_wal(0, "on the new one").await;
    scene.stop_receiving().await;
}

/// Whoever is told first, of a pack by the child's restore or of a manifest by the parent's plan: neither of both is built on.
async fn with_a_lost_session(by_its_child: bool) {
    let mut scene = small(true, &[]).await;
    let full = scene.take(|options| options.jobs = 1).await.unwrap();
    change(&scene, 1).await;
    let (child, _) = scene.by_wal(0, "child").await;
    let (session, id) = (session(&scene, &full.backup.id).await, &full.backup.id);
    let aside = session.with_extension("aside");
    std::fs::rename(&session, &aside).unwrap();
    let opened = scene.world.open().await;
    let (refused, met, whole) = match by_its_child {
        true => {
            let refused = refusal(&scene, &opened, &child.backup.id).await;
            (refused, name(&scene, &packs(&scene, id)[0]), &child.backup.id)
        }
        false => {
            let refused = refused_by_its_plan(&scene, &opened, id).await;
            (refused, format!("backups/{id}/manifest"), id)
        }
    };
    assert!(refused.contains("is missing from the repository"), "{refused}");
    assert_eq!(scene.alerts().await, [alert_of(&met)]);
    let anew = taken(&scene).await;
    let why = anew.full_because.clone().unwrap();
    let expected = format!("{} is not built on: {met} was found damaged", child.backup.id);
    assert!(why.starts_with(&expected), "{why}");

    std::fs::rename(&aside, &session).unwrap();
    assert_eq!(verified(&scene, whole).await, Outcome::Passed);
    assert_eq!(scene.alerts().await, Vec::<String>::new());
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_in_a_lost_session_is_not_built_on() {
    with_a_lost_session(true).await;
    with_a_lost_session(false).await;
}

/// It was begun before, and so built on what was there.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_backup_that_was_under_way_when_a_session_was_found_damaged_is_not_built_on() {
    let mut scene = small(true, &[]).await;
    let full = scene.take(|_| {}).await.unwrap();
    change(&scene, 1).await;
    scene.all_is_here().await;
    let (context, there, go) = halfway(&scene.world.context, copying);
    let (opened, conninfo) = (scene.world.open().await, scene.cluster.conninfo());
    let mut options = scene.world.options(&scene.cluster);
    options.audit = 0;
    let taking = tokio::spawn(async move { backup::run(&context, &opened, &conninfo, &options).await });
    stands_still(&there).await;
    let session = session(&scene, &full.backup.id).await;
    flip(&session, |length| length / 2);
    let opened = scene.world.open().await;
    refused_by_its_plan(&scene, &opened, &full.backup.id).await;
    assert_eq!(scene.alerts().await, [alert_of(&name(&scene, &session))]);
    drop(go);
    let child = taking.await.unwrap().unwrap();
    let parent = scene.manifest(&child.backup.id).await.facts.parent.unwrap();
    assert_eq!(parent.to_string(), full.backup.id);
    let anew = taken(&scene).await;
    let why = anew.full_because.clone().unwrap();
    let expected = format!("{} is not built on: sessions/", child.backup.id);
    assert!(why.starts_with(&expected), "{why}");
    // Whoever meets the same key again says nothing of what was begun since.
    refused_by_its_plan(&scene, &opened, &full.backup.id).await;
    change(&scene, 2).await;
    let (next, _) = scene.by_wal(0, "on the new one").await;
    let parent = scene.manifest(&next.backup.id).await.facts.parent.unwrap();
    assert_eq!(parent.to_string(), anew.backup.id);
    scene.stop_receiving().await;
}

async fn refused_by_its_plan(scene: &Scene, opened: &Opened, id: &str) -> String {
    let mut request = scene.world.request("refused");
    request.at = At::Backup(id.to_owned());
    let refused = restore::plan(&scene.world.context, opened, &request).await.unwrap_err();
    refused.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_is_told_of_by_whoever_reads_it_first() {
    let mut scene = small(true, &[]).await;
    let full = scene.take(|_| {}).await.unwrap();
    change(&scene, 1).await;
    let (child, _) = scene.by_wal(0, "child").await;
    let name = format!("backups/{}/manifest", child.backup.id);
    let manifest = scene.world.target("repository/shop").join(&name);
    let alerts = [alert_of(&name)];

    flip(&manifest, |length| length / 2);
    let opened = scene.world.open().await;
    let refused = refused_by_its_plan(&scene, &opened, &child.backup.id).await;
    assert!(refused.starts_with(&format!("{name} is damaged")), "{refused}");
    assert_eq!(scene.alerts().await, alerts);
    flip(&manifest, |length| length / 2);
    assert_eq!(verified(&scene, &child.backup.id).await, Outcome::Passed);
    assert_eq!(scene.alerts().await, Vec::<String>::new());

    flip(&manifest, |length| length / 2);
    let (next, _) = scene.by_wal(0, "on the one before").await;
    let parent = scene.manifest(&next.backup.id).await.facts.parent.unwrap();
    assert_eq!(parent.to_string(), full.backup.id);
    assert_eq!(scene.alerts().await, alerts);
    scene.stop_receiving().await;
}
