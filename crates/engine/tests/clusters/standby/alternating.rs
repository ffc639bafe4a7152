//! Backups of the primary and of its standby, one on the other.

use pgformat::Major;
use testkit::clusters::{TestCluster, bank::RunningBank, majors_to_test};

use super::pair::{ACCOUNTS, From, Pair};
use crate::{
    ask::{sql, value},
    scene::Depth,
};

/// Of some 1500 pages of the large table alone, what a round changes and both servers write differently is far less.
const FEW: u64 = 600;

async fn each_builds_on_the_one_before(major: Major, rounds: u32) {
    let mut pair = Pair::begin(major, &[]).await;
    let first = pair.full(From::Primary).await;
    let mut taken = Vec::new();
    for round in 0..rounds {
        let bank = RunningBank::start(&pair.scene.cluster.conninfo(), 2, ACCOUNTS, 100 + u64::from(round));
        bank.wait_for(50).await;
        bank.stop().await;
        pair.change(round).await;
        for from in [From::Standby, From::Beside, From::Primary] {
            pair.caught_up().await;
            let rows = pair.scene.rows().await;
            let (summary, increment) = pair.by_wal(from).await;
            assert!(increment.stored < FEW, "{from:?}: {increment:?}");
            assert!(
                summary.backup.stored < first.backup.stored / 2,
                "{from:?}: {} of {}",
                summary.backup.stored,
                first.backup.stored
            );
            taken.push((summary.backup.id, rows));
        }
    }
    for (id, rows) in taken.iter().rev().take(3) {
        pair.scene.brings_back(id, rows, Depth::All).await;
    }
    assert_eq!(pair.scene.alerts().await, Vec::<String>::new());
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn increments_stay_small_whichever_server_they_are_taken_from() {
    for major in majors_to_test() {
        let rounds = if major == Major::V15 { 2 } else { 1 };
        each_builds_on_the_one_before(major, rounds).await;
    }
}

/// Commands and cursors within a transaction, whose numbers a standby does not know, and space that each fills in its own way.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_primary_remembers_of_a_row_is_no_finding() {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    sql(
        &pair.scene.cluster,
        "CREATE TABLE public.commands (n int, word text);
         DO $$ BEGIN FOR i IN 1..3000 LOOP INSERT INTO public.commands VALUES (i, repeat('w', i % 13)); END LOOP; END $$",
    )
    .await;
    sql(&pair.scene.cluster, "DELETE FROM public.commands WHERE n % 7 = 0").await;
    sql(&pair.scene.cluster, "VACUUM public.commands").await;
    pair.full(From::Primary).await;
    sql(&pair.scene.cluster, "CHECKPOINT").await;
    pair.caught_up().await;
    let rows = pair.scene.rows().await;
    let (summary, _) = pair.by_wal(From::Standby).await;
    pair.scene.brings_back(&summary.backup.id, &rows, Depth::All).await;
    pair.end().await;
}

/// How far a sequence is, and pages of a GIN index that vacuum emptied: replay writes both in its own way.
#[tokio::test(flavor = "multi_thread")]
async fn sequences_and_pages_that_an_index_gave_up_are_no_finding() {
    let pair = Pair::begin(Major::V15, &["autovacuum = off"]).await;
    for statement in [
        "CREATE SEQUENCE public.s",
        "SELECT nextval('public.s') FROM generate_series(1, 5)",
        "CREATE TABLE public.k (id int, a int[])",
        "CREATE INDEX k_n ON public.k USING gin (a)",
        "INSERT INTO public.k SELECT i, ARRAY[i % 5, i % 40, i % 700] FROM generate_series(1, 20000) AS i",
        "CHECKPOINT",
        "DELETE FROM public.k WHERE id BETWEEN 3000 AND 12000",
        "VACUUM public.k",
        "DELETE FROM public.k WHERE id BETWEEN 12000 AND 15000",
        "VACUUM public.k",
        "VACUUM public.k",
    ] {
        sql(&pair.scene.cluster, statement).await;
    }
    sql(&pair.scene.cluster, "CHECKPOINT").await;
    // `GIN_DELETED` of `GinPageOpaqueData.flags` (`access/ginblock.h`).
    let deleted = pages_marked(&pair.scene.cluster, "public.k_n", 2, 1 << 2).await;
    assert!(deleted > 0, "vacuum gave up no page of the index");
    nothing_is_found(pair, "of 15").await;
}

