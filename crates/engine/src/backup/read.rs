//! Reads files, checks their pages and hands them to the packer.

use std::{io::ErrorKind, sync::Arc};

use pgformat::{
    Lsn,
    page::{self, PageCheck},
    relation::RelationFile,
};
use repo::leaf::PageRef;

use crate::{
    Error, Result,
    rate::Rate,
    source::{Source, SourceFile, Stat},
    workers::died,
};

use super::{
    against::{Counts, Piece},
    increment::{Known, ParentFile},
    packer::Packer,
    walk::{FileWork, unreadable},
};

/// How often a page that does not fit its checksum is read again before that is believed: it may be being
/// written at that very moment.
pub(super) const READ_AGAIN: usize = 5;

/// What reading must know of the cluster and the backup.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) page_size: usize,
    pub(super) blocks_per_segment: u32,
    /// Judge checksums of pages older than this; `None`: the cluster has no checksums.
    pub(super) checked_before: Option<Lsn>,
    /// Where the backup began: what is newer, replay writes again.
    pub(super) begun: Lsn,
}

/// A page whose checksum does not fit although no recovery will write it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageError {
    pub(super) path: String,
    pub(super) block: u32,
    /// Whether the backup has it as the backup before did, and so not damaged.
    pub(super) is_kept: bool,
}

/// Pages in a row within one frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) pages: u32,
    pub(super) first: PageRef,
    /// Whether they are the last of their frame, so that the next may go on in the one after it.
    pub(super) closed: bool,
}

/// A file, or a part of one, as it was stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) path: Vec<u8>,
    pub(super) stat: Stat,
    pub(super) relation: bool,
    /// Bytes of it that are in `pieces`.
    pub(super) bytes: u64,
    /// Where they are, in order.
    pub(super) pieces: Vec<Piece>,
    pub(super) counts: Counts,
    pub(super) errors: Vec<PageError>,
}

impl Stored {
    /// The same file with nothing stored of it yet.
    pub(super) fn head(&self) -> Stored {
        Stored {
            path: self.path.clone(),
            stat: self.stat,
            relation: self.relation,
            bytes: 0,
            pieces: Vec::new(),
            counts: Counts::default(),
            errors: Vec::new(),
        }
    }
}

pub(super) struct Reader {
    pub(super) source: Arc<dyn Source>,
    pub(super) rules: Rules,
    pub(super) rate: Arc<Rate>,
    pub(super) packer: Packer,
    /// What the parent has, if there is one.
    pub(super) known: Option<Known>,
    /// Room for the pages of a frame that are compared first.
    pub(super) scratch: Vec<u8>,
}

impl Reader {
    /// Reads a whole file; `None` if it is gone.
    pub(super) async fn file(&mut self, file: FileWork) -> Result<Option<Stored>> {
        if let (Some(parent), Some(_)) = (&file.parent, &file.relation) {
            // As long as it was when its name was read: what is added later comes from WAL. It may need no opening.
            let (parent, stat) = (parent.clone(), file.stat);
            let mut stored = stored(file, stat);
            self.beside(&parent, None, &mut stored, 0, Some(stat.size)).await?;
            return Ok(Some(stored));
        }
        let Some(open) = self.open(&file.path)? else {
            return Ok(None);
        };
        let stat = open.stat().map_err(|error| unreadable(&file.path, error))?;
        let parent = file.parent.clone();
        let mut stored = stored(file, stat);
        // A relation is read as long as it was when it was opened: what is added later comes from WAL. Other
        // files have no WAL; they are small, replaced by rename, and read to their end.
        let read = match parent {
            Some(parent) => self.beside(&parent, Some(open), &mut stored, 0, None).await,
            None => {
                let length = if stored.relation { Some(stat.size) } else { None };
                self.range(&*open, &mut stored, 0, length).await
            }
        };
        match read {
            // What was stored of it, nobody refers to.
            Err(Error::File { source, .. }) if !stored.relation && source.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(|()| Some(stored)),
        }
    }

