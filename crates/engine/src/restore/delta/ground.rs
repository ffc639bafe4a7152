//! Judges whether a restore may go onto what is in a directory. Nothing is changed here.
//!
//! Invariant: a directory is fit only if it is empty, holds an unfinished restore of ours, or holds a cluster of the
//! backup's own identity and version on which no server works. Anything else is somebody's, whatever was asked for.

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
        claim::{Marked, look},
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

/// Judges all places; returns what the data directory is and to whom its files will belong.
pub(in crate::restore) fn judge(to: &Path, spaces: &[TablespacePlan], facts: &Facts) -> Result<(Ground, Option<Ids>)> {
    let paths: Vec<&Path> = spaces.iter().map(|space| &*space.to).collect();
    held::check(to, &paths)?;
    let marked = look(to)?;
    let ground = match &marked {
        Marked::By(mark) if mark.to == to && !to.join("global/pg_control").exists() => Ground::Unfinished,
        // While `pg_control` is there, it was not begun to be changed, or it is all done: it is whose it says.
        Marked::By(mark) if mark.to == to => identity(to, facts)?,
        // Whoever died over the mark had changed nothing yet. One with another directory's name is a tablespace's, or was
        // copied or moved with all that is here: it says nothing of this place.
        Marked::By(_) | Marked::Empty if is_empty_but(to, UNFINISHED).at("list", to)? => Ground::Nothing,
        Marked::By(_) | Marked::Empty => identity(to, facts)?,
        Marked::No => cluster(to, facts)?,
    };
    check_owner(to)?;
    spaces.iter().try_for_each(|one| space(one, to, ground))?;
    let owner = match marked {
        Marked::By(mark) if mark.owner.is_some() => mark.owner,
        _ => owner::choose(to, Some(&facts.owner))?,
    };
    Ok((ground, owner))
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
    let control = read(&to.join("global/pg_control"), FILE_BYTES as u64);
    let control = control
        .map_err(|error| error.to_string())
        .and_then(|bytes| Control::parse(&bytes).map_err(|error| error.to_string()));
    let control = control.map_err(|error| {
        refused(
            "target-unknown-cluster",
            format!("which cluster {shown} holds cannot be told: its global/pg_control cannot be read ({error})"),
            "Restore into an empty or new directory.",
        )
    })?;
    if control.system_identifier != facts.postgresql.generation {
        return Err(refused(
            "target-other-cluster",
            format!(
                "{shown} holds another cluster: its system identifier is {}, the backup's {}",
                control.system_identifier, facts.postgresql.generation
            ),
            "Check the path, or restore into an empty or new directory.",
        ));
    }
    Ok(Ground::Cluster)
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
fn space(space: &TablespacePlan, to: &Path, ground: Ground) -> Result<()> {
    let by_us = matches!(look(&space.to)?, Marked::By(mark) if mark.to == to);
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
