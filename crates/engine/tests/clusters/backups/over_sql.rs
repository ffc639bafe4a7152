//! Backups of servers whose machine nobody sees, by a role that may do nothing but execute five functions.

use engine::{
    Error,
    backup::{Level, Options, Reader},
    doctor,
    event::Event,
    pgclient::{Conninfo, catalog::grants_for_reader},
    server::{LiveServer, Server, SqlServer, WalEvent},
};
use pgformat::{Lsn, Major, Tli};
use testkit::clusters::{
    TestCluster, amcheck, checksums, give_to_server_user, index_counts, majors_to_test, row_digests, sample,
    verifybackup,
};

use super::{
    act::{files_below, refusal},
    tablespaces::with_two_tablespaces,
};
use crate::{
    ask::{sql, value},
    world::{World, durable, durable_with},
};

const ROLE: &str = "poor \"1\"";

/// A role with the five functions and nothing else; how it connects.
pub(crate) async fn poor(cluster: &TestCluster) -> Conninfo {
    let conninfo = poorer(cluster).await;
    sql(cluster, &grants_for_reader(cluster.major(), ROLE)).await;
    conninfo
}

/// A role that may do nothing but connect.
async fn poorer(cluster: &TestCluster) -> Conninfo {
    sql(
        cluster,
        "CREATE ROLE \"poor \"\"1\"\"\" LOGIN NOSUPERUSER NOREPLICATION",
    )
    .await;
    let text = cluster.conninfo_text().replace("user=postgres", "user='poor \"1\"'");
    Conninfo::parse(&text, &|_| None).unwrap()
}

/// Where the data directory is, nobody says.
pub(crate) fn over_sql() -> Options {
    Options {
        wanted: engine::backup::Wanted::default(),
        rebase: false,
        difference: engine::backup::Difference::default(),
        audit: 1,
        label: None,
        level: Level::default(),
        jobs: 2,
        max_rate: None,
        reader: Reader::Sql,
        data_directory: None,
        standby: None,
    }
}