/// Before version 14 who deletes such a page leaves on it what was there, and who replays that makes an empty one.
#[tokio::test(flavor = "multi_thread")]
async fn pages_that_vacuum_deletes_from_a_btree_are_no_finding() {
    for major in majors_to_test() {
        emptied(major).await;
    }
}

async fn emptied(major: Major) {
    let pair = Pair::begin(major, &["autovacuum = off"]).await;
    for statement in [
        "CREATE TABLE public.k (id int PRIMARY KEY, t text)",
        "CREATE INDEX k_t ON public.k (t)",
        "INSERT INTO public.k SELECT i, md5(i::text) FROM generate_series(1, 30000) AS i",
        "CHECKPOINT",
        "DELETE FROM public.k WHERE id BETWEEN 3000 AND 24000",
        "VACUUM public.k",
        "VACUUM public.k",
    ] {
        sql(&pair.scene.cluster, statement).await;
    }
    sql(&pair.scene.cluster, "CHECKPOINT").await;
    // `BTP_DELETED` of `btpo_flags` (`access/nbtree.h`).
    let deleted = pages_marked(&pair.scene.cluster, "public.k_pkey", 4, 1 << 2).await;
    assert!(deleted > 10, "{major}: vacuum deleted {deleted} pages of the index");
    nothing_is_found(pair, &major.to_string()).await;
}

/// Where two sessions set hints on a page at once, or one while the page is being written, each tells WAL the whole of it, and the
/// page keeps the LSN of the first, or none (`MarkBufferDirtyHint`, `bufmgr.c`). Who replays that has the last.
#[tokio::test(flavor = "multi_thread")]
async fn what_two_sessions_saw_at_once_is_no_finding() {
    let pair = Pair::begin(Major::V18, &["autovacuum = off", "synchronize_seqscans = off"]).await;
    let (primary, standby) = (&pair.scene.cluster, &pair.standby);
    sql(primary, "CREATE TABLE public.seen (n int)").await;
    for round in 0.. {
        assert!(round < 30, "no two sessions ever meet on a page");
        let fill = "TRUNCATE public.seen; INSERT INTO public.seen SELECT generate_series(1, 300000)";
        for statement in fill.split(';').chain(["CHECKPOINT"]) {
            sql(primary, statement).await;
        }
        let look = || sql(primary, "SELECT count(*) FROM public.seen");
        tokio::join!(look(), look(), look(), look(), sql(primary, "CHECKPOINT"));
        sql(primary, "CHECKPOINT").await;
        pair.caught_up().await;
        sql(standby, "CHECKPOINT").await;
        let of_primary = lsns(primary, "public.seen").await;
        let of_standby = lsns(standby, "public.seen").await;
        assert_eq!(of_primary.len(), of_standby.len());
        let differ = of_primary.iter().zip(of_standby).filter(|(one, other)| *one != other);
        let differ = differ.count();
        println!("{differ} of {} pages have other LSNs", of_primary.len());
        if differ > 0 {
            break;
        }
    }
    nothing_is_found(pair, "seen at once").await;
}

/// The LSN of each page of a table as it is on disk.
async fn lsns(cluster: &TestCluster, table: &str) -> Vec<[u8; 8]> {
    let path = value(cluster, &format!("SELECT pg_relation_filepath('{table}')")).await;
    let bytes = std::fs::read(cluster.data_dir().join(path)).unwrap();
    let pages = bytes.chunks_exact(8192);
    pages.map(|page| *page.first_chunk().unwrap()).collect()
}

/// How many pages of an index have a bit set in two bytes of their special space, which begin so many bytes before its end.
async fn pages_marked(cluster: &TestCluster, index: &str, before_end: usize, bit: u16) -> usize {
    let path = value(cluster, &format!("SELECT pg_relation_filepath('{index}')")).await;
    let bytes = std::fs::read(cluster.data_dir().join(path)).unwrap();
    let flags = |page: &[u8]| u16::from_le_bytes(page[8192 - before_end..][..2].try_into().unwrap());
    bytes.chunks_exact(8192).filter(|page| flags(page) & bit != 0).count()
}

/// A backup of the standby, built on one of the primary and comparing every page with it, finds none that changed without WAL.
async fn nothing_is_found(pair: Pair, what: &str) {
    pair.full(From::Primary).await;
    sql(&pair.scene.cluster, "CHECKPOINT").await;
    pair.caught_up().await;
    pair.by_wal(From::Standby).await;
    assert_eq!(pair.scene.alerts().await, Vec::<String>::new(), "{what}");
    pair.end().await;
}
