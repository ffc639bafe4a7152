//! What a restored server is asked: does every table read to its end, does each index see the same rows, are the
//! tables there that the source had.

use std::collections::BTreeSet;

use pgclient::{Cluster, Conninfo, Session};
use repo::manifest::{Facts, Relation};

use crate::{
    Error, Result,
    event::{Context, Event},
};

use super::{Findings, cause};

/// Estimates that differ by more are worth a warning; the catalogs are often some per cent off.
const LARGE_DIFFERENCE: u64 = 2;
/// Below this an estimate says nothing.
const MANY_ROWS: u64 = 1000;

/// Asks all databases.
pub(super) async fn check(
    context: &Context,
    cluster: &Cluster,
    facts: &Facts,
    relations: &[Relation],
    findings: &mut Findings,
) -> Result<()> {
    let superuser = &facts.postgresql.superuser;
    let session = Session::connect(&conninfo(cluster, superuser, "postgres")?).await?;
    // One with the limit -2 is what a DROP DATABASE that was cut off left; nobody can use it, at the source either.
    let sql =
        "SELECT datname::text, datallowconn FROM pg_catalog.pg_database WHERE datconnlimit <> -2 ORDER BY datname";
    let (mut databases, mut closed) = (Vec::new(), Vec::new());
    for row in session.query("list the databases", sql, &[]).await? {
        let name = row.try_get::<_, String>(0).unwrap_or_default();
        if row.try_get::<_, bool>(1).unwrap_or_default() {
            databases.push(name);
        } else {
            closed.push(name);
        }
    }
    session.close().await;
    // Databases come and go; one that was there before the backup began and after it ended must be in it.
    let before: BTreeSet<&str> = facts.postgresql.collations.iter().map(|one| &*one.database).collect();
    let after: BTreeSet<&str> = relations.iter().map(|relation| &*relation.database).collect();
    let expected = before.intersection(&after);
    for missing in expected.filter(|name| !databases.iter().chain(&closed).any(|found| found == *name)) {
        findings.found.push(format!("the database {missing} is not there"));
    }
    // Nobody connects to template0 anywhere, and nothing is in it.
    for name in closed.iter().filter(|name| *name != "template0") {
        context.warn(
            "not-read",
            format!("the database {name} allows no connections, at the source either: nothing in it was read"),
        );
    }
    let (mut read, mut tables, mut rows, mut indexes) = (0u64, 0u64, 0u64, 0u64);
    for (number, database) in databases.iter().enumerate() {
        context.stop.check()?;
        match of_database(context, cluster, superuser, database, relations, findings).await {
            Ok(counted) => {
                read += 1;
                tables += counted.tables;
                rows += counted.rows;
                indexes += counted.indexes;
            }
            // A library or locale that this machine has not says nothing of the backup, nor of the other databases.
            Err(Error::Server(error)) if cause::is_environment(&error.to_string()) => {
                findings.unchecked.push(format!("the database {database}: {error}"));
            }
            Err(error) => return Err(error),
        }
        context.observer.event(Event::Progress {
            done: number as u64 + 1,
            total: databases.len() as u64,
        });
    }
    findings.checked.push(format!(
        "{tables} tables in {read} databases read to the end, {rows} rows; {indexes} indexes count the same, each by itself"
    ));
    Ok(())
}

/// A database or role may have a language of its own; what is said here is judged by its words.
fn conninfo(cluster: &Cluster, superuser: &str, database: &str) -> Result<Conninfo> {
    Ok(cluster.conninfo(superuser, database)?.with_options("-c lc_messages=C"))
}