async fn back_up(world: &World, conninfo: &Conninfo) -> engine::Result<engine::backup::Summary> {
    let opened = world.open().await;
    engine::backup::run(&world.context, &opened, conninfo, &over_sql()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_rights_to_execute_alone_backs_up_every_version() {
    for major in Major::ALL {
        let source = TestCluster::new(major, durable_with(&["wal_keep_size = 64MB"])).await;
        sample::create(&source, None).await;
        let conninfo = poor(&source).await;
        let before = row_digests(&source.conninfo()).await;
        let world = World::new().await;
        let summary = back_up(&world, &conninfo).await.unwrap();
        assert_eq!(summary.page_errors, Vec::<String>::new(), "PostgreSQL {major}");
        assert_eq!(world.warnings(), vec![], "PostgreSQL {major}");
        let restored = world.restore(&world.request("restored")).await;
        if major <= Major::V16 {
            verifybackup(&restored.to).unwrap();
        }
        let mut server = TestCluster::on(major, &restored.to);
        server.start().await;
        assert_eq!(row_digests(&server.conninfo()).await, before, "PostgreSQL {major}");
        assert_eq!(
            amcheck(&server.conninfo()).await,
            Vec::<String>::new(),
            "PostgreSQL {major}"
        );
        if major == Major::V15 {
            assert_eq!(index_counts(&server.conninfo()).await, Vec::<String>::new());
            server.stop().await;
            checksums(&restored.to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_refused_with_the_sql_that_makes_it_work() {
    for major in majors_to_test() {
        let source = TestCluster::new(major, durable()).await;
        let conninfo = poorer(&source).await;
        let world = World::new().await;
        let objects = world.objects();
        let function = "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)";
        for (code, missing) in [
            ("no-backup-right", "start a backup and read"),
            ("no-file-right", "may not read"),
        ] {
            let error = back_up(&world, &conninfo).await.expect_err("it was not refused");
            let (found, what, hint) = refusal(error);
            assert_eq!(found, code, "PostgreSQL {major}: {what}");
            assert!(what.contains(ROLE) && what.contains(missing), "{what}");
            assert_eq!(world.objects(), objects, "a refused backup left something behind");
            sql(&source, &hint[hint.find("GRANT").unwrap()..]).await;
            if code == "no-backup-right" {
                sql(
                    &source,
                    &format!("REVOKE EXECUTE ON FUNCTION {function} FROM \"poor \"\"1\"\"\""),
                )
                .await;
            }
        }
        back_up(&world, &conninfo).await.unwrap();
        assert_eq!(world.listed().await.len(), 1, "PostgreSQL {major}");
        let unkept = ("wal-not-reserved".to_string(), "wal_keep_size");
        assert!(
            world
                .warnings()
                .iter()
                .any(|(code, what)| *code == unkept.0 && what.contains(unkept.1)),
            "{:?}",
            world.warnings()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_prints_the_grants_and_what_they_give_away() {
    let source = TestCluster::new(Major::V15, durable()).await;
    let conninfo = poorer(&source).await;
    let world = World::new().await;
    let grants = grants_for_reader(Major::V15, ROLE);
    for sound in [false, true] {
        let examined = doctor::examine(&world.context, None, Some(&conninfo), &over_sql(), None).await;
        let report = examined.unwrap();
        let reader = report.checks.iter().find(|check| check.id == "reader").unwrap();
        assert_eq!(reader.remedy.as_ref(), Some(&grants));
        assert!(
            reader.detail.contains("everything in the data directory"),
            "{}",
            reader.detail
        );
        assert!(reader.detail.contains("password hashes"), "{}", reader.detail);
        assert_eq!(report.is_sound(), sound, "{:?}", report.checks);
        sql(&source, &grants).await;
    }
    let local = Options {
        data_directory: Some(world.target("nowhere")),
        reader: Reader::Local,
        ..over_sql()
    };
    let error = world.try_backup(&source, &local).await.unwrap_err();
    let (code, _, hint) = refusal(error);
    assert_eq!(code, "data-directory-elsewhere");
    assert!(hint.contains("--reader sql"), "{hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tablespaces_come_through_sql_each_once() {
    let (source, folders) = with_two_tablespaces().await;
    let inside = source.data_dir().join("some where").join("inside");
    std::fs::create_dir_all(&inside).unwrap();
    give_to_server_user(inside.parent().unwrap());
    sql(
        &source,
        &format!("CREATE TABLESPACE inside LOCATION '{}'", inside.display()),
    )
    .await;
    let table =
        "CREATE TABLE public.inside TABLESPACE inside AS SELECT i FROM pg_catalog.generate_series(1, 3000) AS i";
    sql(&source, table).await;
    let conninfo = poor(&source).await;
    let before = row_digests(&source.conninfo()).await;
    let world = World::new().await;
    back_up(&world, &conninfo).await.unwrap();

    let mut request = world.request("restored");
    let new = [
        world.target("new space 0"),
        world.target("new \\space 1"),
        world.target("outside"),
    ];
    let old = folders.iter().chain([&inside]).cloned();
    request.tablespaces = old.zip(new.clone()).collect();
    let restored = world.restore(&request).await;
    verifybackup(&restored.to).unwrap();
    let twice = files_below(&restored.to)
        .into_keys()
        .filter(|path| path.starts_with("some where"));
    assert_eq!(twice.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
    assert!(new.iter().all(|folder| !files_below(folder).is_empty()));
    let mut server = TestCluster::on(Major::V15, &restored.to);
    new.iter().for_each(|folder| give_to_server_user(folder));
    server.start().await;
    assert_eq!(row_digests(&server.conninfo()).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_server_is_backed_up_with_its_history() {
    let mut source = TestCluster::new(Major::V15, durable()).await;
    source.stop().await;
    std::fs::write(source.data_dir().join("standby.signal"), "").unwrap();
    give_to_server_user(source.data_dir());
    source.start().await;
    sql(&source, "SELECT pg_catalog.pg_promote(); CHECKPOINT").await;
    sql(&source, "CREATE TABLE public.kept AS SELECT 1 AS i").await;
    let conninfo = poor(&source).await;
    let before = row_digests(&source.conninfo()).await;
    let world = World::new().await;
    let summary = back_up(&world, &conninfo).await.unwrap();
    assert_eq!(summary.backup.timeline, Some(2));
    let server = world.revive(Major::V15, "restored").await;
    assert_eq!(row_digests(&server.conninfo()).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_over_as_many_connections_as_there_are_readers() {
    let source = TestCluster::new(Major::V15, durable_with(&["wal_keep_size = 64MB"])).await;
    let conninfo = poor(&source).await;
    let world = World::new().await;
    let options = Options {
        jobs: 3,
        max_rate: Some(12 << 20),
        ..over_sql()
    };
    let counted = std::sync::Mutex::new(String::new());
    let count = async {
        // Each question leaves its text with the connection that it was asked on. WAL is read by a connection that asks
        // for its position in between.
        let readers =
            "SELECT pg_catalog.count(*) FILTER (WHERE query ~ 'pg_read_binary_file|pg_ls_dir|pg_stat_file') >= 3
                         FROM pg_catalog.pg_stat_activity WHERE usename ~ 'poor'";
        for _ in 0..1000 {
            let enough = value(&source, readers).await;
            let done = enough == "true";
            *counted.lock().unwrap() = enough;
            if done {
                break;
            }
        }
    };
    world.backup_while(&conninfo, &options, count).await.unwrap();
    assert_eq!(*counted.lock().unwrap(), "true");
    let all = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE usename ~ 'poor'";
    // Sessions end a moment after the backup.
    for _ in 0..1000 {
        if value(&source, all).await == "0" {
            return;
        }
    }
    panic!("connections stay open after the backup");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_was_recycled_is_an_error_that_says_what_to_do() {
    let options = testkit::clusters::Options {
        wal_segment_size_mib: 1,
        conf: vec![
            "fsync = on".into(),
            "min_wal_size = 2MB".into(),
            "max_wal_size = 2MB".into(),
        ],
        ..testkit::clusters::Options::default()
    };
    let source = TestCluster::new(Major::V15, options).await;
    let conninfo = poor(&source).await;
    let begun: Lsn = value(&source, "SELECT pg_catalog.pg_current_wal_lsn()")
        .await
        .parse()
        .unwrap();
    let begun = Lsn(begun.0 - begun.0 % (1 << 20));
    sql(&source, "CREATE TABLE public.growing (word text)").await;
    let runtime = testkit::host::runtime();
    let live = LiveServer::new(conninfo, runtime.clone());
    let facts = live.facts().await.unwrap();
    let server = SqlServer::new(live, &facts, &runtime);

    // What is there comes as it is written, beginning where it was asked for.
    let mut feed = server.reserve_wal().await.unwrap().stream(begun, Tli(1)).await.unwrap();
    let WalEvent::Data { start, bytes, .. } = feed.next().await.unwrap() else {
        panic!("no WAL came");
    };
    assert_eq!(start, begun);
    assert!(!bytes.is_empty());

    // Nobody reads on, and the server writes on.
    for _ in 0..6 {
        sql(
            &source,
            "INSERT INTO public.growing SELECT pg_catalog.repeat('x', 1000) FROM pg_catalog.generate_series(1, 2000)",
        )
        .await;
        sql(&source, "CHECKPOINT").await;
    }
    let error = loop {
        match feed.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let Error::Failed { code, what, hint } = error else {
        panic!("{error:?}");
    };
    assert_eq!(code, "wal-recycled");
    assert!(
        what.contains("00000001") && hint.contains("wal_keep_size"),
        "{what} {hint}"
    );
}

/// The readers, the backup's session and its WAL must be of one server; a restart in between is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_restarted_while_files_are_copied_fails_the_backup() {
    let source = TestCluster::new(Major::V15, durable_with(&["wal_keep_size = 64MB"])).await;
    let conninfo = poor(&source).await;
    let world = World::new().await;
    let options = Options {
        max_rate: Some(6 << 20),
        ..over_sql()
    };
    let source = tokio::sync::Mutex::new(source);
    let restart = async { source.lock().await.restart().await };
    let failed = world.backup_while(&conninfo, &options, restart).await.unwrap_err();
    assert!(failed.hint().is_some(), "{failed:?}");
    assert_eq!(world.listed().await, Vec::<String>::new());
    world.assert_no_run_is_open().await;
    let heard = world.heard.0.lock().unwrap();
    assert!(
        !heard
            .iter()
            .any(|event| matches!(event, Event::Step { step: "commit", .. }))
    );
}
