//! Reads a file against what the parent has of it: only what may have changed, or all of it with each page compared.
//!
//! Invariant: as of [`super::increment`]; and every page of the file is in exactly one piece, in order.

use std::ops::Range;

use pgformat::relation::RelationFile;
use repo::{
    leaf::{Extent, LEAF_PAGES, PageRef},
    table::LeafSlot,
};

use crate::{Result, source::SourceFile};

use super::{
    audit::{Judged, STRETCH, is_audited},
    increment::{Known, KnownPage, OfFile, ParentFile, Shared, joined},
    packer::Placed,
    read::{Reader, Run, Stored, check_pages},
    walk::unreadable,
};

/// A part of a file as it is to be written down.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// Pages that were stored now.
    Stored(Run),
    /// A page that was stored as what turns the base, which the parent has, into it.
    Difference { at: Placed, base: PageRef },
    /// Pages that the parent has. By its numbers, as all that follows.
    Kept(Extent),
    /// A whole leaf that the parent has: where it stands, and what is in it.
    Leaf { slot: LeafSlot, extents: Vec<Extent> },
}

/// What came of the pages of a file, or of all files. Each is one of stored, same, kept and moved, as `FORMAT.md` has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) stored: u64,
    pub(super) same: u64,
    pub(super) kept: u64,
    pub(super) audited: u64,
    pub(super) moved: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Counts) {
        self.stored += other.stored;
        self.same += other.same;
        self.kept += other.kept;
        self.audited += other.audited;
        self.moved += other.moved;
    }
}

/// What is to be done about a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// It cannot have changed.
    Keep,
    /// Nor this one; it is compared all the same.
    Audit,
    /// It has not changed, and is to be stored anew.
    Move,
    /// It is kept if it hashes to what the parent has.
    Compare,
    /// It changed, or is new.
    Take,
}

/// The file that is being read: opened when something of it is needed.
pub(super) struct Lazy<'a> {
    pub(super) path: &'a [u8],
    open: Option<Box<dyn SourceFile>>,
}

impl Reader {
    /// Reads the `length` bytes from `from` on, or all to the end, against `parent`. `known` is this reader's.
    pub(super) async fn against(
        &mut self,
        known: &mut Known,
        parent: &ParentFile,
        open: Option<Box<dyn SourceFile>>,
        stored: &mut Stored,
        from: u64,
        length: Option<u64>,
    ) -> Result<()> {
        let page = self.rules.page_size as u64;
        let leaf_bytes = page * u64::from(LEAF_PAGES);
        let path = stored.path.clone();
        let mut file = Lazy { path: &path, open };
        let shared = known.shared.clone();
        let relation = pgformat::relation::classify(&path);
        let whole_pages = parent.size.is_multiple_of(page) && length.is_some_and(|length| length.is_multiple_of(page));
        let changes = shared.changes.as_ref().filter(|_| whole_pages);
        let told = relation
            .as_ref()
            .zip(changes)
            .and_then(|(relation, changes)| changes.of(relation, self.rules.blocks_per_segment));
        loop {
            let left = length.map_or(u64::MAX, |length| length - stored.bytes);
            if left == 0 {
                return Ok(());
            }
            let number = (from + stored.bytes) / leaf_bytes;
            let extents = known.extents(parent, number).await?;
            let theirs = extents.iter().map(|extent| extent.pages).sum::<u32>();
            let ours = left.div_ceil(page).min(u64::from(LEAF_PAGES)) as u32;
            let first = number * u64::from(LEAF_PAGES);
            let mut acts = acts(&shared, told.as_ref(), &path, first..first + u64::from(ours), theirs);
            let moving = extents.iter().any(|extent| known.is_moving(extent));
            if ours == theirs && !moving && acts.iter().all(|act| *act == Act::Keep) {
                let slot = usize::try_from(number)
                    .ok()
                    .and_then(|number| parent.leaves.get(number));
                if let Some(slot) = slot {
                    let slot = slot.clone();
                    stored.pieces.push(Piece::Leaf { slot, extents });
                    stored.bytes += u64::from(ours) * page;
                    stored.counts.kept += u64::from(ours);
                    continue;
                }
            }
            let pages = known.pages(&extents).await?;
            if moving {
                for (act, page) in acts.iter_mut().zip(&pages) {
                    // One that would be audited is compared too where it is moved, and its pack would stay for its sake.
                    if matches!(act, Act::Keep | Act::Audit) && known.is_moving(&of_page(page)) {
                        *act = Act::Move;
                    }
                }
            }
            let leaf = Leaf {
                relation,
                acts,
                pages,
                at: from + stored.bytes,
                left,
            };
            if self.leaf(known, &mut file, leaf, stored, length.is_some()).await? {
                return Ok(());
            }
        }
    }

    /// Reads one leaf; whether the file ended in it before all its pages came, as one may whose length is not known.
    async fn leaf(
        &mut self,
        known: &mut Known,
        file: &mut Lazy<'_>,
        leaf: Leaf,
        stored: &mut Stored,
        padded: bool,
    ) -> Result<bool> {
        let mut room = std::mem::take(&mut self.scratch);
        let read = self.leaf_into(&mut room, known, file, leaf, stored, padded).await;
        // Whatever came of it: a file that went is no error, and the next one needs the room.
        self.scratch = room;
        read
    }

