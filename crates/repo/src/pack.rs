//! Packs: the pages themselves (`FORMAT.md` section 10).
//!
//! Invariant: a page is handed out only after it hashed to what was remembered when it was read from the
//! source, before anything of ours touched it.

#[cfg(not(feature = "fuzzing"))]
mod difference;
#[cfg(feature = "fuzzing")]
pub(crate) mod difference;

pub use difference::{Applier, Differ};

use zeroize::Zeroizing;

use crate::{
    Error, Result,
    bytes_codec::{Malformed, Reader, put_varint},
    envelope::{Codec, Draft, FEATURE_DIFFERENCES, FEATURE_FOLDED, Finished, Kind, Opener, Pin, SET_ASIDE, Sealed},
    keys::page_hash,
    repository::Repository,
    series::FRAME_RECORD,
    session::Session,
};

/// A pack is closed when it has grown to this. Each job fills one, and what else it needs comes to a few MiB: so a job
/// stays below 32 MiB.
pub const PACK_TARGET: usize = 24 << 20;
/// A pack of differences is closed when it has grown to this. A job fills one beside its pack of whole pages and stays below
/// 32 MiB with both; and these are differences of some hundred MiB of pages.
pub const DIFFERENCES_TARGET: usize = 4 << 20;
/// A pack is also closed when its directory has grown to this. Pages that compress to almost nothing would otherwise make
/// packs that are mostly directory, of which a reader keeps many at hand.
pub const DIRECTORY_TARGET: usize = 512 << 10;
/// The most slots of a frame.
pub const MAX_SLOTS: usize = 512;
/// The largest raw frame a reader accepts.
pub const MAX_FRAME: u32 = 4 << 20;

/// What was done to the pages of a frame before they were compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// Nothing.
    Whole = 0,
    /// Its slots hold what turns other pages into these.
    Differences = 1,
    /// What a page lets one foresee was taken out of it. How, this crate does not know: who reads brings an [`Unfold`].
    Folded = 3,
}

impl Form {
    fn features(self) -> u32 {
        match self {
            Form::Whole => 0,
            Form::Differences => FEATURE_DIFFERENCES,
            Form::Folded => FEATURE_FOLDED,
        }
    }
}

/// Undoes in place what [`Form::Folded`] means, on a whole frame.
pub type Unfold = fn(raw: &mut [u8], slots: &Slots, page_size: usize);

/// How long the slots of a frame are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slots {
    /// All are one page of the cluster.
    Pages(usize),
    /// Each has its own length.
    Lengths(Vec<u32>),
}

impl Slots {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Slots::Pages(count) => *count,
            Slots::Lengths(lengths) => lengths.len(),
        }
    }

    /// Where slot `number` lies in the raw frame.
    pub fn range(&self, number: usize, page_size: usize) -> Option<std::ops::Range<usize>> {
        match self {
            Slots::Pages(count) => (number < *count).then(|| number * page_size..(number + 1) * page_size),
            Slots::Lengths(lengths) => {
                let length = *lengths.get(number)? as usize;
                let start = lengths[..number].iter().map(|length| *length as usize).sum();
                Some(start..start + length)
            }
        }
    }

    fn total(&self, page_size: usize) -> usize {
        match self {
            Slots::Pages(count) => count * page_size,
            Slots::Lengths(lengths) => lengths.iter().map(|length| *length as usize).sum(),
        }
    }
}

/// A pack that is being filled.
#[derive(Debug)]
pub struct PackWriter {
    draft: Draft,
    form: Form,
    extra: Vec<u8>,
}

impl PackWriter {
    /// Begins the pack `name`, of which all frames have the same form.
    pub fn new(repository: &Repository, session: &Session, name: String, form: Form) -> Result<PackWriter> {
        // Over the target: the last frame and the directory still fit without moving everything.
        let draft = repository.draft_with(session, Kind::Pack, form.features(), name, SET_ASIDE)?;
        Ok(PackWriter {
            draft,
            form,
            extra: Vec::new(),
        })
    }

    /// Adds a frame of pages: its packed bytes, how they unpack, its slots, and the hash of each page, which of a difference
    /// is that of the page it leads to.
    pub fn frame(&mut self, packed: &[u8], raw: usize, codec: Codec, slots: &Slots, hashes: &[[u8; 8]]) -> Result<u32> {
        debug_assert_eq!(slots.count(), hashes.len());
        let number = self.draft.frame(packed, raw, codec)?;
        self.extra.push(self.form as u8);
        put_varint(&mut self.extra, slots.count() as u64);
        match slots {
            Slots::Pages(_) => self.extra.push(0),
            Slots::Lengths(lengths) => {
                self.extra.push(1);
                lengths
                    .iter()
                    .for_each(|length| put_varint(&mut self.extra, u64::from(*length)));
            }
        }
        self.extra.extend_from_slice(hashes.as_flattened());
        Ok(number)
    }

    /// Frames so far: the number that the next one gets.
    pub fn frames(&self) -> u32 {
        self.draft.frames()
    }

