//! A primary is backed up from its standby's files.

use std::{fs, os::unix::fs::symlink};

use engine::Error;
use pgformat::{Major, control::State, label::TakenFrom};
use testkit::clusters::{TestCluster, bank::RunningBank, give_to_server_user, majors_to_test};

use super::pair::{ACCOUNTS, From, Pair};
use crate::{
    ask::{sql, value},
    halfway::{copying, halfway, hasty, stands_still, waiting},
    scene::{Depth, stop_and_forget},
};

async fn under_load_and_after(major: Major) {
    let pair = Pair::begin(major, &[]).await;
    let bank = RunningBank::start(&pair.scene.cluster.conninfo(), 2, ACCOUNTS, 11);
    bank.wait_for(200).await;
    let full = pair.full(From::Beside).await;
    let (control, label, _) = pair.kept(&full.backup.id).await;
    assert_eq!(label.taken_from, TakenFrom::Primary);
    assert_eq!(control.state, State::InProduction);
    bank.wait_for(400).await;
    let (under_load, _) = pair.by_wal(From::Beside).await;
    let acknowledged = bank.stop().await;
    assert!(acknowledged.len() >= 400);
    pair.all_come_back(From::Beside, [full, under_load]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_is_brought_back_from_its_standbys_files() {
    for major in majors_to_test() {
        under_load_and_after(major).await;
    }
}

/// What was changed before the backup began is not in its WAL: it has to be in the files.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn nothing_is_read_of_a_standby_before_it_has_come_to_the_backups_start() {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    sql(&pair.standby, "SELECT pg_wal_replay_pause()").await;
    pair.change(1).await;
    let rows = pair.scene.rows().await;
    let (context, there, go) = halfway(&pair.scene.world.context, |event| waiting(event) || copying(event));
    let taking = pair
        .begin_to_take(&context, From::Beside, |options| options.jobs = 1)
        .await;
    let stale = {
        stands_still(&there).await;
        let behind = "SELECT count(*) FROM public.bulk WHERE length(filler) < 100";
        let stale = value(&pair.standby, behind).await;
        drop(go);
        // Who did not wait for the standby has ended by then, and has what is there now.
        sql(&pair.scene.cluster, "SELECT pg_sleep(1)").await;
        sql(&pair.standby, "SELECT pg_wal_replay_resume()").await;
        stale
    };
    let taken = taking.await.unwrap();
    assert_eq!(stale, "0", "the standby had not replayed it");
    let id = taken.unwrap().backup.id;
    pair.scene.brings_back(&id, &rows, Depth::All).await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_never_comes_to_the_backups_start_is_not_waited_for_for_ever() {
    let pair = Pair::begin(Major::V15, &[]).await;
    sql(&pair.standby, "SELECT pg_wal_replay_pause()").await;
    let context = hasty(&pair.scene.world.context, 1000);
    let error = pair.take_watched(&context, From::Beside, |_| {}).await.unwrap_err();
    let Error::Failed { code, what, hint } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*code, "standby-behind", "{what}");
    assert!(what.contains("900 seconds") && hint.contains("paused"), "{what} {hint}");
    pair.end().await;
}

/// Who may not ask for a restartpoint waits for the next one.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_ask_for_a_restartpoint_the_next_one_is_waited_for() {
    let mut pair = Pair::begin(Major::V15, &["checkpoint_timeout = 30s"]).await;
    sql(
        &pair.scene.cluster,
        "CREATE ROLE asker LOGIN; GRANT pg_read_all_settings TO asker",
    )
    .await;
    pair.change(1).await;
    pair.caught_up().await;
    let rows = pair.scene.rows().await;
    let text = pair.standby.conninfo_text().replace("user=postgres", "user=asker");
    let asker = engine::pgclient::Conninfo::parse(&text, &|_| None).unwrap();
    let taken = pair.take(From::Beside, |options| options.standby = Some(asker)).await;
    let id = taken.unwrap().backup.id;
    let said = pair.scene.warnings();
    let said = said.iter().find(|(code, _)| code == "standby-checkpoint");
    assert!(said.is_some_and(|(_, what)| what.contains("pg_checkpoint")), "{said:?}");
    pair.scene.brings_back(&id, &rows, Depth::Rows).await;
    pair.end().await;
}

