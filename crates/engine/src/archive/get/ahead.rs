//! Segments fetched before the server asks for them.
//!
//! They wait in a directory beside the one that the server wants. Invariant: a file there is handed over only if its
//! name binds it to this repository, this cluster and the segment that is asked for, and to itself: to the very file that
//! was written whole, of bytes that were authenticated, since the machine was started, and that nobody wrote to since. So
//! whatever lies there from another life of the directory, a copy of it or what a crash made of it, is never taken for WAL
//! of this one. Hashing the bytes again would cost as much as fetching them.

use std::{
    fs::{self, File, Metadata},
    os::unix::fs::MetadataExt,
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

/// A number that is drawn whenever the machine is started: files were not synced, and a crash may have emptied them.
const START_OF_MACHINE: &str = "/proc/sys/kernel/random/boot_id";

/// The segments that were fetched ahead of one.
#[derive(Debug)]
pub(super) struct Ahead {
    folder: PathBuf,
    /// What the names of this cluster's files in this repository end with, but for their seal.
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
                Some(parts) if parts.segment == segment => found = Some((parts.seal.to_string(), path)),
                // Servers go from older timelines to newer ones and look for a segment on each.
                Some(parts) if parts.segment.get(8..) < segment.get(8..) => remove(&path),
                _ => left = true,
            }
        }
        let Some((seal, path)) = found else { return Ok(false) };
        let metadata = fs::symlink_metadata(&path).ok();
        let fits = metadata.filter(|file| file.is_file() && file.len() == self.length);
        if fits.and_then(|file| seal_of(&file)).is_none_or(|found| found != seal) {
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

    /// Whether somebody should go and fetch more: few are left, and nobody is at it.
    pub(super) fn is_short(&self) -> bool {
        let ahead = |name: &String| Parts::of(name).is_some_and(|parts| parts.segment > self.wanted.as_str());
        self.files().filter(|(name, _)| ahead(name)).count() < FEW && !self.is_being_filled()
    }

    /// Whoever fetches holds a lock on the directory, and is spared a process that would only find it out.
    fn is_being_filled(&self) -> bool {
        let folder = File::open(&self.folder);
        folder.is_ok_and(|folder| flock(&folder, FlockOperation::NonBlockingLockShared).is_err())
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

    fn has(&self, segment: &str) -> bool {
        self.files().any(|(name, _)| {
            Parts::of(&name).is_some_and(|parts| parts.segment == segment && parts.cluster == self.cluster)
        })
    }
}

/// Which file it is, and when it was written to last: BLAKE3, in hex.
fn seal_of(file: &Metadata) -> Option<String> {
    let mut seal = blake3::Hasher::new();
    seal.update(&fs::read(START_OF_MACHINE).ok()?);
    for number in [file.dev(), file.ino(), file.len()] {
        seal.update(&number.to_le_bytes());
    }
    for number in [file.mtime(), file.mtime_nsec()] {
        seal.update(&number.to_le_bytes());
    }
    Some(seal.finalize().to_hex().to_string())
}

/// `<segment>-<system identifier>-<database id>-<seal>`.
struct Parts<'a> {
    segment: &'a str,
    cluster: &'a str,
    seal: &'a str,
}

impl Parts<'_> {
    fn of(name: &str) -> Option<Parts<'_>> {
        let (segment, rest) = name.split_once('-')?;
        let (cluster, seal) = rest.rsplit_once('-')?;
        (segment.len() == 24 && seal.len() == 64).then_some(Parts { segment, cluster, seal })
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
    while let Some(piece) = wal.next().await? {
        file.write(&piece.bytes)?;
    }
    let Some(seal) = seal_of(&file.metadata()?) else {
        return Ok(false);
    };
    let name = format!("{segment}-{}-{seal}", ahead.cluster);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_for_more_while_somebody_fetches() {
        let folder = tempfile::tempdir().unwrap();
        let ahead = Ahead {
            folder: folder.path().join(FOLDER),
            cluster: "c".into(),
            wanted: "000000010000000000000001".into(),
            size: SegmentSize::new(1 << 20).unwrap(),
            length: 1 << 20,
        };
        assert!(ahead.is_short());
        make_folder(&ahead.folder).unwrap();
        assert!(ahead.is_short());
        let fetching = File::open(&ahead.folder).unwrap();
        flock(&fetching, FlockOperation::LockExclusive).unwrap();
        assert!(!ahead.is_short());
        drop(fetching);
        assert!(ahead.is_short());
        for number in 2..2 + FEW {
            let name = format!("{number:024X}-c-{}", "0".repeat(64));
            fs::write(ahead.folder.join(name.replacen("00000000", "00000001", 1)), b"").unwrap();
        }
        assert!(!ahead.is_short());
    }
}
