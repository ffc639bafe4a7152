//! Entries as bytes.

use crate::{
    bytes_codec::{Malformed, Reader, put_text, put_varint, put_zigzag},
    leaf::{LEAF_PAGES, Leaf, LeafRef, leaves_of, pages_of_leaf},
};

use super::{Entry, EntryKind, LeafSlot, path::check_place};

/// The fewest bytes of a leaf in a table: a form and four numbers.
const LEAF_BYTES: usize = 5;
/// All permission bits.
const MODE_BITS: u32 = 0o7777;
/// Flag of a file: relation pages.
const RELATION: u8 = 1;

impl Entry {
    /// Checks the entry by itself: path, mode, link, and that its leaves fit its size and name none but the
    /// first `sources` sources.
    pub(super) fn check(&self, block_size: u32, sources: u32) -> Result<(), Malformed> {
        check_place(&self.path, &self.kind)?;
        check_mode(self.mode)?;
        let EntryKind::File { size, leaves, .. } = &self.kind else {
            return Ok(());
        };
        if leaves_of(*size, block_size) != leaves.len() as u64 {
            return Err(Malformed("a file has another number of leaves than its size needs"));
        }
        for (number, leaf) in (0..).zip(leaves) {
            match leaf {
                LeafSlot::Inline(leaf) => leaf.check(pages_of_leaf(*size, block_size, number), sources)?,
                LeafSlot::Ref(at) => at.check(sources)?,
            }
        }
        Ok(())
    }

    /// Appends the entry, its path as it differs from `previous` (empty at the start of a frame).
    pub(crate) fn encode(&self, previous: &[u8], out: &mut Vec<u8>) {
        let shared = previous.iter().zip(&self.path).take_while(|(a, b)| a == b).count();
        put_varint(out, shared as u64);
        put_text(out, &self.path[shared..]);
        out.push(match self.kind {
            EntryKind::Directory => 0,
            EntryKind::File { .. } => 1,
            EntryKind::Link { .. } => 2,
        });
        put_varint(out, u64::from(self.mode));
        put_zigzag(out, self.modified_micros);
        match &self.kind {
            EntryKind::Directory => {}
            EntryKind::File { size, relation, leaves } => {
                put_varint(out, *size);
                out.push(if *relation { RELATION } else { 0 });
                leaves.iter().for_each(|leaf| leaf.encode(out));
            }
            EntryKind::Link { target } => put_text(out, target),
        }
    }

    /// Reads and checks an entry that follows `previous` (empty at the start of a frame).
    pub(super) fn decode(
        reader: &mut Reader<'_>,
        previous: &[u8],
        block_size: u32,
        sources: u32,
    ) -> Result<Entry, Malformed> {
        let shared = usize::try_from(reader.varint()?).ok();
        let shared = shared.and_then(|shared| previous.get(..shared));
        let mut path = shared.ok_or(Malformed("a path shares more than there is"))?.to_vec();
        path.extend_from_slice(reader.text()?);
        let kind = reader.byte()?;
        let mode = reader.varint32()?;
        check_mode(mode)?;
        let modified_micros = reader.zigzag()?;
        let kind = match kind {
            0 => EntryKind::Directory,
            1 => decode_file(reader, block_size, sources)?,
            2 => EntryKind::Link {
                target: reader.text()?.to_vec(),
            },
            _ => return Err(Malformed("an entry has an unknown type")),
        };
        check_place(&path, &kind)?;
        Ok(Entry {
            path,
            kind,
            mode,
            modified_micros,
        })
    }
}

fn check_mode(mode: u32) -> Result<(), Malformed> {
    match mode & !MODE_BITS {
        0 => Ok(()),
        _ => Err(Malformed("an entry has an impossible mode")),
    }
}

fn decode_file(reader: &mut Reader<'_>, block_size: u32, sources: u32) -> Result<EntryKind, Malformed> {
    let size = reader.varint()?;
    let flags = reader.byte()?;
    if flags & !RELATION != 0 {
        return Err(Malformed("a file has unknown flags"));
    }
    let count = leaves_of(size, block_size);
    let longest = (reader.rest().len() / LEAF_BYTES) as u64;
    if count > longest {
        return Err(Malformed("a file is larger than its leaves"));
    }
    let mut leaves = Vec::with_capacity(count as usize);
    for number in 0..count {
        let pages = pages_of_leaf(size, block_size, number);
        debug_assert!((1..=LEAF_PAGES).contains(&pages), "a leaf of {pages} pages");
        leaves.push(LeafSlot::decode(reader, pages, sources)?);
    }
    Ok(EntryKind::File {
        size,
        relation: flags & RELATION != 0,
        leaves,
    })
}

impl LeafSlot {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            LeafSlot::Inline(leaf) => {
                out.push(0);
                leaf.encode(out);
            }
            LeafSlot::Ref(at) => {
                out.push(1);
                at.encode(out);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>, pages: u32, sources: u32) -> Result<LeafSlot, Malformed> {
        match reader.byte()? {
            0 => Leaf::decode(reader, pages, sources).map(LeafSlot::Inline),
            1 => {
                let at = LeafRef::decode(reader)?;
                at.check(sources)?;
                Ok(LeafSlot::Ref(at))
            }
            _ => Err(Malformed("a leaf in a table has an unknown form")),
        }
    }
}
