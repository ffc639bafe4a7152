//! What changes pages and files, in parts. Each may be done again and again.

use testkit::{
    clusters::{TestCluster, give_to_server_user, sample},
    sim::Random,
};

use pgformat::Major;

use super::ddl;
use crate::ask::value;

/// One kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Rows of tables with all kinds of index, in TOAST, large objects, sequences.
    Rows,
    /// What never was: rolled back whole and in part, with tables and indexes made in it.
    Aborts,
    /// Tables emptied, cut off by vacuum, and grown again.
    Truncation,
    /// Tables and indexes written anew, into other files.
    Rewrites,
    /// Databases made both ways, moved there and back, dropped.
    Databases,
    /// Pages of which nothing but hints changes.
    Hints,
    /// Anything, by a seed.
    Random(u64),
}

/// The tables that all parts work on.
pub(crate) async fn begin(cluster: &TestCluster) {
    let space = cluster.folder().join("elsewhere");
    std::fs::create_dir(&space).unwrap();
    give_to_server_user(&space);
    sample::create(cluster, Some(&space)).await;
    each(
        cluster,
        "postgres",
        &[
            "CREATE TABLE public.bulk AS SELECT i AS id, repeat(md5(i::text), 30) AS filler FROM generate_series(1, 25000) AS i",
            "CREATE TABLE public.many (id int PRIMARY KEY, word text, n int)",
            "INSERT INTO public.many SELECT i, md5(i::text), i % 10 FROM generate_series(1, 20000) AS i",
            "CREATE TABLE public.emptied (id int PRIMARY KEY, word text)",
            "INSERT INTO public.emptied SELECT i, md5(i::text) FROM generate_series(1, 3000) AS i",
            "CREATE TABLE public.hinted (id int PRIMARY KEY, n int)",
            "INSERT INTO public.hinted SELECT i, i FROM generate_series(1, 20000) AS i",
            "CREATE TABLE public.shrunk (id int PRIMARY KEY, word text)",
            FULL_AGAIN,
            "CREATE TABLE public.rewritten (id serial PRIMARY KEY, word text)",
            "INSERT INTO public.rewritten (word) SELECT md5(i::text) FROM generate_series(1, 4000) AS i",
        ],
    )
    .await;
}

/// What the crashes of [`super::rounds`] begin with.
const FULL_AGAIN: &str = "INSERT INTO public.shrunk SELECT i, repeat('full', 50) FROM generate_series(1, 3000) AS i ON CONFLICT (id) DO NOTHING";

/// Runs statements one after another, each for itself.
pub(crate) async fn each(cluster: &TestCluster, database: &str, statements: &[&str]) {
    let session = cluster.session_in(database).await;
    for statement in statements {
        let done = session.execute("do a test's bidding", statement).await;
        done.unwrap_or_else(|error| panic!("{error:?}\n{statement}"));
    }
    session.close().await;
}

/// Does one part, for the `round`th time.
pub(crate) async fn work(cluster: &TestCluster, part: Part, round: u32) {
    match part {
        Part::Rows => rows(cluster, round).await,
        Part::Aborts => aborts(cluster, round).await,
        Part::Truncation => truncation(cluster, round).await,
        Part::Rewrites => rewrites(cluster).await,
        Part::Databases => databases(cluster, round).await,
        Part::Hints => hints(cluster).await,
        Part::Random(seed) => ddl::random(cluster, &mut Random::new(seed), 60).await,
    }
}

/// What is done after the rows were looked at, so that no look makes hints of it: none of it changes a row that is seen.
pub(crate) async fn after_the_look(cluster: &TestCluster, round: u32) {
    let prepare = format!("PREPARE TRANSACTION 'across {round}'");
    each(
        cluster,
        "postgres",
        &[
            "BEGIN",
            "UPDATE public.hinted SET n = n + 1 WHERE id % 2 = 0",
            "ROLLBACK",
            "BEGIN",
            &format!("CREATE TABLE public.prepared_{round} AS SELECT * FROM public.emptied"),
            "DROP TABLE public.emptied",
            "CREATE TABLE public.emptied (id int PRIMARY KEY, word text)",
            "INSERT INTO public.emptied SELECT i, md5(i::text) FROM generate_series(1, 3000) AS i",
            "TRUNCATE public.hinted",
            &prepare,
        ],
    )
    .await;
}

/// The end of what was prepared after the round `round`.
pub(crate) async fn before_the_work(cluster: &TestCluster, round: u32) {
    let end = match round % 2 {
        0 => "COMMIT",
        _ => "ROLLBACK",
    };
    each(
        cluster,
        "postgres",
        &[
            &format!("{end} PREPARED 'across {round}'"),
            FULL_AGAIN,
            "SELECT count(*) FROM public.hinted",
            "INSERT INTO public.hinted SELECT i, i FROM generate_series(1, 20000) AS i ON CONFLICT (id) DO NOTHING",
        ],
    )
    .await;
}

