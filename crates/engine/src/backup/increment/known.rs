//! What the parent has of each page: where it lies and what it hashes to.

use std::{collections::BTreeSet, sync::Arc};

use repo::{
    Repository,
    leaf::{self, Extent, PageRef},
    manifest::Manifest,
    map::MapReader,
    sources::Sources,
    table::LeafSlot,
};

use crate::{
    Result,
    pages::{Packs, Pages},
};

use super::{Changes, ParentFile};

/// What all readers of a backup know of its parent.
pub(in crate::backup) struct Shared {
    pub(in crate::backup) manifest: Arc<Manifest>,
    pub(in crate::backup) packs: Arc<Packs>,
    /// `None`: every page is read and compared.
    pub(in crate::backup) changes: Option<Changes>,
    /// Chooses the pages that are compared although they cannot have changed.
    pub(in crate::backup) seed: u64,
    /// How many of a hundred.
    pub(in crate::backup) audit: u8,
    /// Whether pages that changed are stored as what turns the parent's into them.
    pub(in crate::backup) differences: bool,
    /// Packs of which so little is used that the rest of their pages is written anew: source and number.
    pub(in crate::backup) moving: BTreeSet<(u32, u32)>,
}

/// One page as the parent has it.
#[derive(Debug, Clone, Copy)]
pub(in crate::backup) struct KnownPage {
    pub(in crate::backup) hash: [u8; 8],
    /// Its length: the page size, or less for the last page of a file.
    pub(in crate::backup) length: usize,
    pub(in crate::backup) at: PageRef,
    pub(in crate::backup) base: Option<PageRef>,
    /// Which extent of its leaf it is in.
    extent: usize,
}

impl KnownPage {
    /// The whole page that it is, or that it is made of.
    pub(in crate::backup) fn whole(&self) -> PageRef {
        self.base.unwrap_or(self.at)
    }
}

/// One reader's view of the parent.
pub(in crate::backup) struct Known {
    pub(in crate::backup) shared: Arc<Shared>,
    maps: MapReader,
    /// The parent's numbering.
    sources: Sources,
    pages: Pages,
    page_size: u32,
}

impl Known {
    pub(in crate::backup) fn new(repository: &Repository, shared: Arc<Shared>) -> Result<Known> {
        let needed = Arc::new(shared.manifest.needed.clone());
        Ok(Known {
            maps: MapReader::new(repository, needed)?,
            sources: shared.manifest.needed.sources.clone(),
            pages: Pages::of_bases(shared.packs.clone())?,
            page_size: shared.manifest.facts.postgresql.block_size,
            shared,
        })
    }

    /// The extents of leaf `number` of `file`, in order; none if it has no such leaf.
    pub(in crate::backup) async fn extents(&mut self, file: &ParentFile, number: u64) -> Result<Vec<Extent>> {
        let slot = usize::try_from(number).ok().and_then(|number| file.leaves.get(number));
        let leaf = match slot {
            None => return Ok(Vec::new()),
            Some(LeafSlot::Inline(leaf)) => leaf.clone(),
            Some(LeafSlot::Ref(at)) => {
                let pages = leaf::pages_of_leaf(file.size, self.page_size, number);
                self.maps.leaf(at, pages, &mut self.sources).await?
            }
        };
        Ok(leaf.0)
    }

    /// Whether any page of these is to be written anew.
    pub(in crate::backup) fn is_moving(&self, extent: &Extent) -> bool {
        let moving = &self.shared.moving;
        let is = |at: PageRef| moving.contains(&(at.source, at.pack));
        !moving.is_empty() && (is(extent.pages_at) || extent.base.is_some_and(is))
    }

    /// Every page of these extents, in order.
    pub(in crate::backup) async fn pages(&mut self, extents: &[Extent]) -> Result<Vec<KnownPage>> {
        let mut found = Vec::with_capacity(leaf::LEAF_PAGES as usize);
        let (mut pages, mut bases) = (Vec::new(), Vec::new());
        for (number, extent) in extents.iter().enumerate() {
            pages.clear();
            bases.clear();
            self.shared
                .packs
                .known(extent.pages_at, extent.pages, &mut pages)
                .await?;
            if let Some(base) = extent.base {
                self.shared.packs.known(base, extent.pages, &mut bases).await?;
            }
            let mut bases = bases.iter();
            found.extend(pages.iter().map(|page| {
                let base = bases.next();
                KnownPage {
                    hash: page.hash,
                    // A difference makes a page of the length that its base has.
                    length: base.unwrap_or(page).length,
                    at: page.at,
                    base: base.map(|base| base.at),
                    extent: number,
                }
            }));
        }
        Ok(found)
    }

    /// The bytes of the whole page that a page is, or is made of: what its next version is compared with.
    pub(in crate::backup) async fn base(&mut self, page: &KnownPage) -> Result<&[u8]> {
        self.pages.base(page.whole()).await
    }

    /// The bytes of one page.
    pub(in crate::backup) async fn bytes(&mut self, page: &KnownPage) -> Result<Vec<u8>> {
        let extent = Extent {
            pages: 1,
            pages_at: page.at,
            base: page.base,
        };
        let mut bytes = Vec::with_capacity(page.length);
        let take = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        self.pages.read(&extent, take).await?;
        Ok(bytes)
    }
}

/// The extents that `pages`, consecutive ones of a leaf, are in: as few as they were.
pub(in crate::backup) fn joined(pages: &[KnownPage]) -> impl Iterator<Item = Extent> {
    pages.chunk_by(|a, b| a.extent == b.extent).filter_map(|together| {
        let first = together.first()?;
        Some(Extent {
            pages: together.len() as u32,
            pages_at: first.at,
            base: first.base,
        })
    })
}
