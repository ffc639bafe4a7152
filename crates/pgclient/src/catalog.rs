//! What a server says about itself: the facts on which a backup is planned.
//!
//! Nothing here needs more than `LOGIN`; what needs a right that the role lacks is `None`.

mod databases;
mod rights;
mod tables;
mod wal_state;

use pgformat::{Lsn, Major, Tli, segment::SegmentSize};

pub use self::databases::{Collation, Database, Tablespace};
pub use self::rights::{READING_MEANS, Rights, grant_for_points, grants_for_backup, grants_for_reader};
pub use self::tables::{Table, tables};
pub use self::wal_state::{Slot, WalState};
use crate::{Error, Result, connect::Session};

/// The facts about one server, read in one go.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerFacts {
    /// Major version.
    pub major: Major,
    /// `server_version_num`, such as 150014.
    pub version_num: u32,
    /// `server_version`, with the packager's suffix.
    pub version: String,
    /// `pg_control_system()`: identifies the cluster and all its standbys.
    pub system_identifier: u64,
    /// The timeline that a primary writes to; on a standby, that of the latest restartpoint.
    pub timeline: Tli,
    /// Redo position of the latest checkpoint; on a standby, of the latest restartpoint.
    pub checkpoint_redo: Lsn,
    /// Whether it is a standby, or recovering.
    pub in_recovery: bool,
    /// Bytes of a page (`block_size`).
    pub block_size: u32,
    /// Bytes of a WAL page (`wal_block_size`).
    pub wal_block_size: u32,
    /// Bytes of a WAL segment.
    pub wal_segment_size: SegmentSize,
    /// Pages of a relation's segment file (`segment_size`).
    pub relation_segment_blocks: u32,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
    /// `wal_level`: `minimal`, `replica` or `logical`.
    pub wal_level: String,
    /// `full_page_writes`.
    pub full_page_writes: bool,
    /// `fsync`.
    pub fsync: bool,
    /// `archive_mode`: `off`, `on` or `always`.
    pub archive_mode: String,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_replication_slots`.
    pub max_replication_slots: u32,
    /// `wal_keep_size` in MiB.
    pub wal_keep_mebibytes: u64,
    /// `max_slot_wal_keep_size` in MiB; `None` is unlimited: a forgotten slot fills the disk.
    pub max_slot_wal_keep_mebibytes: Option<u64>,
    /// `synchronous_standby_names`: for whom commits wait; empty if for nobody.
    pub synchronous_standby_names: String,
    /// `data_directory`; `None` without the right to read all settings.
    pub data_directory: Option<String>,
    /// `config_file`; `None` likewise.
    pub config_file: Option<String>,
    /// `hba_file`; `None` likewise.
    pub hba_file: Option<String>,
    /// Name of the role with oid 10, which owns the system's objects.
    pub bootstrap_superuser: String,
    /// Tablespaces without `pg_default` and `pg_global`.
    pub tablespaces: Vec<Tablespace>,
    /// Databases, by name.
    pub databases: Vec<Database>,
    /// What the role may do.
    pub rights: Rights,
}

impl ServerFacts {
    /// Asks the server. One transaction, so that the facts belong together.
    pub async fn read(session: &Session) -> Result<ServerFacts> {
        let mut tries = 1;
        loop {
            match ServerFacts::read_once(session).await {
                // A snapshot still shows a database that was dropped meanwhile; functions that are asked for its
                // size or collation do not know it any more.
                Err(error) if matches!(error.sqlstate(), Some("42704" | "3D000")) && tries < TRIES => tries += 1,
                outcome => return outcome,
            }
        }
    }

    async fn read_once(session: &Session) -> Result<ServerFacts> {
        session
            .execute(
                "begin to read the catalog",
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            )
            .await?;
        let facts = read(session).await;
        // After an error the transaction is closed too; the first error is the one to tell.
        let ended = session.execute("end reading the catalog", "ROLLBACK").await;
        let facts = facts?;
        ended.map(|()| facts)
    }

    /// Whether commits may wait for a standby called `application_name`: it, or `*`, is among those named. Names
    /// are compared as the server does, without regard to case; rather too often than not at all.
    pub fn commits_may_wait_for(&self, application_name: &str) -> bool {
        may_wait_for(&self.synchronous_standby_names, application_name)
    }

    /// Sum of the databases' sizes, of those that may be asked.
    pub fn databases_bytes(&self) -> u64 {
        self.databases.iter().filter_map(|database| database.bytes).sum()
    }
}

fn may_wait_for(names: &str, application_name: &str) -> bool {
    let names = names.to_lowercase();
    names.contains('*') || !names.is_empty() && names.contains(&application_name.to_lowercase())
}

/// Databases that are dropped under one reading after the other: who drops that many will be done soon.
const TRIES: u32 = 20;

// After a promotion the last checkpoint is of the old timeline until the first one on the new is done, minutes later:
// a primary is asked where it writes.
const CONTROL: &str = "SELECT s.system_identifier, CASE WHEN pg_catalog.pg_is_in_recovery() THEN c.timeline_id ELSE \
     ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::pg_catalog.bit(32)::pg_catalog.int4 \
     END, c.redo_lsn::text, pg_catalog.pg_is_in_recovery(), \
     (SELECT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.oid = 10) \
     FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c";

async fn read(session: &Session) -> Result<ServerFacts> {
    let control = session.query_one("read the control data", CONTROL, &[]).await?;
    let settings = Settings::read(session).await?;
    let timeline: i32 = session.cell(&control, 1)?;
    let superuser: Option<String> = session.cell(&control, 4)?;
    Ok(ServerFacts {
        major: session.major(),
        version_num: session.version_num(),
        version: settings.text("server_version")?,
        // SQL has no unsigned integers: the same 64 bits, printed as signed.
        system_identifier: session.cell::<i64>(&control, 0)?.cast_unsigned(),
        timeline: Tli(timeline.cast_unsigned()),
        checkpoint_redo: session.lsn(&control, 2)?,
        in_recovery: session.cell(&control, 3)?,
        block_size: settings.number("block_size")?,
        wal_block_size: settings.number("wal_block_size")?,
        // Since version 11 in bytes.
        wal_segment_size: SegmentSize::new(settings.number("wal_segment_size")?)
            .map_err(|error| session.unexpected(error.to_string()))?,
        relation_segment_blocks: settings.number("segment_size")?,
        data_checksums: settings.switch("data_checksums")?,
        wal_level: settings.text("wal_level")?,
        full_page_writes: settings.switch("full_page_writes")?,
        fsync: settings.switch("fsync")?,
        archive_mode: settings.text("archive_mode")?,
        max_wal_senders: settings.number("max_wal_senders")?,
        max_replication_slots: settings.number("max_replication_slots")?,
        wal_keep_mebibytes: settings.number("wal_keep_size")?,
        max_slot_wal_keep_mebibytes: match settings.text("max_slot_wal_keep_size")?.as_str() {
            "-1" => None,
            _ => Some(settings.number("max_slot_wal_keep_size")?),
        },
        synchronous_standby_names: settings.text("synchronous_standby_names")?,
        data_directory: settings.find("data_directory"),
        config_file: settings.find("config_file"),
        hba_file: settings.find("hba_file"),
        bootstrap_superuser: superuser.ok_or_else(|| session.unexpected("no role with oid 10"))?,
        tablespaces: databases::tablespaces(session).await?,
        databases: databases::databases(session).await?,
        rights: Rights::read(session).await?,
    })
}

/// Settings in their base units, as `pg_settings` shows them: only those that the role may see.
struct Settings<'a> {
    session: &'a Session,
    pairs: Vec<(String, String)>,
}

impl<'a> Settings<'a> {
    async fn read(session: &'a Session) -> Result<Self> {
        let sql = "SELECT name::text, setting::text FROM pg_catalog.pg_settings WHERE setting IS NOT NULL";
        let rows = session.query("read the settings", sql, &[]).await?;
        let pairs = rows
            .iter()
            .map(|row| Ok((session.cell(row, 0)?, session.cell(row, 1)?)))
            .collect::<Result<_>>()?;
        Ok(Self { session, pairs })
    }

    fn find(&self, name: &str) -> Option<String> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    }

    fn text(&self, name: &str) -> Result<String> {
        self.find(name).ok_or_else(|| self.unexpected(name))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        self.text(name)?.parse().map_err(|_| self.unexpected(name))
    }

    fn switch(&self, name: &str) -> Result<bool> {
        match self.text(name)?.as_str() {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(self.unexpected(name)),
        }
    }

    fn unexpected(&self, name: &str) -> Error {
        self.session
            .unexpected(format!("the setting {name} is missing or of another kind than known"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &str, expected: bool) {
        assert_eq!(may_wait_for(names, "lastgood"), expected, "{names}");
    }

    #[test]
    fn a_server_whose_commits_might_wait_for_our_stream_is_recognised() {
        check("", false);
        check("*", true);
        check("ANY 1 (a, *)", true);
        check("FIRST 2 (s1, LastGood)", true);
        check("standby1, standby2", false);
    }
}
