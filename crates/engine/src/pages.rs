//! Gets pages out of packs: opens packs once, reads ahead where pages lie in a row, opens each frame once.

mod known;

pub(crate) use known::Known;

use std::{collections::BTreeMap, sync::Arc};

use async_lock::Mutex;
use bytes::Bytes;
use pgformat::page::fold::Folder;
use repo::{
    Repository,
    envelope::Opener,
    leaf::{Extent, PageRef},
    manifest::Needed,
    names,
    pack::{PackReader, Slots},
};

use crate::Result;

/// Sealed bytes that one read may fetch ahead while frames are wanted in a row.
const READ_AHEAD: usize = 2 << 20;
/// Directories of packs kept open by all workers together. One is some 200 KiB.
const OPEN_PACKS: usize = 64;

/// The packs of a backup, shared by all workers.
pub(crate) struct Packs {
    repository: Repository,
    needed: Arc<Needed>,
    page_size: usize,
    open: Mutex<BTreeMap<(u32, u32), Arc<PackReader>>>,
}

impl Packs {
    pub(crate) fn new(repository: Repository, needed: Arc<Needed>, page_size: usize) -> Packs {
        Packs {
            repository,
            needed,
            page_size,
            open: Mutex::default(),
        }
    }

    /// The pack that a page reference means. Sources are by the numbers of the manifest's list.
    async fn get(&self, source: u32, number: u32) -> Result<Arc<PackReader>> {
        let mut open = self.open.lock().await;
        if let Some(pack) = open.get(&(source, number)) {
            return Ok(pack.clone());
        }
        let sources = &self.needed.sources;
        let unknown = || repo::Error::Damaged {
            name: names::manifest(&sources.owner()),
            what: format!("it does not name pack {number} of source {source}, which a map refers to"),
        };
        let backup = sources.get(source).ok_or_else(unknown)?;
        let known = self.needed.pack(&backup, number).ok_or_else(unknown)?;
        let name = names::pack(&backup, number);
        let (pin, page_size) = (known.pin(), self.page_size);
        let pack = PackReader::ranged(&self.repository, &name, &pin, known.directory, page_size, unfold).await?;
        let pack = Arc::new(pack);
        if open.len() >= OPEN_PACKS {
            open.pop_first();
        }
        open.insert((source, number), pack.clone());
        Ok(pack)
    }
}

/// One worker's view: the frame it has open and the sealed bytes it has fetched ahead.
pub(crate) struct Pages {
    packs: Arc<Packs>,
    opener: Opener,
    at: Option<(u32, u32, u32)>,
    raw: Vec<u8>,
    pack: Option<((u32, u32), Arc<PackReader>)>,
    ahead: Ahead,
    /// Sealed bytes of frames that were fetched so far.
    fetched: u64,
}

/// Sealed frames `from` and on, back to back.
#[derive(Default)]
struct Ahead {
    pack: (u32, u32),
    from: u32,
    until: u32,
    sealed: Bytes,
    window: usize,
}

impl Pages {
    pub(crate) fn new(packs: Arc<Packs>) -> Result<Pages> {
        let opener = Opener::new()?;
        Ok(Pages {
            packs,
            opener,
            at: None,
            raw: Vec::new(),
            pack: None,
            ahead: Ahead::default(),
            fetched: 0,
        })
    }

    /// Hands the extent's bytes to `take`, in order, a piece per frame.
    pub(crate) async fn read(&mut self, extent: &Extent, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let PageRef {
            source,
            pack,
            mut frame,
            mut slot,
        } = extent.pages_at;
        let mut left = extent.pages;
        while left > 0 {
            let reader = self.pack(source, pack).await?;
            self.frame(&reader, source, pack, frame).await?;
            let slots = reader.slots(frame)?;
            let count = (slots.count() as u32).saturating_sub(slot).min(left);
            let page = self.packs.page_size;
            let first = slots.range(slot as usize, page);
            let last = slots.range((slot + count).saturating_sub(1) as usize, page);
            let (Some(first), Some(last), 1..) = (first, last, count) else {
                let what = format!("frame {frame} has no slot {slot}, which a map refers to");
                return Err(repo::Error::Damaged {
                    name: reader.name().into(),
                    what,
                }
                .into());
            };
            take(&self.raw[first.start..last.end])?;
            left -= count;
            (frame, slot) = (frame + 1, 0);
        }
        Ok(())
    }

    async fn pack(&mut self, source: u32, number: u32) -> Result<Arc<PackReader>> {
        if let Some((key, pack)) = &self.pack
            && *key == (source, number)
        {
            return Ok(pack.clone());
        }
        let pack = self.packs.get(source, number).await?;
        self.pack = Some(((source, number), pack.clone()));
        Ok(pack)
    }

    /// Makes `frame` the open one.
    async fn frame(&mut self, pack: &PackReader, source: u32, number: u32, frame: u32) -> Result<()> {
        if self.at == Some((source, number, frame)) {
            return Ok(());
        }
        self.at = None;
        if self.ahead.pack != (source, number) || frame < self.ahead.from || frame >= self.ahead.until {
            self.fetch(pack, (source, number), frame).await?;
        }
        let skipped: usize = (self.ahead.from..frame)
            .map(|f| pack.sealed_length(f))
            .sum::<Result<usize, _>>()?;
        let sealed = &self.ahead.sealed[skipped..skipped + pack.sealed_length(frame)?];
        pack.open(&mut self.opener, frame, sealed, &mut self.raw)?;
        self.at = Some((source, number, frame));
        Ok(())
    }

    /// Fetches `frame`, and more after it the longer frames have been wanted in a row.
    async fn fetch(&mut self, pack: &PackReader, key: (u32, u32), frame: u32) -> Result<()> {
        let in_a_row = self.ahead.pack == key && frame == self.ahead.until;
        let window = if in_a_row {
            (self.ahead.window * 2).clamp(1, READ_AHEAD)
        } else {
            1
        };
        let mut until = frame + 1;
        let mut bytes = pack.sealed_length(frame)?;
        while until < pack.frames() && bytes < window {
            bytes += pack.sealed_length(until)?;
            until += 1;
        }
        let sealed = pack.fetch(&self.packs.repository, frame, until - frame).await?;
        self.fetched += sealed.len() as u64;
        self.ahead = Ahead {
            pack: key,
            from: frame,
            until,
            window: bytes,
            sealed,
        };
        Ok(())
    }
}

/// Undoes what the packer did to pages: all of full length, in order of their slots.
fn unfold(raw: &mut [u8], slots: &Slots, page_size: usize) {
    let mut folder = Folder::default();
    for number in 0..slots.count() {
        let page = slots.range(number, page_size).filter(|range| range.len() == page_size);
        if let Some(page) = page.and_then(|range| raw.get_mut(range)) {
            folder.unfold(page);
        }
    }
}
