//! Reading single leaves, of this backup's maps and of others'.

use std::sync::Arc;

use crate::{
    Error, Result,
    backup_id::BackupId,
    bytes_codec::{Malformed, Reader},
    envelope::{Kind, Opener, Sealed},
    leaf::{Leaf, LeafRef},
    manifest::Needed,
    names,
    repository::Repository,
    sources::Sources,
};

use super::MAX_MAP_FRAME;

/// Objects and frames held at once. Leaves of one file lie side by side, so that few are at hand in turns; at
/// most [`MAX_MAP_FRAME`] each.
const HELD: usize = 8;

/// Reads leaves that a manifest's backup refers to.
pub struct MapReader {
    repository: Repository,
    needed: Arc<Needed>,
    opener: Opener,
    /// Most recently used first.
    objects: Vec<Arc<MapObject>>,
    /// Most recently used first.
    frames: Vec<Arc<MapFrame>>,
}

/// A raw frame.
struct MapFrame {
    key: (BackupId, u32, u32),
    raw: Vec<u8>,
}

struct MapObject {
    key: (BackupId, u32),
    sealed: Sealed,
    sources: Sources,
}

impl MapReader {
    /// Reads with the sizes and hashes that `needed` of the manifest remembers.
    pub fn new(repository: &Repository, needed: Arc<Needed>) -> Result<MapReader> {
        Ok(MapReader {
            repository: repository.clone(),
            needed,
            opener: Opener::new()?,
            objects: Vec::new(),
            frames: Vec::new(),
        })
    }

    /// The leaf at `at`, which has `pages` pages. The references in `at` and in what is returned are by the
    /// numbers of `sources`, which learns the backups it lacks.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the manifest does not name the object or it holds no such leaf,
    /// [`Error::Missing`].
    pub async fn leaf(&mut self, at: &LeafRef, pages: u32, sources: &mut Sources) -> Result<Leaf> {
        let backup = sources.get(at.source).ok_or_else(|| Error::Damaged {
            name: names::manifest(&sources.owner()),
            what: "a reference names a source that is not listed".into(),
        })?;
        let object = self.object(backup, at.map).await?;
        let frame = self.frame(&object, at.frame).await?;
        let found = find(&frame.raw, at.number, pages, object.sources.count());
        let mut leaf = found.map_err(|what| what.of(object.sealed.name()))?;
        leaf.renumber(&object.sources, sources);
        Ok(leaf)
    }

    async fn object(&mut self, backup: BackupId, number: u32) -> Result<Arc<MapObject>> {
        let key = (backup, number);
        if let Some(at) = self.objects.iter().position(|object| object.key == key) {
            self.objects[..=at].rotate_right(1);
            return Ok(self.objects[0].clone());
        }
        let name = names::map(&backup, number);
        let Some(needed) = self.needed.map(&backup, number) else {
            return Err(Malformed("the manifest that needs it does not name it").of(&name));
        };
        let (pin, directory) = (needed.pin(), needed.directory);
        let sealed = self.repository.open_ranged(Kind::Map, &name, &pin, directory).await?;
        let mut reader = Reader::new(&sealed.directory.extra);
        let sources = Sources::decode(&mut reader, backup).map_err(|what| what.of(&name))?;
        if !reader.is_empty() {
            return Err(Malformed("its directory goes on where it should end").of(&name));
        }
        let object = Arc::new(MapObject { key, sealed, sources });
        self.objects.truncate(HELD - 1);
        self.objects.insert(0, object.clone());
        Ok(object)
    }

    async fn frame(&mut self, object: &MapObject, number: u32) -> Result<Arc<MapFrame>> {
        let key = (object.key.0, object.key.1, number);
        if let Some(at) = self.frames.iter().position(|frame| frame.key == key) {
            self.frames[..=at].rotate_right(1);
            return Ok(self.frames[0].clone());
        }
        if object.sealed.frame(number)?.raw as usize > MAX_MAP_FRAME {
            return Err(Malformed("a frame is too large").of(object.sealed.name()));
        }
        let sealed = object.sealed.fetch(&**self.repository.store(), number, 1).await?;
        let mut raw = Vec::new();
        object.sealed.open_frame(&mut self.opener, number, &sealed, &mut raw)?;
        let frame = Arc::new(MapFrame { key, raw });
        self.frames.truncate(HELD - 1);
        self.frames.insert(0, frame.clone());
        Ok(frame)
    }
}

/// Leaf `number` of a raw frame.
pub(crate) fn find(frame: &[u8], number: u32, pages: u32, sources: u32) -> Result<Leaf, Malformed> {
    let mut reader = Reader::new(frame);
    let count = reader.count(1)?;
    if number as usize >= count {
        return Err(Malformed("a frame has no such leaf"));
    }
    for _ in 0..number {
        reader.text()?;
    }
    let mut leaf = Reader::new(reader.text()?);
    let found = Leaf::decode(&mut leaf, pages, sources)?;
    match leaf.is_empty() {
        true => Ok(found),
        false => Err(Malformed("a leaf goes on where it should end")),
    }
}

impl std::fmt::Debug for MapReader {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "MapReader({} objects held)", self.objects.len())
    }
}
