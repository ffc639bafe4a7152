//! What is in a server, as numbers that differ when any row does.

use std::collections::BTreeMap;

use pgclient::{Conninfo, Session};

/// The rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDigest {
    /// How many.
    pub rows: i64,
    /// The sum of a 64-bit hash of each row's text, which no order of rows changes.
    pub sum: String,
}

/// Relations with rows of their own. Unlogged ones are left out: recovery empties them. So are sequences,
/// which recovery moves ahead by what was reserved in WAL, and PostgreSQL's catalogs but for some of what
/// users make: their rows hold numbers of files and counters.
const RELATIONS: &str = "
    SELECT pg_catalog.format('%I.%I', schema.nspname, relation.relname)
      FROM pg_catalog.pg_class AS relation
      JOIN pg_catalog.pg_namespace AS schema ON schema.oid = relation.relnamespace
     WHERE relation.relkind IN ('r', 'm') AND relation.relpersistence = 'p'
       AND (schema.nspname NOT IN ('pg_catalog', 'information_schema') AND schema.nspname !~ '^pg_(toast|temp)'
            OR relation.oid IN ('pg_catalog.pg_largeobject'::regclass, 'pg_catalog.pg_authid'::regclass,
                                'pg_catalog.pg_db_role_setting'::regclass, 'pg_catalog.pg_proc'::regclass,
                                'pg_catalog.pg_enum'::regclass, 'pg_catalog.pg_description'::regclass))
     ORDER BY 1";

/// Every table, materialised view and large object of every database that can be connected to, by
/// `database/schema.table`. `conninfo` names any database of the server and a superuser.
pub async fn row_digests(conninfo: &Conninfo) -> BTreeMap<String, RowDigest> {
    let mut digests = BTreeMap::new();
    for database in databases(conninfo).await {
        let session = Session::connect(&conninfo.clone().with_dbname(&database))
            .await
            .expect("a session for digests");
        for row in session
            .query("list tables", RELATIONS, &[])
            .await
            .expect("tables can be listed")
        {
            let relation: String = row.get(0);
            digests.insert(format!("{database}/{relation}"), digest(&session, &relation).await);
        }
        session.close().await;
    }
    digests
}

/// Databases that can be connected to, but for `template1`. A limit of -2 marks one whose DROP was cut off.
pub(super) async fn databases(conninfo: &Conninfo) -> Vec<String> {
    let session = Session::connect(conninfo)
        .await
        .expect("a session for the list of databases");
    let sql = "SELECT datname::text FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate
        AND datconnlimit <> -2 ORDER BY 1";
    let rows = session
        .query("list databases", sql, &[])
        .await
        .expect("databases can be listed");
    session.close().await;
    rows.iter().map(|row| row.get(0)).collect()
}

async fn digest(session: &Session, relation: &str) -> RowDigest {
    let sql = format!(
        "SELECT pg_catalog.count(*), COALESCE(pg_catalog.sum(pg_catalog.hashtextextended((one.*)::text, 0)), 0)::text
           FROM ONLY {relation} AS one"
    );
    let row = session.query_one("digest a table", &sql, &[]).await;
    let row = row.unwrap_or_else(|error| panic!("{relation} cannot be read: {error:?}"));
    RowDigest {
        rows: row.get(0),
        sum: row.get(1),
    }
}