    async fn leaf_into(
        &mut self,
        room: &mut [u8],
        known: &mut Known,
        file: &mut Lazy<'_>,
        leaf: Leaf,
        stored: &mut Stored,
        padded: bool,
    ) -> Result<bool> {
        let page = self.rules.page_size;
        let mut kept = Vec::new();
        let mut number = 0;
        while number < leaf.acts.len() {
            let rest = &leaf.acts[number..];
            if rest[0] == Act::Keep {
                let count = rest.iter().take_while(|act| **act == Act::Keep).count();
                kept.extend_from_slice(&leaf.pages[number..number + count]);
                stored.bytes += (count * page) as u64;
                stored.counts.kept += count as u64;
                number += count;
                continue;
            }
            let count = rest.iter().take_while(|act| **act != Act::Keep).count();
            let count = count.min(room.len() / page);
            let offset = leaf.at + (number * page) as u64;
            let left = leaf.left - (number * page) as u64;
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(count * page);
            let got = self.fill(file, &mut room[..want], offset, padded, leaf.relation, stored)?;
            let seen = Seen {
                acts: &rest[..got.div_ceil(page)],
                theirs: leaf.pages.get(number..).unwrap_or_default(),
                bytes: &room[..got],
                offset,
            };
            for (run, together) in self.verdicts(known, file, &seen, leaf.relation, stored).await? {
                let part = seen.part(&run, page);
                if together {
                    kept.extend_from_slice(part.theirs);
                } else {
                    stored.pieces.extend(joined(&kept).map(Piece::Kept));
                    kept.clear();
                    self.changed(known, &part, stored).await?;
                }
                stored.bytes += part.bytes.len() as u64;
            }
            self.rate.spend(got as u64).await;
            number += count;
            if got < want {
                stored.pieces.extend(joined(&kept).map(Piece::Kept));
                return Ok(true);
            }
        }
        stored.pieces.extend(joined(&kept).map(Piece::Kept));
        Ok(false)
    }

    /// Fills `bytes` from the file, as far as it goes; what is cut off meanwhile is zeroes where it is `padded`.
    fn fill(
        &mut self,
        file: &mut Lazy<'_>,
        bytes: &mut [u8],
        offset: u64,
        padded: bool,
        relation: Option<RelationFile>,
        stored: &mut Stored,
    ) -> Result<usize> {
        let path = file.path;
        let open = self.opened(file)?;
        let mut got = open.read_at(bytes, offset).map_err(|error| unreadable(path, error))?;
        if padded && got < bytes.len() {
            bytes[got..].fill(0);
            got = bytes.len();
        }
        if let (Some(before), Some(relation)) = (self.rules.checked_before, relation) {
            check_pages(&self.rules, before, relation, open, offset, &mut bytes[..got], stored)?;
        }
        Ok(got)
    }

    /// The file, which reads as empty if it is gone: replay drops it again.
    pub(super) fn opened<'f>(&self, file: &'f mut Lazy<'_>) -> Result<&'f dyn SourceFile> {
        if file.open.is_none() {
            file.open = Some(self.open(file.path)?.unwrap_or_else(|| Box::new(super::read::Gone)));
        }
        Ok(file.open.as_deref().unwrap_or(&super::read::Gone))
    }

    /// Which of the pages that were read are kept as the parent has them, in runs: pages, and whether they are.
    async fn verdicts(
        &self,
        known: &mut Known,
        file: &mut Lazy<'_>,
        seen: &Seen<'_>,
        relation: Option<RelationFile>,
        stored: &mut Stored,
    ) -> Result<Vec<(Range<usize>, bool)>> {
        let counts = &mut stored.counts;
        let page = self.rules.page_size;
        let mut rotten = Vec::new();
        let mut runs: Vec<(Range<usize>, bool)> = Vec::new();
        for (number, (act, bytes)) in seen.acts.iter().zip(seen.bytes.chunks(page)).enumerate() {
            let same = || {
                let theirs = seen.theirs.get(number)?;
                let is = theirs.length == bytes.len() && self.packer.hash(bytes) == theirs.hash;
                is.then_some(theirs)
            };
            let at = seen.offset + (number * page) as u64;
            let keep = match act {
                // Nothing that is kept unread comes here.
                Act::Keep | Act::Take => {
                    counts.stored += 1;
                    false
                }
                Act::Compare => match same() {
                    Some(theirs) if known.is_moving(&of_page(theirs)) => {
                        counts.moved += 1;
                        false
                    }
                    Some(_) => {
                        counts.same += 1;
                        true
                    }
                    None => {
                        counts.stored += 1;
                        false
                    }
                },
                // What rotted on the server's disk is better left where the parent has it, also if it is to be moved.
                Act::Move | Act::Audit => {
                    let judged = self
                        .audit(known, seen.theirs.get(number), same().is_some(), file, at, bytes)
                        .await?;
                    rotten.extend((judged == Judged::Rotten).then_some(at));
                    match judged {
                        Judged::Marked => counts.stored += 1,
                        Judged::Same if *act == Act::Move => counts.moved += 1,
                        Judged::Same | Judged::Rotten => {
                            counts.kept += 1;
                            counts.audited += 1;
                        }
                    }
                    match judged {
                        Judged::Marked => false,
                        Judged::Same => *act == Act::Audit,
                        Judged::Rotten => true,
                    }
                }
            };
            match runs.last_mut() {
                Some((run, kept)) if *kept == keep => run.end = number + 1,
                _ => runs.push((number..number + 1, keep)),
            }
        }
        // Damage of the server's disk, and none of the backup's.
        for block in rotten.into_iter().filter_map(|at| self.block(relation.as_ref()?, at)) {
            let errors = stored.errors.iter_mut().filter(|error| error.block == block);
            errors.for_each(|error| error.is_kept = true);
        }
        Ok(runs)
    }