async fn rows(cluster: &TestCluster, round: u32) {
    let statements = [
        format!(
            "INSERT INTO public.indexed (word, place, tags, mood, score, document)
             SELECT md5((i * 17 + {round})::text), point(i % 100 + {round}, i / 100), ARRAY[i % 10 + {round}, i % 7], 'ok',
                    1 + i % 60, jsonb_build_object('n', i, 'round', {round}) FROM generate_series(1, 1500) AS i"
        ),
        format!("DELETE FROM public.indexed WHERE id % 9 = {round} % 9"),
        format!(
            "UPDATE public.indexed SET word = md5(word), place = point(place[1], place[0]), tags = tags || {round}
              WHERE id % 7 = {round} % 7"
        ),
        format!("UPDATE public.toasted SET long = repeat('round {round} ', 6000) WHERE id % 5 = {round} % 5"),
        format!(
            "UPDATE public.toasted SET incompressible = (SELECT string_agg(sha256(('{round}:' || k)::bytea), '')
               FROM generate_series(1, 400) AS k) WHERE id % 6 = {round} % 6"
        ),
        "SELECT nextval('public.counter') FROM generate_series(1, 100)".into(),
        format!("SELECT lo_put(424242, {round} * 5000, convert_to(repeat('more {round} ', 900), 'UTF8'))"),
        format!("UPDATE public.bulk SET filler = repeat(md5('{round}'), 30) WHERE id % 500 = {round}"),
        "UPDATE public.elsewhere SET word = word || '.' WHERE id % 20 = 0".into(),
        "VACUUM public.indexed".into(),
        format!("DELETE FROM public.indexed WHERE id % 11 = {round} % 11"),
        "SELECT brin_desummarize_range('public.indexed_brin', 0)".into(),
        "SELECT brin_summarize_new_values('public.indexed_brin')".into(),
        "VACUUM (FREEZE) public.toasted".into(),
    ];
    each(cluster, "postgres", &statements.each_ref().map(String::as_str)).await;
}

async fn aborts(cluster: &TestCluster, round: u32) {
    let own = format!("public.kept_{round}");
    each(
        cluster,
        "postgres",
        &[
            "BEGIN",
            "INSERT INTO public.many SELECT i, 'never', 0 FROM generate_series(100001, 106000) AS i",
            "ROLLBACK",
            "BEGIN",
            &format!("CREATE TABLE {own} (id int PRIMARY KEY, word text)"),
            "SAVEPOINT a",
            &format!("INSERT INTO {own} SELECT i, 'never' FROM generate_series(1, 2000) AS i"),
            "UPDATE public.many SET n = n + 1 WHERE id % 50 = 0",
            "CREATE TABLE public.never AS SELECT * FROM public.many",
            "SAVEPOINT b",
            "TRUNCATE public.never",
            "ROLLBACK TO a",
            &format!("INSERT INTO {own} SELECT i, 'kept' FROM generate_series(1, 1000) AS i"),
            "SAVEPOINT c",
            "UPDATE public.many SET n = n + 2 WHERE id % 100 = 0",
            "RELEASE c",
            "COMMIT",
            "BEGIN",
            "TRUNCATE public.many",
            "ROLLBACK",
            "BEGIN",
            "DELETE FROM public.emptied WHERE id % 3 = 0",
            &format!("PREPARE TRANSACTION 'within {round}'"),
            &format!("COMMIT PREPARED 'within {round}'"),
        ],
    )
    .await;
}

async fn truncation(cluster: &TestCluster, round: u32) {
    each(
        cluster,
        "postgres",
        &[
            "TRUNCATE public.emptied",
            "INSERT INTO public.emptied SELECT i, md5(i::text) FROM generate_series(1, 5000) AS i",
            "CHECKPOINT",
            "DELETE FROM public.many WHERE id > 9000",
            "VACUUM public.many",
            // Grown again within the old length.
            &format!("INSERT INTO public.many SELECT i, 'round {round}', 1 FROM generate_series(20001, 26000) AS i"),
            "CHECKPOINT",
            "DELETE FROM public.many WHERE id > 20000",
            "VACUUM (FREEZE) public.many",
            &format!("INSERT INTO public.many SELECT i, 'again {round}', 1 FROM generate_series(9001, 20000) AS i"),
            "BEGIN",
            "TRUNCATE public.rewritten",
            "INSERT INTO public.rewritten (word) SELECT md5(i::text) FROM generate_series(1, 4000) AS i",
            "COMMIT",
        ],
    )
    .await;
}

