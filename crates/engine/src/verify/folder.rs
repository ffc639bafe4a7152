//! The folder in which a scratch server lives, and what dead ones left behind.
//!
//! Invariant: the folder holds a copy of the database, so nobody but us and the server's user can enter it, and it is
//! gone when we are: at our end, or at the next verification if we were killed.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use repo::manifest::Facts;
use rustix::fs::{FlockOperation, flock};

use crate::{
    Result,
    error::At as _,
    event::Context,
    restore::{self, Ids, Plan, refused},
};

use super::Request;

/// What the folders' names begin with.
const PREFIX: &str = "lastgood-verify-";
/// Held while the folder is used.
const LOCK: &str = "lock";
/// A folder without a lock is dead if it is older than this.
const OLD: Duration = Duration::from_secs(24 * 3600);
/// Part of the socket's name only: the scratch server listens on nothing else.
pub(super) const PORT: u16 = 5432;
/// `sun_path` holds 108 bytes with the closing zero.
const SOCKET_PATH_MAX: usize = 107;

/// A private folder that is gone when this is dropped, the server in it ended before.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) root: PathBuf,
    pub(super) owner: Option<Ids>,
    /// The kernel gives it back when we end, however we end.
    _lock: File,
}

impl Scratch {
    /// Judges what can be judged before anything is read: whose it would be, and whether a socket's path fits.
    pub(super) fn place(request: &Request, facts: &Facts) -> Result<(PathBuf, Option<Ids>)> {
        let base = request.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let base = base.canonicalize().at("find", &base)?;
        let socket = base.join(format!("{PREFIX}01234567/.s.PGSQL.{PORT}"));
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(refused(
                "scratch-too-long",
                format!(
                    "a socket below {} would have a path of more than {SOCKET_PATH_MAX} bytes",
                    base.display()
                ),
                "Give a directory with a shorter path with --scratch.",
            ));
        }
        Ok((base, restore::owner_for_scratch(&facts.owner)?))
    }

    /// Removes what dead verifications left, and makes the folder: ours alone until it is given to its owner.
    pub(super) fn make(context: &Context, request: &Request, facts: &Facts) -> Result<Scratch> {
        let (base, owner) = Scratch::place(request, facts)?;
        let now = u64::try_from(context.runtime.clock.now_micros()).unwrap_or(0);
        sweep(&base, owner, SystemTime::UNIX_EPOCH + Duration::from_micros(now));
        let root = base.join(format!("{PREFIX}{}", hex::encode(context.runtime.random::<4>())));
        DirBuilder::new().mode(0o700).create(&root).at("create", &root)?;
        match lock(&root) {
            Ok(lock) => Ok(Scratch {
                root,
                owner,
                _lock: lock,
            }),
            Err(error) => {
                let _ = std::fs::remove_dir_all(&root);
                Err(error)
            }
        }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// All tablespaces go below the scratch folder.
    pub(super) fn plan(&self, manifest: repo::manifest::Manifest) -> Result<Plan> {
        restore::plan_for_scratch(manifest, &self.root, self.data(), self.owner)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It holds a copy of the database: what cannot be removed is said by nobody here, so try twice.
        if std::fs::remove_dir_all(&self.root).is_err() {
            let _ = std::fs::remove_dir_all(&self.root);
        }
    }
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join(LOCK);
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .at("create", &path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).at("lock", &path)?;
    Ok(file)
}

/// Removes folders of verifications that were killed: old ones of ours, or of the user whom we would give one. Best
/// effort: what cannot be removed is in nobody's way.
fn sweep(base: &Path, owner: Option<Ids>, now: SystemTime) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    let us = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(metadata) = entry.metadata() else { continue };
        let ours = metadata.uid() == us || owner.is_some_and(|owner| owner.user == metadata.uid());
        let old = metadata.modified().ok().and_then(|at| now.duration_since(at).ok());
        let named = name.to_str().is_some_and(|name| name.starts_with(PREFIX));
        if named && ours && metadata.is_dir() && old.is_some_and(|age| age > OLD) && is_dead(&path) {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

fn is_dead(root: &Path) -> bool {
    let nobody_holds = match OpenOptions::new().write(true).open(root.join(LOCK)) {
        Ok(file) => flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    nobody_holds && matches!(pgclient::cluster::is_running(&root.join("data")), Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_verification_left_is_removed_a_day_later_and_a_living_one_is_not() {
        let base = tempfile::tempdir().unwrap();
        let now = std::fs::metadata(base.path()).unwrap().modified().unwrap();
        let folder = |name: &str, days: u64| {
            let path = base.path().join(name);
            std::fs::create_dir_all(path.join("data")).unwrap();
            let held = lock(&path).unwrap();
            let at = now - Duration::from_secs(days * 24 * 3600 + 60);
            File::open(&path).unwrap().set_modified(at).unwrap();
            held
        };
        drop(folder("lastgood-verify-dead", 1));
        drop(folder("lastgood-verify-young", 0));
        drop(folder("somebody-elses", 9));
        let _alive = folder("lastgood-verify-alive", 9);
        sweep(base.path(), None, now);
        let left = |name: &str| base.path().join(name).exists();
        assert!(!left("lastgood-verify-dead"));
        assert!(left("lastgood-verify-young") && left("somebody-elses") && left("lastgood-verify-alive"));
    }
}
