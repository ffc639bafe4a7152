//! Databases with their collations, and tablespaces.

use pgformat::Major;

use crate::{Result, connect::Session};

/// A tablespace outside of the data directory, or in `pg_tblspc` itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tablespace {
    /// The name of its link in `pg_tblspc`.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Where it lies: absolute, or `pg_tblspc/<oid>` if made in place.
    pub location: String,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The name of its directory.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Bytes on disk; `None` if the role may neither connect to it nor read all statistics.
    pub bytes: Option<u64>,
    /// Whether anybody may connect (`template0`: no).
    pub allows_connections: bool,
    /// Whether this role may connect.
    pub may_connect: bool,
    /// Whether it is a template.
    pub is_template: bool,
    /// Its default collation.
    pub collation: Collation,
}

/// By which rules a database sorts text. Indexes restored to a machine whose library has another
/// version than `recorded_version` may be in the wrong order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collation {
    /// `libc`, `icu` or `builtin`.
    pub provider: String,
    /// `datcollate`, or ICU's or the builtin provider's locale.
    pub locale: String,
    /// The version that the database was made with (15 and newer).
    pub recorded_version: Option<String>,
    /// The version of the server's library now. For 13 and 14, which record none per database, that
    /// of the C library, `None` if the locale is without one (`C`, `POSIX`).
    pub actual_version: Option<String>,
}

pub(super) async fn tablespaces(session: &Session) -> Result<Vec<Tablespace>> {
    let sql = "SELECT oid, spcname::text, pg_catalog.pg_tablespace_location(oid) FROM pg_catalog.pg_tablespace \
               WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY oid";
    let rows = session.query("list the tablespaces", sql, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Tablespace {
                oid: session.cell(row, 0)?,
                name: session.cell(row, 1)?,
                location: session.cell(row, 2)?,
            })
        })
        .collect()
}

pub(super) async fn databases(session: &Session) -> Result<Vec<Database>> {
    // has_database_privilege does not know a database that was dropped since the snapshot, and answers with null.
    // A limit of -2 marks a database whose DROP was cut off; nobody can connect to it any more (from the minor
    // versions of 2023-08 on). pg_database_size refuses a role that may neither connect nor read statistics.
    let sql = format!(
        "SELECT d.oid, d.datname::text, \
         CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT') \
                OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') \
              THEN pg_catalog.pg_database_size(d.oid) END, \
         d.datallowconn AND d.datconnlimit <> -2, \
         COALESCE(d.datallowconn AND pg_catalog.has_database_privilege(d.oid, 'CONNECT'), false), d.datistemplate, \
         {} FROM pg_catalog.pg_database d ORDER BY d.datname",
        collation_columns(session.major())
    );
    let rows = session.query("list the databases", &sql, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Database {
                oid: session.cell(row, 0)?,
                name: session.cell(row, 1)?,
                bytes: session
                    .cell::<Option<i64>>(row, 2)?
                    .and_then(|bytes| u64::try_from(bytes).ok()),
                allows_connections: session.cell(row, 3)?,
                may_connect: session.cell(row, 4)?,
                is_template: session.cell(row, 5)?,
                collation: Collation {
                    provider: session.cell(row, 6)?,
                    locale: session.cell(row, 7)?,
                    recorded_version: session.cell(row, 8)?,
                    actual_version: session.cell(row, 9)?,
                },
            })
        })
        .collect()
}

/// Provider, locale, recorded and actual version, where each major version has them.
fn collation_columns(major: Major) -> String {
    let locale = match major {
        Major::V13 | Major::V14 => {
            // All libc collations of one machine have its C library's version; any of them tells it.
            return "'libc', d.datcollate::text, NULL::text, \
                    CASE WHEN d.datcollate NOT IN ('C', 'POSIX') THEN (SELECT pg_catalog.pg_collation_actual_version(c.oid) \
                    FROM pg_catalog.pg_collation c WHERE c.collprovider = 'c' AND c.collname NOT IN ('C', 'POSIX') \
                    ORDER BY c.oid LIMIT 1) END"
                .to_owned();
        }
        Major::V15 | Major::V16 => "d.daticulocale",
        Major::V17 | Major::V18 => "d.datlocale",
    };
    format!(
        "CASE d.datlocprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' \
         ELSE d.datlocprovider::text END, COALESCE({locale}, d.datcollate)::text, d.datcollversion::text, \
         pg_catalog.pg_database_collation_actual_version(d.oid)"
    )
}
