//! Whose objects are meant: references name backups by a small number, and a list says which is which.
//!
//! Invariant: number 0 is the owner of the object that the list stands in; no backup has two numbers.

use std::collections::BTreeMap;

use crate::{
    backup_id::BackupId,
    bytes_codec::{Malformed, Reader, put_text, put_varint},
};

/// The list, and its reverse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    ids: Vec<BackupId>,
    numbers: BTreeMap<BackupId, u32>,
}

impl Sources {
    /// The list of an object of `owner` that refers to nothing of others yet.
    pub fn new(owner: BackupId) -> Sources {
        Sources {
            ids: vec![owner],
            numbers: BTreeMap::from([(owner, 0)]),
        }
    }

    /// The number of `id`, a new one if it has none.
    pub fn intern(&mut self, id: BackupId) -> u32 {
        let next = self.ids.len() as u32;
        *self.numbers.entry(id).or_insert_with(|| {
            self.ids.push(id);
            next
        })
    }

    /// The backup with this number.
    pub fn get(&self, number: u32) -> Option<BackupId> {
        self.ids.get(number as usize).copied()
    }

    /// The number of `id`, if it has one.
    pub fn number(&self, id: &BackupId) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// The backup that number 0 stands for.
    pub fn owner(&self) -> BackupId {
        // Never empty: `new` puts the owner in and nothing takes it out.
        self.ids[0]
    }

    /// How many there are, the owner among them.
    pub fn count(&self) -> u32 {
        self.ids.len() as u32
    }

    /// All, in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &BackupId> {
        self.ids.iter()
    }

    /// What [`Sources::encode`] appends, in bytes, at most.
    pub(crate) fn encoded_length(&self) -> usize {
        10 + self.ids.len() * 24
    }

    /// Appends the list.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.ids.len() as u64);
        for id in &self.ids {
            put_text(out, id.as_str().as_bytes());
        }
    }

    /// Reads a list that stands in an object of `owner`.
    pub fn decode(reader: &mut Reader<'_>, owner: BackupId) -> Result<Sources, Malformed> {
        let count = reader.count(24)?;
        let mut sources = Sources::new(owner);
        for number in 0..count {
            let id = std::str::from_utf8(reader.text()?).ok().and_then(BackupId::parse);
            let id = id.ok_or(Malformed("a source is no backup id"))?;
            if sources.intern(id) as usize != number {
                return Err(Malformed("its sources do not begin with its owner, or repeat"));
            }
        }
        match count {
            0 => Err(Malformed("it names no source")),
            _ => Ok(sources),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u8) -> BackupId {
        BackupId::new(0, [number, 0, 0, 0, 0, 0])
    }

    #[test]
    fn a_list_reads_back_and_keeps_its_numbers() {
        let mut sources = Sources::new(id(0));
        assert_eq!(
            (sources.intern(id(3)), sources.intern(id(2)), sources.intern(id(3))),
            (1, 2, 1)
        );
        let mut bytes = Vec::new();
        sources.encode(&mut bytes);
        assert!(bytes.len() <= sources.encoded_length());
        assert_eq!(Sources::decode(&mut Reader::new(&bytes), id(0)), Ok(sources));
    }

    #[test]
    fn a_list_of_another_backup_is_refused() {
        let mut bytes = Vec::new();
        Sources::new(id(1)).encode(&mut bytes);
        assert!(Sources::decode(&mut Reader::new(&bytes), id(0)).is_err());
        assert!(Sources::decode(&mut Reader::new(&[0]), id(0)).is_err());
    }

    #[test]
    fn a_backup_with_two_numbers_is_refused() {
        let mut bytes = vec![3];
        for number in [0, 1, 1] {
            put_text(&mut bytes, id(number).as_str().as_bytes());
        }
        assert!(Sources::decode(&mut Reader::new(&bytes), id(0)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_list(bytes: Vec<u8>) {
            let _ = Sources::decode(&mut Reader::new(&bytes), id(0));
        }
    }
}
