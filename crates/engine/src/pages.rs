//! Gets pages out of packs: opens packs once, reads ahead where pages lie in a row, opens each frame once.
//!
//! Invariant: what is handed out hashed to what was read from the source, the result of a difference like a whole page.

mod known;
mod window;

pub(crate) use known::Known;

use std::{collections::BTreeMap, sync::Arc};

use async_lock::Mutex;
use pgformat::page::fold::Folder;
use repo::{
    Repository,
    envelope::Opener,
    leaf::{Extent, PageRef},
    manifest::Needed,
    names,
    pack::{Applier, PackReader, Slots},
};

use crate::Result;

use window::{Holds, Window};

/// Directories of packs kept open by all workers together. One is some 200 KiB.
const OPEN_PACKS: usize = 128;
/// Pages made of differences that are handed out at once.
const PIECE: u32 = 32;

/// The packs of a backup, shared by all workers.
pub(crate) struct Packs {
    repository: Repository,
    needed: Arc<Needed>,
    page_size: usize,
    open: Mutex<Opened>,
}

/// Packs that are open, by source and number, each with when it was asked for last.
#[derive(Default)]
struct Opened {
    packs: BTreeMap<(u32, u32), (u64, Arc<PackReader>)>,
    asked: u64,
}

impl Opened {
    fn get(&mut self, key: (u32, u32)) -> Option<Arc<PackReader>> {
        self.asked += 1;
        let (at, pack) = self.packs.get_mut(&key)?;
        *at = self.asked;
        Some(pack.clone())
    }

    /// Takes in a pack, in the place of the one that was asked for longest ago if there are too many.
    fn put(&mut self, key: (u32, u32), pack: Arc<PackReader>) {
        let oldest = self.packs.iter().min_by_key(|(_, (at, _))| *at).map(|(key, _)| *key);
        if self.packs.len() >= OPEN_PACKS
            && let Some(oldest) = oldest
        {
            self.packs.remove(&oldest);
        }
        self.packs.insert(key, (self.asked, pack));
    }
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

    /// What they are the packs of.
    #[cfg(test)]
    pub(crate) fn needed(&self) -> &Needed {
        &self.needed
    }

    /// How many slots the frame of the page at `at` has.
    #[cfg(test)]
    pub(crate) async fn frame_slots(&self, at: PageRef) -> Result<u32> {
        let pack = self.get(at.source, at.pack).await?;
        Ok(pack.slots(at.frame)?.count() as u32)
    }

    /// The pack that a page reference means. Sources are by the numbers of the manifest's list.
    pub(crate) async fn get(&self, source: u32, number: u32) -> Result<Arc<PackReader>> {
        let mut open = self.open.lock().await;
        if let Some(pack) = open.get((source, number)) {
            return Ok(pack);
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
        open.put((source, number), pack.clone());
        Ok(pack)
    }
}

/// One worker's view: the packs it reads side by side.
pub(crate) struct Pages {
    packs: Arc<Packs>,
    opener: Opener,
    applier: Applier,
    windows: Vec<Window>,
    /// Counts openings; windows remember their last.
    clock: u64,
    piece: Vec<u8>,
    /// Sealed bytes of frames that windows fetched which are gone.
    fetched: u64,
    /// How many windows of a kind it may have, if that is fewer than else.
    most: usize,
}

impl Pages {
    pub(crate) fn new(packs: Arc<Packs>) -> Result<Pages> {
        Ok(Pages {
            packs,
            opener: Opener::new()?,
            applier: Applier::new()?,
            windows: Vec::new(),
            clock: 0,
            piece: Vec::new(),
            fetched: 0,
            most: usize::MAX,
        })
    }

    /// For a backup's reader, who looks at one file's bases in order and has a job's memory to share with its packs.
    pub(crate) fn of_bases(packs: Arc<Packs>) -> Result<Pages> {
        Ok(Pages {
            most: 16,
            ..Pages::new(packs)?
        })
    }

    /// Hands the extent's bytes to `take`, in order, a piece per frame or less.
    pub(crate) async fn read(&mut self, extent: &Extent, take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match extent.base {
            None => self.whole(extent.pages_at, extent.pages, take).await,
            Some(base) => self.differences(extent.pages_at, base, extent.pages, take).await,
        }
    }

    /// The whole page at `at`: what a difference is made against. Cheap for pages of a frame after one another, and for
    /// frames in ascending order.
    pub(crate) async fn base(&mut self, at: PageRef) -> Result<&[u8]> {
        let number = self.open(Holds::Pages, at).await?;
        let window = &mut self.windows[number];
        window.check(at, 1)?;
        Ok(window.pages(at, 1)?)
    }

