//! Reads a server's files through SQL: for who has no account on its machine, and neither SUPERUSER nor REPLICATION.
//!
//! Paths are bytes relative to the data directory, as the server's file system has them. A file that is gone is no
//! error: all functions are called with their argument `missing_ok`. What is asked needs EXECUTE on `pg_ls_dir`,
//! `pg_stat_file` and `pg_read_binary_file` (`utils/adt/genfile.c`); [`crate::catalog::grants_for_reader`] gives it.

mod pool;
mod session;

pub use pool::FileReader;
pub use session::FileSession;

use crate::{Result, connect::Session};

/// What stands at a path, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Whether it is a directory; anything else may be no regular file either.
    pub directory: bool,
    /// Bytes.
    pub size: u64,
    /// Last change, seconds since 1970-01-01 UTC.
    pub modified_seconds: i64,
}

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its bytes.
    pub name: &'a [u8],
    /// What stands there; `None` if it is gone by now, or a link that leads nowhere.
    pub stat: Option<Stat>,
}

/// A file that was looked at and, if it is small, read with the same question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What is known of it.
    pub stat: Stat,
    /// Its first bytes, as many as were asked for or as there are; `None`: it is empty, or longer than that.
    pub content: Option<Vec<u8>>,
}

/// One run of one server, from its start to its end: no two have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// The cluster; its standbys and clones have the same.
    pub system_identifier: u64,
    /// When the server was started, microseconds since 1970-01-01 UTC by its own clock.
    pub started_micros: i64,
}

impl Instance {
    /// Asks the server behind `session`.
    pub async fn of(session: &Session) -> Result<Instance> {
        let row = session.query_one("ask which server answers", INSTANCE, &[]).await?;
        Ok(Instance {
            // SQL has no unsigned integers: the same 64 bits, printed as signed.
            system_identifier: session.cell::<i64>(&row, 0)?.cast_unsigned(),
            started_micros: session.cell(&row, 1)?,
        })
    }
}

const INSTANCE: &str = "SELECT system_identifier, \
     (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8 \
     FROM pg_catalog.pg_control_system()";
