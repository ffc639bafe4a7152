//! Very many relations, a very large one, WAL segments of every size, and pages without checksums.

use std::path::Path;

use pgformat::Major;
use testkit::clusters::{Options, TestCluster, bank, row_digests};

use super::act::files_below;
use crate::{
    ask::{sql, value},
    world::{World, durable},
};

const TINY: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_tiny_relations_all_come_back() {
    let mut source = TestCluster::new(Major::V15, durable()).await;
    let make = format!(
        "DO $$ BEGIN
           SET LOCAL synchronous_commit = off;
           FOR i IN 1..{TINY} LOOP
             EXECUTE 'CREATE TABLE public.tiny' || i || ' (n int)';
             IF i % 10 = 0 THEN EXECUTE 'INSERT INTO public.tiny' || i || ' VALUES (' || i || ')'; END IF;
             IF i % 1000 = 0 THEN COMMIT; END IF;
           END LOOP;
         END $$"
    );
    sql(&source, &make).await;
    let world = World::new().await;
    world.backup(&source).await;
    let directory = value(
        &source,
        "SELECT 'base/' || oid FROM pg_catalog.pg_database WHERE datname = 'postgres'",
    )
    .await;
    source.stop().await;
    let restored = world.restore(&world.request("restored")).await;
    let relations = |root: &Path| {
        let mut files = files_below(&root.join(&directory));
        files.retain(|path, _| path.to_string_lossy().parse::<u32>().is_ok_and(|number| number > 16383));
        files
    };
    let (was, is) = (relations(source.data_dir()), relations(&restored.to));
    assert!(was.len() >= TINY);
    assert_eq!(is, was);
    let mut server = TestCluster::on(Major::V15, &restored.to);
    server.start().await;
    let check = format!(
        "DO $$ DECLARE total bigint := 0; one bigint; BEGIN
           FOR i IN 1..{TINY} LOOP
             IF i % 100 = 0 OR i % 7 = 0 THEN
               EXECUTE 'SELECT COALESCE(pg_catalog.sum(n), 0) FROM public.tiny' || i INTO one;
               IF one <> (CASE WHEN i % 10 = 0 THEN i ELSE 0 END) THEN RAISE 'tiny% holds %', i, one; END IF;
             END IF;
             IF i % 1000 = 0 THEN COMMIT; END IF;
           END LOOP;
         END $$"
    );
    sql(&server, &check).await;
    assert_eq!(
        value(
            &server,
            "SELECT pg_catalog.count(*) FROM pg_catalog.pg_class WHERE relname ~ '^tiny'"
        )
        .await,
        TINY.to_string()
    );
}

/// One row a page, so that a gigabyte of file takes little WAL and compresses to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_relation_of_more_than_a_gigabyte_comes_back_across_its_segments() {
    let source = TestCluster::new(Major::V15, durable()).await;
    sql(
        &source,
        "CREATE TABLE public.large (id int, filler text) WITH (fillfactor = 10, autovacuum_enabled = off);
         INSERT INTO public.large SELECT i, pg_catalog.repeat('x', 700) FROM pg_catalog.generate_series(1, 131500) AS i",
    )
    .await;
    let file = value(&source, "SELECT pg_catalog.pg_relation_filepath('public.large')").await;
    assert!(
        source.data_dir().join(format!("{file}.1")).exists(),
        "it is one segment"
    );
    let digest = "SELECT pg_catalog.count(*) || ' ' || pg_catalog.sum(pg_catalog.hashint8(id)) || ' ' || pg_catalog.max(ctid)::text
        FROM public.large";
    let before = value(&source, digest).await;
    let world = World::new().await;
    world.backup(&source).await;
    drop(source);
    let server = world.revive(Major::V15, "restored").await;
    assert_eq!(value(&server, digest).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn wal_segments_of_one_and_of_sixty_four_mebibytes_are_kept_whole() {
    for wal_segment_size_mib in [1, 64] {
        let options = Options {
            wal_segment_size_mib,
            ..durable()
        };
        let source = TestCluster::new(Major::V15, options).await;
        bank::create(&source.session().await, 20).await;
        let world = World::new().await;
        let options = engine::backup::Options {
            max_rate: Some(6 << 20),
            ..world.options(&source)
        };
        // Several of the small segments, and several of our runs within the large one.
        let write = async {
            for _ in 0..3 {
                sql(
                    &source,
                    "DROP TABLE IF EXISTS public.much; CREATE TABLE public.much AS
                     SELECT i, pg_catalog.repeat('x', 500) AS filler FROM pg_catalog.generate_series(1, 4000) AS i",
                )
                .await;
            }
        };
        let summary = world.backup_while(&source.conninfo(), &options, write).await.unwrap();
        assert!(summary.wal_bytes > 5 << 20, "{}", summary.wal_bytes);
        let before = row_digests(&source.conninfo()).await;
        drop(source);
        let server = world.revive(Major::V15, "restored").await;
        let size = "SELECT setting::bigint / 1048576 FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'";
        assert_eq!(value(&server, size).await, wal_segment_size_mib.to_string());
        assert_eq!(
            row_digests(&server.conninfo()).await,
            before,
            "{wal_segment_size_mib} MiB"
        );
        let books = bank::audit(&server.session().await, 20).await;
        assert_eq!(books.faults, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_checksums_is_backed_up_with_a_word_about_it() {
    let options = Options {
        checksums: false,
        ..durable()
    };
    let source = TestCluster::new(Major::V15, options).await;
    bank::create(&source.session().await, 20).await;
    let before = row_digests(&source.conninfo()).await;
    let world = World::new().await;
    let summary = world.backup(&source).await;
    assert_eq!(summary.page_errors, Vec::<String>::new());
    let warned = |(code, message): &(String, String)| code == "no-checksums" && message.contains("pg_checksums");
    assert!(world.warnings().iter().any(warned), "{:?}", world.warnings());
    drop(source);
    let server = world.revive(Major::V15, "restored").await;
    assert_eq!(row_digests(&server.conninfo()).await, before);
}
