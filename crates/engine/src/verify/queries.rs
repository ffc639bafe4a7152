//! What a restored server is asked: does every table read to its end, does each index see the same rows, are the
//! tables there that the source had.

use std::collections::BTreeSet;

use pgclient::{Cluster, Session};
use repo::manifest::{Facts, Relation};

use crate::{
    Result,
    event::{Context, Event},
};

use super::Findings;

/// Estimates that differ by more are worth a warning; the catalogs are often some per cent off.
const LARGE_DIFFERENCE: u64 = 2;

/// Asks all databases.
pub(super) async fn check(
    context: &Context,
    cluster: &Cluster,
    facts: &Facts,
    relations: &[Relation],
    findings: &mut Findings,
) -> Result<()> {
    let superuser = &facts.postgresql.superuser;
    let session = Session::connect(&cluster.conninfo(superuser, "postgres")?).await?;
    let sql = "SELECT datname::text FROM pg_catalog.pg_database \
               WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname";
    let mut databases = Vec::new();
    for row in session.query("list the databases", sql, &[]).await? {
        databases.push(row.try_get::<_, String>(0).unwrap_or_default());
    }
    session.close().await;
    // Databases come and go; one that was there before the backup began and after it ended must be in it.
    let before: BTreeSet<&str> = facts.postgresql.collations.iter().map(|one| &*one.database).collect();
    let after: BTreeSet<&str> = relations.iter().map(|relation| &*relation.database).collect();
    let expected = before.intersection(&after);
    for missing in expected.filter(|name| !databases.iter().any(|found| found == *name)) {
        findings.found.push(format!("the database {missing} is not there"));
    }
    let (mut tables, mut rows, mut indexes) = (0u64, 0u64, 0u64);
    for (number, database) in databases.iter().enumerate() {
        context.stop.check()?;
        let session = Session::connect(&cluster.conninfo(superuser, database)?).await?;
        let mut asked = Database {
            context,
            session: &session,
            name: database,
            findings,
        };
        let counted = asked.check(relations).await?;
        tables += counted.tables;
        rows += counted.rows;
        indexes += counted.indexes;
        session.close().await;
        context.observer.event(Event::Progress {
            done: number as u64 + 1,
            total: databases.len() as u64,
        });
    }
    findings.checked.push(format!(
        "{tables} tables in {} databases read to the end, {rows} rows; {indexes} indexes count the same",
        databases.len()
    ));
    Ok(())
}

#[derive(Default)]
struct Counted {
    tables: u64,
    rows: u64,
    indexes: u64,
}

struct Database<'a> {
    context: &'a Context,
    session: &'a Session,
    name: &'a str,
    findings: &'a mut Findings,
}

impl Database<'_> {
    async fn check(&mut self, relations: &[Relation]) -> Result<Counted> {
        let sql = "SELECT c.oid, n.nspname::text, c.relname::text, \
                   pg_catalog.format('%I.%I', n.nspname, c.relname) \
                   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                   JOIN pg_catalog.pg_am a ON a.oid = c.relam \
                   WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relispopulated \
                   AND a.amname = 'heap' ORDER BY c.oid";
        let rows = self.session.query("list the tables", sql, &[]).await?;
        let mut counted = Counted::default();
        let mut seen = BTreeSet::new();
        for row in &rows {
            self.context.stop.check()?;
            let (Ok(oid), Ok(schema), Ok(table), Ok(name)) = (
                row.try_get::<_, u32>(0),
                row.try_get::<_, String>(1),
                row.try_get::<_, String>(2),
                row.try_get::<_, String>(3),
            ) else {
                continue;
            };
            let count = self.count(&name, "seqscan").await?;
            counted.tables += 1;
            counted.rows += count;
            counted.indexes += self.indexes(oid, &name, count).await?;
            let key = (schema, table);
            self.compare(relations, &key, count);
            seen.insert(key);
        }
        for gone in relations.iter().filter(|relation| relation.database == self.name) {
            if !seen.contains(&(gone.schema.clone(), gone.table.clone())) {
                // The list was made when the backup ended, a moment after the point that is restored.
                self.context.warn(
                    "table-not-there",
                    format!(
                        "the table {}.{} of {} was listed when the backup ended and is not in it",
                        gone.schema, gone.table, self.name
                    ),
                );
            }
        }
        Ok(counted)
    }

    /// Counts rows by one kind of scan alone, so that the planner cannot answer from another.
    async fn count(&self, table: &str, scan: &str) -> Result<u64> {
        for kind in ["seqscan", "indexscan", "indexonlyscan", "bitmapscan"] {
            let value = if kind == scan || (scan == "indexscan" && kind == "indexonlyscan") {
                "on"
            } else {
                "off"
            };
            self.session
                .execute("choose a scan", &format!("SET enable_{kind} = {value}"))
                .await?;
        }
        let row = self
            .session
            .query_one("count rows", &format!("SELECT count(*) FROM {table}"), &[])
            .await?;
        Ok(row.try_get::<_, i64>(0).map_or(0, i64::unsigned_abs))
    }

    /// Each complete index over plain columns counts by itself: with all others out of the planner's sight.
    async fn indexes(&mut self, table: u32, name: &str, rows: u64) -> Result<u64> {
        let sql = "SELECT i.indexrelid::pg_catalog.regclass::text, i.indexrelid FROM pg_catalog.pg_index i \
                   JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am a ON a.oid = c.relam \
                   WHERE i.indrelid = $1 AND i.indisvalid AND i.indpred IS NULL AND a.amname = 'btree' ORDER BY 2";
        let found = self.session.query("list the indexes", sql, &[&table]).await?;
        if found.is_empty() {
            return Ok(0);
        }
        let count = self.count(name, "indexscan").await?;
        if count != rows {
            let database = self.name;
            self.findings.found.push(format!(
                "{name} in {database} has {rows} rows by its pages and {count} by its indexes"
            ));
        }
        Ok(found.len() as u64)
    }

    fn compare(&mut self, relations: &[Relation], key: &(String, String), count: u64) {
        let listed = relations
            .iter()
            .find(|relation| relation.database == self.name && (&relation.schema, &relation.table) == (&key.0, &key.1));
        let Some(Relation {
            rows: Some(estimate), ..
        }) = listed
        else {
            return;
        };
        let far = *estimate > 1000 && (count > estimate * LARGE_DIFFERENCE || count < estimate / LARGE_DIFFERENCE);
        if far {
            let (schema, table) = key;
            self.context.warn(
                "rows-differ",
                format!(
                    "{schema}.{table} in {} has {count} rows; the source estimated {estimate}",
                    self.name
                ),
            );
        }
    }
}
