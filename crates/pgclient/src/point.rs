//! Named restore points (`pg_create_restore_point`, `access/transam/xlogfuncs.c`).

use pgformat::Lsn;

use crate::{Error, Result, catalog::grant_for_points, connect::Session, conninfo::Conninfo};

/// The most bytes of a name (`MAXFNAMELEN` - 1).
pub const MAX_NAME: usize = 63;

/// A point that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Where its record ends.
    pub end: Lsn,
    /// When, by the server's clock: microseconds since 1970-01-01 UTC.
    pub time: i64,
}

/// Gives the server's present position a name.
///
/// # Errors
/// [`Error::MissingRight`] with the grant, where the role may not; [`Error::Server`] from a standby, which cannot.
pub async fn make(conninfo: &Conninfo, name: &str) -> Result<Point> {
    let session = Session::connect(conninfo).await?;
    let sql = "SELECT pg_catalog.pg_create_restore_point($1)::text, \
               (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint";
    let row = session.query_one("make a restore point", sql, &[&name]).await;
    let row = row.map_err(|error| missing_right(error, &session))?;
    let server = session.server().to_owned();
    session.close().await;
    let (end, time): (String, i64) = (row.try_get(0).unwrap_or_default(), row.try_get(1).unwrap_or_default());
    let end = end.parse().map_err(|_| Error::Protocol {
        server,
        what: format!("{end} as the position of a restore point"),
    })?;
    Ok(Point { end, time })
}

fn missing_right(error: Error, session: &Session) -> Error {
    if error.sqlstate() != Some("42501") {
        return error;
    }
    let (role, database) = (session.conninfo().user(), session.conninfo().dbname());
    Error::MissingRight {
        what: format!("role \"{role}\" may not make restore points in database \"{database}\""),
        grant: grant_for_points(role),
    }
}