    /// Reads `bytes` of a relation file from offset `from`. A part that has been cut off meanwhile is zeroes:
    /// replay cuts it off again.
    pub(super) async fn part(&mut self, file: FileWork, from: u64, bytes: u64) -> Result<Stored> {
        if let Some(parent) = file.parent.clone() {
            let stat = file.stat;
            let mut stored = stored(file, stat);
            self.beside(&parent, None, &mut stored, from, Some(bytes)).await?;
            return Ok(stored);
        }
        let open = self.open(&file.path)?;
        let stat = file.stat;
        let mut stored = stored(file, stat);
        match open {
            Some(open) => self.range(&*open, &mut stored, from, Some(bytes)).await?,
            // Dropped meanwhile, and so dropped again by replay.
            None => self.range(&Gone, &mut stored, from, Some(bytes)).await?,
        }
        Ok(stored)
    }

    async fn beside(
        &mut self,
        parent: &ParentFile,
        open: Option<Box<dyn SourceFile>>,
        stored: &mut Stored,
        from: u64,
        length: Option<u64>,
    ) -> Result<()> {
        // Who gives files a parent gives readers its view.
        let Some(mut known) = self.known.take() else {
            return Err(died());
        };
        let outcome = self.against(&mut known, parent, open, stored, from, length).await;
        self.known = Some(known);
        outcome
    }

    pub(super) fn open(&self, path: &[u8]) -> Result<Option<Box<dyn SourceFile>>> {
        self.source.open(path).map_err(|error| unreadable(path, error))
    }

    async fn range(
        &mut self,
        file: &dyn SourceFile,
        stored: &mut Stored,
        from: u64,
        length: Option<u64>,
    ) -> Result<()> {
        let relation = pgformat::relation::classify(&stored.path);
        loop {
            let left = length.map_or(u64::MAX, |length| length - stored.bytes);
            if left == 0 {
                return Ok(());
            }
            let (room, first) = self.packer.room()?;
            let want = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let room = &mut room[..want];
            let offset = from + stored.bytes;
            let mut got = file
                .read_at(room, offset)
                .map_err(|error| unreadable(&stored.path, error))?;
            if length.is_some() && got < want {
                room[got..].fill(0);
                got = want;
            }
            if got == 0 {
                return Ok(());
            }
            if let (Some(before), Some(relation)) = (self.rules.checked_before, relation) {
                check_pages(&self.rules, before, relation, file, offset, &mut room[..got], stored)?;
            }
            let (pages, closed) = self.packer.take(got).await?;
            stored.pieces.push(Piece::Stored(Run { pages, first, closed }));
            stored.counts.stored += u64::from(pages);
            stored.bytes += got as u64;
            self.rate.spend(got as u64).await;
            if length.is_none() && got < want {
                return Ok(());
            }
        }
    }
}

/// Judges each whole page by the rule of PostgreSQL's base backup, reading again what does not fit.
pub(super) fn check_pages(
    rules: &Rules,
    before: Lsn,
    relation: RelationFile,
    file: &dyn SourceFile,
    offset: u64,
    bytes: &mut [u8],
    stored: &mut Stored,
) -> Result<()> {
    for (number, bytes) in bytes.chunks_exact_mut(rules.page_size).enumerate() {
        let at = offset + (number * rules.page_size) as u64;
        let Some(block) = relation.block_at(at, rules.page_size as u32, rules.blocks_per_segment) else {
            return Ok(());
        };
        let mut again = 0;
        while let PageCheck::Bad { .. } = page::verify(bytes, block, before) {
            if again == READ_AGAIN {
                let path = String::from_utf8_lossy(&stored.path).into_owned();
                stored.errors.push(PageError {
                    path,
                    block,
                    is_kept: false,
                });
                break;
            }
            again += 1;
            let got = file
                .read_at(bytes, at)
                .map_err(|error| unreadable(&stored.path, error))?;
            bytes[got..].fill(0);
        }
    }
    Ok(())
}

fn stored(file: FileWork, stat: Stat) -> Stored {
    let relation = file.relation.is_some();
    Stored {
        path: file.path,
        stat,
        relation,
        bytes: 0,
        pieces: Vec::new(),
        counts: Counts::default(),
        errors: Vec::new(),
    }
}

/// A file that is not there any more: it reads as empty.
pub(super) struct Gone;

impl SourceFile for Gone {
    fn stat(&self) -> std::io::Result<Stat> {
        Err(std::io::ErrorKind::NotFound.into())
    }
    fn read_at(&self, _: &mut [u8], _: u64) -> std::io::Result<usize> {
        Ok(0)
    }
}