async fn of_database(
    context: &Context,
    cluster: &Cluster,
    superuser: &str,
    name: &str,
    relations: &[Relation],
    findings: &mut Findings,
) -> Result<Counted> {
    let session = Session::connect(&conninfo(cluster, superuser, name)?).await?;
    let mut asked = Database {
        context,
        session: &session,
        name,
        findings,
    };
    let counted = asked.check(relations).await?;
    session.close().await;
    Ok(counted)
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
                   pg_catalog.format('%I.%I', n.nspname, c.relname), a.amname = 'heap', c.relpersistence = 'p' \
                   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                   JOIN pg_catalog.pg_am a ON a.oid = c.relam \
                   WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relispopulated ORDER BY c.oid";
        let rows = self.session.query("list the tables", sql, &[]).await?;
        let mut counted = Counted::default();
        let (mut seen, mut others) = (BTreeSet::new(), Vec::new());
        for row in &rows {
            self.context.stop.check()?;
            let (Ok(oid), Ok(schema), Ok(table), Ok(name), Ok(heap), Ok(logged)) = (
                row.try_get::<_, u32>(0),
                row.try_get::<_, String>(1),
                row.try_get::<_, String>(2),
                row.try_get::<_, String>(3),
                row.try_get::<_, bool>(4),
                row.try_get::<_, bool>(5),
            ) else {
                continue;
            };
            if !heap {
                // What such a table's access method does when it is read is its own affair.
                seen.insert((schema, table));
                others.push(name);
                continue;
            }
            let count = self.count(&name, "seqscan").await?;
            counted.tables += 1;
            counted.rows += count;
            counted.indexes += self.indexes(oid, &name, count).await?;
            let key = (schema, table);
            // Unlogged tables come back empty.
            if logged {
                self.compare(relations, &key, count);
            }
            seen.insert(key);
        }
        if let Some(first) = others.first() {
            let (count, database) = (others.len(), self.name);
            self.context.warn(
                "not-read",
                format!("{count} tables of {database} that are no heaps were not read, such as {first}"),
            );
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

    /// Each complete btree index counts by itself, with all others out of the planner's sight: it takes the smallest,
    /// and a damaged one would hide behind it. They are back when the transaction is rolled back.
    async fn indexes(&mut self, table: u32, name: &str, rows: u64) -> Result<u64> {
        let sql = "SELECT i.indexrelid::pg_catalog.regclass::text, i.indexrelid, pg_catalog.quote_ident(c.relname) FROM pg_catalog.pg_index i \
                   JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am a ON a.oid = c.relam \
                   WHERE i.indrelid = $1 AND i.indisvalid AND i.indpred IS NULL AND a.amname = 'btree' ORDER BY 2";
        let found = self.session.query("list the indexes", sql, &[&table]).await?;
        let mut counted = 0;
        for row in &found {
            self.context.stop.check()?;
            let (Ok(index), Ok(oid), Ok(shown)) = (
                row.try_get::<_, String>(0),
                row.try_get::<_, u32>(1),
                row.try_get::<_, String>(2),
            ) else {
                continue;
            };
            let hide = format!(
                "BEGIN READ WRITE; UPDATE pg_catalog.pg_index SET indisvalid = false \
                 WHERE indrelid = {table} AND indexrelid <> {oid} AND indisvalid"
            );
            self.session.execute("hide the other indexes", &hide).await?;
            let count = self.count(name, "indexscan").await?;
            // A few indexes of the catalogs stay in the planner's sight; what they answered is not what was asked.
            let asked = self.plan_uses(name, &shown).await?;
            self.session.execute("show them again", "ROLLBACK").await?;
            counted += u64::from(asked);
            if count != rows {
                let database = self.name;
                self.findings.found.push(format!(
                    "{name} in {database} has {rows} rows by its pages and {count} by its index {index}"
                ));
            }
        }
        Ok(counted)
    }

    /// Whether a count, by the scans that are chosen now, reads that index.
    async fn plan_uses(&self, table: &str, index: &str) -> Result<bool> {
        let sql = format!("EXPLAIN (COSTS OFF) SELECT count(*) FROM {table}");
        let plan = self.session.query("look at the plan", &sql, &[]).await?;
        let using = format!(" using {index} on ");
        let mut lines = plan.iter().map(|row| row.try_get::<_, String>(0).unwrap_or_default());
        Ok(lines.any(|line| line.contains(&using)))
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
        if count == 0 && *estimate > MANY_ROWS {
            let (schema, table) = key;
            self.context.warn(
                "rows-differ",
                format!(
                    "{schema}.{table} in {} is empty, and the source estimated {estimate} rows: was it emptied just before?",
                    self.name
                ),
            );
            return;
        }
        let far = *estimate > MANY_ROWS && (count > estimate * LARGE_DIFFERENCE || count < estimate / LARGE_DIFFERENCE);
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