    /// Whether it has grown to [`PACK_TARGET`] or [`DIFFERENCES_TARGET`], or its directory to [`DIRECTORY_TARGET`].
    pub fn is_full(&self) -> bool {
        let target = match self.form {
            Form::Whole | Form::Folded => PACK_TARGET,
            Form::Differences => DIFFERENCES_TARGET,
        };
        let directory = self.extra.len() + self.draft.frames() as usize * FRAME_RECORD;
        self.draft.len() + directory >= target || directory >= DIRECTORY_TARGET
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.draft.is_empty()
    }

    /// Closes it.
    pub fn finish(self) -> Result<Finished> {
        self.draft.finish(self.extra)
    }
}

/// What a pack's directory says of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackFrame {
    form: Form,
    pub(crate) slots: Slots,
    hashes: Vec<[u8; 8]>,
}

/// A pack, opened for reading.
#[derive(Debug)]
pub struct PackReader {
    sealed: Sealed,
    frames: Vec<PackFrame>,
    page_size: usize,
    page_key: Zeroizing<[u8; 32]>,
    unfold: Unfold,
}

impl PackReader {
    /// Opens a pack by its ends alone. `unfold` is used on frames of the form that needs it.
    pub async fn ranged(
        repository: &Repository,
        name: &str,
        pin: &Pin,
        directory: u32,
        page_size: usize,
        unfold: Unfold,
    ) -> Result<Self> {
        let mut sealed = repository.open_ranged(Kind::Pack, name, pin, directory).await?;
        let raw: Vec<u32> = sealed.directory.frames.iter().map(|frame| frame.raw).collect();
        // Once decoded, the encoded form is only in the way.
        let extra = std::mem::take(&mut sealed.directory.extra);
        let frames = decode_extra(&extra, &raw, page_size).map_err(|Malformed(what)| damaged(sealed.name(), what))?;
        let page_key = repository.keyring().page_key();
        Ok(PackReader {
            sealed,
            frames,
            page_size,
            page_key,
            unfold,
        })
    }

    /// The pack's name.
    pub fn name(&self) -> &str {
        self.sealed.name()
    }

    /// How many frames it has.
    pub fn frames(&self) -> u32 {
        self.frames.len() as u32
    }

    /// The slots of a frame.
    pub fn slots(&self, frame: u32) -> Result<&Slots> {
        self.known(frame).map(|frame| &frame.slots)
    }

    /// What the page in a slot hashes to, and its length in bytes.
    pub fn page(&self, frame: u32, slot: u32) -> Result<([u8; 8], usize)> {
        let known = self.frames.get(frame as usize);
        let found = known.and_then(|known| {
            let hash = known.hashes.get(slot as usize)?;
            let range = known.slots.range(slot as usize, self.page_size)?;
            Some((*hash, range.len()))
        });
        found.ok_or_else(|| damaged(self.name(), "a page that is referred to is not in it"))
    }

    /// Sealed bytes of a frame.
    pub fn sealed_length(&self, frame: u32) -> Result<usize> {
        Ok(self.sealed.frame(frame)?.sealed as usize)
    }

    /// The sealed bytes of `count` frames from `first`, back to back, in one read.
    pub async fn fetch(&self, repository: &Repository, first: u32, count: u32) -> Result<bytes::Bytes> {
        self.sealed.fetch(&**repository.store(), first, count).await
    }

    /// Opens a frame of pages into `out`. None of them is to be used before [`PackReader::check`] was asked about it.
    pub fn open(&self, opener: &mut Opener, frame: u32, sealed: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let known = self.known(frame)?;
        if known.form == Form::Differences {
            let what = format!("frame {frame} holds differences, where whole pages are referred to");
            return Err(damaged(self.name(), &what));
        }
        self.sealed.open_frame(opener, frame, sealed, out)?;
        if known.form == Form::Folded {
            (self.unfold)(out, &known.slots, self.page_size);
        }
        Ok(())
    }

    /// Whether the page in slot `slot` of the frame of pages that `opened` is hashes to what was read.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it does not.
    pub fn check(&self, frame: u32, slot: u32, opened: &[u8]) -> Result<()> {
        let known = self.known(frame)?;
        let range = known.slots.range(slot as usize, self.page_size);
        let page = range.and_then(|range| opened.get(range));
        let hash = known.hashes.get(slot as usize);
        if page.is_some() && page.map(|page| page_hash(&self.page_key, page)).as_ref() == hash {
            return Ok(());
        }
        let what = format!("page {slot} of frame {frame} does not hash to what was read");
        Err(damaged(self.name(), &what))
    }

    /// Opens a frame of differences into `out`: nothing that was read from a source yet, but what [`PackReader::apply`] takes.
    pub fn open_differences(&self, opener: &mut Opener, frame: u32, sealed: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if self.known(frame)?.form != Form::Differences {
            let what = format!("frame {frame} holds pages, where differences are referred to");
            return Err(damaged(self.name(), &what));
        }
        self.sealed.open_frame(opener, frame, sealed, out)
    }