    /// Makes the page of the difference at `at` of `base`, which hashes to what the page does that it was made against.
    pub(crate) async fn of_base(&mut self, at: PageRef, base: &[u8]) -> Result<&[u8]> {
        let window = self.open(Holds::Differences, at).await?;
        self.piece.resize(base.len(), 0);
        self.windows[window].apply(&mut self.applier, at, base, &mut self.piece)?;
        Ok(&self.piece)
    }

    async fn whole(&mut self, mut at: PageRef, mut left: u32, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while left > 0 {
            let number = self.open(Holds::Pages, at).await?;
            let window = &mut self.windows[number];
            let count = window.slots_from(at)?.min(left);
            window.check(at, count)?;
            take(window.pages(at, count)?)?;
            left -= count;
            at = window.behind(at, count)?;
        }
        Ok(())
    }

    async fn differences(
        &mut self,
        mut at: PageRef,
        mut base: PageRef,
        mut left: u32,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let page_size = self.packs.page_size;
        while left > 0 {
            let differences = self.open(Holds::Differences, at).await?;
            // Whatever this one takes the place of, it is not the window used last.
            let bases = self.open(Holds::Pages, base).await?;
            let both = self.windows[differences].slots_from(at)?;
            let both = both.min(self.windows[bases].slots_from(base)?);
            let count = both.min(left).min(PIECE);
            let (differences, bases) = (&self.windows[differences], &self.windows[bases]);
            self.piece.resize(count as usize * page_size, 0);
            for (number, page) in (0..count).zip(self.piece.chunks_exact_mut(page_size)) {
                let of = |at: PageRef| PageRef {
                    slot: at.slot + number,
                    ..at
                };
                let place = of(base);
                let applied = differences.apply(&mut self.applier, of(at), bases.pages(place, 1)?, page);
                // The hash of what came out answers for the base as well. If it does not fit, the base may be at fault.
                if applied.is_err() {
                    bases.verify(place)?;
                }
                applied?;
            }
            take(&self.piece)?;
            left -= count;
            (at, base) = (differences.behind(at, count)?, bases.behind(base, count)?);
        }
        Ok(())
    }

    /// The number of the window that has the frame of `at` open.
    async fn open(&mut self, holds: Holds, at: PageRef) -> Result<usize> {
        let number = self.window(holds, at).await?;
        let window = &mut self.windows[number];
        window.open(&self.packs.repository, &mut self.opener, at.frame).await?;
        Ok(number)
    }

    /// The number of the window on the pack of `at`.
    async fn window(&mut self, holds: Holds, at: PageRef) -> Result<usize> {
        let known = self.windows.iter().position(|window| window.is(holds, at));
        let number = match known {
            Some(number) => number,
            None => {
                let pack = self.packs.get(at.source, at.pack).await?;
                let window = Window::new(holds, at, pack, self.packs.page_size);
                let alike = self
                    .windows
                    .iter()
                    .enumerate()
                    .filter(|(_, window)| window.holds == holds);
                let many = alike.clone().count() >= holds.most().min(self.most);
                let longest_ago = alike.min_by_key(|(_, window)| window.used);
                match longest_ago.map(|(number, _)| number) {
                    Some(number) if many => {
                        let gone = std::mem::replace(&mut self.windows[number], window);
                        self.fetched += gone.fetched;
                        number
                    }
                    _ => {
                        self.windows.push(window);
                        self.windows.len() - 1
                    }
                }
            }
        };
        let beside = self.windows.iter().filter(|window| window.holds == holds).count();
        self.clock += 1;
        let window = &mut self.windows[number];
        (window.used, window.beside) = (self.clock, beside);
        Ok(number)
    }
}

/// The slot `pages` behind `at`, in a frame of `slots` slots.
fn behind(at: PageRef, pages: u32, slots: u32) -> PageRef {
    match at.slot + pages < slots {
        true => PageRef {
            slot: at.slot + pages,
            ..at
        },
        false => PageRef {
            frame: at.frame.saturating_add(1),
            slot: 0,
            ..at
        },
    }
}

fn no_slot(pack: &PackReader, at: PageRef) -> repo::Error {
    repo::Error::Damaged {
        name: pack.name().into(),
        what: format!("frame {} has no slot {}, which a map refers to", at.frame, at.slot),
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