/// Databases, tablespaces and relations that come and go while the standby lags; and files that only one of both has.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn what_is_made_and_dropped_while_the_standby_lags_is_brought_back_as_the_primary_has_it() {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    for (server, name) in [
        (&pair.scene.cluster, "of_the_primary"),
        (&pair.standby, "of_the_standby"),
    ] {
        let file = server.data_dir().join(name);
        fs::write(&file, name).unwrap();
        give_to_server_user(&file);
    }
    sql(&pair.scene.cluster, "CREATE DATABASE old").await;
    sql(&pair.scene.cluster, "CREATE TABLE public.old AS SELECT 1 AS i").await;
    let (context, there, go) = halfway(&pair.scene.world.context, copying);
    let taking = pair
        .begin_to_take(&context, From::Beside, |options| options.jobs = 1)
        .await;
    {
        stands_still(&there).await;
        sql(&pair.standby, "SELECT pg_wal_replay_pause()").await;
        for statement in [
            "DROP DATABASE old",
            "CREATE DATABASE logged",
            "CREATE DATABASE copied STRATEGY file_copy",
            "DROP TABLE public.old",
            "CREATE TABLE public.made AS SELECT i FROM generate_series(1, 5000) AS i",
            "CREATE UNLOGGED TABLE public.unlogged AS SELECT 1 AS i",
            "VACUUM FULL pg_catalog.pg_class",
            "VACUUM FULL public.bulk",
            "TRUNCATE public.made",
            "INSERT INTO public.made SELECT i FROM generate_series(1, 2000) AS i",
        ] {
            sql(&pair.scene.cluster, statement).await;
        }
        drop(go);
    }
    let taken = taking.await.unwrap();
    let id = taken.unwrap().backup.id;
    sql(&pair.standby, "SELECT pg_wal_replay_resume()").await;
    sql(&pair.scene.cluster, "TRUNCATE public.unlogged").await;
    let rows = pair.scene.rows().await;
    let server = pair.scene.revive(&id).await;
    assert!(server.data_dir().join("of_the_primary").exists());
    assert!(!server.data_dir().join("of_the_standby").exists());
    stop_and_forget(server).await;
    pair.scene.brings_back(&id, &rows, Depth::All).await;
    pair.end().await;
}

/// What lies there comes by way of its link. Where the primary's data directory is, the standby's does not tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_tablespace_within_the_primarys_data_directory_comes_once() {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    let of_primary = pair.scene.cluster.data_dir().join("inside");
    let of_standby = pair.scene.world.target("outside");
    fs::create_dir(&of_primary).unwrap();
    give_to_server_user(&of_primary);
    let make = format!("CREATE TABLESPACE inside LOCATION '{}'", of_primary.display());
    sql(&pair.scene.cluster, &make).await;
    pair.caught_up().await;
    pair.standby.stop().await;
    let link = fs::read_dir(pair.standby.data_dir().join("pg_tblspc")).unwrap().next();
    let link = link.unwrap().unwrap().path();
    let folder = fs::read_dir(&of_primary).unwrap().next().unwrap().unwrap().file_name();
    fs::create_dir_all(of_standby.join(&folder)).unwrap();
    fs::remove_file(&link).unwrap();
    symlink(&of_standby, &link).unwrap();
    give_to_server_user(&of_standby);
    pair.standby.start().await;
    sql(
        &pair.scene.cluster,
        "CREATE TABLE public.t TABLESPACE inside AS SELECT 1 AS i",
    )
    .await;
    pair.caught_up().await;
    let rows = pair.scene.rows().await;
    let id = pair.full(From::Beside).await.backup.id;

    let mut request = pair.scene.world.request("restored-with-it");
    request.at = engine::restore::At::Backup(id);
    let moved = pair.scene.world.target("moved");
    request.tablespaces = vec![(of_primary, moved.clone())];
    let restored = pair.scene.world.restore(&request).await;
    assert!(!restored.to.join("inside").join(&folder).exists(), "a second copy");
    give_to_server_user(&moved);
    let mut server = TestCluster::on(Major::V15, &restored.to);
    server.start().await;
    assert_eq!(testkit::clusters::row_digests(&server.conninfo()).await, rows);
    stop_and_forget(server).await;
    pair.end().await;
}
