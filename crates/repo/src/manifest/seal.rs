//! Manifests as objects.

use serde::de::DeserializeOwned;

use crate::{
    Error, Result,
    backup_id::BackupId,
    bytes_codec::Malformed,
    envelope::{Finished, Kind, MAX_RAW_FRAME, Opener, Pin, Sealed},
    names,
    repository::Repository,
    series::Packer,
    session::Session,
};

use super::{Facts, MAX_RELATIONS, Manifest, Needed, kept};

/// Frames of a manifest.
const FRAMES: usize = 4;
/// The largest frame of JSON or of kept files, raw; the list of objects may have [`MAX_RAW_FRAME`].
const MAX_SMALL_FRAME: usize = 16 << 20;

impl Manifest {
    /// Seals the manifest, to be put under its name and then committed in the ledger.
    ///
    /// # Errors
    /// [`Error::Damaged`], naming the manifest, if it is not as every reader demands.
    pub fn seal(&self, repository: &Repository, session: &Session) -> Result<Finished> {
        let id = self.facts.backup;
        let name = names::manifest(&id);
        self.check(&id, repository).map_err(|what| what.of(&name))?;
        let frames = [
            json(&name, &self.facts)?,
            self.needed.encode(),
            kept::encode(&self.kept),
            json(&name, &self.relations)?,
        ];
        let mut packer = Packer::new()?;
        let mut draft = repository.draft(session, Kind::Manifest, name.clone(), 0)?;
        for (number, raw) in frames.iter().enumerate() {
            if raw.len() > limit(number) {
                return Err(Malformed("a part of it is too large").of(&name));
            }
            packer.seal(&mut draft, raw)?;
        }
        draft.finish(Vec::new())
    }

    /// Reads the manifest of backup `id`; `expected` is what the ledger's commit remembers of it.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::Unsupported`].
    pub async fn read(repository: &Repository, id: &BackupId, expected: Option<Pin>) -> Result<Manifest> {
        let sealed = open(repository, id, expected).await?;
        let name = sealed.name();
        // One by one: of a large backup the list of packs alone has some 40 MiB, sealed, opened and decoded.
        let raw = |number| frame(&sealed, &mut Opener::new()?, number);
        let facts = parse(name, &raw(0)?)?;
        let needed = Needed::decode(&raw(1)?, id).map_err(|what| what.of(name))?;
        let kept = kept::decode(&raw(2)?).map_err(|what| what.of(name))?;
        let relations = parse(name, &raw(3)?)?;
        let manifest = Manifest {
            facts,
            needed,
            kept,
            relations,
        };
        manifest.check(id, repository).map_err(|what| what.of(name))?;
        Ok(manifest)
    }

    fn check(&self, id: &BackupId, repository: &Repository) -> Result<(), Malformed> {
        self.facts.check(id, &repository.identity().database)?;
        self.needed.check(id)?;
        kept::check(&self.kept)?;
        match self.relations.len() <= MAX_RELATIONS {
            true => Ok(()),
            false => Err(Malformed("it lists too many relations")),
        }
    }
}

impl Facts {
    /// Reads only frame 0 of the manifest of backup `id`.
    pub async fn read(repository: &Repository, id: &BackupId, expected: Option<Pin>) -> Result<Facts> {
        let sealed = open(repository, id, expected).await?;
        let facts: Facts = parse(sealed.name(), &frame(&sealed, &mut Opener::new()?, 0)?)?;
        let checked = facts.check(id, &repository.identity().database);
        checked.map_err(|what| what.of(sealed.name()))?;
        Ok(facts)
    }
}

impl Needed {
    /// Reads only frame 1 of the manifest of backup `id`: what collection asks.
    pub async fn read(repository: &Repository, id: &BackupId, expected: Option<Pin>) -> Result<Needed> {
        let sealed = open(repository, id, expected).await?;
        let raw = frame(&sealed, &mut Opener::new()?, 1)?;
        Needed::decode(&raw, id).map_err(|what| what.of(sealed.name()))
    }
}

async fn open(repository: &Repository, id: &BackupId, expected: Option<Pin>) -> Result<Sealed> {
    let name = names::manifest(id);
    let sealed = match expected {
        Some(pin) => repository.open_pinned(Kind::Manifest, &name, &pin).await?,
        None => repository.open_whole(Kind::Manifest, &name).await?,
    };
    match sealed.directory.frames.len() == FRAMES && sealed.directory.extra.is_empty() {
        true => Ok(sealed),
        false => Err(Malformed("it has other parts than a manifest").of(&name)),
    }
}

fn limit(frame: usize) -> usize {
    match frame {
        1 => MAX_RAW_FRAME,
        _ => MAX_SMALL_FRAME,
    }
}

fn frame(sealed: &Sealed, opener: &mut Opener, number: u32) -> Result<Vec<u8>> {
    match sealed.frame(number)?.raw as usize > limit(number as usize) {
        true => Err(Malformed("a part of it is too large").of(sealed.name())),
        false => sealed.read(opener, number),
    }
}

fn json(name: &str, value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|_| Malformed("it cannot be said in JSON").of(name))
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::Damaged {
        name: name.into(),
        what: format!("it cannot be read: {error}"),
    })
}
