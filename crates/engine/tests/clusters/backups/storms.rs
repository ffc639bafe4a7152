//! Backups while files come, go and are replaced.

use engine::{
    backup::Options,
    repo::ledger::{Level, Outcome},
    server::ServerFacts,
    verify,
};
use pgformat::Major;
use testkit::clusters::{
    TestCluster, amcheck,
    bank::{self, RunningBank},
    index_counts, majors_to_test,
    storm::Storm,
};

use crate::{
    ask::{sql, value},
    world::{World, durable},
};

const ACCOUNTS: i32 = 20;

/// How many backups are taken in the storm over one version.
fn rounds(major: Major) -> usize {
    if major == Major::V15 { 3 } else { 1 }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_backup_taken_in_a_storm_restores_whole() {
    for major in majors_to_test() {
        let source = TestCluster::new(major, durable()).await;
        bank::create(&source.session().await, ACCOUNTS).await;
        let storm = Storm::start(&source.conninfo()).await;
        let bank = RunningBank::start(&source.conninfo(), 1, ACCOUNTS, 11);
        let world = World::new().await;
        let options = Options {
            // Slow enough that whatever the storm does falls into the copy.
            max_rate: Some(14 << 20),
            ..world.options(&source)
        };
        for round in 0..rounds(major) {
            let before = bank.acknowledged();
            let asked = source.session().await;
            for _ in 0..50 {
                ServerFacts::read(&asked).await.unwrap();
            }
            world.try_backup(&source, &options).await.unwrap();
            let restored = world.restore(&world.request(&format!("restored-{round}"))).await;
            let settings = std::fs::read(restored.to.join("postgresql.auto.conf")).unwrap();
            assert!(
                !settings.contains(&0),
                "PostgreSQL {major}: NUL bytes in postgresql.auto.conf"
            );
            let settings = String::from_utf8(settings).unwrap();
            assert!(
                settings.starts_with("# Do not edit") && settings.contains("log_min_duration_statement = '1000"),
                "PostgreSQL {major}: {settings}"
            );
            let mut server = TestCluster::on(major, &restored.to);
            server.start().await;
            let books = bank::audit(&server.session().await, ACCOUNTS).await;
            assert_eq!(books.faults, Vec::<String>::new(), "PostgreSQL {major}");
            assert!(before.is_subset(&books.transfers), "PostgreSQL {major}");
            assert_eq!(
                amcheck(&server.conninfo()).await,
                Vec::<String>::new(),
                "PostgreSQL {major}"
            );
            assert_eq!(
                index_counts(&server.conninfo()).await,
                Vec::<String>::new(),
                "PostgreSQL {major}"
            );
            assert_every_catalogued_file_is_there(&server).await;
            server.stop().await;
        }
        // The program's own proof agrees, whatever the storm had made or dropped at the very end.
        let opened = world.open().await;
        let request = verify::Request {
            backup: None,
            level: Level::Restore,
            jobs: 2,
            binaries: Some(source.binaries().program("postgres").parent().unwrap().to_path_buf()),
            scratch: None,
        };
        let report = verify::run(&world.context, &opened, &request).await.unwrap();
        assert_eq!(report.found, Vec::<String>::new(), "PostgreSQL {major}");
        assert_eq!(report.outcome, Outcome::Passed, "PostgreSQL {major}: {report:?}");
        bank.stop().await;
        let done = storm.stop().await;
        assert!(
            done.tables > 0 && done.databases > 0 && done.rewrites > 0 && done.settings > 0,
            "PostgreSQL {major}: {done:?}"
        );
    }
}

/// Reading a relation whose file is missing is an error; its size tells without reading.
async fn assert_every_catalogued_file_is_there(server: &TestCluster) {
    let sizes =
        "SELECT pg_catalog.count(pg_catalog.pg_relation_size(oid)) FROM pg_catalog.pg_class WHERE relfilenode > 0";
    assert_ne!(value(server, sizes).await, "0");
}

/// Records that stand before the first head of a page do not tell which version wrote them.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_end_right_where_a_backup_begins_do_no_harm() {
    let source = TestCluster::new(Major::V15, durable()).await;
    sql(&source, "CREATE TABLE public.enough (i int)").await;
    // A page takes a hundred of these commits and more: some stand in the one where the checkpoint is. What lies between
    // them carries the WAL on to another segment.
    let commits = "DO $$ BEGIN
            PERFORM pg_catalog.set_config('synchronous_commit', 'off', false);
            WHILE NOT EXISTS (SELECT FROM public.enough) LOOP
                FOR i IN 1..100 LOOP
                    PERFORM pg_catalog.txid_current();
                    COMMIT;
                END LOOP;
                PERFORM pg_catalog.pg_logical_emit_message(false, 'filler', pg_catalog.repeat('x', 100000));
            END LOOP;
        END $$";
    let commits = sql(&source, commits);
    let world = World::new().await;
    let options = Options {
        max_rate: Some(10 << 20),
        ..world.options(&source)
    };
    let rounds = async {
        for round in 0..2 {
            let backed_up = world.try_backup(&source, &options).await.unwrap();
            assert!(backed_up.wal_bytes > 16 << 20, "{} bytes", backed_up.wal_bytes);
            let restored = world.restore(&world.request(&format!("restored-{round}"))).await;
            assert_eq!(restored.backup, backed_up.backup.id);
        }
        sql(&source, "INSERT INTO public.enough VALUES (1)").await;
    };
    tokio::join!(commits, rounds);
}

/// A table that shrinks and one that is dropped between being listed and being read: replay must agree.
#[tokio::test(flavor = "multi_thread")]
async fn tables_cut_off_and_dropped_while_they_are_read_do_no_harm() {
    let source = TestCluster::new(Major::V15, durable()).await;
    let fill = "SELECT i, pg_catalog.repeat('x', 900) AS filler FROM pg_catalog.generate_series(1, 90000) AS i";
    sql(
        &source,
        &format!(
            "CREATE TABLE public.cut WITH (autovacuum_enabled = off) AS {fill};
             CREATE TABLE public.dropped WITH (autovacuum_enabled = off) AS {fill};
             CREATE TABLE public.grown WITH (autovacuum_enabled = off) AS SELECT 1 AS i, 'x'::text AS filler"
        ),
    )
    .await;
    let world = World::new().await;
    // Each large table is read in two parts by two readers.
    let options = Options {
        max_rate: Some(60 << 20),
        ..world.options(&source)
    };
    let meanwhile = async {
        sql(&source, "DELETE FROM public.cut WHERE i > 100").await;
        sql(&source, "VACUUM public.cut").await;
        sql(&source, "DROP TABLE public.dropped").await;
        sql(&source, &format!("INSERT INTO public.grown {fill} LIMIT 9000")).await;
        // Grows again over what was cut off.
        sql(&source, &format!("INSERT INTO public.cut {fill} LIMIT 20000")).await;
    };
    let summary = world
        .backup_while(&source.conninfo(), &options, meanwhile)
        .await
        .unwrap();
    assert!(summary.seconds > 1.0, "nothing fell into the copy");
    let server = world.revive(Major::V15, "restored").await;
    for (table, rows) in [("cut", "20100"), ("grown", "9001")] {
        let count = format!("SELECT pg_catalog.count(filler) FROM public.{table}");
        assert_eq!(value(&server, &count).await, rows, "{table}");
    }
    let gone = "SELECT pg_catalog.to_regclass('public.dropped') IS NULL";
    assert_eq!(value(&server, gone).await, "true");
    assert_eq!(amcheck(&server.conninfo()).await, Vec::<String>::new());
}