    fn block(&self, relation: &RelationFile, at: u64) -> Option<u32> {
        relation.block_at(at, self.rules.page_size as u32, self.rules.blocks_per_segment)
    }

    /// Stores pages that changed: what turns the parent's into them where that is little, else as they are.
    async fn changed(&mut self, known: &mut Known, changed: &Seen<'_>, stored: &mut Stored) -> Result<()> {
        let page = self.rules.page_size;
        let mut whole = 0..0;
        for (number, bytes) in changed.bytes.chunks(page).enumerate() {
            let at = number * page;
            let base = changed.theirs.get(number).filter(|theirs| {
                // What is moved so that its pack falls out of use can be a difference again, but not from a page in such a pack.
                let moves = changed.acts.get(number) == Some(&Act::Move);
                let base = theirs.whole();
                let goes = known.shared.moving.contains(&(base.source, base.pack));
                known.shared.differences && !goes && (!moves || theirs.base.is_some()) && theirs.length == page
            });
            let placed = match base {
                Some(theirs) => {
                    let base = known.base(theirs).await?;
                    self.packer.difference(bytes, base).await?
                }
                None => None,
            };
            let Some((theirs, at_difference)) = base.zip(placed) else {
                whole.end = at + bytes.len();
                continue;
            };
            self.store(&changed.bytes[whole.clone()], stored).await?;
            stored.pieces.push(Piece::Difference {
                at: at_difference,
                base: theirs.whole(),
            });
            whole = at + bytes.len()..at + bytes.len();
        }
        self.store(&changed.bytes[whole], stored).await
    }

    /// Puts pages into frames.
    async fn store(&mut self, mut bytes: &[u8], stored: &mut Stored) -> Result<()> {
        while !bytes.is_empty() {
            let (room, first) = self.packer.room()?;
            let (now, later) = bytes.split_at(room.len().min(bytes.len()));
            room[..now.len()].copy_from_slice(now);
            let (pages, closed) = self.packer.take(now.len()).await?;
            stored.pieces.push(Piece::Stored(Run { pages, first, closed }));
            bytes = later;
        }
        Ok(())
    }
}

/// Pages in a row that were read.
struct Seen<'a> {
    acts: &'a [Act],
    /// What the parent has of them; none for those past its end.
    theirs: &'a [KnownPage],
    bytes: &'a [u8],
    /// Where in the file they begin.
    offset: u64,
}

impl<'a> Seen<'a> {
    fn part(&self, run: &Range<usize>, page: usize) -> Seen<'a> {
        Seen {
            acts: self.acts.get(run.clone()).unwrap_or_default(),
            theirs: self
                .theirs
                .get(run.start..run.end.min(self.theirs.len()))
                .unwrap_or_default(),
            bytes: &self.bytes[run.start * page..(run.end * page).min(self.bytes.len())],
            offset: self.offset + (run.start * page) as u64,
        }
    }
}

/// A leaf to be read.
struct Leaf {
    relation: Option<RelationFile>,
    acts: Vec<Act>,
    /// What the parent has, page by page.
    pages: Vec<KnownPage>,
    /// Where in the file it begins, and how many bytes are left from there.
    at: u64,
    left: u64,
}

/// What is to be done about `blocks` of a file, one leaf of it at most, of which the parent has the first `theirs`.
fn acts(shared: &Shared, told: Option<&OfFile<'_>>, path: &[u8], blocks: Range<u64>, theirs: u32) -> Vec<Act> {
    let mut audited = false;
    let act = |(at, block): (u32, u64)| {
        let Some(told) = told else {
            return if at < theirs { Act::Compare } else { Act::Take };
        };
        // Blocks of a file are numbered by 32 bits.
        let block = block as u32;
        if at.is_multiple_of(STRETCH) {
            audited = is_audited(shared.audit, shared.seed, path, block / STRETCH);
        }
        match () {
            () if at >= theirs || told.has(block) => Act::Take,
            () if audited => Act::Audit,
            () => Act::Keep,
        }
    };
    (0..).zip(blocks).map(act).collect()
}

fn of_page(page: &KnownPage) -> Extent {
    Extent {
        pages: 1,
        pages_at: page.at,
        base: page.base,
    }
}
