//! One connection that reads files, and the SQL for it.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use futures::TryStreamExt;
use pgformat::Lsn;
use tokio::time::timeout;
use tokio_postgres::{Row, RowStream, Statement, types::ToSql};

use super::{Instance, Listed, Opened, Stat};
use crate::{Error, Result, classify::query_error, connect::Session, conninfo::Conninfo, pooler};

/// How long one answer may take. The longest is the list of a directory with millions of files.
const ANSWER: Duration = Duration::from_secs(600);

// Names and paths cross as the bytes that the file system has: as text they would be translated to our encoding, and
// what is stored under the translated name would not be the server's file any more.
const LIST: &str = "SELECT pg_catalog.convert_to(n.name, pg_catalog.getdatabaseencoding()), s.isdir, s.size, \
     EXTRACT(epoch FROM s.modification)::pg_catalog.int8 \
     FROM pg_catalog.pg_ls_dir(pg_catalog.convert_from($1, pg_catalog.getdatabaseencoding()), true, false) AS n(name) \
     LEFT JOIN LATERAL pg_catalog.pg_stat_file( \
     pg_catalog.convert_from($1, pg_catalog.getdatabaseencoding()) || '/' || n.name, true) AS s ON true";
const STAT: &str = "SELECT s.isdir, s.size, EXTRACT(epoch FROM s.modification)::pg_catalog.int8 \
     FROM pg_catalog.pg_stat_file(pg_catalog.convert_from($1, pg_catalog.getdatabaseencoding()), true) AS s";
// What is empty is not opened: it may be a pipe, and the server would wait for somebody to write into it.
const OPEN: &str = "SELECT s.isdir, s.size, EXTRACT(epoch FROM s.modification)::pg_catalog.int8, \
     CASE WHEN NOT s.isdir AND s.size BETWEEN 1 AND $2 THEN pg_catalog.pg_read_binary_file( \
     pg_catalog.convert_from($1, pg_catalog.getdatabaseencoding()), 0, $2, true) END \
     FROM pg_catalog.pg_stat_file(pg_catalog.convert_from($1, pg_catalog.getdatabaseencoding()), true) AS s";
const READ: &str = "SELECT pg_catalog.pg_read_binary_file( \
     pg_catalog.convert_from($1, pg_catalog.getdatabaseencoding()), $2, $3, true)";
const LINK: &str =
    "SELECT pg_catalog.convert_to(pg_catalog.pg_tablespace_location($1), pg_catalog.getdatabaseencoding())";
const FLUSHED: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
     THEN coalesce(greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn()), '0/0') \
     ELSE pg_catalog.pg_current_wal_flush_lsn() END::text";
const MODE: &str = "SELECT pg_catalog.current_setting('data_directory_mode')";

/// `undefined_file`: no such file or directory.
const NO_FILE: &str = "58P01";
/// `character_not_in_repertoire`: bytes that mean nothing in the database's encoding.
const NO_TEXT: &str = "22021";

/// A connection that reads files.
#[derive(Debug)]
pub struct FileSession {
    session: Session,
    list: Statement,
    stat: Statement,
    open: Statement,
    read: Statement,
    instance: Instance,
    mode: u32,
}

impl FileSession {
    /// Connects. Whether the role may read files shows with the first question.
    ///
    /// # Errors
    /// What [`Session::connect`] returns, and [`Error::Pooler`].
    pub async fn connect(conninfo: &Conninfo) -> Result<FileSession> {
        let session = Session::connect(conninfo).await?;
        pooler::refuse(&session).await?;
        let instance = Instance::of(&session).await?;
        let row = session.query_one("ask for the mode of directories", MODE, &[]).await?;
        let mode: String = session.cell(&row, 0)?;
        let mode =
            u32::from_str_radix(&mode, 8).map_err(|_| session.unexpected(format!("{mode} as data_directory_mode")))?;
        Ok(FileSession {
            list: prepare(&session, LIST).await?,
            stat: prepare(&session, STAT).await?,
            open: prepare(&session, OPEN).await?,
            read: prepare(&session, READ).await?,
            instance,
            mode,
            session,
        })
    }

    /// Which server answers.
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// Host and port, for messages.
    pub fn server(&self) -> &str {
        self.session.server()
    }

    /// `data_directory_mode`: the permission bits of directories that the server makes.
    pub fn directory_mode(&self) -> u32 {
        self.mode
    }

