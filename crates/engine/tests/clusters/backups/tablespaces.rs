//! Tablespaces come back where the user says, or where they were, and never over anything.

use std::{fs, path::Path};

use engine::restore;
use pgformat::Major;
use testkit::clusters::{TestCluster, amcheck, give_to_server_user, row_digests, verifybackup};

use super::act::{directory_beside, failure, files_below, refusal};
use crate::{
    ask::{sql, value},
    world::{World, durable, durable_with},
};

/// A cluster with two tablespaces, each with a table, an index, an unlogged table and a database of its own.
pub(crate) async fn with_two_tablespaces() -> (TestCluster, Vec<std::path::PathBuf>) {
    let source = TestCluster::new(Major::V15, durable()).await;
    let folders = vec![
        directory_beside(&source, "fast disk"),
        directory_beside(&source, "slow \"disk\" %p"),
    ];
    for (number, folder) in folders.iter().enumerate() {
        let location = folder.display();
        sql(
            &source,
            &format!("CREATE TABLESPACE space{number} LOCATION '{location}'"),
        )
        .await;
        sql(
            &source,
            &format!("CREATE DATABASE database{number} TABLESPACE space{number}"),
        )
        .await;
        sql(
            &source,
            &format!(
                "CREATE TABLE kept{number} TABLESPACE space{number} AS
                     SELECT i, pg_catalog.repeat('x', i % 90) AS word FROM pg_catalog.generate_series(1, 5000) AS i;
                 CREATE INDEX ON kept{number} (i) TABLESPACE space{number};
                 CREATE UNLOGGED TABLE lost{number} (i int) TABLESPACE space{number};
                 INSERT INTO lost{number} SELECT 1"
            )
            .replace("TABLE ", "TABLE public.")
            .replace("ON kept", "ON public.kept")
            .replace("INTO lost", "INTO public.lost"),
        )
        .await;
    }
    (source, folders)
}

