//! Coverage marks: nothing more was written until then.
//!
//! An idle server and a dead receiver look alike in the WAL: nothing comes. A mark tells them apart, and lets a moment
//! after the last commit be asked for.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    bytes_codec::Malformed,
    decimal,
    envelope::{Codec, Kind, Opener},
    ledger::Lsn,
    names,
    repository::Repository,
    session::Session,
    store::Put,
};

use super::WalStream;

/// The most bytes of a mark's frame.
const MAX_MARK: u32 = 4 << 10;
/// How many marks are asked for at once.
const PAGE: usize = 1000;
/// How many are tried before nothing is said: a receiver leaves one behind, or a few that were killed.
const TRIED: usize = 16;

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    #[serde(with = "decimal")]
    generation: u64,
    timeline: u32,
    /// All WAL before it is here, and the server had written no more.
    pub position: Lsn,
    /// When the server said so, by its own clock: microseconds since 1970-01-01 UTC.
    pub at: i64,
}

/// Stores a mark, and removes the one it replaces.
pub async fn put_mark(
    repository: &Repository,
    session: &Session,
    stream: &WalStream,
    position: u64,
    at: i64,
    replaced: Option<Mark>,
) -> Result<Mark> {
    let mark = Mark {
        generation: stream.generation,
        timeline: stream.timeline,
        position: Lsn(position),
        at,
    };
    let name = name(stream, &mark);
    let json = serde_json::to_vec(&mark).map_err(|_| Malformed("it cannot be said in JSON").of(&name))?;
    let mut draft = repository.draft(session, Kind::Mark, name.clone(), 0)?;
    draft.frame(&json, json.len(), Codec::Stored)?;
    let object = draft.finish(Vec::new())?;
    // Whoever was there before says the same: that is what the name says.
    let (Put::Created | Put::Exists) = repository.store().put_new(&name, object.bytes).await?;
    if let Some(old) = replaced.filter(|old| *old != mark) {
        repository.store().delete(&self::name(stream, &old)).await?;
    }
    Ok(mark)
}

/// The mark that reaches furthest, by position, then by time. A mark that a listing does not show only makes what is
/// covered look shorter; so does one that is damaged, in whose place the one before counts.
pub async fn newest_mark(repository: &Repository, stream: &WalStream) -> Result<Option<Mark>> {
    let prefix = names::wal_marks(stream.generation, stream.timeline);
    let (mut after, mut names) = (String::new(), VecDeque::new());
    loop {
        let page = repository.store().list_after(&prefix, &after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.name);
        names.extend(page.into_iter().map(|object| object.name));
        names.drain(..names.len().saturating_sub(TRIED));
    }
    for name in names.iter().rev() {
        match read(repository, stream, name).await {
            Ok(None) | Err(Error::Damaged { .. }) => {}
            found => return found,
        }
    }
    Ok(None)
}

async fn read(repository: &Repository, stream: &WalStream, name: &str) -> Result<Option<Mark>> {
    let Some(bytes) = repository.store().get(name).await? else {
        // Replaced since it was listed.
        return Ok(None);
    };
    let sealed = repository.open_bytes(Kind::Mark, name, bytes).await?;
    let malformed = |what| -> Error { Malformed(what).of(name) };
    if sealed.directory.frames.len() != 1 || sealed.frame(0)?.raw > MAX_MARK {
        return Err(malformed("it has other parts than a mark"));
    }
    let mark: Mark =
        serde_json::from_slice(&sealed.read(&mut Opener::new()?, 0)?).map_err(|_| malformed("it cannot be read"))?;
    match self::name(stream, &mark) == name && (mark.generation, mark.timeline) == (stream.generation, stream.timeline)
    {
        true => Ok(Some(mark)),
        false => Err(malformed("it is another mark than its name says")),
    }
}

fn name(stream: &WalStream, mark: &Mark) -> String {
    let at = u64::try_from(mark.at).unwrap_or(0);
    names::wal_mark(stream.generation, stream.timeline, mark.position.0, at)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::{store::Store, test_folder::TestFolder};

    #[test]
    fn a_mark_that_is_damaged_leaves_the_word_to_the_one_before() {
        let folder = TestFolder::new();
        let (repository, stream) = (&folder.repository, WalStream::new(7, 1, 1 << 20).unwrap());
        let put = |position| block_on(put_mark(repository, &folder.session, &stream, position, 1, None)).unwrap();
        let newest = || block_on(newest_mark(repository, &stream)).unwrap();
        let damage = |mark: &Mark| {
            let (store, name) = (repository.store(), name(&stream, mark));
            block_on(async {
                let mut bytes = store.get(&name).await.unwrap().unwrap().to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                store.delete(&name).await.unwrap();
                store.put_new(&name, bytes.into()).await.unwrap();
            });
        };
        let (first, second) = (put(100), put(200));
        damage(&second);
        assert_eq!(newest(), Some(first));
        damage(&first);
        assert_eq!(newest(), None);
        let third = put(300);
        assert_eq!(newest(), Some(third));
    }
}