    /// Makes `page` of `base` by slot `slot` of the frame of differences that `opened` is, and checks it. After an error
    /// nothing in `page` is of use.
    ///
    /// # Errors
    /// [`Error::Damaged`] where no page comes out, or another than was stored, as from another base.
    pub fn apply(
        &self,
        applier: &mut Applier,
        frame: u32,
        slot: u32,
        opened: &[u8],
        base: &[u8],
        page: &mut [u8],
    ) -> Result<()> {
        let known = self.known(frame)?;
        let range = known.slots.range(slot as usize, self.page_size);
        let (Some(difference), Some(hash)) = (range.and_then(|at| opened.get(at)), known.hashes.get(slot as usize))
        else {
            return Err(damaged(self.name(), "a difference that is referred to is not in it"));
        };
        let what = match applier.apply(base, difference, page) {
            Ok(()) if page_hash(&self.page_key, page) == *hash => return Ok(()),
            Ok(()) => "does not lead from its base to the page that was read",
            Err(Malformed(what)) => what,
        };
        Err(damaged(
            self.name(),
            &format!("difference {slot} of frame {frame} {what}"),
        ))
    }

    fn known(&self, frame: u32) -> Result<&PackFrame> {
        let known = self.frames.get(frame as usize);
        known.ok_or_else(|| damaged(self.name(), "a frame that is referred to is not in it"))
    }
}

/// Decodes the kind's own part of a pack's directory. `raw` are the raw lengths of its frames.
pub(crate) fn decode_extra(extra: &[u8], raw: &[u32], page_size: usize) -> Result<Vec<PackFrame>, Malformed> {
    let mut reader = Reader::new(extra);
    let mut frames = Vec::with_capacity(raw.len());
    for raw in raw {
        let form = match reader.byte()? {
            0 => Form::Whole,
            1 => Form::Differences,
            3 => Form::Folded,
            _ => return Err(Malformed("a frame has a form that this version does not know")),
        };
        let count = reader.count(8)?;
        if count == 0 || count > MAX_SLOTS || *raw > MAX_FRAME {
            return Err(Malformed("a frame has an impossible number of slots"));
        }
        let slots = match reader.byte()? {
            0 => Slots::Pages(count),
            1 => Slots::Lengths((0..count).map(|_| reader.varint32()).collect::<Result<_, _>>()?),
            _ => return Err(Malformed("a frame has slots of an unknown form")),
        };
        if slots.total(page_size) != *raw as usize {
            return Err(Malformed("the slots of a frame do not fill it"));
        }
        let hashes = (0..count).map(|_| reader.array()).collect::<Result<_, _>>()?;
        frames.push(PackFrame { form, slots, hashes });
    }
    if reader.is_empty() {
        Ok(frames)
    } else {
        Err(Malformed("its directory is too long"))
    }
}

fn damaged(name: &str, what: &str) -> Error {
    Error::Damaged {
        name: name.into(),
        what: what.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_the_directory_of_a_pack(extra: Vec<u8>, raw: Vec<u32>) {
            let _ = decode_extra(&extra, &raw, 8192);
        }
    }

    /// So that a program that does not know differences refuses it at its head.
    #[test]
    fn a_pack_of_differences_says_what_its_readers_must_know() {
        let folder = crate::test_folder::TestFolder::new();
        for (form, features) in [(Form::Whole, 0), (Form::Differences, 2), (Form::Folded, 8)] {
            let name = "packs/20231114T221320Z-000000/00000000".into();
            let writer = PackWriter::new(&folder.repository, &folder.session, name, form).unwrap();
            assert_eq!(writer.finish().unwrap().bytes[12..16], [features, 0, 0, 0]);
        }
    }

    #[test]
    fn slots_that_do_not_fill_the_frame_are_refused() {
        let mut extra = vec![0, 2, 0];
        extra.extend_from_slice(&[0; 16]);
        assert_eq!(decode_extra(&extra, &[16384], 8192).unwrap()[0].slots, Slots::Pages(2));
        assert!(decode_extra(&extra, &[16383], 8192).is_err());
        assert!(decode_extra(&extra[..18], &[16384], 8192).is_err());
    }

    /// Else 24 MiB of such frames would be 20 GB of pages, and their directory most of the pack.
    #[test]
    fn a_pack_of_pages_that_compress_to_nothing_is_closed_by_its_directory() {
        let folder = crate::test_folder::TestFolder::new();
        let name = "packs/20231114T221320Z-000000/00000000".into();
        let mut writer = PackWriter::new(&folder.repository, &folder.session, name, Form::Whole).unwrap();
        while !writer.is_full() {
            let number = writer.frame(&[0; 40], 32 * 8192, Codec::Stored, &Slots::Pages(32), &[[0; 8]; 32]);
            assert!(number.unwrap() < 2000);
        }
        let directory = writer.finish().unwrap().directory as usize;
        assert!(
            (DIRECTORY_TARGET * 9 / 10..DIRECTORY_TARGET * 11 / 10).contains(&directory),
            "{directory} bytes"
        );
    }
}
