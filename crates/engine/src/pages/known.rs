//! What is known of pages before any of them is read: where they are, and what they hash to.
//!
//! Invariant: nothing here opens a frame. Directories of packs say it all.

use repo::{leaf::PageRef, names, pack::PackReader};

use crate::Result;

use super::{Packs, Pages, no_slot, window::Holds};

/// One page of an extent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// Its slot; or that of its difference, if the extent has a base.
    pub(crate) at: PageRef,
    /// The first 8 bytes of keyed BLAKE3 of the page as it shall be after a restore.
    pub(crate) hash: [u8; 8],
    /// Bytes in its slot: of a whole page the page size, or less for the last page of a file; of a difference its own length.
    pub(crate) length: usize,
}

impl Packs {
    /// The pack that a page reference means; the manifest, if it does not tell whose that is.
    pub(crate) fn name(&self, at: PageRef) -> String {
        let sources = &self.needed.sources;
        match sources.get(at.source) {
            Some(backup) => names::pack(&backup, at.pack),
            None => names::manifest(&sources.owner()),
        }
    }

    /// Adds the `pages` pages from `at` on to `known`, in order. What an extent has lies in one pack.
    ///
    /// # Errors
    /// [`repo::Error::Damaged`] if the pack does not have so many.
    pub(crate) async fn known(&self, at: PageRef, pages: u32, known: &mut Vec<Known>) -> Result<()> {
        let pack = self.get(at.source, at.pack).await?;
        known.reserve(pages as usize);
        let take = |at: PageRef, count: u32| {
            for slot in at.slot..at.slot + count {
                let (hash, length) = pack.page(at.frame, slot)?;
                let at = PageRef { slot, ..at };
                known.push(Known { at, hash, length });
            }
            Ok(())
        };
        along(&pack, at, pages, take).map(drop)
    }

    /// The slot `pages` behind `at`: where an extent goes on that is cut after so many pages. It may be the one behind a
    /// pack's last.
    pub(crate) async fn advance(&self, at: PageRef, pages: u32) -> Result<PageRef> {
        let pack = self.get(at.source, at.pack).await?;
        along(&pack, at, pages, |_, _| Ok(()))
    }
}

/// Goes over `left` slots from `at` on, frame by frame, and says where it ended.
fn along(
    pack: &PackReader,
    mut at: PageRef,
    mut left: u32,
    mut take: impl FnMut(PageRef, u32) -> Result<()>,
) -> Result<PageRef> {
    while left > 0 {
        let slots = pack.slots(at.frame)?.count() as u32;
        let count = slots.saturating_sub(at.slot).min(left);
        if count == 0 {
            return Err(no_slot(pack, at).into());
        }
        take(at, count)?;
        left -= count;
        at = super::behind(at, count, slots);
    }
    Ok(at)
}

impl Pages {
    /// The packs that these are pages of.
    pub(crate) fn packs(&self) -> &Packs {
        &self.packs
    }

    /// Fetches the frame of `at`, if it is not here, and those behind it up to but not including `until`, as far as one
    /// read goes. `made` says that it is one of differences.
    pub(crate) async fn fetch_wanted(&mut self, at: PageRef, made: bool, until: u32) -> Result<()> {
        let holds = if made { Holds::Differences } else { Holds::Pages };
        let number = self.window(holds, at).await?;
        let repository = self.packs.repository.clone();
        Ok(self.windows[number].fetch_wanted(&repository, at.frame, until).await?)
    }

    /// Sealed bytes of frames that were fetched since this was last asked.
    pub(crate) fn take_fetched(&mut self) -> u64 {
        let held: u64 = self
            .windows
            .iter_mut()
            .map(|window| std::mem::take(&mut window.fetched))
            .sum();
        std::mem::take(&mut self.fetched) + held
    }

    /// What a page hashes to.
    pub(crate) fn hash(&self, page: &[u8]) -> [u8; 8] {
        self.packs.repository.keyring().page_hash(page)
    }
}
