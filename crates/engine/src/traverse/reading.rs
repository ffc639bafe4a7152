//! Reads the pages of a file out of packs, in order.

use repo::{
    leaf::{self, Extent, PageRef},
    map::MapReader,
    sources::Sources,
    table::LeafSlot,
};

use crate::{Result, pages::Pages};

use super::{FileEntry, Handled, compare};

/// What a handler reads pages with.
pub(crate) struct Reading {
    pub(super) pages: Pages,
    maps: MapReader,
    /// The manifest's numbering, which all page references are by.
    sources: Sources,
    /// Bytes of a page.
    pub(crate) page_size: u32,
    pub(super) room: compare::Room,
    /// Pieces too small to be handed out one by one.
    gathered: Vec<u8>,
}

/// Bytes that are handed out at once, but for the last of a file.
const GATHERED: usize = 256 << 10;

impl Reading {
    /// What reads `pages` of the files whose leaves `maps` has, both by the numbers of `sources`.
    pub(super) fn new(pages: Pages, maps: MapReader, sources: Sources, page_size: u32) -> Reading {
        Reading {
            pages,
            maps,
            sources,
            page_size,
            room: compare::Room::default(),
            gathered: Vec::new(),
        }
    }

    /// Hands all bytes of `entry`, in order, to `take` with their offset in the file: pieces of some hundred KiB, for whoever writes
    /// a page at a time waits for others who write into the same file. Every page was checked by its hash.
    pub(crate) async fn read(
        &mut self,
        entry: &FileEntry,
        mut take: impl FnMut(u64, &[u8]) -> Result<()> + Send,
    ) -> Result<Handled> {
        let start = entry.first_leaf * u64::from(leaf::LEAF_PAGES) * u64::from(self.page_size);
        let mut handled = Handled::default();
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.clear();
        let mut hand = |handled: &mut Handled, bytes: &[u8]| {
            take(start + handled.bytes, bytes)?;
            handled.bytes += bytes.len() as u64;
            handled.crc = crc32c::crc32c_append(handled.crc, bytes);
            Ok(())
        };
        for (number, slot) in entry.leaves.iter().enumerate() {
            let mut page = (entry.first_leaf + number as u64) * u64::from(leaf::LEAF_PAGES);
            for extent in self.extents(entry, number as u64, slot).await? {
                let mut got = 0;
                let gather = |bytes: &[u8]| {
                    got += bytes.len() as u64;
                    if gathered.is_empty() && bytes.len() >= GATHERED {
                        return hand(&mut handled, bytes);
                    }
                    gathered.extend_from_slice(bytes);
                    if gathered.len() >= GATHERED {
                        hand(&mut handled, &gathered)?;
                        gathered.clear();
                    }
                    Ok(())
                };
                self.pages.read(&extent, gather).await?;
                let page_size = u64::from(self.page_size);
                let behind = page + u64::from(extent.pages);
                if page * page_size + got != entry.size.min(behind * page_size) {
                    return Err(self.misfit(entry, page, extent.pages_at));
                }
                page = behind;
            }
        }
        if !gathered.is_empty() {
            hand(&mut handled, &gathered)?;
        }
        self.gathered = gathered;
        handled.fetched_bytes = self.pages.take_fetched();
        Ok(handled)
    }

    /// The pack of `at` has from there on more or fewer bytes than the file has from `page` on.
    pub(super) fn misfit(&self, entry: &FileEntry, page: u64, at: PageRef) -> crate::Error {
        let what = format!(
            "its pages from slot {} of frame {} on are not as long as those of {} from page {page} on",
            at.slot,
            at.frame,
            String::from_utf8_lossy(&entry.path)
        );
        let name = self.pages.packs().name(at);
        repo::Error::Damaged { name, what }.into()
    }

    pub(super) async fn extents(&mut self, entry: &FileEntry, number: u64, slot: &LeafSlot) -> Result<Vec<Extent>> {
        let leaf = match slot {
            LeafSlot::Inline(leaf) => leaf.clone(),
            LeafSlot::Ref(at) => {
                let pages = leaf::pages_of_leaf(entry.size, self.page_size, entry.first_leaf + number);
                self.maps.leaf(at, pages, &mut self.sources).await?
            }
        };
        Ok(leaf.0)
    }
}