async fn locations(cluster: &TestCluster) -> String {
    value(
        cluster,
        "SELECT pg_catalog.string_agg(pg_catalog.pg_tablespace_location(oid), '|' ORDER BY oid)
           FROM pg_catalog.pg_tablespace WHERE oid > 16383",
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tablespaces_move_where_the_user_says_and_the_old_ones_stay_untouched() {
    let (source, folders) = with_two_tablespaces().await;
    let before = row_digests(&source.conninfo()).await;
    let world = World::new().await;
    world.backup(&source).await;
    let mut source = source;
    source.stop().await;
    let old: Vec<_> = folders.iter().map(|folder| files_below(folder)).collect();

    let mut request = world.request("restored");
    let new = [world.target("new space 0"), world.target("new \\space 1")];
    request.tablespaces = folders.iter().cloned().zip(new.clone()).collect();
    let restored = world.restore(&request).await;
    verifybackup(&restored.to).unwrap();
    let mut server = TestCluster::on(Major::V15, &restored.to);
    new.iter().for_each(|folder| give_to_server_user(folder));
    server.start().await;
    assert_eq!(row_digests(&server.conninfo()).await, before);
    assert_eq!(amcheck(&server.conninfo()).await, Vec::<String>::new());
    let expected = format!("{}|{}", new[0].display(), new[1].display());
    assert_eq!(locations(&server).await, expected);
    for number in 0..2 {
        let lost = format!("SELECT pg_catalog.count(*) FROM public.lost{number}");
        assert_eq!(value(&server, &lost).await, "0");
        sql(&server, &format!("INSERT INTO public.lost{number} VALUES (1)")).await;
    }
    server.stop().await;
    let still: Vec<_> = folders.iter().map(|folder| files_below(folder)).collect();
    assert_eq!(still, old, "the restored server wrote into the source's tablespaces");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tablespace_comes_back_in_its_place_if_that_is_free_and_is_refused_if_not() {
    let (mut source, folders) = with_two_tablespaces().await;
    let before = row_digests(&source.conninfo()).await;
    let world = World::new().await;
    world.backup(&source).await;
    source.stop().await;

    let opened = world.open().await;
    let request = world.request("restored");
    let refused = restore::plan(&world.context, &opened, &request).await.unwrap_err();
    let (code, what, _) = refusal(refused);
    assert_eq!(code, "target-not-empty");
    assert!(what.contains(&folders[0].display().to_string()), "{what}");
    assert!(!request.to.exists());

    for folder in &folders {
        fs::remove_dir_all(folder).unwrap();
    }
    let server = world.revive(Major::V15, "restored").await;
    let expected = format!("{}|{}", folders[0].display(), folders[1].display());
    assert_eq!(locations(&server).await, expected);
    assert_eq!(row_digests(&server.conninfo()).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tablespace_that_the_backup_does_not_have_is_refused_by_name() {
    let (source, folders) = with_two_tablespaces().await;
    let world = World::new().await;
    world.backup(&source).await;
    let opened = world.open().await;
    let mut request = world.request("restored");
    request.tablespaces = vec![("/srv/nowhere".into(), world.target("elsewhere"))];
    let (code, what, hint) = refusal(restore::plan(&world.context, &opened, &request).await.unwrap_err());
    assert_eq!(code, "tablespace-unknown");
    assert!(
        what.contains("/srv/nowhere") && hint.contains(&folders[0].display().to_string()),
        "{what} {hint}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tablespaces_in_place_need_no_word_at_the_restore() {
    for major in [Major::V15, Major::V18] {
        let source = TestCluster::new(major, durable_with(&["allow_in_place_tablespaces = on"])).await;
        sql(&source, "CREATE TABLESPACE inside LOCATION ''").await;
        sql(
            &source,
            "CREATE TABLE public.kept TABLESPACE inside AS SELECT i FROM pg_catalog.generate_series(1, 3000) AS i",
        )
        .await;
        let before = row_digests(&source.conninfo()).await;
        let world = World::new().await;
        world.backup(&source).await;
        drop(source);
        let server = world.revive(major, "restored").await;
        assert_eq!(row_digests(&server.conninfo()).await, before, "PostgreSQL {major}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tablespace_inside_the_data_directory_is_copied_once() {
    let source = TestCluster::new(Major::V15, durable()).await;
    let inside = source.data_dir().join("inside");
    fs::create_dir(&inside).unwrap();
    give_to_server_user(&inside);
    sql(
        &source,
        &format!("CREATE TABLESPACE inside LOCATION '{}'", inside.display()),
    )
    .await;
    sql(
        &source,
        "CREATE TABLE public.kept TABLESPACE inside AS SELECT i FROM pg_catalog.generate_series(1, 3000) AS i",
    )
    .await;
    let before = row_digests(&source.conninfo()).await;
    let world = World::new().await;
    world.backup(&source).await;
    let mut request = world.request("restored");
    let moved = world.target("outside");
    request.tablespaces = vec![(inside, moved.clone())];
    let restored = world.restore(&request).await;
    verifybackup(&restored.to).unwrap();
    let twice = files_below(&restored.to)
        .into_keys()
        .filter(|path| path.starts_with("inside"));
    assert_eq!(twice.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
    assert!(!files_below(&moved).is_empty());
    let mut server = TestCluster::on(Major::V15, &restored.to);
    give_to_server_user(&moved);
    server.start().await;
    assert_eq!(row_digests(&server.conninfo()).await, before);
}

/// Its WAL makes whoever replays it write to that very place, which on this machine is the source's.
#[tokio::test(flavor = "multi_thread")]
async fn a_tablespace_made_while_files_are_copied_fails_the_backup() {
    let source = TestCluster::new(Major::V15, durable()).await;
    let late = directory_beside(&source, "late");
    let world = World::new().await;
    let options = engine::backup::Options {
        max_rate: Some(16 << 20),
        ..world.options(&source)
    };
    let make = async {
        sql(
            &source,
            &format!("CREATE TABLESPACE late LOCATION '{}'", late.display()),
        )
        .await;
        sql(&source, "CREATE TABLE public.late (i int) TABLESPACE late").await;
    };
    let failed = world
        .backup_while(&source.conninfo(), &options, make)
        .await
        .unwrap_err();
    assert!(failed.to_string().contains("tablespace"), "{failed}");
    assert_eq!(failure(failed), "tablespace-made");
    assert_eq!(world.listed().await, Vec::<String>::new());
    world.assert_no_run_is_open().await;
    world.backup(&source).await;
    assert_eq!(world.listed().await.len(), 1);
    assert!(Path::new(&late).exists());
}
