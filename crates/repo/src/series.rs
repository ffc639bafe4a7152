//! Writing a series of numbered metadata objects: file tables and maps.

use crate::{
    Error, Result,
    backup_id::BackupId,
    bytes_codec::Malformed,
    envelope::{Codec, Draft, Finished, Kind, Pin, TAG, TRAILER},
    repository::Repository,
    session::Session,
};

/// An object of a series is closed before it grows beyond this: a backup holds one of the file table and one of the
/// maps while it fills them, a reader one while it reads. A table of three million files has about six.
pub(crate) const OBJECT_TARGET: usize = 8 << 20;
/// What a directory spends on a frame besides what the kind adds: two varints and a codec.
pub(crate) const FRAME_RECORD: usize = 11;
/// Metadata compresses well at once; higher levels spend a database's CPU on little.
const LEVEL: i32 = 3;
/// WAL comes fast, and its pages of zeroes and images compress at any level. Of frames as small as its are, this one makes
/// less than level 1 does, in three quarters of the time.
const WAL_LEVEL: i32 = -1;

/// Packs raw frames.
pub(crate) struct Packer(zstd::bulk::Compressor<'static>);

impl Packer {
    pub(crate) fn new() -> Result<Packer> {
        zstd::bulk::Compressor::new(LEVEL).map(Packer).map_err(no_context)
    }

    /// For WAL.
    pub(crate) fn for_wal() -> Result<Packer> {
        zstd::bulk::Compressor::new(WAL_LEVEL).map(Packer).map_err(no_context)
    }

    /// Seals `raw` as the next frame of `draft`, compressed if that makes it smaller.
    pub(crate) fn seal(&mut self, draft: &mut Draft, raw: &[u8]) -> Result<u32> {
        let packed = self.0.compress(raw).map_err(no_context)?;
        match packed.len() < raw.len() {
            true => draft.frame(&packed, raw.len(), Codec::Zstd),
            false => draft.frame(raw, raw.len(), Codec::Stored),
        }
    }
}

fn no_context(source: std::io::Error) -> Error {
    Error::Store {
        operation: "compress",
        name: "a frame".into(),
        transient: false,
        source: source.into(),
    }
}

/// An object that is in the repository, as a manifest remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// What to refer to it by.
    pub pin: Pin,
    /// Sealed length of its directory, bytes.
    pub directory: u32,
}

/// What others remember of `finished`.
pub(crate) fn pin_of(finished: &Finished) -> Pin {
    Pin {
        size: finished.bytes.len() as u64,
        hash: finished.hash,
    }
}

/// The objects `<kind>/<backup>/00000000` and on, one after another.
pub(crate) struct Series {
    repository: Repository,
    session: Session,
    kind: Kind,
    backup: BackupId,
    name: fn(&BackupId, u32) -> String,
    draft: Option<Draft>,
    /// What readers of the next object must know.
    features: u32,
    packer: Packer,
    written: Vec<Written>,
}

impl Series {
    pub(crate) fn new(
        repository: &Repository,
        session: &Session,
        kind: Kind,
        backup: BackupId,
        name: fn(&BackupId, u32) -> String,
    ) -> Result<Series> {
        Ok(Series {
            repository: repository.clone(),
            session: session.clone(),
            kind,
            backup,
            name,
            draft: None,
            features: 0,
            packer: Packer::new()?,
            written: Vec::new(),
        })
    }

    /// The backup that the objects belong to.
    pub(crate) fn backup(&self) -> BackupId {
        self.backup
    }

    /// Number of the object that the next frame goes into.
    pub(crate) fn number(&self) -> u32 {
        self.written.len() as u32
    }

    /// The name of that object.
    pub(crate) fn name(&self) -> String {
        (self.name)(&self.backup, self.number())
    }

    /// Number that the next frame gets.
    pub(crate) fn frames(&self) -> u32 {
        self.draft.as_ref().map_or(0, Draft::frames)
    }

    /// Whether the object being written, or the next one, says that its readers must know `features`.
    pub(crate) fn says(&self, features: u32) -> bool {
        self.features & features == features
    }

    /// Closes the object being written like [`Series::close`]: the next ones say `features` too. An object's head comes first.
    pub(crate) async fn say(&mut self, features: u32, extra: Vec<u8>) -> Result<()> {
        self.close(extra).await?;
        self.features |= features;
        Ok(())
    }

    /// Whether a frame of `raw` bytes still fits, with a directory whose own part is `extra` bytes.
    pub(crate) fn has_room(&self, raw: usize, extra: usize) -> bool {
        let Some(draft) = &self.draft else { return true };
        let directory = (draft.frames() as usize + 1) * FRAME_RECORD + extra;
        draft.len() + raw + directory + 2 * TAG + TRAILER <= OBJECT_TARGET
    }

    /// Seals a frame.
    pub(crate) fn frame(&mut self, raw: &[u8]) -> Result<()> {
        if self.draft.is_none() {
            let (kind, name) = (self.kind, self.name());
            let draft = (self.repository).draft_with(&self.session, kind, self.features, name, 0)?;
            self.draft = Some(draft);
        }
        match &mut self.draft {
            Some(draft) => self.packer.seal(draft, raw).map(drop),
            None => Ok(()),
        }
    }

    /// Puts the object that is being written, if there is one, with `extra` in its directory.
    pub(crate) async fn close(&mut self, extra: Vec<u8>) -> Result<()> {
        let Some(draft) = self.draft.take() else {
            return Ok(());
        };
        let finished = draft.finish(extra)?;
        self.repository.put_finished(&finished).await?;
        self.written.push(Written {
            pin: pin_of(&finished),
            directory: finished.directory,
        });
        Ok(())
    }

    /// What to remember of the objects, in order of their numbers.
    pub(crate) fn written(self) -> Vec<Written> {
        self.written
    }

    /// An error about what was given to write.
    pub(crate) fn refuse(&self, what: Malformed) -> Error {
        what.of(&self.name())
    }
}
