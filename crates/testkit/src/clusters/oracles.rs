//! PostgreSQL's own judgement of a server or its files.
//!
//! Each returns what it found wrong, so that a test shows all of it at once and tests of damage can ask
//! for findings. Each sees some kinds of damage only: use them together, with [`super::row_digests`].

use std::{path::Path, process::Command};

use pgclient::{Conninfo, Session};
use pgformat::Major;

use super::{digests::databases, machine::binaries};

/// B-trees whose every tuple `amcheck` compares with the table and finds again from the root.
const BTREES: &str = "
    SELECT 'index ' || relation.oid::regclass::text,
           'SELECT check_work.bt_index_parent_check(' || relation.oid || '::oid, true, true)'
      FROM pg_catalog.pg_class AS relation JOIN pg_catalog.pg_index AS index ON index.indexrelid = relation.oid
     WHERE relation.relam = (SELECT oid FROM pg_catalog.pg_am WHERE amname = 'btree') AND relation.relkind = 'i'
       AND relation.relpersistence = 'p' AND index.indisvalid AND index.indisready ORDER BY 1";

/// Tables whose every tuple `amcheck` looks at (from 14 on). A row of its answer is a finding.
const HEAPS: &str = "
    SELECT 'table ' || relation.oid::regclass::text,
           'SELECT ''block '' || blkno || '': '' || msg FROM check_work.verify_heapam(' || relation.oid || '::regclass)'
      FROM pg_catalog.pg_class AS relation
     WHERE relation.relkind IN ('r', 'm', 't') AND relation.relpersistence = 'p' ORDER BY 1";

/// Tables whose visibility map must promise nothing that is not so.
const MAPS: &str = "
    SELECT 'visibility map of ' || relation.oid::regclass::text,
           'SELECT ''tuple '' || t_ctid::text FROM check_work.pg_check_visible(' || relation.oid || '::regclass)
            UNION ALL SELECT ''frozen tuple '' || t_ctid::text FROM check_work.pg_check_frozen(' || relation.oid || '::regclass)'
      FROM pg_catalog.pg_class AS relation
     WHERE relation.relkind IN ('r', 'm', 't') AND relation.relpersistence = 'p' ORDER BY 1";

/// Whole B-trees and tables of every database, by the `amcheck` extension. The server is left as it was.
pub async fn amcheck(conninfo: &Conninfo) -> Vec<String> {
    let mut findings = by_extension(conninfo, "amcheck", BTREES, Major::V13).await;
    findings.extend(by_extension(conninfo, "amcheck", HEAPS, Major::V14).await);
    findings
}

/// Visibility maps of every database, by the `pg_visibility` extension. The server is left as it was.
pub async fn visibility(conninfo: &Conninfo) -> Vec<String> {
    by_extension(conninfo, "pg_visibility", MAPS, Major::V13).await
}

/// Runs each check that `list` gives (what is checked, the query for it) in every database.
async fn by_extension(conninfo: &Conninfo, extension: &str, list: &str, since: Major) -> Vec<String> {
    let mut findings = Vec::new();
    for database in databases(conninfo).await {
        let session = Session::connect(&conninfo.clone().with_dbname(&database))
            .await
            .expect("a session for checks");
        if session.major() < since {
            continue;
        }
        let checks = session
            .query("list what to check", list, &[])
            .await
            .expect("relations can be listed");
        // Rolled back at the end, the extension was never there.
        let begin = format!("BEGIN; CREATE SCHEMA check_work; CREATE EXTENSION {extension} SCHEMA check_work");
        session
            .execute("load a checking extension", &begin)
            .await
            .unwrap_or_else(|error| {
                panic!("the extension {extension} cannot be used in {database} (is it there already?): {error:?}")
            });
        for check in checks {
            let (what, sql): (String, String) = (check.get(0), check.get(1));
            session
                .execute("set a savepoint", "SAVEPOINT one")
                .await
                .expect("a savepoint");
            match session.client().simple_query(&sql).await {
                Ok(answer) => findings.extend(rows_of(&answer).map(|row| format!("{database}: {what}: {row}"))),
                Err(error) => {
                    // The server's own words; without them the connection broke, which ends the check.
                    let said = error.as_db_error().map(|error| error.message().to_owned());
                    let said = said.unwrap_or_else(|| panic!("the server broke at {database}: {what}: {error}"));
                    findings.push(format!("{database}: {what}: {said}"));
                    session
                        .execute("go back", "ROLLBACK TO SAVEPOINT one")
                        .await
                        .expect("the savepoint is there");
                }
            }
        }
        session
            .execute("forget the extension", "ROLLBACK")
            .await
            .expect("a rollback");
        session.close().await;
    }
    findings
}

