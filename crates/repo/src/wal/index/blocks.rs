//! Which pages the records of a run changed.

use crate::bytes_codec::{Malformed, Reader, put_varint};

use super::{Relation, at_end};

/// Changed pages, by relation and fork.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocks {
    /// Each relation's fork once, ascending.
    pub relations: Vec<RelationBlocks>,
    /// Databases that were made or dropped whole: tablespace and database, ascending.
    pub databases: Vec<(u32, u32)>,
}

/// The changed pages of one fork of one relation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelationBlocks {
    /// The relation.
    pub relation: Relation,
    /// Which fork: 0 main, 1 free space map, 2 visibility map, 3 init.
    pub fork: u8,
    /// It was made, dropped or cut off at this block: nothing from there on is what it was.
    pub limit: Option<u32>,
    /// Blocks that records refer to, ascending, each once.
    pub blocks: Vec<u32>,
}

impl Blocks {
    pub(in crate::wal) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.relations.len() as u64);
        for one in &self.relations {
            one.relation.put(&mut out);
            out.push(one.fork);
            put_varint(&mut out, one.limit.map_or(0, |limit| u64::from(limit) + 1));
            put_varint(&mut out, one.blocks.len() as u64);
            let mut next = 0;
            for block in &one.blocks {
                put_varint(&mut out, u64::from(*block).wrapping_sub(next));
                next = u64::from(*block) + 1;
            }
        }
        put_varint(&mut out, self.databases.len() as u64);
        for (space, database) in &self.databases {
            put_varint(&mut out, (*space).into());
            put_varint(&mut out, (*database).into());
        }
        out
    }

    pub(in crate::wal) fn decode(bytes: &[u8]) -> Result<Blocks, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut blocks = Blocks::default();
        for _ in 0..reader.count(6)? {
            let one = RelationBlocks::read(&mut reader)?;
            if let Some(last) = blocks.relations.last()
                && (last.relation, last.fork) >= (one.relation, one.fork)
            {
                return Err(Malformed("its relations are not in order"));
            }
            blocks.relations.push(one);
        }
        for _ in 0..reader.count(2)? {
            blocks.databases.push((reader.varint32()?, reader.varint32()?));
        }
        at_end(&reader, blocks)
    }
}

impl RelationBlocks {
    fn read(reader: &mut Reader<'_>) -> Result<RelationBlocks, Malformed> {
        let (relation, fork) = (Relation::read(reader)?, reader.byte()?);
        let limit = match reader.varint()? {
            0 => None,
            limit => Some(u32::try_from(limit - 1).map_err(|_| Malformed("a block number is too large"))?),
        };
        let count = reader.count(1)?;
        let (mut blocks, mut next) = (Vec::with_capacity(count), 0u64);
        for _ in 0..count {
            let block = reader
                .varint()?
                .checked_add(next)
                .and_then(|block| u32::try_from(block).ok());
            let block = block.ok_or(Malformed("a block number is too large"))?;
            blocks.push(block);
            next = u64::from(block) + 1;
        }
        Ok(RelationBlocks {
            relation,
            fork,
            limit,
            blocks,
        })
    }
}
