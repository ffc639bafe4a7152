//! Fills frames and packs with pages: the part of a backup that costs time.
//!
//! One packer belongs to one worker; nothing in it is shared but the numbering of packs and the uploads.
//! A page is hashed right after it was read and checked, before anything else of ours touches it.

use std::sync::Arc;

use pgformat::page::fold::Folder;
use repo::{
    BackupId, Repository,
    envelope::Codec,
    leaf::PageRef,
    pack::{Form, PackWriter, Slots},
    session::Session,
};
use zstd::bulk::Compressor;

use crate::{Error, Result};

use super::{Level, uploads::Uploads};

/// Raw bytes of a frame that is full.
pub(super) const FRAME_BYTES: usize = 256 << 10;

/// What all packers of a backup share.
pub(super) struct Place {
    pub(super) repository: Repository,
    pub(super) session: Session,
    pub(super) backup: BackupId,
    pub(super) page_size: usize,
    pub(super) level: Level,
    pub(super) uploads: Uploads,
}

/// A frame and a pack being filled.
pub(super) struct Packer {
    place: Arc<Place>,
    compressor: Option<Compressor<'static>>,
    page_key: [u8; 32],
    raw: Vec<u8>,
    filled: usize,
    lengths: Vec<u32>,
    hashes: Vec<[u8; 8]>,
    packed: Vec<u8>,
    pack: Option<(u32, PackWriter)>,
}

impl Packer {
    pub(super) fn new(place: Arc<Place>) -> Result<Packer> {
        let compressor = match place.level {
            Level::None => None,
            Level::Zstd(level) => Some(compressor(level)?),
        };
        let page_key = *place.repository.keyring().page_key();
        Ok(Packer {
            compressor,
            page_key,
            raw: vec![0; FRAME_BYTES.max(place.page_size)],
            filled: 0,
            lengths: Vec::new(),
            hashes: Vec::new(),
            packed: Vec::with_capacity(zstd::zstd_safe::compress_bound(FRAME_BYTES.max(place.page_size))),
            pack: None,
            place,
        })
    }

    /// What a page hashes to.
    pub(super) fn hash(&self, page: &[u8]) -> [u8; 8] {
        repo::keys::page_hash(&self.page_key, page)
    }

    /// Room in the present frame, a whole number of pages and at least one, and where the first page put
    /// there will be found.
    pub(super) fn room(&mut self) -> Result<(&mut [u8], PageRef)> {
        let slot = self.lengths.len() as u32;
        if self.pack.is_none() {
            let number = self.place.uploads.next_pack();
            let name = repo::names::pack(&self.place.backup, number);
            let form = if self.compressor.is_some() {
                Form::Folded
            } else {
                Form::Whole
            };
            self.pack = Some((
                number,
                PackWriter::new(&self.place.repository, &self.place.session, name, form)?,
            ));
        }
        let (pack, frame) = self
            .pack
            .as_ref()
            .map_or((0, 0), |(number, writer)| (*number, writer.frames()));
        let pages = (self.raw.len() - self.filled) / self.place.page_size;
        let room = &mut self.raw[self.filled..self.filled + pages * self.place.page_size];
        Ok((
            room,
            PageRef {
                source: 0,
                pack,
                frame,
                slot,
            },
        ))
    }

    /// Takes the first `bytes` of the room as pages, the last of which may be short. Returns how many, and
    /// whether the frame ends with them.
    pub(super) async fn take(&mut self, bytes: usize) -> Result<(u32, bool)> {
        let page_size = self.place.page_size;
        let pages = self.raw[self.filled..self.filled + bytes].chunks(page_size);
        let count = pages.len() as u32;
        for page in pages {
            self.lengths.push(page.len() as u32);
            self.hashes.push(repo::keys::page_hash(&self.page_key, page));
        }
        self.filled += bytes;
        let full = self.raw.len() - self.filled < page_size || self.lengths.len() >= repo::pack::MAX_SLOTS;
        if full {
            self.flush().await?;
        }
        Ok((count, full))
    }

    /// Closes the present frame, and the pack if that is full.
    async fn flush(&mut self) -> Result<()> {
        if self.lengths.is_empty() {
            return Ok(());
        }
        let mut codec = Codec::Stored;
        if self.compressor.is_some() {
            self.fold();
        }
        let raw = &self.raw[..self.filled];
        if let Some(compressor) = &mut self.compressor {
            compressor
                .compress_to_buffer(raw, &mut self.packed)
                .map_err(no_compression)?;
            // What hardly shrinks is kept as it is: it then costs nothing to read back.
            if self.packed.len() < raw.len() - raw.len() / 32 {
                codec = Codec::Zstd;
            }
        }
        let packed = if codec == Codec::Zstd { &self.packed } else { raw };
        let uniform = self
            .lengths
            .iter()
            .all(|length| *length as usize == self.place.page_size);
        let lengths = std::mem::take(&mut self.lengths);
        let slots = if uniform {
            Slots::Pages(lengths.len())
        } else {
            Slots::Lengths(lengths)
        };
        if let Some((_, writer)) = &mut self.pack {
            writer.frame(packed, raw.len(), codec, &slots, &self.hashes)?;
        }
        self.hashes.clear();
        self.filled = 0;
        match self.pack.take_if(|(_, writer)| writer.is_full()) {
            Some((number, writer)) => self.place.uploads.put(number, writer.finish()?).await,
            None => Ok(()),
        }
    }

    /// Takes out of the pages what they let one foresee. They were hashed before: a reader who unfolds them
    /// otherwise is found out.
    fn fold(&mut self) {
        let mut folder = Folder::default();
        let mut rest = &mut self.raw[..self.filled];
        for length in &self.lengths {
            let (page, later) = rest.split_at_mut(*length as usize);
            if page.len() == self.place.page_size {
                folder.fold(page);
            }
            rest = later;
        }
    }

    /// Closes what is open and hands it over.
    pub(super) async fn finish(mut self) -> Result<()> {
        self.flush().await?;
        match self.pack.take() {
            Some((number, writer)) if !writer.is_empty() => self.place.uploads.put(number, writer.finish()?).await,
            _ => Ok(()),
        }
    }
}

fn compressor(level: i32) -> Result<Compressor<'static>> {
    let mut compressor = Compressor::new(level).map_err(no_compression)?;
    compressor.include_checksum(false).map_err(no_compression)?;
    Ok(compressor)
}

fn no_compression(source: std::io::Error) -> Error {
    Error::File {
        operation: "compress",
        path: "a frame".into(),
        source,
    }
}
