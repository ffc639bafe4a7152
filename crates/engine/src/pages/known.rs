//! What is known of pages before any of them is read: where they are, and what they hash to.
//!
//! Invariant: nothing here opens a frame. Directories of packs say it all.

use repo::leaf::{Extent, PageRef};

use crate::Result;

use super::{Pages, window::Holds};

/// One page of an extent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// Its slot; or that of its difference, if the extent has a base.
    pub(crate) at: PageRef,
    /// The first 8 bytes of keyed BLAKE3 of the page as it shall be after a restore.
    pub(crate) hash: [u8; 8],
}

impl Pages {
    /// Adds every page of `extent` to `known`, in order.
    ///
    /// # Errors
    /// [`repo::Error::Damaged`] if the extent leads to slots that its pack does not have.
    pub(crate) async fn known(&mut self, extent: &Extent, known: &mut Vec<Known>) -> Result<()> {
        let PageRef {
            source,
            pack,
            mut frame,
            slot,
        } = extent.pages_at;
        let reader = self.packs.get(source, pack).await?;
        let (mut slot, mut left) = (slot as usize, extent.pages as usize);
        while left > 0 {
            let hashes = reader.hashes(frame)?;
            let count = hashes.len().saturating_sub(slot).min(left);
            if count == 0 {
                let what = format!("frame {frame} has no slot {slot}, which a map refers to");
                return Err(repo::Error::Damaged {
                    name: reader.name().into(),
                    what,
                }
                .into());
            }
            known.extend((slot..slot + count).map(|slot| Known {
                at: PageRef {
                    source,
                    pack,
                    frame,
                    slot: slot as u32,
                },
                hash: hashes[slot],
            }));
            left -= count;
            (frame, slot) = (frame + 1, 0);
        }
        Ok(())
    }

    /// The place that lies `pages` slots after `at`, in its frame or one that follows.
    pub(crate) async fn after(&mut self, mut at: PageRef, mut pages: u32) -> Result<PageRef> {
        let reader = self.packs.get(at.source, at.pack).await?;
        while pages > 0 {
            let left = (reader.hashes(at.frame)?.len() as u32).saturating_sub(at.slot);
            if pages < left {
                at.slot += pages;
                break;
            }
            pages -= left;
            (at.frame, at.slot) = (at.frame + 1, 0);
        }
        Ok(at)
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
