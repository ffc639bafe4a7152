//! Looks at pages that cannot have changed all the same, and judges those that did.

use pgformat::{
    Lsn,
    page::{PageCheck, PageHeader, hints::differ_in_hints_only, is_all_zero, verify},
};

use crate::{Error, Result, unsound};

use super::{
    against::Lazy,
    increment::{Known, KnownPage},
    read::{READ_AGAIN, Reader},
    walk::unreadable,
};

/// Pages that cannot have changed are compared all the same by stretches of so many: reading few at a time would cost more
/// than it tells.
pub(super) const STRETCH: u32 = 64;
/// Where `pd_flags` lies in a page's header, and `PD_ALL_VISIBLE` in it (`storage/bufpage.h`).
const FLAGS: usize = 10;
const ALL_VISIBLE: u8 = 0x04;

/// What a page is that should not have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// What the parent has, as far as replay needs it.
    Same,
    /// Damaged, so that the parent has the better one.
    Rotten,
    /// Marked as all visible, and nobody can see when: the one that was read is the one to keep.
    Marked,
}

impl Reader {
    /// Judges a page that should not have changed, and hashes to something else. What replay writes again is of no account:
    /// a change after the backup began; nor are hints, nor a page that was being written while it was read. Where hints are not
    /// logged, vacuum marks a page without a new LSN: that may have been before the backup began or after it.
    pub(super) async fn audit(
        &self,
        known: &mut Known,
        theirs: Option<&KnownPage>,
        is_same: bool,
        file: &mut Lazy<'_>,
        at: u64,
        found: &[u8],
    ) -> Result<Judged> {
        let Some(theirs) = theirs.filter(|_| !is_same) else {
            return Ok(Judged::Same);
        };
        if self.is_damaged(file.path, at, found) {
            // The disk's doing, and told of already.
            return Ok(Judged::Rotten);
        }
        let mut now = found.to_vec();
        let parents = known.bytes(theirs).await?;
        // A standby may lag behind the server that the parent was read from.
        if PageHeader::parse(&parents).is_some_and(|header| header.lsn >= self.rules.begun) {
            return Ok(Judged::Same);
        }
        for _ in 0..READ_AGAIN {
            let is_later = PageHeader::parse(&now).is_some_and(|header| header.lsn >= self.rules.begun);
            if is_later || differ_in_hints_only(&parents, &now) {
                return Ok(Judged::Same);
            }
            if is_in_the_making(&parents) && is_in_the_making(&now) {
                return Ok(Judged::Same);
            }
            if self.rules.checked_before.is_none() && is_newly_marked(&parents, &now) {
                return Ok(Judged::Marked);
            }
            let path = file.path;
            let open = self.opened(file)?;
            let got = open.read_at(&mut now, at).map_err(|error| unreadable(path, error))?;
            if got < now.len() {
                // Cut off meanwhile, and so by replay.
                return Ok(Judged::Same);
            }
        }
        let block = at / self.rules.page_size as u64;
        let lsn = PageHeader::parse(&now).map_or(Lsn(0), |header| header.lsn);
        Err(Error::Failed {
            code: unsound::CODE,
            what: format!(
                "block {block} of {} (LSN {lsn}) changed since the backup before, and no WAL from there to {} says so (audit seed {})",
                String::from_utf8_lossy(file.path),
                self.rules.begun,
                known.shared.seed
            ),
            hint: "Somebody wrote files of the cluster behind the server's back, its disk changes them, or this program is at fault: check the disk, and report it.".into(),
        })
    }

    /// Whether a page does not fit its checksum, and replay will not write it again.
    fn is_damaged(&self, path: &[u8], at: u64, bytes: &[u8]) -> bool {
        let block = pgformat::relation::classify(path)
            .and_then(|relation| relation.block_at(at, self.rules.page_size as u32, self.rules.blocks_per_segment));
        let judged = self.rules.checked_before.zip(block);
        judged.is_some_and(|(before, block)| matches!(verify(bytes, block, before), PageCheck::Bad { .. }))
    }
}

/// Whether no WAL has been about a page so far. GIN, GiST and SP-GiST indexes are built so, and all of their pages logged at the
/// end (`log_newpage_range`, called by `ginbuild`, `gistbuild`, `spgbuild`): that replaces what was read of them before. Until
/// then pages have no LSN, or `GistBuildLSN` (`access/gist.h`).
fn is_in_the_making(page: &[u8]) -> bool {
    is_all_zero(page) || PageHeader::parse(page).is_some_and(|header| header.lsn.0 <= 1)
}

/// Whether nothing but hints changed, and that all of the page is visible now.
fn is_newly_marked(before: &[u8], now: &[u8]) -> bool {
    let flag = |page: &[u8]| page.get(FLAGS).is_some_and(|flags| flags & ALL_VISIBLE != 0);
    // Where a hint is logged so is that mark.
    let lsn = |page: &[u8]| PageHeader::parse(page).map(|header| header.lsn);
    if flag(before) || !flag(now) || lsn(before) != lsn(now) {
        return false;
    }
    let mut unmarked = now.to_vec();
    if let Some(flags) = unmarked.get_mut(FLAGS) {
        *flags &= !ALL_VISIBLE;
    }
    differ_in_hints_only(before, &unmarked)
}

/// Whether that stretch of a file is compared. A function of the seed, so that it can be told again.
pub(super) fn is_audited(percent: u8, seed: u64, path: &[u8], stretch: u32) -> bool {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&stretch.to_le_bytes());
    hasher.update(path);
    let hash = hasher.finalize();
    let drawn = hash
        .as_bytes()
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    drawn % 100 < u64::from(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of a heap, not marked as all visible.
    fn page() -> Vec<u8> {
        let mut page = include_bytes!("../../../pgformat/tests/fixtures/pg_class.15.page").to_vec();
        page[FLAGS] &= !ALL_VISIBLE;
        page
    }

    fn marked(mut page: Vec<u8>) -> Vec<u8> {
        page[FLAGS] |= ALL_VISIBLE;
        page
    }

    #[test]
    fn a_page_is_newly_marked_that_has_the_mark_the_old_lsn_and_nothing_else_new() {
        assert!(is_newly_marked(&page(), &marked(page())));
        assert!(!is_newly_marked(&page(), &page()));
        assert!(!is_newly_marked(&marked(page()), &marked(page())));
        let mut later = marked(page());
        later[4] ^= 1;
        assert!(!is_newly_marked(&page(), &later), "the mark came with a record");
        let mut changed = marked(page());
        let tuple = u16::from_le_bytes([changed[24], changed[25]]) & 0x7FFF;
        changed[usize::from(tuple) + 24] ^= 1;
        assert!(!is_newly_marked(&page(), &changed), "a row changed too");
    }
}
