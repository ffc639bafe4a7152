//! Brings what workers stored back into order and writes the file table.
//!
//! Workers finish in any order; entries must stand in order of path. What waits here is bounded by the pieces
//! of work under way.

use std::collections::BTreeMap;

use pgformat::relation::tablespace_around;
use repo::{
    leaf::{self, Extent, Leaf, LeafRef, PageRef},
    manifest::MAX_PAGE_ERRORS,
    map::{MapWriter, Written},
    sources::Sources,
    table::{Entry, EntryKind, LeafSlot, TableWriter, WrittenTable},
};

use crate::{Result, workers::died};

use super::{
    against::{Counts, Piece},
    leaves::{Leaves, Made},
    read::{PageError, Stored},
    uses::Uses,
};

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
    /// How they came to be known.
    pub(super) counts: Counts,
}

/// Pages whose checksum did not fit.
#[derive(Debug, Clone, Default)]
pub(super) struct Damage {
    /// Those that the backup has as they are.
    pub(super) stored: DamagedPages,
    /// Those that it has as the backup before did, whole.
    pub(super) kept: DamagedPages,
}

/// All are counted and the first kept: a disk that rots everywhere must not fill the memory of the host too.
#[derive(Debug, Clone, Default)]
pub(super) struct DamagedPages {
    pub(super) total: u64,
    /// [`MAX_PAGE_ERRORS`] at most.
    pub(super) first: Vec<PageError>,
}

impl Damage {
    fn add(&mut self, errors: Vec<PageError>) {
        for error in errors {
            let pages = match error.is_kept {
                true => &mut self.kept,
                false => &mut self.stored,
            };
            pages.total += 1;
            if pages.first.len() < MAX_PAGE_ERRORS {
                pages.first.push(error);
            }
        }
    }
}

/// Everything but the packs, written.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) table: WrittenTable,
    pub(super) maps: Vec<Written>,
    pub(super) sources: Sources,
    pub(super) totals: Totals,
    pub(super) damage: Damage,
    /// What is used of all packs and maps.
    pub(super) uses: Uses,
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
    /// The numbering of an incremental backup's parent.
    parents: Option<Sources>,
    uses: Uses,
    page_size: u32,
    next: u64,
    waiting: BTreeMap<u64, Outcome>,
    /// The large file whose parts are coming in.
    growing: Option<(Stored, Leaves)>,
    pub(super) totals: Totals,
    damage: Damage,
}

impl Assembler {
    /// `parents` is the numbering that kept pieces are by.
    pub(super) fn new(
        table: TableWriter,
        map: MapWriter,
        sources: Sources,
        parents: Option<Sources>,
        page_size: u32,
    ) -> Assembler {
        Assembler {
            table,
            map,
            sources,
            parents,
            uses: Uses::default(),
            page_size,
            next: 0,
            waiting: BTreeMap::new(),
            growing: None,
            totals: Totals::default(),
            damage: Damage::default(),
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
                        let mut leaves = Leaves::default();
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
            damage: self.damage,
            uses: self.uses,
        })
    }

    async fn part(&mut self, part: Stored, last: bool) -> Result<()> {
        let (mut file, mut leaves) = match self.growing.take() {
            Some(growing) => growing,
            None => (part.head(), Leaves::default()),
        };
        self.add(&part, &mut leaves)?;
        file.bytes += part.bytes;
        file.counts.add(part.counts);
        self.damage.add(part.errors);
        if last {
            return self.file(file, leaves).await;
        }
        self.growing = Some((file, leaves));
        Ok(())
    }

    fn add(&mut self, stored: &Stored, leaves: &mut Leaves) -> Result<()> {
        for piece in &stored.pieces {
            let added = match piece {
                Piece::Stored(run) => {
                    self.uses.pages(run.first, run.pages);
                    leaves.stored(run)
                }
                Piece::Difference { at, base } => {
                    let source = our_number(base.source, &mut self.sources, &self.parents);
                    let base = PageRef { source, ..*base };
                    self.uses.pages(at.at, 1);
                    self.uses.pages(base, 1);
                    leaves.difference(*at, base)
                }
                Piece::Kept(extent) => {
                    let extent = self.ours(extent);
                    self.uses.extent(&extent);
                    leaves.kept(extent)
                }
                Piece::Leaf { slot, extents } => {
                    for extent in extents {
                        let extent = self.ours(extent);
                        self.uses.extent(&extent);
                    }
                    leaves.leaf(self.our_leaf(slot))
                }
            };
            added.map_err(|malformed| repo::Error::Conflict {
                what: format!("{}: {}", String::from_utf8_lossy(&stored.path), malformed.0),
            })?;
        }
        Ok(())
    }

    /// An extent of the parent's by our numbers.
    fn ours(&mut self, extent: &Extent) -> Extent {
        let at = |at: PageRef, sources: &mut Sources, parents: &Option<Sources>| PageRef {
            source: our_number(at.source, sources, parents),
            ..at
        };
        Extent {
            pages_at: at(extent.pages_at, &mut self.sources, &self.parents),
            base: extent.base.map(|base| at(base, &mut self.sources, &self.parents)),
            ..*extent
        }
    }

    /// A leaf of the parent's, as it shall stand in our table.
    fn our_leaf(&mut self, slot: &LeafSlot) -> LeafSlot {
        match slot {
            LeafSlot::Ref(at) => {
                let source = our_number(at.source, &mut self.sources, &self.parents);
                let at = LeafRef { source, ..*at };
                self.uses.leaf(&at);
                LeafSlot::Ref(at)
            }
            LeafSlot::Inline(Leaf(extents)) => {
                let extents = extents.iter().map(|extent| self.ours(extent)).collect();
                LeafSlot::Inline(Leaf(extents))
            }
        }
    }

    async fn file(&mut self, stored: Stored, leaves: Leaves) -> Result<()> {
        self.totals.files += 1;
        self.totals.bytes += stored.bytes;
        self.totals.pages += stored.bytes.div_ceil(u64::from(self.page_size));
        self.totals.counts.add(stored.counts);
        self.damage.add(stored.errors);
        if let Some(oid) = tablespace_around(&stored.path) {
            *self.totals.tablespaces.entry(oid).or_default() += stored.bytes;
        }
        let mut slots = Vec::new();
        for (number, leaf) in leaves.finish().into_iter().enumerate() {
            let pages = leaf::pages_of_leaf(stored.bytes, self.page_size, number as u64);
            slots.push(match leaf {
                Made::Kept(slot) => slot,
                Made::New(leaf) => {
                    let slot = self.map.place(leaf, pages, &self.sources).await?;
                    if let LeafSlot::Ref(at) = &slot {
                        self.uses.leaf(at);
                    }
                    slot
                }
            });
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

/// Our number of the backup that the parent has under `number`. One that it does not list gets a number that
/// nobody has: the leaf is refused when it is written.
fn our_number(number: u32, sources: &mut Sources, parents: &Option<Sources>) -> u32 {
    let id = parents.as_ref().and_then(|parents| parents.get(number));
    id.map_or(u32::MAX, |id| sources.intern(id))
}
