//! `wal push`, which servers call as `archive_command`.
//!
//! Invariant: `Ok` promises that the file's WAL is durable in the repository, whoever stored it; the server removes
//! its own copy then. Other bytes under the same name are an error, and what is stored stays as it is.

mod batch;
mod file;
mod known;
mod partial;
mod segment;
mod turn;

use std::path::{Path, PathBuf};

use async_lock::OnceCell;
use pgformat::{
    Tli,
    control::Control,
    segment::{SegmentSize, WalFileName},
};
use repo::{Repository, session::Session, wal::MAX_HISTORY};

use self::{file::SegmentFile, known::Cluster};
use crate::{Error, Result, error::At as _, event::Context};

use super::{
    here,
    left::{Left, not_accepted},
};

/// What the server asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The file, absolute: `%p` of `archive_command`.
    pub path: PathBuf,
    /// The directory in which the command was called: the data directory.
    pub current: PathBuf,
    /// Workers side by side, where further segments wait.
    pub jobs: usize,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Pushed {
    /// Whether something of the file was not in the repository before.
    pub stored: bool,
    /// How many further segments that waited are durable, too, and were marked as done.
    pub further: usize,
}

/// Stores the file that the server names and, if it is a whole segment, further ones that wait in the same directory.
///
/// # Errors
/// [`Error::Refused`] if the file is not what its name says, belongs to a cluster that the repository does not hold,
/// or continues a timeline that was left; [`repo::Error::TwoServers`] if other bytes are stored in its place.
pub async fn run(context: &Context, repository: &Repository, request: &Request) -> Result<Pushed> {
    let name = name_of(&request.path)?;
    let control = here::control(context, &request.path, &request.current).await?;
    let writer = Writer::new(repository, control.as_ref());
    let alone = |stored| Pushed { stored, further: 0 };
    match Kind::of(&name)? {
        Kind::Segment => batch::store(context, writer, request, &name).await,
        Kind::Partial(segment) => {
            let file = SegmentFile::open(&request.path, segment)?;
            partial::store(&writer, &file).await.map(alone)
        }
        Kind::History(timeline) => history(&writer, &request.path, timeline, control.as_ref())
            .await
            .map(|()| alone(true)),
        // Other programs' notes about their backups.
        Kind::Backup => Ok(alone(false)),
    }
}

/// The kinds of files that servers archive.
enum Kind<'a> {
    Segment,
    Partial(&'a str),
    History(Tli),
    Backup,
}

impl Kind<'_> {
    /// Of a segment the size is not known yet, and with it whether the last digits can be.
    fn of(name: &str) -> Result<Kind<'_>> {
        let smallest = SegmentSize::new(1 << 20).map_err(|_| no_archive_file(name))?;
        match WalFileName::parse(name, smallest) {
            Ok(WalFileName::Segment(_)) => Ok(Kind::Segment),
            Ok(WalFileName::Partial(_)) => Ok(Kind::Partial(name.strip_suffix(".partial").unwrap_or(name))),
            Ok(WalFileName::History(timeline)) => Ok(Kind::History(timeline)),
            Ok(WalFileName::BackupHistory { .. }) => Ok(Kind::Backup),
            // An offset that is possible in larger segments only.
            Err(_) if is_backup(name) => Ok(Kind::Backup),
            Err(_) => Err(no_archive_file(name)),
        }
    }
}

fn is_backup(name: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    let parts: Vec<&str> = name.split('.').collect();
    matches!(parts[..], [segment, offset, "backup"]
        if segment.len() == 24 && offset.len() == 8 && hex(segment) && hex(offset))
}

fn name_of(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(std::ffi::OsStr::to_str);
    let name = name.ok_or_else(|| no_archive_file(&path.display().to_string()))?;
    Ok(name.into())
}

fn no_archive_file(name: &str) -> Error {
    Error::Refused {
        code: "no-archive-file",
        what: format!("{name} is no file that a server archives"),
        hint: "Set archive_command = 'lastgood wal push %p'.".into(),
    }
}

