//! Segments fetched before the server asks for them.
//!
//! They wait in a directory beside the one that the server wants. Invariant: a file there is handed over only if its
//! name binds it to this repository, this cluster and the segment that is asked for, and its bytes to the hash in it;
//! so whatever lies there from another life of the directory is never taken for WAL of this one.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use pgformat::segment::{SegmentName, SegmentSize};
use repo::{
    Repository,
    wal::{Assembly, MAX_RUN, WalStream, is_done},
};
use rustix::fs::{FlockOperation, flock};

use crate::{Result, error::At as _, event::Context};

use super::{Request, here, place::Placed, segment::Wanted};

/// The directory's name, beside the file that the server wants. Servers do not look at it.
const FOLDER: &str = "lastgood-ahead";
/// Segments fetched ahead.
const SEGMENTS: u64 = 8;
/// Somebody goes to fetch more when fewer than this are left.
const FEW: usize = 5;
/// What servers call the file that they want a segment in (`RestoreArchivedFile`). Others want one segment and no more.
const WANTED_BY_SERVERS: &str = "RECOVERYXLOG";

/// The segments that were fetched ahead of one.
#[derive(Debug)]
pub(super) struct Ahead {
    folder: PathBuf,
    /// What the names of this cluster's files in this repository end with, but for their hash.
    cluster: String,
    wanted: String,
    /// The last segment that may be asked for; those after it are never fetched.
    size: SegmentSize,
    length: u64,
}

impl Ahead {
    /// Those ahead of `wanted`; `None` if it is not a server that asks.
    pub(super) fn of(repository: &Repository, request: &Request, wanted: &Wanted) -> Option<Ahead> {
        if request.to.file_name()? != WANTED_BY_SERVERS {
            return None;
        }
        let size = SegmentSize::new(wanted.stream.segment_size()).ok()?;
        let database = repository.identity().database.get(..16)?;
        Some(Ahead {
            folder: request.to.parent()?.join(FOLDER),
            cluster: format!("{:016x}-{database}", wanted.stream.generation),
            wanted: request.file.clone(),
            size,
            length: size.bytes(),
        })
    }

    /// Gives the file of the segment the name `to`; whether it was there and what its name says. What lies there and
    /// will not be asked for any more goes.
    pub(super) fn hand_over(&self, segment: &str, to: &Path) -> Result<bool> {
        let (mut found, mut left) = (None, false);
        for (name, path) in self.files() {
            match Parts::of(&name) {
                Some(parts) if parts.cluster != self.cluster => remove(&path),
                Some(parts) if parts.segment == segment => found = Some((parts.hash.to_string(), path)),
                // Servers go from older timelines to newer ones and look for a segment on each.
                Some(parts) if parts.segment.get(8..) < segment.get(8..) => remove(&path),
                _ => left = true,
            }
        }
        let Some((hash, path)) = found else { return Ok(false) };
        if self.hash_of(&path).is_none_or(|found| found != hash) {
            remove(&path);
            return Ok(false);
        }
        fs::rename(&path, to).at("rename", &path)?;
        if !left {
            // Not if the next one is being fetched.
            let _ = fs::remove_dir(&self.folder);
        }
        Ok(true)
    }

    /// Whether more should be fetched.
    pub(super) fn is_short(&self) -> bool {
        let ahead = |name: &String| Parts::of(name).is_some_and(|parts| parts.segment > self.wanted.as_str());
        self.files().filter(|(name, _)| ahead(name)).count() < FEW
    }

    /// Removes everything: the recovery is at its end.
    pub(super) fn clear(&self) {
        for (_, path) in self.files() {
            remove(&path);
        }
        let _ = fs::remove_dir(&self.folder);
    }

    fn files(&self) -> impl Iterator<Item = (String, PathBuf)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
    }

    /// The hash of a file that has the length of a segment.
    fn hash_of(&self, path: &Path) -> Option<String> {
        let mut file = File::open(path).ok()?;
        if file.metadata().ok()?.len() != self.length {
            return None;
        }
        let (mut hash, mut buffer) = (blake3::Hasher::new(), vec![0; 256 << 10]);
        loop {
            match file.read(&mut buffer).ok()? {
                0 => return Some(hash.finalize().to_hex().to_string()),
                length => hash.update(buffer.get(..length)?),
            };
        }
    }

    fn has(&self, segment: &str) -> bool {
        self.files().any(|(name, _)| {
            Parts::of(&name).is_some_and(|parts| parts.segment == segment && parts.cluster == self.cluster)
        })
    }
}

/// `<segment>-<system identifier>-<database id>-<BLAKE3>`.
struct Parts<'a> {
    segment: &'a str,
    cluster: &'a str,
    hash: &'a str,
}

impl Parts<'_> {
    fn of(name: &str) -> Option<Parts<'_>> {
        let (segment, rest) = name.split_once('-')?;
        let (cluster, hash) = rest.rsplit_once('-')?;
        (segment.len() == 24 && hash.len() == 64).then_some(Parts { segment, cluster, hash })
    }
}

fn remove(path: &Path) {
    // It stays harmless if it cannot be removed.
    let _ = fs::remove_file(path);
}

/// Fetches the segments after the one that `request` names, as long as they are finished and a plan needs them. Ends
/// at once if another call is at it.
pub async fn fetch_ahead(context: &Context, repository: &Repository, request: &Request) -> Result<()> {
    let Some(control) = here::control(context, &request.to, &request.current).await? else {
        return Ok(());
    };
    let size = control.wal_segment_size;
    let Ok(mut name) = SegmentName::parse(&request.file, size) else {
        return Ok(());
    };
    let stream = WalStream::new(control.system_identifier, name.timeline.0, size.bytes())?;
    let wanted = Wanted {
        stream,
        start: name.start(size).0,
        needed: None,
    };
    let Some(ahead) = Ahead::of(repository, request, &wanted) else {
        return Ok(());
    };
    make_folder(&ahead.folder)?;
    let lock = File::open(&ahead.folder).at("open", &ahead.folder)?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    for _ in 0..SEGMENTS {
        name = name.next();
        context.stop.check()?;
        if !fetch(repository, request, &ahead, &stream, name).await? {
            break;
        }
    }
    Ok(())
}

/// Fetches one segment; whether there may be a next one.
async fn fetch(
    repository: &Repository,
    request: &Request,
    ahead: &Ahead,
    stream: &WalStream,
    name: SegmentName,
) -> Result<bool> {
    let (start, end) = (name.start(ahead.size).0, name.end(ahead.size).0);
    if let Some(until) = &request.until
        && until.needs(repository, stream, start).await?.is_none()
    {
        return Ok(false);
    }
    let segment = name.file_name(ahead.size);
    if ahead.has(&segment) {
        return Ok(true);
    }
    for run in (start..end).step_by(MAX_RUN) {
        if !is_done(repository, stream, run).await? {
            return Ok(false);
        }
    }
    let mut wal = Assembly::new(repository, *stream, start, end);
    let mut file = Placed::begin(&ahead.folder.join(&segment))?;
    let mut hash = blake3::Hasher::new();
    while let Some(piece) = wal.next().await? {
        hash.update(&piece.bytes);
        file.write(&piece.bytes)?;
    }
    let name = format!("{segment}-{}-{}", ahead.cluster, hash.finalize().to_hex());
    file.finish_as(&ahead.folder.join(name))?;
    Ok(true)
}

fn make_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.at("create", path),
    }
}
