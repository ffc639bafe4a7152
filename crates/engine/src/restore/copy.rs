//! Writes all files of a backup into a directory, and its `backup_manifest` as it goes.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{BufWriter, ErrorKind},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use pgformat::{
    manifest::{Checksum, File as ManifestFile, ManifestWriter},
    relation::tablespace_link,
};
use repo::{
    Repository,
    manifest::Manifest,
    table::{Entry, EntryKind},
};

use crate::{
    Result,
    error::At as _,
    event::Context,
    traverse::{FileEntry, Handled, Handler, Reading, Traverse},
};

use super::{
    delta::{self, Patcher, Totals},
    inline::no_follow,
    left_out::LeftOut,
    owner::{self, Ids},
    place::below,
    plan::TablespacePlan,
};

/// The emitted `backup_manifest`, still growing.
pub(super) type Emitted = ManifestWriter<BufWriter<File>>;

pub(super) struct Copy<'a> {
    pub(super) context: &'a Context,
    pub(super) repository: &'a Repository,
    pub(super) manifest: &'a Manifest,
    pub(super) root: PathBuf,
    pub(super) tablespaces: &'a [TablespacePlan],
    pub(super) owner: Option<Ids>,
    pub(super) jobs: usize,
    /// Where a delta restore counts; `None`: nothing is there yet.
    pub(super) delta: Option<Arc<Totals>>,
    pub(super) left_out: Arc<LeftOut>,
}

/// What was written.
pub(super) struct Copied {
    /// The directories, deepest last, with the modes they shall get.
    pub(super) directories: Vec<(PathBuf, u32)>,
    /// Sealed bytes of frames that were fetched. A delta restore counts them in its [`Totals`].
    pub(super) fetched_bytes: u64,
}

impl Copy<'_> {
    /// Writes everything.
    pub(super) async fn run(&self, emitted: &mut Emitted) -> Result<Copied> {
        let (root, owner) = (&self.root, self.owner);
        match &self.delta {
            None => {
                let make = |reading| Writer {
                    root: root.clone(),
                    owner,
                    reading,
                    left_out: self.left_out.clone(),
                };
                self.walk(make, emitted).await
            }
            Some(totals) => {
                let make = |reading| Patcher {
                    root: root.clone(),
                    owner,
                    reading,
                    totals: totals.clone(),
                    left_out: self.left_out.clone(),
                };
                self.walk(make, emitted).await
            }
        }
    }

    async fn walk<H: Handler>(&self, make: impl Fn(Reading) -> H, emitted: &mut Emitted) -> Result<Copied> {
        let Copy {
            context,
            repository,
            manifest,
            jobs,
            ..
        } = *self;
        let traverse = Traverse {
            context,
            repository,
            manifest,
            jobs,
        };
        let (mut directories, mut fetched_bytes) = (Vec::new(), 0);
        let other = |entry: &Entry| match &entry.kind {
            EntryKind::Link { target } => self.link(&entry.path, target),
            EntryKind::File { size, .. } => self.begin(&entry.path, *size),
            EntryKind::Directory => {
                directories.push(self.directory(&entry.path, entry.mode)?);
                Ok(())
            }
        };
        let done = |entry: &FileEntry, handled: &Handled, parts: bool| {
            fetched_bytes += handled.fetched_bytes;
            if self.left_out.has(&entry.path) {
                return self.without(&entry.path);
            }
            if parts {
                let path = below(&self.root, &entry.path);
                let file = open(&path)?;
                match self.delta {
                    None => finish(&file, &path, entry, self.owner)?,
                    Some(_) => delta::settle(&file, &path, entry, self.owner)?,
                }
            }
            emit(
                emitted,
                entry.path.clone(),
                handled.bytes,
                entry.modified_micros,
                handled.crc,
            )
        };
        traverse.run(make, other, done).await?;
        Ok(Copied {
            directories,
            fetched_bytes,
        })
    }

    fn directory(&self, path: &[u8], mode: u32) -> Result<(PathBuf, u32)> {
        let directory = below(&self.root, path);
        if !path.is_empty() {
            // It is given away at the end, when nothing more is written into it.
            match DirBuilder::new().mode(0o700).create(&directory) {
                // What was no directory is gone by now.
                Err(error) if self.may_be_there(path) && error.kind() == ErrorKind::AlreadyExists => {}
                made => made.at("create", &directory)?,
            }
        }
        Ok((directory, mode))
    }

    /// WAL was laid out before.
    fn may_be_there(&self, path: &[u8]) -> bool {
        self.delta.is_some() || path == b"pg_wal"
    }

    /// Sees that nothing is left where the server wants to make a file.
    fn without(&self, path: &[u8]) -> Result<()> {
        if self.delta.is_none() || !self.left_out.is_to_be_reset(path) {
            return Ok(());
        }
        let path = below(&self.root, path);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.at("remove", &path),
        }
    }

    /// Makes a file of which parts will come from several workers.
    fn begin(&self, path: &[u8], size: u64) -> Result<()> {
        if self.left_out.has(path) {
            return Ok(());
        }
        let path = below(&self.root, path);
        match self.delta {
            None => create(&path).map(drop),
            Some(_) => delta::ready(&path, size).map(drop),
        }
    }

    /// A link leads where the plan says, never where the table does.
    fn link(&self, path: &[u8], target: &[u8]) -> Result<()> {
        let oid = tablespace_link(path);
        let space = self.tablespaces.iter().find(|space| Some(space.oid) == oid);
        let Some(space) = space else {
            let (path, target) = (String::from_utf8_lossy(path), String::from_utf8_lossy(target));
            let what = format!("it links {path} to {target}, which is no tablespace of the backup");
            return Err(repo::Error::Damaged {
                name: "the file table".into(),
                what,
            }
            .into());
        };
        let link = below(&self.root, path);
        if self.delta.is_some() {
            match std::fs::read_link(&link) {
                Ok(leads) if leads == space.to => return owner::give(&link, self.owner),
                Ok(_) => std::fs::remove_file(&link).at("remove", &link)?,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).at("read", &link),
            }
        }
        std::os::unix::fs::symlink(&space.to, &link).at("link", &link)?;
        owner::give(&link, self.owner)
    }
}

