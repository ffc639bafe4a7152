//! Standbys that are none of this primary's, and directories that are no standby's.

use std::{fs, os::unix::fs::symlink, path::Path};

use engine::{Error, event::Event};
use pgformat::Major;
use testkit::clusters::TestCluster;

use super::pair::{From, Pair};
use crate::{
    ask::sql,
    halfway::{halfway, hasty, stands_still},
    scene::options,
};

async fn refused(pair: &Pair, change: impl FnOnce(&mut engine::backup::Options)) -> (&'static str, String) {
    let error = pair.take(From::Beside, change).await.unwrap_err();
    let Error::Refused { code, what, hint } = error else {
        panic!("{error:?}")
    };
    assert!(!hint.is_empty());
    (code, what)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_standby_of_that_very_primary_stands_for_it() {
    let pair = Pair::begin(Major::V15, &[]).await;
    let mut foreign = TestCluster::new(Major::V15, options(true, &[])).await;
    let (code, what) = refused(&pair, |options| options.standby = Some(foreign.conninfo())).await;
    assert_eq!(code, "foreign-standby", "{what}");
    foreign.stop().await;

    let primary = pair.scene.cluster.conninfo();
    let (code, what) = refused(&pair, |options| options.standby = Some(primary)).await;
    assert_eq!(code, "no-standby", "{what}");

    let data = pair.scene.cluster.data_dir().to_path_buf();
    let (code, what) = refused(&pair, |options| options.data_directory = Some(data)).await;
    assert_eq!(code, "other-directory", "{what}");

    // The standby's own backup, with a second one beside it.
    let mut options = pair.options(From::Beside);
    options.standby = Some(pair.standby.conninfo());
    let opened = pair.scene.world.open().await;
    let context = &pair.scene.world.context;
    let error = engine::backup::run(context, &opened, &pair.standby.conninfo(), &options).await;
    assert!(
        matches!(error, Err(Error::Refused { code: "no-primary", .. })),
        "{error:?}"
    );
    pair.end().await;
}

/// Makes a directory that is nothing but the `pg_control` of another cluster's standby.
fn foreign_directory(standby: &TestCluster, at: &Path) {
    let mut control = fs::read(standby.data_dir().join("global/pg_control")).unwrap();
    control[0] ^= 1;
    // `crc`, the last field of `ControlFileData` in 15.
    let crc = crc32c::crc32c(&control[..288]);
    control[288..292].copy_from_slice(&crc.to_le_bytes());
    fs::create_dir_all(at.join("global")).unwrap();
    fs::write(at.join("global/pg_control"), control).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_directory_that_becomes_another_clusters_when_the_backup_begins_is_not_read() {
    let pair = Pair::begin(Major::V15, &[]).await;
    let (link, foreign) = (pair.scene.world.target("link"), pair.scene.world.target("foreign"));
    symlink(pair.standby.data_dir(), &link).unwrap();
    let given = link.clone();
    // Who reads on waits for a standby that never comes: not for long here.
    let hasty = hasty(&pair.scene.world.context, 1000);
    let (context, there, go) = halfway(
        &hasty,
        |event| matches!(event, Event::Step { step: "start", what } if what.contains("begin a backup")),
    );
    let taking = pair
        .begin_to_take(&context, From::Beside, |options| options.data_directory = Some(given))
        .await;
    stands_still(&there).await;
    foreign_directory(&pair.standby, &foreign);
    fs::remove_file(&link).unwrap();
    symlink(&foreign, &link).unwrap();
    drop(go);
    let error = taking.await.unwrap().unwrap_err();
    let Error::Failed { code, what, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*code, "other-server", "{what}");
    assert!(what.contains("the data directory is of the cluster"), "{what}");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_of_another_timeline_does_not_stand_for_the_primary() {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    pair.scene.stop_receiving().await;
    // Its standby goes on following what it was.
    crate::receiving::promote_alone(&mut pair.scene.cluster).await;
    sql(&pair.scene.cluster, "CHECKPOINT").await;
    let stay = "ALTER SYSTEM SET recovery_target_timeline = 'current'";
    sql(&pair.standby, stay).await;
    let (code, what) = refused(&pair, |_| {}).await;
    assert_eq!(code, "standby-timeline", "{what}");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_needs_to_read_the_primarys_files() {
    let pair = Pair::begin(Major::V15, &[]).await;
    let rights = "CREATE ROLE poor LOGIN REPLICATION;
         GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean) TO poor;
         GRANT pg_read_all_settings TO poor";
    sql(&pair.scene.cluster, rights).await;
    let text = pair.scene.cluster.conninfo_text().replace("user=postgres", "user=poor");
    let poor = engine::pgclient::Conninfo::parse(&text, &|_| None).unwrap();
    let opened = pair.scene.world.open().await;
    let taken = engine::backup::run(&pair.scene.world.context, &opened, &poor, &pair.options(From::Beside)).await;
    let Err(Error::Refused { code, what, hint }) = taken else {
        panic!("{taken:?}")
    };
    assert_eq!(code, "no-file-right", "{what}");
    assert!(hint.contains("pg_read_binary_file"), "{hint}");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_what_a_backup_is_taken_from() {
    let pair = Pair::begin(Major::V15, &[]).await;
    let context = &pair.scene.world.context;
    for (from, words) in [
        (From::Standby, "begins at its last restartpoint"),
        (From::Beside, "are read from the standby"),
    ] {
        let server = match from {
            From::Standby => pair.standby.conninfo(),
            _ => pair.scene.cluster.conninfo(),
        };
        let options = pair.options(from);
        let report = engine::doctor::examine(context, None, Some(&server), &options, None).await;
        let report = report.unwrap();
        assert!(report.is_sound(), "{report:?}");
        let found = report.checks.iter().find(|check| check.id == "standby");
        assert!(found.is_some_and(|check| check.detail.contains(words)), "{report:?}");
    }
    pair.end().await;
}
