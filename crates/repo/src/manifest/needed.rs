//! Frame 1: the objects a restore needs, this backup's and others'. Collection reads only this frame.
//!
//! Invariant: both lists ascend by source and number, so that no object has two hashes.

use crate::{
    backup_id::BackupId,
    bytes_codec::{Malformed, Reader, put_varint},
    envelope::Pin,
    sources::Sources,
};

/// The largest object that the list can name, bytes: 1 GiB.
const MAX_SIZE: u32 = 1 << 30;
/// The fewest bytes of an entry: six numbers and a hash.
const ENTRY_BYTES: usize = 38;

/// A pack or map. Small, because a backup of 32 TB names a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectRef {
    /// Whose, by number of [`Needed::sources`].
    pub source: u32,
    /// Which of its packs or maps.
    pub number: u32,
    /// Bytes.
    pub size: u32,
    /// Sealed length of its directory, bytes.
    pub directory: u32,
    /// The hash in its trailer.
    pub hash: [u8; 32],
    /// How many pages were put into it, or leaves if it is a map.
    pub holds: u32,
    /// How many of them this backup uses. Where few are, they are written anew by and by.
    pub used: u32,
}

impl ObjectRef {
    /// As who opens it needs it.
    pub fn pin(&self) -> Pin {
        Pin {
            size: u64::from(self.size),
            hash: self.hash,
        }
    }

    fn key(&self) -> (u32, u32) {
        (self.source, self.number)
    }
}

/// What a backup needs besides its manifest and file table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// The backups that the lists name.
    pub sources: Sources,
    /// Packs, ascending by source and number.
    pub packs: Vec<ObjectRef>,
    /// Maps, ascending by source and number.
    pub maps: Vec<ObjectRef>,
}

impl Needed {
    /// The pack `number` of `backup`, if it is needed.
    pub fn pack(&self, backup: &BackupId, number: u32) -> Option<&ObjectRef> {
        self.find(&self.packs, backup, number)
    }

    /// The map object `number` of `backup`, if it is needed.
    pub fn map(&self, backup: &BackupId, number: u32) -> Option<&ObjectRef> {
        self.find(&self.maps, backup, number)
    }

    fn find<'a>(&self, objects: &'a [ObjectRef], backup: &BackupId, number: u32) -> Option<&'a ObjectRef> {
        let key = (self.sources.number(backup)?, number);
        let at = objects.binary_search_by_key(&key, ObjectRef::key).ok()?;
        objects.get(at)
    }

    pub(super) fn check(&self, owner: &BackupId) -> Result<(), Malformed> {
        if self.sources.owner() != *owner {
            return Err(Malformed("its list of sources is another backup's"));
        }
        for objects in [&self.packs, &self.maps] {
            if !objects.is_sorted_by(|a, b| a.key() < b.key()) {
                return Err(Malformed("the objects it needs do not ascend"));
            }
            for object in objects {
                let impossible = object.size > MAX_SIZE || object.directory > object.size || object.used > object.holds;
                if object.source >= self.sources.count() || impossible {
                    return Err(Malformed("an object it needs is impossible"));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let entries = self.packs.len() + self.maps.len();
        let mut out = Vec::with_capacity(self.sources.encoded_length() + 20 + entries * (ENTRY_BYTES + 8));
        self.sources.encode(&mut out);
        for objects in [&self.packs, &self.maps] {
            put_varint(&mut out, objects.len() as u64);
            for object in objects {
                let object_at = [object.source, object.number, object.size, object.directory];
                for number in object_at.into_iter().chain([object.holds, object.used]) {
                    put_varint(&mut out, u64::from(number));
                }
                out.extend_from_slice(&object.hash);
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8], owner: &BackupId) -> Result<Needed, Malformed> {
        let mut reader = Reader::new(bytes);
        let needed = Needed {
            sources: Sources::decode(&mut reader, *owner)?,
            packs: decode_list(&mut reader)?,
            maps: decode_list(&mut reader)?,
        };
        if !reader.is_empty() {
            return Err(Malformed("the objects it needs go on where they should end"));
        }
        needed.check(owner)?;
        Ok(needed)
    }
}

fn decode_list(reader: &mut Reader<'_>) -> Result<Vec<ObjectRef>, Malformed> {
    let count = reader.count(ENTRY_BYTES)?;
    let mut objects = Vec::with_capacity(count);
    for _ in 0..count {
        objects.push(ObjectRef {
            source: reader.varint32()?,
            number: reader.varint32()?,
            size: reader.varint32()?,
            directory: reader.varint32()?,
            holds: reader.varint32()?,
            used: reader.varint32()?,
            hash: reader.array()?,
        });
    }
    Ok(objects)
}