    /// Hands each name in a directory to `take`, in no order. A directory that is gone has none.
    pub async fn list(&self, path: &[u8], mut take: impl FnMut(Listed<'_>)) -> Result<()> {
        let doing = format!("list {}", shown(path));
        self.within(&doing, async {
            let path = from_root(path);
            let mut rows = pin!(self.rows(&doing, &self.list, &[&path]).await?);
            while let Some(row) = self.next(&doing, &mut rows).await? {
                take(Listed {
                    name: self.session.cell(&row, 0)?,
                    stat: self.stat_of(&row, 1)?,
                });
            }
            Ok(())
        })
        .await
    }

    /// What stands at `path`; `None`: it is gone.
    pub async fn stat(&self, path: &[u8]) -> Result<Option<Stat>> {
        let row = self
            .row(format!("look at {}", shown(path)), &self.stat, &[&from_root(path)])
            .await?;
        self.stat_of(&row, 0)
    }

    /// Looks at a file and reads it if it has at most `most` bytes. `None`: it is gone.
    pub async fn open(&self, path: &[u8], most: u32) -> Result<Option<Opened>> {
        let most = i64::from(most);
        let row = self
            .row(format!("read {}", shown(path)), &self.open, &[&path, &most])
            .await?;
        let Some(stat) = self.stat_of(&row, 0)? else {
            return Ok(None);
        };
        let content: Option<&[u8]> = self.session.cell(&row, 3)?;
        let to_read = !stat.directory && stat.size > 0 && stat.size <= most.unsigned_abs();
        if to_read && content.is_none() {
            // It went between the two looks.
            return Ok(None);
        }
        Ok(Some(Opened {
            stat,
            content: content.map(<[u8]>::to_vec),
        }))
    }

    /// Reads up to `bytes` bytes from `offset`, fewer at the file's end. `None`: it is gone.
    pub async fn read(&self, path: &[u8], offset: u64, bytes: u32) -> Result<Option<Vec<u8>>> {
        let doing = format!("read {}", shown(path));
        let offset = i64::try_from(offset).map_err(|_| self.session.unexpected(format!("{offset} as an offset")))?;
        let row = self
            .row(doing, &self.read, &[&path, &offset, &i64::from(bytes)])
            .await?;
        let content: Option<&[u8]> = self.session.cell(&row, 0)?;
        Ok(content.map(<[u8]>::to_vec))
    }

    /// Where a tablespace lies; relative to the data directory if it was made in place. `None`: it is gone.
    pub async fn tablespace(&self, oid: u32) -> Result<Option<Vec<u8>>> {
        let doing = format!("ask where the tablespace {oid} lies");
        match self.within(&doing, self.session.query_one(&doing, LINK, &[&oid])).await {
            Err(error) if error.sqlstate() == Some(NO_FILE) => Ok(None),
            row => Ok(self.session.cell::<Option<&[u8]>>(&row?, 0)?.map(<[u8]>::to_vec)),
        }
    }

    /// How far the server's WAL is durable there, on a standby received or replayed; what is before it can be read from
    /// `pg_wal`.
    pub async fn flushed(&self) -> Result<Lsn> {
        let doing = "ask how far WAL is written";
        let row = self.within(doing, self.session.query_one(doing, FLUSHED, &[])).await?;
        self.session.lsn(&row, 0)
    }

    /// Ends the session in order.
    pub async fn close(self) {
        self.session.close().await;
    }

    async fn row(&self, doing: String, statement: &Statement, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        self.within(&doing, async {
            let mut rows = pin!(self.rows(&doing, statement, parameters).await?);
            let row = self.next(&doing, &mut rows).await?;
            row.ok_or_else(|| self.session.unexpected("no row"))
        })
        .await
    }

    async fn rows(&self, doing: &str, statement: &Statement, parameters: &[&(dyn ToSql + Sync)]) -> Result<RowStream> {
        let rows = self.session.client().query_raw(statement, parameters.iter().copied());
        rows.await.map_err(|error| self.error(error, doing))
    }

    async fn next(&self, doing: &str, rows: &mut Pin<&mut RowStream>) -> Result<Option<Row>> {
        rows.try_next().await.map_err(|error| self.error(error, doing))
    }

    fn error(&self, error: tokio_postgres::Error, doing: &str) -> Error {
        match query_error(error, self.session.server(), doing) {
            Error::Server {
                doing,
                sqlstate,
                message,
            } if sqlstate == NO_TEXT => Error::Server {
                message: format!(
                    "a file name there means nothing in the database's encoding, so that SQL cannot say it ({message})"
                ),
                doing,
                sqlstate,
            },
            error => error,
        }
    }

    async fn within<T>(&self, doing: &str, asked: impl Future<Output = Result<T>>) -> Result<T> {
        timeout(ANSWER, asked).await.unwrap_or_else(|late| {
            Err(Error::ConnectionLost {
                server: self.session.server().to_owned(),
                doing: doing.to_owned(),
                source: late.into(),
            })
        })
    }

    fn stat_of(&self, row: &Row, first: usize) -> Result<Option<Stat>> {
        let Some(directory) = self.session.cell::<Option<bool>>(row, first)? else {
            return Ok(None);
        };
        let size: i64 = self.session.cell(row, first + 1)?;
        Ok(Some(Stat {
            directory,
            size: u64::try_from(size).map_err(|_| self.session.unexpected(format!("{size} as a file's size")))?,
            modified_seconds: self.session.cell(row, first + 2)?,
        }))
    }
}

async fn prepare(session: &Session, sql: &str) -> Result<Statement> {
    let prepared = session.client().prepare(sql).await;
    prepared.map_err(|error| query_error(error, session.server(), "prepare to read files"))
}

/// The data directory itself has no name below itself.
fn from_root(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

fn shown(path: &[u8]) -> String {
    match path {
        b"" => "the data directory".to_owned(),
        path => String::from_utf8_lossy(path).into_owned(),
    }
}
