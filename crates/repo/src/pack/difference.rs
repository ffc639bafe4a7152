//! Differences: what turns one page, the base, into another (`FORMAT.md` section 10).
//!
//! zstd with the base as what came before the page. Where a page only gained a tuple that is some sixty bytes; where vacuum
//! moved its tuples together it is hardly more, which no comparison place by place can say (`docs/benchmarks.md`).
//!
//! Invariant: what comes out of [`Applier::apply`] is not trusted. Its hash, which [`super::PackReader`] compares, is.

use zstd::zstd_safe::{CCtx, DCtx};

use crate::{Error, Result, bytes_codec::Malformed};

/// The first level that goes on looking for a longer match, which in the base there is. The levels before it settle for short
/// ones within the page and make twice as much.
const LEVEL: i32 = 5;
/// zstd takes what begins with this for a dictionary of its own kind instead of for plain bytes.
const DICTIONARY_MAGIC: [u8; 4] = [0x37, 0xA4, 0x30, 0xEC];

/// Makes differences.
pub struct Differ {
    zstd: CCtx<'static>,
    difference: Vec<u8>,
}

impl Differ {
    /// One for pages of `page_size` bytes. Fails only without memory.
    pub fn new(page_size: usize) -> Result<Differ> {
        let zstd = CCtx::try_create().ok_or_else(|| no_memory("compress"))?;
        // Past half a page the page is better stored whole: the next differences then are against it.
        let difference = vec![0; page_size / 2];
        Ok(Differ { zstd, difference })
    }

    /// What turns `base` into `page`; nothing if they are not of one length, or it would take more than half a page.
    pub fn difference(&mut self, page: &[u8], base: &[u8]) -> Option<&[u8]> {
        if page.len() != base.len() || page.len() / 2 > self.difference.len() || base.starts_with(&DICTIONARY_MAGIC) {
            return None;
        }
        let room = &mut self.difference[..page.len() / 2];
        // It fails where there is not enough room. Whatever else it fails for, the page stored whole is as good.
        let bytes = self.zstd.compress_using_dict(room, page, base, LEVEL).ok()?;
        self.difference.get(..bytes)
    }
}

/// Applies differences.
pub struct Applier(DCtx<'static>);

impl Applier {
    /// A fresh one. Fails only without memory.
    pub fn new() -> Result<Applier> {
        DCtx::try_create().map(Applier).ok_or_else(|| no_memory("decompress"))
    }

    /// Fills `page` with what `difference` makes of `base`, which may be anything if one of them is damaged.
    pub(super) fn apply(&mut self, base: &[u8], difference: &[u8], page: &mut [u8]) -> Result<(), Malformed> {
        if base.len() != page.len() {
            return Err(Malformed("has a base of another length"));
        }
        match self.0.decompress_using_dict(page, difference, base) {
            Ok(bytes) if bytes == page.len() => Ok(()),
            _ => Err(Malformed("does not make a page of its base")),
        }
    }
}

/// What fuzzing calls: whether `difference` makes a page of `base`.
#[cfg(feature = "fuzzing")]
pub(crate) fn makes_page(base: &[u8], difference: &[u8], page: &mut [u8]) -> bool {
    Applier::new().is_ok_and(|mut applier| applier.apply(base, difference, page).is_ok())
}

impl std::fmt::Debug for Differ {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Differ")
    }
}

impl std::fmt::Debug for Applier {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Applier")
    }
}

fn no_memory(operation: &'static str) -> Error {
    Error::Store {
        operation,
        name: "a page".into(),
        transient: false,
        source: "there is no memory for zstd".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: usize = 8192;

    /// Bytes that nothing foretells.
    fn noise(seed: u64) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        blake3::Hasher::new()
            .update(&seed.to_le_bytes())
            .finalize_xof()
            .fill(&mut page);
        page
    }

    fn applied(base: &[u8], difference: &[u8]) -> Option<Vec<u8>> {
        let mut page = vec![0; PAGE];
        let done = Applier::new().unwrap().apply(base, difference, &mut page);
        done.is_ok().then_some(page)
    }

    #[test]
    fn what_only_moved_within_its_page_is_a_few_bytes() {
        let base = noise(1);
        let mut page = base.clone();
        page[4000..].rotate_left(1000);
        page[100] ^= 1;
        let mut differ = Differ::new(PAGE).unwrap();
        let difference = differ.difference(&page, &base).unwrap();
        assert!(difference.len() < 64, "{}", difference.len());
        assert_eq!(applied(&base, difference), Some(page));
    }

    #[test]
    fn a_page_more_than_half_of_which_is_new_is_stored_whole() {
        let base = noise(1);
        let mut differ = Differ::new(PAGE).unwrap();
        for (new, expected) in [(3900, true), (4200, false), (PAGE, false)] {
            let mut page = base.clone();
            page[..new].copy_from_slice(&noise(2)[..new]);
            assert_eq!(differ.difference(&page, &base).is_some(), expected, "{new} new bytes");
        }
        let page = base.clone();
        assert!(differ.difference(&page[..4096], &base).is_none());
        assert!(differ.difference(&page[..4096], &base[..4096]).is_some());
    }

    #[test]
    fn a_base_that_zstd_would_take_for_its_own_is_none() {
        let mut base = noise(1);
        base[..4].copy_from_slice(&DICTIONARY_MAGIC);
        assert!(Differ::new(PAGE).unwrap().difference(&base, &base).is_none());
    }

    #[test]
    fn a_difference_that_makes_less_than_a_page_or_more_is_refused() {
        let (base, page) = (noise(1), noise(1));
        let mut differ = Differ::new(2 * PAGE).unwrap();
        let short = differ.difference(&page[..4096], &base[..4096]).unwrap();
        assert_eq!(applied(&base, short), None);
        let long = differ.difference(&[1; 2 * PAGE], &[0; 2 * PAGE]).unwrap();
        assert_eq!(applied(&base, long), None);
        assert_eq!(applied(&base[..100], &[]), None);
    }

    proptest! {
        #[test]
        fn any_change_is_undone_and_no_bytes_panic(
            changes in prop::collection::vec((0..PAGE, any::<u8>()), 0..300),
            (from, to, length) in (0..4096usize, 0..4096usize, 0..4096usize),
            bytes: Vec<u8>,
        ) {
            let base = noise(3);
            let mut page = base.clone();
            page.copy_within(from..from + length, to);
            for (at, byte) in changes {
                page[at] = byte;
            }
            let mut differ = Differ::new(PAGE).unwrap();
            if let Some(difference) = differ.difference(&page, &base) {
                prop_assert_eq!(applied(&base, difference), Some(page));
            }
            applied(&base, &bytes);
        }
    }
}
