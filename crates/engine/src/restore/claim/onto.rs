//! Makes directories ours that may hold something: an old cluster, or a restore that was cut off.
//!
//! Invariant: until everything was judged for the last time, all that was done can be undone, and is.

use std::{
    fs::{DirBuilder, OpenOptions, Permissions},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

use crate::{Result, error::At as _};

use super::{
    super::{
        Plan,
        inline::{no_follow, sync_directory},
        owner::Ids,
        place::UNFINISHED,
    },
    Claim, Claimed,
    mark::{self, Mark, Marked},
    open,
};

/// The old `pg_control`, by a name that no server looks for.
pub(in crate::restore) const HIDDEN: &str = "global/pg_control.lastgood-before";
const CONTROL: &str = "global/pg_control";

impl Claim {
    /// Marks and locks all places, the data directory first. Whoever calls judges them, then either goes on or
    /// [withdraws](Claim::withdraw).
    ///
    /// # Errors
    /// [`crate::Error::Refused`] if another restore is at work there. Everything is as it was found.
    pub(in crate::restore) fn onto(plan: &Plan) -> Result<Claim> {
        let mut claim = Claim(Vec::new());
        let mark = Mark::of(plan);
        for place in std::iter::once(&plan.to).chain(plan.tablespaces.iter().map(|space| &space.to)) {
            if let Err(error) = claim.hold(place, &mark) {
                claim.withdraw();
                return Err(error);
            }
        }
        Ok(claim)
    }

    fn hold(&mut self, path: &Path, mark: &Mark) -> Result<()> {
        let made = match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            made => made.map(|()| true).at("create", path)?,
        };
        let directory = open(path)?;
        let metadata = directory.metadata().at("look at", path)?;
        let ids = Ids {
            user: metadata.uid(),
            group: metadata.gid(),
        };
        let marked = path.join(UNFINISHED);
        let fresh = std::fs::symlink_metadata(&marked).is_err();
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .mode(0o600)
            .custom_flags(no_follow());
        let file = options.open(&marked).at("open", &marked)?;
        mark::hold(&file, path)?;
        let copy = file.try_clone().at("open", &marked)?;
        self.0.push(Claimed {
            path: path.into(),
            directory,
            before: (!made).then_some((metadata.mode() & 0o7777, ids)),
            fresh,
            _lock: file,
        });
        // A whole one stays: what it says of the owner was found before the directory became root's.
        let found = mark::read(copy.try_clone().at("open", &marked)?, &marked)?;
        if !matches!(found, Marked::By(before) if before.to == mark.to) {
            copy.set_len(0).at("write", &marked)?;
            copy.write_all_at(&mark.bytes(), 0).at("write", &marked)?;
            copy.sync_all().at("sync", &marked)?;
            sync_directory(path)?;
        }
        self.keep_others_out()
    }

    /// Takes away what makes a directory startable. From here on only a finished restore makes it so again.
    pub(in crate::restore) fn hide_control(&self, plan: &Plan) -> Result<()> {
        rename(&plan.to, CONTROL, HIDDEN)
    }

    /// Nothing was changed yet but for marks and `pg_control`'s name: leaves everything as it was found. Best effort.
    pub(in crate::restore) fn withdraw(self) {
        for (number, claimed) in self.0.iter().enumerate().rev() {
            if number == 0 && claimed.fresh {
                let _ = rename(&claimed.path, HIDDEN, CONTROL);
            }
            if claimed.fresh {
                let _ = std::fs::remove_file(claimed.path.join(UNFINISHED));
            }
            match claimed.before {
                None => {
                    let _ = std::fs::remove_dir(&claimed.path);
                }
                Some((mode, ids)) => {
                    let _ = fchown(&claimed.directory, Some(ids.user), Some(ids.group));
                    let _ = claimed.directory.set_permissions(Permissions::from_mode(mode));
                }
            }
        }
    }
}

fn rename(root: &Path, from: &str, to: &str) -> Result<()> {
    let path = root.join(from);
    match std::fs::rename(&path, root.join(to)) {
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(())
        }
        renamed => {
            renamed.at("rename", &path)?;
            sync_directory(&root.join("global"))
        }
    }
}
