//! Stores pages that changed: what turns the parent's into them where that is worth it, else as they are.

use std::collections::BTreeMap;

use crate::{Result, backup::Difference};

use super::{
    super::{
        increment::{Known, KnownPage, Shared},
        read::{Reader, Run, Stored},
    },
    Act, Piece, Seen,
};

impl Reader {
    /// Stores pages that changed.
    pub(super) async fn changed(&mut self, known: &mut Known, changed: &Seen<'_>, stored: &mut Stored) -> Result<()> {
        let page = self.rules.page_size;
        let mut whole = 0..0;
        for (number, bytes) in changed.bytes.chunks(page).enumerate() {
            let at = number * page;
            let differs = changed.differs.get(number).is_some_and(|differs| *differs);
            let base = changed.theirs.get(number).filter(|_| differs);
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

/// Of which `pages` of the parent's a difference is stored, if they changed.
///
/// For one page of a frame all of it is fetched and opened. Where nothing else of it changed, that costs more than the page
/// takes room; and pages that are stored whole for it lie together: of those that change again the next difference is cheap.
pub(super) fn differs(shared: &Shared, acts: &[Act], pages: &[KnownPage]) -> Vec<bool> {
    let page_size = shared.manifest.facts.postgresql.block_size as usize;
    let frame = |page: &KnownPage| {
        let base = page.whole();
        (base.source, base.pack, base.frame)
    };
    let can = |(act, page): (&Act, &KnownPage)| {
        // What is moved so that its pack falls out of use can be a difference again, but not from a page in such a pack.
        let base = page.whole();
        let goes = shared.moving.contains(&(base.source, base.pack));
        !goes && (*act != Act::Move || page.base.is_some()) && page.length == page_size
    };
    // All that may be compared are read anyway, and which of them changed is not known yet.
    let is_told = |act: &Act| matches!(act, Act::Take | Act::Move);
    let mut changed: BTreeMap<_, u32> = BTreeMap::new();
    for (_, page) in acts.iter().zip(pages).filter(|(act, _)| is_told(act)) {
        *changed.entry(frame(page)).or_default() += 1;
    }
    let is_opened = |(act, page): (&Act, &KnownPage)| match shared.difference {
        Difference::Never => false,
        Difference::Always => true,
        Difference::Auto => !is_told(act) || changed.get(&frame(page)).is_some_and(|pages| *pages > 1),
    };
    let is_worth_it = |at: (&Act, &KnownPage)| can(at) && is_opened(at);
    acts.iter().zip(pages).map(is_worth_it).collect()
}
