//! Makes directories ours that may hold something: an old cluster, or a restore that was cut off.
//!
//! Invariant: until everything was judged for the last time, all that was done can be undone, and is; what was not done
//! here is not undone either, whatever older runs left.

use std::{
    fs::{DirBuilder, OpenOptions, Permissions},
    io::ErrorKind,
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
/// What makes a directory startable.
pub(in crate::restore) const CONTROL: &str = "global/pg_control";

impl Claim {
    /// Marks and locks all places, the data directory first. Whoever calls judges them, then either goes on or
    /// [withdraws](Claim::withdraw).
    ///
    /// # Errors
    /// [`crate::Error::Refused`] if another restore is at work there. Everything is as it was found.
    pub(in crate::restore) fn onto(plan: &Plan) -> Result<Claim> {
        let mut claim = Claim::default();
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
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
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
        self.places.push(Claimed {
            path: path.into(),
            directory,
            before: (!made).then_some((metadata.mode() & 0o7777, ids)),
            fresh,
            _lock: file,
        });
        // A whole one stays: what it says of the owner was found before the directory became root's. One that names another
        // cluster does not: `pg_control` is there then, and shows that this one is meant.
        let found = mark::read(copy.try_clone().at("open", &marked)?, &marked)?;
        let same = |before: &Mark| before.to == mark.to && (before.system.is_none() || before.system == mark.system);
        if !matches!(&found, Marked::By(before) if same(before)) {
            copy.set_len(0).at("write", &marked)?;
            copy.write_all_at(&mark.bytes(), 0).at("write", &marked)?;
            copy.sync_all().at("sync", &marked)?;
            sync_directory(path)?;
        }
        self.keep_others_out()
    }

    /// Takes away what makes a directory startable. From here on only a finished restore makes it so again.
    pub(in crate::restore) fn hide_control(&mut self) -> Result<()> {
        let Some(Claimed { path: root, .. }) = self.places.first() else {
            return Ok(());
        };
        let path = root.join(CONTROL);
        match std::fs::rename(&path, root.join(HIDDEN)) {
            Err(error) if is_absent(&error) => return Ok(()),
            renamed => renamed.at("rename", &path)?,
        }
        // Before the sync, which may fail: the name is gone already.
        self.hid = true;
        sync_directory(&root.join("global"))
    }

    /// Nothing was changed yet but for marks and `pg_control`'s name: leaves everything as it was found. Best effort: where
    /// `pg_control` cannot be brought back, the mark stays, so that the same command can go on.
    pub(in crate::restore) fn withdraw(self) {
        for (number, claimed) in self.places.iter().enumerate().rev() {
            let hidden = number == 0 && self.hid && bring_back(&claimed.path).is_err();
            if claimed.fresh && !hidden {
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

/// Whether a restore is unfinished here, and no server starts.
pub(in crate::restore) fn is_unfinished(root: &Path) -> bool {
    root.join(UNFINISHED).exists() && !root.join(CONTROL).exists()
}

/// Undoes what [`Claim::hide_control`] did. A `pg_control` that appeared since is somebody's, and newer.
fn bring_back(root: &Path) -> Result<()> {
    let path = root.join(CONTROL);
    match std::fs::symlink_metadata(&path) {
        Err(error) if is_absent(&error) => {}
        found => return found.map(drop).at("look at", &path),
    }
    let hidden = root.join(HIDDEN);
    std::fs::rename(&hidden, &path).at("rename", &hidden)?;
    sync_directory(&root.join("global"))
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in `pg_control`, in the hidden one, and whether there is a mark.
    type Seen = (Option<&'static str>, Option<&'static str>, bool);

    /// Claims a directory, and withdraws after `act`.
    fn check(before: Seen, act: fn(&mut Claim), after: Seen) {
        let folder = tempfile::tempdir().unwrap();
        let (root, mark) = (folder.path(), folder.path().join(UNFINISHED));
        std::fs::create_dir(root.join("global")).unwrap();
        for (name, content) in [
            (CONTROL, before.0),
            (HIDDEN, before.1),
            (UNFINISHED, before.2.then_some("")),
        ] {
            if let Some(content) = content {
                std::fs::write(root.join(name), content).unwrap();
            }
        }
        let ours = Mark {
            backup: "20261120T143000Z-7f3k9q".into(),
            system: Some(7),
            owner: None,
            to: root.into(),
        };
        let mut claim = Claim::default();
        claim.hold(root, &ours).unwrap();
        act(&mut claim);
        claim.withdraw();
        let content = |name| std::fs::read_to_string(root.join(name)).ok();
        assert_eq!(
            (content(CONTROL).as_deref(), content(HIDDEN).as_deref(), mark.exists()),
            after
        );
    }

    fn hide(claim: &mut Claim) {
        claim.hide_control().unwrap();
    }

    #[test]
    fn withdrawing_without_having_hidden_anything_leaves_pg_control_alone() {
        for before in [
            (Some("today's"), Some("last week's"), false),
            (Some("today's"), Some("last week's"), true),
            (None, Some("of a run that died"), true),
        ] {
            check(before, |_| {}, before);
        }
    }

    #[test]
    fn withdrawing_brings_back_what_this_run_hid_whoever_made_the_mark() {
        for marked in [false, true] {
            let before = (Some("today's"), None, marked);
            check(before, hide, before);
        }
        // An older one is of no use to anybody beside today's.
        let before = (Some("today's"), Some("last week's"), true);
        check(before, hide, (Some("today's"), None, true));
        // Here there was none to hide.
        let before = (None, Some("of a run that died"), true);
        check(before, hide, before);
    }

    #[test]
    fn withdrawing_goes_over_no_pg_control_that_appeared_since() {
        let appear = |claim: &mut Claim| {
            hide(claim);
            std::fs::write(claim.places[0].path.join(CONTROL), "newer").unwrap();
        };
        check(
            (Some("today's"), None, false),
            appear,
            (Some("newer"), Some("today's"), false),
        );
    }

    #[test]
    fn a_mark_stays_where_pg_control_cannot_be_brought_back() {
        let lose = |claim: &mut Claim| {
            hide(claim);
            std::fs::remove_file(claim.places[0].path.join(HIDDEN)).unwrap();
        };
        check((Some("today's"), None, false), lose, (None, None, true));
    }

    #[test]
    fn a_mark_that_names_another_cluster_is_written_anew_and_one_that_names_none_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mark = |backup: &str, system| Mark {
            backup: backup.into(),
            system,
            owner: None,
            to: folder.path().into(),
        };
        for (before, stays) in [(Some(6), false), (Some(7), true), (None, true)] {
            let (before, ours) = (mark("before", before), mark("ours", Some(7)));
            std::fs::write(folder.path().join(UNFINISHED), before.bytes()).unwrap();
            Claim::default().hold(folder.path(), &ours).unwrap();
            let expected = if stays { before } else { ours };
            assert_eq!(mark::look(folder.path()).unwrap(), Marked::By(expected));
        }
    }
}
