//! One pack being read from its front to its end: the frame that is open, and the sealed ones fetched ahead.

use std::sync::Arc;

use bytes::Bytes;
use repo::{
    Repository, Result,
    envelope::Opener,
    leaf::PageRef,
    pack::{Applier, PackReader},
};

/// What the frames are that are looked at. A pack may have both; each is then gone through on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Pages,
    Differences,
}

impl Holds {
    /// How many of these one worker reads side by side. The pages of a file that changed now and then lie in the packs of as
    /// many backups, and each is gone through once, if there is a window for each. A window of pages has a frame of 256 KiB
    /// open.
    pub(super) fn most(self) -> usize {
        match self {
            Holds::Pages => 40,
            Holds::Differences => 64,
        }
    }

    /// Sealed bytes that one read may fetch ahead while frames are wanted in a row, where so many windows share the room. All
    /// together, with the frames that are open, stay within a job's 32 MiB: frames of differences hold some 40 KiB.
    fn ahead(self, windows: usize) -> usize {
        match self {
            Holds::Pages => ((4 << 20) / windows.max(1)).min(2 << 20),
            Holds::Differences => 128 << 10,
        }
    }
}

pub(super) struct Window {
    pub(super) holds: Holds,
    source: u32,
    number: u32,
    pack: Arc<PackReader>,
    page_size: usize,
    /// When it was looked at last, by its owner's count.
    pub(super) used: u64,
    /// How many windows of its kind its owner has, itself included.
    pub(super) beside: usize,
    frame: Option<u32>,
    raw: Vec<u8>,
    /// Which slots of the open frame were compared with their hashes.
    checked: Vec<bool>,
    ahead: Ahead,
    /// Sealed bytes of frames that were fetched.
    pub(super) fetched: u64,
}

/// Sealed frames `from` and on, back to back.
#[derive(Default)]
struct Ahead {
    from: u32,
    until: u32,
    sealed: Bytes,
    window: usize,
}

impl Window {
    /// On the pack of `at`.
    pub(super) fn new(holds: Holds, at: PageRef, pack: Arc<PackReader>, page_size: usize) -> Window {
        Window {
            holds,
            source: at.source,
            number: at.pack,
            pack,
            page_size,
            used: 0,
            beside: 1,
            frame: None,
            raw: Vec::new(),
            checked: Vec::new(),
            ahead: Ahead::default(),
            fetched: 0,
        }
    }

    /// Whether it is the one for `at`.
    pub(super) fn is(&self, holds: Holds, at: PageRef) -> bool {
        self.holds == holds && (self.source, self.number) == (at.source, at.pack)
    }

    /// Makes `frame` the open one.
    pub(super) async fn open(&mut self, repository: &Repository, opener: &mut Opener, frame: u32) -> Result<()> {
        if self.frame == Some(frame) {
            return Ok(());
        }
        self.frame = None;
        if !(self.ahead.from..self.ahead.until).contains(&frame) {
            self.fetch(repository, frame).await?;
        }
        let skipped: usize = (self.ahead.from..frame)
            .map(|frame| self.pack.sealed_length(frame))
            .sum::<Result<usize>>()?;
        let sealed = &self.ahead.sealed[skipped..skipped + self.pack.sealed_length(frame)?];
        match self.holds {
            Holds::Pages => self.pack.open(opener, frame, sealed, &mut self.raw)?,
            Holds::Differences => self.pack.open_differences(opener, frame, sealed, &mut self.raw)?,
        }
        self.checked.clear();
        self.checked.resize(self.pack.slots(frame)?.count(), false);
        self.frame = Some(frame);
        Ok(())
    }

    /// Compares `count` pages of the open frame with their hashes, those that were not yet. Where one page of a frame is all
    /// that is wanted, hashing the others would cost as much as opening it.
    pub(super) fn check(&mut self, at: PageRef, count: u32) -> Result<()> {
        for slot in at.slot..at.slot.saturating_add(count) {
            let checked = self.checked.get_mut(slot as usize);
            let checked = checked.ok_or_else(|| super::no_slot(&self.pack, at))?;
            if !*checked {
                self.pack.check(at.frame, slot, &self.raw)?;
                *checked = true;
            }
        }
        Ok(())
    }

    /// Compares one page of the open frame with its hash.
    pub(super) fn verify(&self, at: PageRef) -> Result<()> {
        self.pack.check(at.frame, at.slot, &self.raw)
    }

    /// Fetches `frame`, and more after it the longer frames have been wanted in a row.
    async fn fetch(&mut self, repository: &Repository, frame: u32) -> Result<()> {
        let in_a_row = frame == self.ahead.until;
        let window = if in_a_row {
            (self.ahead.window * 2).clamp(1, self.holds.ahead(self.beside))
        } else {
            1
        };
        let mut until = frame + 1;
        let mut bytes = self.pack.sealed_length(frame)?;
        while until < self.pack.frames() && bytes < window {
            bytes += self.pack.sealed_length(until)?;
            until += 1;
        }
        self.take(repository, frame, until, bytes).await
    }

    /// Fetches `frame`, if it is not here, and those behind it up to but not including `until`, as far as one read goes: these
    /// and no others, since nobody wants those between.
    pub(super) async fn fetch_wanted(&mut self, repository: &Repository, frame: u32, until: u32) -> Result<()> {
        if self.frame == Some(frame) || (self.ahead.from..self.ahead.until).contains(&frame) {
            return Ok(());
        }
        let mut bytes = self.pack.sealed_length(frame)?;
        let mut end = frame + 1;
        while end < until && bytes < self.holds.ahead(self.beside) {
            bytes += self.pack.sealed_length(end)?;
            end += 1;
        }
        // Whoever goes on reading in a row gets no more than the frame that is asked for.
        self.take(repository, frame, end, 0).await
    }

    async fn take(&mut self, repository: &Repository, from: u32, until: u32, window: usize) -> Result<()> {
        let sealed = self.pack.fetch(repository, from, until - from).await?;
        self.fetched += sealed.len() as u64;
        self.ahead = Ahead {
            from,
            until,
            sealed,
            window,
        };
        Ok(())
    }

    /// How many slots the frame of `at` has from there on, at least 1.
    pub(super) fn slots_from(&self, at: PageRef) -> Result<u32> {
        let left = (self.pack.slots(at.frame)?.count() as u32).saturating_sub(at.slot);
        match left {
            0 => Err(super::no_slot(&self.pack, at)),
            left => Ok(left),
        }
    }

    /// The slot `pages` behind `at`.
    pub(super) fn behind(&self, at: PageRef, pages: u32) -> Result<PageRef> {
        Ok(super::behind(at, pages, self.pack.slots(at.frame)?.count() as u32))
    }

    /// The bytes of `count` slots of the open frame, from `at` on. Whoever hands them out has checked them.
    pub(super) fn pages(&self, at: PageRef, count: u32) -> Result<&[u8]> {
        let slots = self.pack.slots(at.frame)?;
        let last = at.slot.saturating_add(count).saturating_sub(1);
        let first = slots.range(at.slot as usize, self.page_size);
        let last = slots.range(last as usize, self.page_size);
        let bytes = first
            .zip(last)
            .and_then(|(first, last)| self.raw.get(first.start..last.end));
        bytes.ok_or_else(|| super::no_slot(&self.pack, at))
    }

    /// Makes `page` of `base` by the difference at `at`, in the open frame, and checks it.
    pub(super) fn apply(&self, applier: &mut Applier, at: PageRef, base: &[u8], page: &mut [u8]) -> Result<()> {
        self.pack.apply(applier, at.frame, at.slot, &self.raw, base, page)
    }
}