async fn history(writer: &Writer, path: &Path, timeline: Tli, control: Option<&Control>) -> Result<()> {
    let control = control.ok_or_else(|| here::no_cluster(&path.display().to_string()))?;
    let length = std::fs::metadata(path).at("look at", path)?.len();
    if length > MAX_HISTORY as u64 {
        return Err(no_archive_file(&path.display().to_string()));
    }
    let content = std::fs::read(path).at("read", path)?;
    let generation = control.system_identifier;
    let cluster = Cluster {
        generation,
        timeline: timeline.0,
        segment_size: control.wal_segment_size.bytes(),
        major: control.major.number(),
        block_size: Some(control.block_size),
    };
    match repo::wal::read_history(&writer.repository, generation, timeline.0).await {
        Ok(Some(stored)) if stored == content => return Ok(()),
        // Ours takes the place of one that is damaged.
        Ok(_) | Err(repo::Error::Damaged { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    writer.known(cluster, Some(&content)).await?;
    let session = writer.session().await?;
    repo::wal::put_history(&writer.repository, session, generation, timeline.0, &content).await?;
    Ok(())
}

/// What the workers of one call share. A session is made with the first thing that is written.
struct Writer {
    repository: Repository,
    block_size: Option<u32>,
    session: OnceCell<Session>,
    known: OnceCell<()>,
    /// The timelines that left this one, and past which it may not go on.
    left: OnceCell<Vec<Left>>,
}

impl Writer {
    fn new(repository: &Repository, control: Option<&Control>) -> Writer {
        Writer {
            repository: repository.clone(),
            block_size: control.map(|control| control.block_size),
            session: OnceCell::new(),
            known: OnceCell::new(),
            left: OnceCell::new(),
        }
    }

    async fn session(&self) -> Result<&Session> {
        let begin = || async { Ok(self.repository.begin_session().await?) };
        self.session.get_or_try_init(begin).await
    }

    /// Judges whether a segment may be stored; asked before anything of it is. All segments of a call are of one
    /// cluster and timeline.
    async fn admitted(&self, file: &SegmentFile) -> Result<()> {
        let stream = &file.stream;
        let left = self
            .left
            .get_or_try_init(|| not_accepted(&self.repository, stream.generation, stream.timeline));
        known::check_not_behind(&self.repository, stream, file.start, left.await?).await?;
        if self.known.is_initialized() || known::follows_known(&self.repository, file).await? {
            return Ok(());
        }
        self.known(file.cluster(self.block_size), None).await
    }

    /// Checks whose WAL it is. `history` is that of the timeline, where it is not stored yet.
    async fn known(&self, cluster: Cluster, history: Option<&[u8]>) -> Result<()> {
        let check = || async {
            if let Some(session) = known::check(&self.repository, cluster, history).await? {
                // One that is there already does as well.
                let _ = self.session.set(session).await;
            }
            Ok::<(), Error>(())
        };
        self.known.get_or_try_init(check).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> &str {
        match Kind::of(name) {
            Ok(Kind::Segment) => "segment",
            Ok(Kind::Partial(segment)) => segment,
            Ok(Kind::History(_)) => "history",
            Ok(Kind::Backup) => "backup",
            Err(_) => "refused",
        }
    }

    #[test]
    fn the_files_that_servers_archive_are_told_from_all_others() {
        for (name, expected) in [
            ("0000000100000000000000FF", "segment"),
            ("000000010000000000000FFF", "segment"),
            ("0000000100000000000000FF.partial", "0000000100000000000000FF"),
            ("0000000A.history", "history"),
            ("000000010000000000000003.00000028.backup", "backup"),
            ("000000010000000000000003.00F00028.backup", "backup"),
            ("000000010000000000000003.ready", "refused"),
            ("0000000000000000000000FF", "refused"),
            ("RECOVERYXLOG", "refused"),
            ("%p", "refused"),
            ("", "refused"),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }
}
