//! What transactions did in a run, and how they ended.

use crate::{
    bytes_codec::{Malformed, Reader, put_text, put_varint, put_zigzag},
    ledger::Lsn,
};

use super::{Relation, at_end};

/// Everything about transactions, in the order of the WAL where nothing else is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transactions {
    /// Commits, aborts and preparations.
    pub endings: Vec<Ending>,
    /// Named restore points.
    pub points: Vec<RestorePoint>,
    /// Rows by transaction and relation, ascending by both, each pair once.
    pub touched: Vec<Touched>,
    /// Databases that were dropped.
    pub dropped: Vec<DroppedDatabase>,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum EndingKind {
    /// `COMMIT`
    Commit = 0,
    /// `ROLLBACK`
    Abort = 1,
    /// `PREPARE TRANSACTION`: no end yet.
    Prepare = 2,
    /// `COMMIT PREPARED`
    CommitPrepared = 3,
    /// `ROLLBACK PREPARED`
    AbortPrepared = 4,
}

/// A record that ends or prepares a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Where it begins.
    pub lsn: Lsn,
    /// Where the record before it begins: the target of who wants everything before this one.
    pub prev: Lsn,
    /// Where it ends.
    pub end: Lsn,
    /// What it does.
    pub kind: EndingKind,
    /// The top-level transaction.
    pub xid: u32,
    /// When, by the server's clock: microseconds since 1970-01-01 UTC.
    pub time: i64,
    /// Its database; 0 if not said.
    pub database: u32,
    /// Subtransactions that share its fate.
    pub subtransactions: Vec<u32>,
    /// Relations whose files it removes.
    pub dropped: Vec<Relation>,
    /// The name of a prepared transaction; empty if it has none.
    pub name: String,
}

/// A name that somebody gave to a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePoint {
    /// Where its record begins.
    pub lsn: Lsn,
    /// Where that ends.
    pub end: Lsn,
    /// When, microseconds since 1970-01-01 UTC.
    pub time: i64,
    /// The name.
    pub name: String,
}

/// What one transaction, or subtransaction, did to one relation in this run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Touched {
    /// The transaction as the record says it: a subtransaction is not resolved here.
    pub xid: u32,
    /// The relation.
    pub relation: Relation,
    /// Rows inserted.
    pub inserted: u64,
    /// Rows updated.
    pub updated: u64,
    /// Rows deleted.
    pub deleted: u64,
}

/// A database that a transaction dropped, in one tablespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DroppedDatabase {
    /// Where its record begins.
    pub lsn: Lsn,
    /// The transaction.
    pub xid: u32,
    /// The tablespace.
    pub space: u32,
    /// The database.
    pub database: u32,
}

impl Transactions {
    pub(in crate::wal) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.endings.len() as u64);
        let mut last = (0u64, 0i64);
        for ending in &self.endings {
            ending.put(&mut out, &mut last);
        }
        put_varint(&mut out, self.points.len() as u64);
        for point in &self.points {
            put_varint(&mut out, point.lsn.0);
            put_varint(&mut out, point.end.0);
            put_zigzag(&mut out, point.time);
            put_text(&mut out, point.name.as_bytes());
        }
        put_varint(&mut out, self.touched.len() as u64);
        for touched in &self.touched {
            put_varint(&mut out, touched.xid.into());
            touched.relation.put(&mut out);
            for rows in [touched.inserted, touched.updated, touched.deleted] {
                put_varint(&mut out, rows);
            }
        }
        put_varint(&mut out, self.dropped.len() as u64);
        for dropped in &self.dropped {
            put_varint(&mut out, dropped.lsn.0);
            for number in [dropped.xid, dropped.space, dropped.database] {
                put_varint(&mut out, number.into());
            }
        }
        out
    }

    pub(in crate::wal) fn decode(bytes: &[u8]) -> Result<Transactions, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut all = Transactions::default();
        let mut last = (0u64, 0i64);
        for _ in 0..reader.count(10)? {
            all.endings.push(Ending::read(&mut reader, &mut last)?);
        }
        for _ in 0..reader.count(4)? {
            all.points.push(RestorePoint {
                lsn: Lsn(reader.varint()?),
                end: Lsn(reader.varint()?),
                time: reader.zigzag()?,
                name: text(&mut reader)?,
            });
        }
        for _ in 0..reader.count(7)? {
            all.touched.push(Touched {
                xid: reader.varint32()?,
                relation: Relation::read(&mut reader)?,
                inserted: reader.varint()?,
                updated: reader.varint()?,
                deleted: reader.varint()?,
            });
        }
        for _ in 0..reader.count(4)? {
            all.dropped.push(DroppedDatabase {
                lsn: Lsn(reader.varint()?),
                xid: reader.varint32()?,
                space: reader.varint32()?,
                database: reader.varint32()?,
            });
        }
        at_end(&reader, all)
    }
}

impl Ending {
    /// Positions and times are kept as differences: most are a few bytes from the one before.
    fn put(&self, out: &mut Vec<u8>, last: &mut (u64, i64)) {
        put_varint(out, self.lsn.0.wrapping_sub(last.0));
        put_varint(out, self.lsn.0.wrapping_sub(self.prev.0));
        put_varint(out, self.end.0.wrapping_sub(self.lsn.0));
        out.push(self.kind as u8);
        put_varint(out, self.xid.into());
        put_zigzag(out, self.time.wrapping_sub(last.1));
        put_varint(out, self.database.into());
        put_varint(out, self.subtransactions.len() as u64);
        let mut near = self.xid;
        for xid in &self.subtransactions {
            put_varint(out, xid.wrapping_sub(near).into());
            near = *xid;
        }
        put_varint(out, self.dropped.len() as u64);
        for relation in &self.dropped {
            relation.put(out);
        }
        put_text(out, self.name.as_bytes());
        *last = (self.lsn.0, self.time);
    }

    fn read(reader: &mut Reader<'_>, last: &mut (u64, i64)) -> Result<Ending, Malformed> {
        let lsn = last.0.wrapping_add(reader.varint()?);
        let prev = lsn.wrapping_sub(reader.varint()?);
        let end = lsn.wrapping_add(reader.varint()?);
        let kind = match reader.byte()? {
            0 => EndingKind::Commit,
            1 => EndingKind::Abort,
            2 => EndingKind::Prepare,
            3 => EndingKind::CommitPrepared,
            4 => EndingKind::AbortPrepared,
            _ => return Err(Malformed("a transaction ends in an unknown way")),
        };
        let xid = reader.varint32()?;
        let time = last.1.wrapping_add(reader.zigzag()?);
        let database = reader.varint32()?;
        let (mut subtransactions, mut near) = (Vec::new(), xid);
        for _ in 0..reader.count(1)? {
            near = near.wrapping_add(reader.varint32()?);
            subtransactions.push(near);
        }
        let mut dropped = Vec::new();
        for _ in 0..reader.count(3)? {
            dropped.push(Relation::read(reader)?);
        }
        *last = (lsn, time);
        Ok(Ending {
            lsn: Lsn(lsn),
            prev: Lsn(prev),
            end: Lsn(end),
            kind,
            xid,
            time,
            database,
            subtransactions,
            dropped,
            name: text(reader)?,
        })
    }
}

fn text(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    let text = std::str::from_utf8(reader.text()?).map_err(|_| Malformed("a text is no UTF-8"))?;
    Ok(text.to_owned())
}
