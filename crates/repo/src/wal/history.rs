//! Timeline history files.

use crate::{
    Error, Result,
    bytes_codec::Malformed,
    envelope::{Kind, Opener},
    names,
    repository::Repository,
    series::Packer,
    session::Session,
    store::Put,
};

/// The largest history file, bytes: a line for each timeline of a cluster's life.
pub const MAX_HISTORY: usize = 1 << 20;

/// So often it is tried to store one while others replace it.
const PUTS: usize = 4;

/// Stores the history file of `timeline`; the same bytes again are no news.
///
/// # Errors
/// [`Error::TwoServers`] if it is there with other bytes: two servers were promoted to one timeline. What is
/// stored stays as it is. [`Error::Damaged`] if it is larger than [`MAX_HISTORY`].
///
/// One that is stored and damaged, of which nobody can read anything, is replaced.
pub async fn put_history(
    repository: &Repository,
    session: &Session,
    generation: u64,
    timeline: u32,
    bytes: &[u8],
) -> Result<()> {
    let name = names::wal_history(generation, timeline);
    if bytes.len() > MAX_HISTORY {
        return Err(Malformed("it is too large for a history file").of(&name));
    }
    let mut draft = repository.draft(session, Kind::History, name.clone(), 0)?;
    Packer::new()?.seal(&mut draft, bytes)?;
    let object = draft.finish(Vec::new())?;
    for _ in 0..PUTS {
        if repository.store().put_new(&name, object.bytes.clone()).await? == Put::Created {
            return Ok(());
        }
        match read_history(repository, generation, timeline).await {
            Ok(Some(stored)) if stored == bytes => return Ok(()),
            Ok(Some(_)) => {
                return Err(Error::TwoServers {
                    what: format!("{name} holds another history than this server has"),
                });
            }
            // Somebody else replaces it.
            Ok(None) => {}
            Err(Error::Damaged { .. }) => repository.store().delete(&name).await?,
            Err(error) => return Err(error),
        }
    }
    Err(Error::Missing { name })
}

/// Reads the history file of `timeline`; `None` if there is none.
pub async fn read_history(repository: &Repository, generation: u64, timeline: u32) -> Result<Option<Vec<u8>>> {
    let name = names::wal_history(generation, timeline);
    let Some(bytes) = repository.store().get(&name).await? else {
        return Ok(None);
    };
    let sealed = repository.open_bytes(Kind::History, &name, bytes).await?;
    let frames = &sealed.directory.frames;
    if frames.len() != 1 || !sealed.directory.extra.is_empty() || sealed.frame(0)?.raw as usize > MAX_HISTORY {
        return Err(Malformed("it has other parts than a history file").of(&name));
    }
    sealed.read(&mut Opener::new()?, 0).map(Some)
}
