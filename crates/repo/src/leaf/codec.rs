//! Leaves as bytes.

use crate::{
    bytes_codec::{Malformed, Reader, put_varint},
    pack::MAX_SLOTS,
};

use super::{Extent, LEAF_PAGES, Leaf, LeafRef, PageRef};

/// The fewest bytes of an extent: pages, form and four numbers.
const EXTENT_BYTES: usize = 6;

impl Leaf {
    /// Checks that the leaf fits `pages` pages and names none but the first `sources` sources.
    pub fn check(&self, pages: u32, sources: u32) -> Result<(), Malformed> {
        let mut covered = 0;
        for extent in &self.0 {
            extent.check(sources)?;
            covered += u64::from(extent.pages);
        }
        let fits = covered == u64::from(pages);
        match fits && (1..=LEAF_PAGES).contains(&pages) {
            true => Ok(()),
            false => Err(Malformed("the extents of a leaf do not cover its pages")),
        }
    }

    /// Appends the leaf.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(0);
        put_varint(out, self.0.len() as u64);
        self.0.iter().for_each(|extent| extent.encode(out));
    }

    /// Reads and checks a leaf of `pages` pages whose references name the first `sources` sources.
    pub fn decode(reader: &mut Reader<'_>, pages: u32, sources: u32) -> Result<Leaf, Malformed> {
        if reader.byte()? != 0 {
            return Err(Malformed("a leaf has an unknown form"));
        }
        let count = reader.count(EXTENT_BYTES)?;
        let extents = (0..count).map(|_| Extent::decode(reader));
        let leaf = Leaf(extents.collect::<Result<_, _>>()?);
        leaf.check(pages, sources)?;
        Ok(leaf)
    }
}

impl Extent {
    fn check(&self, sources: u32) -> Result<(), Malformed> {
        for at in [Some(self.pages_at), self.base].into_iter().flatten() {
            source(at.source, sources)?;
            if at.slot as usize >= MAX_SLOTS {
                return Err(Malformed("a page is in an impossible slot"));
            }
        }
        match self.pages {
            1..=LEAF_PAGES => Ok(()),
            _ => Err(Malformed("an extent has an impossible length")),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.pages));
        out.push(u8::from(self.base.is_some()));
        self.pages_at.encode(out);
        if let Some(base) = &self.base {
            base.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Extent, Malformed> {
        let pages = reader.varint32()?;
        let form = reader.byte()?;
        let pages_at = PageRef::decode(reader)?;
        let base = match form {
            0 => None,
            1 => Some(PageRef::decode(reader)?),
            _ => return Err(Malformed("an extent has an unknown form")),
        };
        Ok(Extent { pages, pages_at, base })
    }
}

impl PageRef {
    fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.source, self.pack, self.frame, self.slot] {
            put_varint(out, u64::from(number));
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<PageRef, Malformed> {
        Ok(PageRef {
            source: reader.varint32()?,
            pack: reader.varint32()?,
            frame: reader.varint32()?,
            slot: reader.varint32()?,
        })
    }
}

impl LeafRef {
    /// Checks that the reference names one of the first `sources` sources.
    pub(crate) fn check(&self, sources: u32) -> Result<(), Malformed> {
        source(self.source, sources)
    }

    /// Appends the reference.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.source, self.map, self.frame, self.number] {
            put_varint(out, u64::from(number));
        }
    }

    /// Reads a reference.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<LeafRef, Malformed> {
        Ok(LeafRef {
            source: reader.varint32()?,
            map: reader.varint32()?,
            frame: reader.varint32()?,
            number: reader.varint32()?,
        })
    }
}

fn source(number: u32, sources: u32) -> Result<(), Malformed> {
    match number < sources {
        true => Ok(()),
        false => Err(Malformed("a reference names a source that is not listed")),
    }
}
