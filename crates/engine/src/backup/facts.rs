//! What a manifest says of a backup, gathered from plan, server and copy.

use bytes::Bytes;
use pgformat::{Lsn, Tli, history::History};
use repo::{
    BackupId,
    ledger::Lsn as Position,
    manifest::{
        Ancestor, Collation, Facts, Increment, KeptFile, Kind, Manifest, Needed, ObjectRef, PageError, Pinned,
        Postgresql, Relation, Start, Stop, TableObjects, Tablespace, Totals,
    },
};

use crate::{Error, Result, server::Started};

use super::{Plan, assemble::Assembled};

pub(super) struct Parts<'a> {
    pub(super) id: BackupId,
    pub(super) database: String,
    pub(super) parent: Option<(BackupId, &'a Needed, Increment)>,
    pub(super) label: Option<String>,
    pub(super) started: i64,
    pub(super) stopped: i64,
    pub(super) plan: &'a Plan,
    pub(super) begun: &'a Started,
    pub(super) stop: Lsn,
    pub(super) record: Lsn,
    pub(super) history: Option<Bytes>,
    pub(super) stored: u64,
    pub(super) packs: Vec<ObjectRef>,
    pub(super) assembled: Assembled,
    pub(super) kept: Vec<KeptFile>,
    pub(super) relations: Vec<Relation>,
}

/// The manifest.
pub(super) fn manifest(parts: Parts<'_>) -> Result<Manifest> {
    let history = ancestors(parts.begun.timeline, parts.history.as_deref())?;
    let Assembled {
        table,
        maps,
        sources,
        totals,
        damage,
        uses,
    } = parts.assembled;
    let maps = maps.iter().enumerate().map(|(number, map)| ObjectRef {
        source: 0,
        number: number as u32,
        size: u32::try_from(map.pin.size).unwrap_or(u32::MAX),
        directory: map.directory,
        hash: map.pin.hash,
        holds: 0,
        used: 0,
    });
    let parents = parts.parent.as_ref().map(|(_, needed, _)| *needed);
    let needed = uses.needed(sources, parts.packs, maps.collect(), parents)?;
    let facts = Facts {
        backup: parts.id,
        database: parts.database,
        kind: match parts.parent {
            Some(_) => Kind::Incremental,
            None => Kind::Full,
        },
        parent: parts.parent.as_ref().map(|(id, _, _)| *id),
        increment: parts.parent.map(|(_, _, increment)| increment),
        label: parts.label,
        started: parts.started,
        stopped: parts.stopped.max(parts.started),
        tool: env!("CARGO_PKG_VERSION").into(),
        postgresql: postgresql(parts.plan),
        start: Start {
            lsn: Position(parts.begun.start.0),
            timeline: parts.begun.timeline.0,
        },
        stop: Stop {
            lsn: Position(parts.stop.0),
            timeline: parts.begun.timeline.0,
            record: Position(parts.record.0),
        },
        history,
        tablespaces: tablespaces(parts.plan, &totals.tablespaces),
        owner: parts.plan.owner.clone(),
        objects: TableObjects {
            files: table.pins.iter().map(Pinned::from).collect(),
        },
        totals: Totals {
            files: totals.files,
            bytes: totals.bytes,
            pages: totals.pages,
            packs: needed.packs.len() as u64,
            stored: parts.stored,
            page_errors: damage.stored.total,
        },
        page_errors: damage
            .stored
            .first
            .iter()
            .map(|error| PageError {
                path: error.path.clone(),
                block: u64::from(error.block),
            })
            .collect(),
    };
    Ok(Manifest {
        facts,
        needed,
        kept: parts.kept,
        relations: parts.relations,
    })
}

fn postgresql(plan: &Plan) -> Postgresql {
    let facts = &plan.facts;
    let collations = facts.databases.iter().map(|database| Collation {
        database: database.name.clone(),
        provider: database.collation.provider.clone(),
        version: database.collation.actual_version.clone(),
    });
    Postgresql {
        version: facts.version.clone(),
        version_num: facts.version_num,
        generation: facts.system_identifier,
        catalog_version: plan.control.catalog_version,
        control_version: plan.control.control_version,
        block_size: facts.block_size,
        wal_block_size: facts.wal_block_size,
        segment_size: facts.wal_segment_size.bytes(),
        relation_segment_blocks: facts.relation_segment_blocks,
        data_checksums: facts.data_checksums,
        superuser: facts.bootstrap_superuser.clone(),
        collations: collations.collect(),
    }
}

fn tablespaces(plan: &Plan, bytes: &std::collections::BTreeMap<u32, u64>) -> Vec<Tablespace> {
    let known = plan.facts.tablespaces.iter().map(|tablespace| Tablespace {
        oid: tablespace.oid,
        name: tablespace.name.clone(),
        location: tablespace.location.clone(),
        bytes: bytes.get(&tablespace.oid).copied().unwrap_or(0),
    });
    known.collect()
}

fn ancestors(tip: Tli, content: Option<&[u8]>) -> Result<Vec<Ancestor>> {
    let Some(content) = content else { return Ok(Vec::new()) };
    let history = History::parse(tip, content).map_err(|error| Error::Failed {
        code: "history-damaged",
        what: format!("the server's timeline history cannot be read: {error}"),
        hint: "Check the server's pg_wal/*.history files.".into(),
    })?;
    let switches = history.switches().iter();
    Ok(switches
        .map(|switch| Ancestor {
            timeline: switch.parent.0,
            end: Position(switch.at.0),
        })
        .collect())
}
