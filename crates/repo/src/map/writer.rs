//! Writing the leaves of a backup.

use crate::{
    Result,
    backup_id::BackupId,
    bytes_codec::{Malformed, put_text, put_varint},
    envelope::Kind,
    leaf::{Leaf, LeafRef},
    names,
    repository::Repository,
    series::{Series, Written},
    session::Session,
    sources::Sources,
    table::LeafSlot,
};

use super::{LEAF_INLINE_EXTENTS, MAP_FRAME, MAX_MAP_FRAME};

/// Takes leaves in any order and says where they are.
pub struct MapWriter {
    series: Series,
    /// Leaves of the frame being filled, each a text.
    frame: Vec<u8>,
    leaves: u32,
    encoded: Vec<u8>,
}

impl MapWriter {
    /// Begins the map of `backup`.
    pub fn new(repository: &Repository, session: &Session, backup: BackupId) -> Result<MapWriter> {
        Ok(MapWriter {
            series: Series::new(repository, session, Kind::Map, backup, names::map)?,
            frame: Vec::new(),
            leaves: 0,
            encoded: Vec::new(),
        })
    }

    /// Where a leaf of `pages` pages stands in the file table: itself if it is short, else a reference to
    /// where it was put.
    pub async fn place(&mut self, leaf: Leaf, pages: u32, sources: &Sources) -> Result<LeafSlot> {
        match &leaf {
            Leaf(extents) if extents.len() > LEAF_INLINE_EXTENTS => {
                self.push(&leaf, pages, sources).await.map(LeafSlot::Ref)
            }
            _ => Ok(LeafSlot::Inline(leaf)),
        }
    }

    /// Adds a leaf of `pages` pages. Its references are by the numbers of `sources`, which may grow from call
    /// to call and must be the list of this backup; so is the reference returned.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] for a leaf that does not fit its pages. The map is as it was before then.
    pub async fn push(&mut self, leaf: &Leaf, pages: u32, sources: &Sources) -> Result<LeafRef> {
        let refuse = |what| self.series.refuse(what);
        if sources.owner() != self.series.backup() {
            return Err(refuse(Malformed("the list of sources is another backup's")));
        }
        leaf.check(pages, sources.count()).map_err(refuse)?;
        if !self.series.says(leaf.features()) {
            self.cut()?;
            self.series.say(leaf.features(), encoded(sources)).await?;
        }
        self.encoded.clear();
        leaf.encode(&mut self.encoded);
        if self.leaves == 0 && !self.series.has_room(MAX_MAP_FRAME, sources.encoded_length()) {
            // Decided before the frame begins: references into it are given away from here on.
            self.close(sources).await?;
        }
        put_text(&mut self.frame, &self.encoded);
        let at = LeafRef {
            source: 0,
            map: self.series.number(),
            frame: self.series.frames(),
            number: self.leaves,
        };
        self.leaves += 1;
        if self.frame.len() >= MAP_FRAME {
            self.cut()?;
        }
        Ok(at)
    }

    /// Writes what is left and says what to remember, in order of the objects' numbers.
    pub async fn finish(mut self, sources: &Sources) -> Result<Vec<Written>> {
        self.cut()?;
        self.close(sources).await?;
        Ok(self.series.written())
    }

    fn cut(&mut self) -> Result<()> {
        if self.leaves == 0 {
            return Ok(());
        }
        self.encoded.clear();
        put_varint(&mut self.encoded, u64::from(self.leaves));
        self.encoded.append(&mut self.frame);
        self.leaves = 0;
        self.series.frame(&self.encoded)
    }

    async fn close(&mut self, sources: &Sources) -> Result<()> {
        self.series.close(encoded(sources)).await
    }
}

fn encoded(sources: &Sources) -> Vec<u8> {
    let mut extra = Vec::with_capacity(sources.encoded_length());
    sources.encode(&mut extra);
    extra
}

impl std::fmt::Debug for MapWriter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "MapWriter({})", self.series.name())
    }
}