/// First columns with something in them: a function of type void gives empty ones.
fn rows_of(answer: &[tokio_postgres::SimpleQueryMessage]) -> impl Iterator<Item = &str> {
    answer.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).filter(|text| !text.is_empty()),
        _ => None,
    })
}

/// Plain leading columns of valid, whole B-trees.
const ORDERED: &str = "
    SELECT index.indrelid::regclass::text, pg_catalog.quote_ident(attribute.attname), index.indexrelid::regclass::text
      FROM pg_catalog.pg_index AS index
      JOIN pg_catalog.pg_class AS relation ON relation.oid = index.indexrelid
      JOIN pg_catalog.pg_class AS heap ON heap.oid = index.indrelid
      JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = index.indrelid AND attribute.attnum = index.indkey[0]
      JOIN pg_catalog.pg_am AS method ON method.oid = relation.relam AND method.amname = 'btree'
     WHERE index.indisvalid AND index.indpred IS NULL AND index.indkey[0] > 0 AND heap.relkind IN ('r', 'm')
       AND heap.relpersistence = 'p' ORDER BY 3";

/// Rows counted by reading the table, by its index, and by the index with the visibility map alone: in
/// every database, user tables and catalogs. A finding is a pair that differs.
pub async fn index_counts(conninfo: &Conninfo) -> Vec<String> {
    const READINGS: [(&str, &str); 3] = [
        (
            "sequential",
            "SET enable_seqscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off",
        ),
        (
            "index",
            "SET enable_seqscan = off; SET enable_indexscan = on; SET enable_indexonlyscan = off",
        ),
        (
            "index-only",
            "SET enable_seqscan = off; SET enable_indexscan = on; SET enable_indexonlyscan = on",
        ),
    ];
    let mut findings = Vec::new();
    for database in databases(conninfo).await {
        let session = Session::connect(&conninfo.clone().with_dbname(&database))
            .await
            .expect("a session for counts");
        // Only the index's order then serves ORDER BY, and one process reads.
        let settings = "SET enable_bitmapscan = off; SET max_parallel_workers_per_gather = 0";
        session.execute("prepare counting", settings).await.expect("settings");
        for row in session
            .query("list indexes", ORDERED, &[])
            .await
            .expect("indexes can be listed")
        {
            let (table, column, index): (String, String, String) = (row.get(0), row.get(1), row.get(2));
            let mut counts = Vec::new();
            for (reading, settings) in READINGS {
                let sort = if reading == "sequential" { "on" } else { "off" };
                session
                    .execute("choose a plan", &format!("{settings}; SET enable_sort = {sort}"))
                    .await
                    .expect("settings");
                let sql = format!(
                    "SELECT pg_catalog.count(*) FROM (SELECT {column} FROM ONLY {table} ORDER BY {column} OFFSET 0) AS one"
                );
                let counted = session.query_one("count rows", &sql, &[]).await;
                counts.push(
                    counted
                        .map(|row| row.get::<_, i64>(0))
                        .map_err(|error| format!("{error:?}")),
                );
            }
            if counts.iter().any(|count| count.is_err() || *count != counts[0]) {
                findings.push(format!("{database}: {table} by {index}: {counts:?}"));
            }
        }
        session.close().await;
    }
    findings
}

/// A directory that no server has opened since it was restored, by `pg_verifybackup` of PostgreSQL 15
/// against its `backup_manifest`. Of servers up to 16: later manifests are of another version.
pub fn verifybackup(data_dir: &Path) -> Result<(), String> {
    // WAL is not part of a restored directory; whether it can be replayed, recovery shows.
    judge("pg_verifybackup", &["--no-parse-wal", "--exit-on-error"], data_dir)
}

/// A stopped PostgreSQL 15 data directory, by its `pg_checksums`.
pub fn checksums(data_dir: &Path) -> Result<(), String> {
    judge("pg_checksums", &["--check", "-D"], data_dir)
}

fn judge(program: &str, arguments: &[&str], data_dir: &Path) -> Result<(), String> {
    let program = binaries(Major::V15).program(program);
    let mut command = Command::new(&program);
    command.args(arguments).arg(data_dir).env("LC_ALL", "C");
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", program.display()));
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
