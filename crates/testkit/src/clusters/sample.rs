//! One of everything that a database can store, so that nothing is forgotten when it comes back.

use std::path::Path;

use pgclient::Session;

use super::TestCluster;

/// A database name with everything in it that breaks quoting.
pub const ODD_DATABASE: &str = "Größe \"2\" $x 'y' %p";

/// Tables and types, every kind of index, rows in TOAST, and kinds of relations.
const OBJECTS: &[&str] = &[
    "CREATE TYPE public.mood AS ENUM ('sad', 'ok', 'happy')",
    "CREATE DOMAIN public.positive AS int CHECK (VALUE > 0)",
    // The six kinds of index, and a partial one over an expression.
    "CREATE TABLE public.indexed (
        id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, word text NOT NULL, place point NOT NULL, tags int[] NOT NULL,
        mood public.mood NOT NULL, score public.positive, document jsonb NOT NULL, dropped int)",
    "INSERT INTO public.indexed (word, place, tags, mood, score, document)
        SELECT pg_catalog.md5(i::text), pg_catalog.point(i % 100, i / 100), ARRAY[i % 10, i % 7],
               (ARRAY['sad', 'ok', 'happy'])[1 + i % 3]::public.mood, NULLIF(i % 50, 0), pg_catalog.jsonb_build_object('n', i)
          FROM pg_catalog.generate_series(1, 3000) AS i",
    "CREATE INDEX indexed_hash ON public.indexed USING hash (word)",
    "CREATE INDEX indexed_gist ON public.indexed USING gist (place)",
    "CREATE INDEX indexed_spgist ON public.indexed USING spgist (place)",
    "CREATE INDEX indexed_gin ON public.indexed USING gin (tags)",
    "CREATE INDEX indexed_brin ON public.indexed USING brin (id)",
    "CREATE INDEX indexed_partial ON public.indexed (pg_catalog.upper(word)) WHERE score > 25",
    "ALTER TABLE public.indexed DROP COLUMN dropped",
    "DELETE FROM public.indexed WHERE id % 11 = 0",
    "UPDATE public.indexed SET document = document || '{\"changed\": true}' WHERE id % 13 = 0",
    // Values out of line: compressed, and not compressible.
    "CREATE TABLE public.toasted (id int PRIMARY KEY, long text, incompressible bytea)",
    "ALTER TABLE public.toasted ALTER incompressible SET STORAGE EXTERNAL",
    "INSERT INTO public.toasted
        SELECT i, pg_catalog.repeat('words and words ' || i, 5000),
               (SELECT pg_catalog.string_agg(pg_catalog.sha256((i || ':' || k)::bytea), '') FROM pg_catalog.generate_series(1, 300) AS k)
          FROM pg_catalog.generate_series(1, 30) AS i",
    "CREATE UNLOGGED TABLE public.unlogged (id int PRIMARY KEY, word text)",
    "INSERT INTO public.unlogged SELECT i, 'gone after recovery' FROM pg_catalog.generate_series(1, 500) AS i",
    "CREATE SEQUENCE public.counter START 1000 INCREMENT 7",
    "SELECT pg_catalog.nextval('public.counter'), pg_catalog.nextval('public.counter')",
    "SELECT pg_catalog.lo_from_bytea(424242, pg_catalog.convert_to(pg_catalog.repeat('large object ', 20000), 'UTF8'))",
    "CREATE TABLE public.parted (at date NOT NULL, amount numeric) PARTITION BY RANGE (at)",
    "CREATE TABLE public.parted_2024 PARTITION OF public.parted FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
    "CREATE TABLE public.parted_2025 PARTITION OF public.parted FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
    "CREATE TABLE public.parted_rest PARTITION OF public.parted DEFAULT",
    "CREATE INDEX ON public.parted (at)",
    "INSERT INTO public.parted SELECT date '2023-06-01' + i, i * 1.25 FROM pg_catalog.generate_series(1, 1200) AS i",
    "CREATE MATERIALIZED VIEW public.totals AS SELECT pg_catalog.date_trunc('month', at) AS month, pg_catalog.sum(amount) AS total
        FROM public.parted GROUP BY 1",
    "CREATE UNIQUE INDEX ON public.totals (month)",
    "CREATE VIEW public.happy AS SELECT id, word FROM public.indexed WHERE mood = 'happy'",
    "CREATE TABLE public.empty (id int PRIMARY KEY, nothing text)",
    "CREATE TABLE public.referring (id int PRIMARY KEY REFERENCES public.toasted)",
    "INSERT INTO public.referring SELECT i FROM pg_catalog.generate_series(1, 30) AS i",
    // Names.
    "CREATE SCHEMA \"Odd Schema\"",
    "CREATE TABLE \"Odd Schema\".\"tablé \"\"x\"\".y 'z'\" (\"SELECT\" int PRIMARY KEY, \"a b\" text NOT NULL)",
    "INSERT INTO \"Odd Schema\".\"tablé \"\"x\"\".y 'z'\" SELECT i, 'ärger ' || i FROM pg_catalog.generate_series(1, 100) AS i",
    "COMMENT ON TABLE public.empty IS 'nothing in it'",
    "ANALYZE",
];

/// Makes it all: in database `postgres`, a role, a second database with an odd name, and with `tablespace`
/// (an existing, empty folder that the server's user owns) a tablespace with a table and an index in it.
pub async fn create(cluster: &TestCluster, tablespace: Option<&Path>) {
    let session = cluster.session().await;
    for statement in OBJECTS {
        run(&session, statement).await;
    }
    run(&session, "CREATE ROLE reader LOGIN CONNECTION LIMIT 3").await;
    run(&session, "GRANT SELECT ON public.indexed TO reader").await;
    run(&session, "ALTER ROLE reader IN DATABASE postgres SET work_mem = '5MB'").await;
    if let Some(folder) = tablespace {
        let folder = folder.display().to_string().replace('\'', "''");
        run(
            &session,
            &format!("CREATE TABLESPACE \"elsewhere ü\" LOCATION '{folder}'"),
        )
        .await;
        run(
            &session,
            "CREATE TABLE public.elsewhere (id int, word text) TABLESPACE \"elsewhere ü\"",
        )
        .await;
        run(
            &session,
            "INSERT INTO public.elsewhere SELECT i, 'far' FROM pg_catalog.generate_series(1, 2000) AS i",
        )
        .await;
        run(
            &session,
            "CREATE INDEX elsewhere_id ON public.elsewhere (id) TABLESPACE \"elsewhere ü\"",
        )
        .await;
    }
    run(&session, &format!("CREATE DATABASE {}", quoted(ODD_DATABASE))).await;
    let other = cluster.session_in(ODD_DATABASE).await;
    run(&other, "CREATE TABLE public.other (id int PRIMARY KEY, word text)").await;
    run(
        &other,
        "INSERT INTO public.other SELECT i, 'other ' || i FROM pg_catalog.generate_series(1, 700) AS i",
    )
    .await;
    other.close().await;
    session.close().await;
}

async fn run(session: &Session, statement: &str) {
    let done = session.execute("make the sample", statement).await;
    done.unwrap_or_else(|error| panic!("{error:?}\n{statement}"));
}

/// An SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
