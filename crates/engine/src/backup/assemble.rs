//! Brings what workers stored back into order and writes the file table.
//!
//! Workers finish in any order; entries must stand in order of path. What waits here is bounded by the pieces
//! of work under way.

use std::collections::BTreeMap;

use repo::{
    leaf::{self, LeafBuilder},
    manifest::MAX_PAGE_ERRORS,
    map::{MapWriter, Written},
    sources::Sources,
    table::{Entry, EntryKind, TableWriter, WrittenTable},
};

use crate::{Result, workers::died};

use super::read::{PageError, Stored};

/// What came of a piece of work.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A directory or link, as it is.
    Entry(Entry),
    /// Whole files.
    Files(Vec<Stored>),
    /// A part of a file, and whether it is the last.
    Part(Stored, bool),
}

/// Totals of a backup.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) pages: u64,
    /// Bytes of each tablespace, by oid.
    pub(super) tablespaces: BTreeMap<u32, u64>,
    /// Pages whose checksum did not fit.
    pub(super) page_errors: u64,
}

/// Everything but the packs, written.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) table: WrittenTable,
    pub(super) maps: Vec<Written>,
    pub(super) sources: Sources,
    pub(super) totals: Totals,
    /// The first [`MAX_PAGE_ERRORS`] of those pages.
    pub(super) errors: Vec<PageError>,
}

impl Assembled {
    /// Bytes that table and maps take in the repository.
    pub(super) fn stored(&self) -> u64 {
        let maps: u64 = self.maps.iter().map(|map| map.pin.size).sum();
        self.table.pins.iter().map(|pin| pin.size).sum::<u64>() + maps
    }
}

pub(super) struct Assembler {
    table: TableWriter,
    map: MapWriter,
    sources: Sources,
    page_size: u32,
    next: u64,
    waiting: BTreeMap<u64, Outcome>,
    /// The large file whose parts are coming in.
    growing: Option<(Stored, LeafBuilder)>,
    pub(super) totals: Totals,
    pub(super) errors: Vec<PageError>,
}

impl Assembler {
    pub(super) fn new(table: TableWriter, map: MapWriter, sources: Sources, page_size: u32) -> Assembler {
        Assembler {
            table,
            map,
            sources,
            page_size,
            next: 0,
            waiting: BTreeMap::new(),
            growing: None,
            totals: Totals::default(),
            errors: Vec::new(),
        }
    }

    /// Takes the outcome of piece `number`, and writes whatever is next in order.
    pub(super) async fn take(&mut self, number: u64, outcome: Outcome) -> Result<()> {
        self.waiting.insert(number, outcome);
        while let Some(outcome) = self.waiting.remove(&self.next) {
            self.next += 1;
            match outcome {
                Outcome::Entry(entry) => self.table.push(&entry, &self.sources).await?,
                Outcome::Files(files) => {
                    for stored in files {
                        let mut leaves = LeafBuilder::new();
                        self.add(&stored, &mut leaves)?;
                        self.file(stored, leaves).await?;
                    }
                }
                Outcome::Part(part, last) => self.part(part, last).await?,
            }
        }
        Ok(())
    }

    /// Pieces that are in the table, in order and without a gap.
    pub(super) fn taken(&self) -> u64 {
        self.next
    }

    /// Everything was taken: the table's last objects, for the manifest.
    pub(super) async fn finish(self) -> Result<Assembled> {
        // A piece that waits for one that never came, or half a file: a backup of it would come up short.
        if !self.waiting.is_empty() || self.growing.is_some() {
            return Err(died());
        }
        let table = self.table.finish(&self.sources).await?;
        let maps = self.map.finish(&self.sources).await?;
        Ok(Assembled {
            table,
            maps,
            sources: self.sources,
            totals: self.totals,
            errors: self.errors,
        })
    }

    async fn part(&mut self, part: Stored, last: bool) -> Result<()> {
        let (mut file, mut leaves) = match self.growing.take() {
            Some(growing) => growing,
            None => (part.head(), LeafBuilder::new()),
        };
        self.add(&part, &mut leaves)?;
        file.bytes += part.bytes;
        self.errors(part.errors);
        if last {
            return self.file(file, leaves).await;
        }
        self.growing = Some((file, leaves));
        Ok(())
    }

    fn add(&mut self, stored: &Stored, leaves: &mut LeafBuilder) -> Result<()> {
        for run in &stored.runs {
            let slots = if run.closed {
                run.first.slot + run.pages
            } else {
                u32::MAX
            };
            leaves
                .append_in_frame(run.pages, run.first, slots)
                .map_err(|malformed| repo::Error::Conflict {
                    what: format!("{}: {}", String::from_utf8_lossy(&stored.path), malformed.0),
                })?;
        }
        Ok(())
    }

    /// Counts all and keeps the first: a disk that rots everywhere must not fill the memory of the host too.
    fn errors(&mut self, errors: Vec<PageError>) {
        self.totals.page_errors += errors.len() as u64;
        let room = MAX_PAGE_ERRORS - self.errors.len();
        self.errors.extend(errors.into_iter().take(room));
    }

    async fn file(&mut self, stored: Stored, leaves: LeafBuilder) -> Result<()> {
        self.totals.files += 1;
        self.totals.bytes += stored.bytes;
        self.totals.pages += stored.bytes.div_ceil(u64::from(self.page_size));
        self.errors(stored.errors);
        if let Some(oid) = tablespace_of(&stored.path) {
            *self.totals.tablespaces.entry(oid).or_default() += stored.bytes;
        }
        let mut slots = Vec::new();
        for (number, leaf) in leaves.finish().into_iter().enumerate() {
            let pages = leaf::pages_of_leaf(stored.bytes, self.page_size, number as u64);
            slots.push(self.map.place(leaf, pages, &self.sources).await?);
        }
        let kind = EntryKind::File {
            size: stored.bytes,
            relation: stored.relation,
            leaves: slots,
        };
        let entry = Entry {
            path: stored.path,
            mode: stored.stat.mode,
            modified_micros: stored.stat.modified_micros,
            kind,
        };
        Ok(self.table.push(&entry, &self.sources).await?)
    }
}

/// The oid of the tablespace that a path lies in, if it is one.
fn tablespace_of(path: &[u8]) -> Option<u32> {
    let rest = std::str::from_utf8(path.strip_prefix(b"pg_tblspc/")?).ok()?;
    rest.split_once('/')?.0.parse().ok()
}
