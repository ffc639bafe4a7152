//! Looks at pages that cannot have changed all the same, and judges those that did.

use pgformat::{
    Lsn,
    page::{PageCheck, PageHeader, hints::differ_in_hints_only, verify},
};

use crate::{Error, Result};

use super::{
    against::Lazy,
    increment::{Known, KnownPage},
    read::{READ_AGAIN, Reader},
    walk::unreadable,
};

/// The error of a page that changed although nothing said so.
pub(super) const UNSOUND: &str = "map-unsound";
/// Pages that cannot have changed are compared all the same by stretches of so many: reading few at a time would cost more
/// than it tells.
pub(super) const STRETCH: u32 = 64;

impl Reader {
    /// Judges a page that should not have changed, and hashes to something else. What replay writes again is of no account:
    /// a change after the backup began; nor are hints, nor a page that was being written while it was read. Returns whether the
    /// page is damaged, so that the parent has the better one.
    pub(super) async fn audit(
        &self,
        known: &mut Known,
        theirs: Option<&KnownPage>,
        is_same: bool,
        file: &mut Lazy<'_>,
        at: u64,
        found: &[u8],
    ) -> Result<bool> {
        let Some(theirs) = theirs.filter(|_| !is_same) else {
            return Ok(false);
        };
        if self.is_damaged(file.path, at, found) {
            // The disk's doing, and told of already.
            return Ok(true);
        }
        let mut now = found.to_vec();
        let parents = known.bytes(theirs).await?;
        // A standby may lag behind the server that the parent was read from.
        if PageHeader::parse(&parents).is_some_and(|header| header.lsn >= self.rules.begun) {
            return Ok(false);
        }
        for _ in 0..READ_AGAIN {
            let is_later = PageHeader::parse(&now).is_some_and(|header| header.lsn >= self.rules.begun);
            if is_later || differ_in_hints_only(&parents, &now) {
                return Ok(false);
            }
            let path = file.path;
            let open = self.opened(file)?;
            let got = open.read_at(&mut now, at).map_err(|error| unreadable(path, error))?;
            if got < now.len() {
                // Cut off meanwhile, and so by replay.
                return Ok(false);
            }
        }
        let block = at / self.rules.page_size as u64;
        let lsn = PageHeader::parse(&now).map_or(Lsn(0), |header| header.lsn);
        Err(Error::Failed {
            code: UNSOUND,
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