/// One worker's part of a restore.
struct Writer {
    root: PathBuf,
    owner: Option<Ids>,
    reading: Reading,
    left_out: Arc<LeftOut>,
}

impl Handler for Writer {
    async fn file(&mut self, entry: &FileEntry, whole: bool) -> Result<Handled> {
        if self.left_out.has(&entry.path) {
            return self.reading.read(entry, |_, _| Ok(())).await;
        }
        let path = below(&self.root, &entry.path);
        // A file that comes in parts was made before the first of them.
        let file = if whole { create(&path)? } else { open(&path)? };
        let handled = self
            .reading
            .read(entry, |offset, bytes| {
                file.write_all_at(bytes, offset).at("write", &path)
            })
            .await?;
        if whole {
            finish(&file, &path, entry, self.owner)?;
        }
        Ok(handled)
    }
}

/// A file that was not there before. A link in its place is refused like any other name that is taken.
pub(super) fn create(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(no_follow());
    options.open(path).at("create", path)
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(no_follow());
    options.open(path).at("open", path)
}

/// Gives a written file its mode, owner and time.
pub(super) fn finish(file: &File, path: &Path, entry: &FileEntry, owner: Option<Ids>) -> Result<()> {
    file.set_permissions(Permissions::from_mode(entry.mode & 0o777))
        .at("set the mode of", path)?;
    owner::give_file(file, path, owner)?;
    let modified = UNIX_EPOCH + Duration::from_micros(u64::try_from(entry.modified_micros).unwrap_or(0));
    file.set_modified(modified).at("set the time of", path)
}

/// Adds a line to the manifest.
pub(super) fn emit(emitted: &mut Emitted, path: Vec<u8>, size: u64, micros: i64, crc: u32) -> Result<()> {
    let modified = micros.div_euclid(1_000_000);
    let file = ManifestFile {
        path,
        size,
        modified,
        checksum: Some(Checksum::crc32c(crc)),
    };
    emitted.file(&file).at("write", "backup_manifest")
}
