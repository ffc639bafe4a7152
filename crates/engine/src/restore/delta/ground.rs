//! Judges whether a restore may go onto what is in a directory. Nothing is changed here.
//!
//! Invariant: a directory is fit only if it is empty, holds an unfinished restore of the backup's own cluster, or holds a
//! cluster of its identity and version on which no server is seen to work. Anything else is somebody's, whatever was asked
//! for.

use std::{
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use pgformat::{
    Major,
    control::{Control, FILE_BYTES},
};
use repo::manifest::Facts;

use crate::{Result, error::At as _};

use super::{
    super::{
        claim::{CONTROL, HIDDEN, Mark, Marked, look},
        inline::no_follow,
        owner::{self, Ids},
        place::{UNFINISHED, check_empty, is_empty_but},
        plan::TablespacePlan,
        refused,
    },
    held,
};

/// What a data directory was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::restore) enum Ground {
    /// Empty or absent.
    Nothing,
    /// A restore of ours that was cut off.
    Unfinished,
    /// A cluster of the backup's identity.
    Cluster,
}

/// What a judgement came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::restore) struct Judged {
    pub(in crate::restore) ground: Ground,
    /// To whom the files will belong.
    pub(in crate::restore) owner: Option<Ids>,
    /// What stands in a pid file whose server is not seen.
    pub(in crate::restore) pid_file: Option<String>,
}

/// Judges all places.
pub(in crate::restore) fn judge(to: &Path, spaces: &[TablespacePlan], facts: &Facts) -> Result<Judged> {
    let paths: Vec<&Path> = spaces.iter().map(|space| &*space.to).collect();
    let pid_file = held::check(to, &paths)?;
    let marked = look(to)?;
    let ground = match &marked {
        Marked::By(mark) if mark.to == to && !to.join(CONTROL).exists() => unfinished(to, mark, facts)?,
        // While `pg_control` is there, it was not begun to be changed, or it is all done: it is whose it says.
        Marked::By(mark) if mark.to == to => identity(to, facts)?,
        // Whoever died over the mark had changed nothing yet. One with another directory's name is a tablespace's, or was
        // copied or moved with all that is here: it says nothing of this place.
        Marked::By(_) | Marked::Empty if is_empty_but(to, UNFINISHED).at("list", to)? => Ground::Nothing,
        Marked::By(_) | Marked::Empty => identity(to, facts)?,
        Marked::No => cluster(to, facts)?,
    };
    check_owner(to)?;
    spaces.iter().try_for_each(|one| space(one, to, ground, facts))?;
    let owner = match marked {
        Marked::By(mark) if mark.owner.is_some() => mark.owner,
        _ => owner::choose(to, Some(&facts.owner))?,
    };
    Ok(Judged {
        ground,
        owner,
        pid_file,
    })
}

/// A restore that was cut off is the backup's cluster's to go on with, not another's: until its first removal, all that
/// the old cluster was is still there. The mark says whose it is, and so does the hidden `pg_control`.
fn unfinished(to: &Path, mark: &Mark, facts: &Facts) -> Result<Ground> {
    let hidden = control(&to.join(HIDDEN)).ok();
    for found in [mark.system, hidden.map(|control| control.system_identifier)] {
        found.map_or(Ok(()), |found| same_cluster(to, found, facts))?;
    }
    Ok(Ground::Unfinished)
}

fn cluster(to: &Path, facts: &Facts) -> Result<Ground> {
    match check_empty(to, "the target") {
        Ok(()) => Ok(Ground::Nothing),
        Err(crate::Error::Refused {
            code: "target-not-empty",
            ..
        }) => identity(to, facts),
        Err(other) => Err(other),
    }
}

fn identity(to: &Path, facts: &Facts) -> Result<Ground> {
    let shown = to.display();
    let Ok(version) = read(&to.join("PG_VERSION"), 16) else {
        return Err(refused(
            "target-no-cluster",
            format!("{shown} is neither empty nor a PostgreSQL data directory nor an unfinished restore"),
            "Check the path: a delta restore removes what the backup does not have.",
        ));
    };
    let major = Major::from_server_version_num(facts.postgresql.version_num).ok();
    let version = String::from_utf8_lossy(&version).trim().to_string();
    if major.is_none_or(|major| major.to_string() != version) {
        return Err(refused(
            "target-other-version",
            format!(
                "{shown} holds a cluster of PostgreSQL {version}, the backup is of {}",
                facts.postgresql.version
            ),
            "Restore into an empty or new directory.",
        ));
    }
    let control = control(&to.join(CONTROL)).map_err(|error| {
        refused(
            "target-unknown-cluster",
            format!("which cluster {shown} holds cannot be told: its global/pg_control cannot be read ({error})"),
            "Restore into an empty or new directory.",
        )
    })?;
    same_cluster(to, control.system_identifier, facts)?;
    Ok(Ground::Cluster)
}

fn same_cluster(to: &Path, found: u64, facts: &Facts) -> Result<()> {
    if found == facts.postgresql.generation {
        return Ok(());
    }
    Err(refused(
        "target-other-cluster",
        format!(
            "{} holds another cluster: its system identifier is {found}, the backup's {}",
            to.display(),
            facts.postgresql.generation
        ),
        "Check the path, or restore into an empty or new directory.",
    ))
}

/// What stands in a `pg_control`, or why it cannot be told.
fn control(path: &Path) -> std::result::Result<Control, String> {
    let bytes = read(path, FILE_BYTES as u64).map_err(|error| error.to_string())?;
    Control::parse(&bytes).map_err(|error| error.to_string())
}

/// At most `limit` bytes of a file; no link is followed.
fn read(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut options = std::fs::OpenOptions::new();
    let mut bytes = Vec::new();
    options
        .read(true)
        .custom_flags(no_follow())
        .open(path)?
        .take(limit)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Who is not root can neither change the modes of others' files nor take over their directories.
fn check_owner(to: &Path) -> Result<()> {
    let us = rustix::process::geteuid();
    let Ok(metadata) = std::fs::metadata(to) else {
        return Ok(());
    };
    if us.is_root() || metadata.uid() == us.as_raw() {
        return Ok(());
    }
    let owner = owner::of(to)?;
    Err(refused(
        "target-owner",
        format!("{} belongs to the user {}", to.display(), owner.user),
        format!("Run the command as {} or root.", owner.user),
    ))
}

/// A tablespace's directory may hold what this very cluster has there, and nothing of another one of the same version.
fn space(space: &TablespacePlan, to: &Path, ground: Ground, facts: &Facts) -> Result<()> {
    let ours = |mark: &Mark| mark.to == to && mark.system.is_none_or(|system| system == facts.postgresql.generation);
    let by_us = matches!(&look(&space.to)?, Marked::By(mark) if ours(mark));
    let link = to.join("pg_tblspc").join(space.oid.to_string());
    let linked = ground != Ground::Nothing && link.canonicalize().is_ok_and(|leads| leads == space.to);
    if by_us || linked {
        return std::fs::read_dir(&space.to).map(drop).at("list", &space.to);
    }
    if is_empty_but(&space.to, UNFINISHED).unwrap_or(false) {
        return Ok(());
    }
    match check_empty(&space.to, "the tablespace directory") {
        Err(crate::Error::Refused { code, what, .. }) if matches!(code, "target-not-empty" | "target-unfinished") => {
            Err(refused(
                code,
                format!(
                    "{what}, and no link in {} shows that it is this cluster's",
                    to.join("pg_tblspc").display()
                ),
                "Make it empty, or give another directory with --tablespace OLD=NEW.",
            ))
        }
        judged => judged,
    }
}