async fn rewrites(cluster: &TestCluster) {
    each(
        cluster,
        "postgres",
        &[
            "VACUUM FULL public.indexed",
            "CLUSTER public.many USING many_pkey",
            "REINDEX TABLE public.indexed",
            "ALTER TABLE public.rewritten SET UNLOGGED",
            "INSERT INTO public.rewritten (word) SELECT md5(i::text) FROM generate_series(1, 500) AS i",
            "ALTER TABLE public.rewritten SET LOGGED",
            "ALTER TABLE public.rewritten ALTER COLUMN id TYPE bigint",
            "ALTER TABLE public.elsewhere SET TABLESPACE pg_default",
            "UPDATE public.elsewhere SET word = word || '!' WHERE id % 10 = 0",
            "ALTER TABLE public.elsewhere SET TABLESPACE \"elsewhere ü\"",
            "REFRESH MATERIALIZED VIEW public.totals",
            "CREATE INDEX CONCURRENTLY many_word ON public.many (word)",
            "DROP INDEX public.many_word",
            "VACUUM FULL pg_catalog.pg_class",
            "VACUUM FULL pg_catalog.pg_attribute",
            "REINDEX TABLE pg_catalog.pg_class",
            "CREATE TEMPORARY TABLE passing AS SELECT * FROM public.many",
            "DROP TABLE passing",
        ],
    )
    .await;
}

async fn databases(cluster: &TestCluster, round: u32) {
    let odd = format!("\"{}\"", sample::ODD_DATABASE.replace('"', "\"\""));
    let (by_log, by_files) = match cluster.major() >= Major::V15 {
        true => (" STRATEGY wal_log", " STRATEGY file_copy"),
        false => ("", ""),
    };
    each(
        cluster,
        "postgres",
        &[
            "DROP DATABASE IF EXISTS logged",
            "DROP DATABASE IF EXISTS moved",
            &format!("CREATE DATABASE logged TEMPLATE {odd}{by_log}"),
        ],
    )
    .await;
    each(
        cluster,
        "logged",
        &["UPDATE public.other SET word = 'logged' WHERE id % 3 = 0"],
    )
    .await;
    // One that stays, and goes there and back: its files come to lie under their old names with other content.
    let is_there = "SELECT count(*) FROM pg_database WHERE datname = 'staying'";
    if value(cluster, is_there).await == "0" {
        let make = format!("CREATE DATABASE staying TEMPLATE {odd}{by_files}");
        each(cluster, "postgres", &[&make]).await;
    }
    each(
        cluster,
        "postgres",
        &["ALTER DATABASE staying SET TABLESPACE \"elsewhere ü\""],
    )
    .await;
    let changes = format!("UPDATE public.other SET word = 'away {round}' WHERE id % 2 = 0");
    each(cluster, "staying", &[&changes, "VACUUM FREEZE", "CHECKPOINT"]).await;
    each(
        cluster,
        "postgres",
        &[
            "ALTER DATABASE staying SET TABLESPACE pg_default",
            &format!("CREATE DATABASE moved TEMPLATE {odd}{by_files}"),
            "ALTER DATABASE moved SET TABLESPACE \"elsewhere ü\"",
        ],
    )
    .await;
    each(
        cluster,
        "moved",
        &["INSERT INTO public.other SELECT i, 'moved' FROM generate_series(1001, 1500) AS i"],
    )
    .await;
}

async fn hints(cluster: &TestCluster) {
    each(
        cluster,
        "postgres",
        &[
            "UPDATE public.hinted SET n = n + 1 WHERE id % 3 = 0",
            "CHECKPOINT",
            "SELECT count(*) FROM public.hinted",
            "BEGIN",
            "UPDATE public.hinted SET n = n + 1",
            "ROLLBACK",
            "CHECKPOINT",
            "SELECT count(*) FROM public.hinted",
            // Index entries of rows that are gone are marked dead.
            "DELETE FROM public.hinted WHERE id BETWEEN 5000 AND 6000",
            "SET enable_seqscan = off",
            "SET enable_bitmapscan = off",
            "SELECT count(n) FROM public.hinted WHERE id BETWEEN 4000 AND 7000",
            "SELECT count(n) FROM public.hinted WHERE id BETWEEN 4000 AND 7000",
            "SELECT count(*) FROM public.indexed WHERE word = md5('5')",
            "SELECT count(*) FROM public.indexed WHERE place <@ box '((0,0),(50,50))'",
            "VACUUM (FREEZE) public.hinted",
            "SELECT count(*) FROM public.bulk",
        ],
    )
    .await;
}
