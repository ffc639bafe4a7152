//! Compares what stands in the target with the backup's file table, by name and kind.
//!
//! Invariant: what is listed to be removed lies in the data directory, or in this cluster's own folder of a tablespace, and
//! reached no further than through real directories. Nothing is changed here.

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use pgformat::relation::{classify, tablespace_version_directory};
use repo::table::{Entry, EntryKind, TableReader};

use crate::{Result, database::Opened, error::At as _, event::Context, source::FileKind};

use super::{
    super::{Plan, claim::HIDDEN, inline::CONTROL, left_out::LeftOut, place::below, refused, room::Growth, run::major},
    walk::{Here, Walk},
};

/// What is not in the backup is listed by name. A directory with more of it does not mostly match.
const FOREIGN_MAX: usize = 1_000_000;

/// What was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Survey {
    /// Not in the backup: relative to the data directory, or absolute in tablespaces; directories before what is in them.
    pub(super) foreign: Vec<PathBuf>,
    pub(super) foreign_bytes: u64,
    /// The same, in `pg_wal`.
    pub(super) wal: Vec<PathBuf>,
    pub(super) wal_bytes: u64,
    /// What a restore itself makes anew, and leaves alone nobody's words.
    pub(super) ours: Vec<PathBuf>,
    /// Files that are there and in the backup, and as many of their bytes as can be compared.
    pub(super) candidates: u64,
    pub(super) candidate_bytes: u64,
    /// Files of the backup that are not there.
    pub(super) absent: u64,
    /// What comes, the WAL too, without what goes.
    pub(super) growth: Growth,
    /// Where `pg_wal` leads, if it is a link.
    pub(super) pg_wal_link: Option<PathBuf>,
}

/// Goes through target and table side by side.
pub(super) async fn survey(context: &Context, opened: &Opened, plan: &Plan) -> Result<Survey> {
    let facts = plan.facts();
    let folder = tablespace_version_directory(major(facts)?, facts.postgresql.catalog_version);
    let mut sides = vec![Side::new(&plan.to, Vec::new(), None)?];
    for space in &plan.tablespaces {
        let prefix = format!("pg_tblspc/{}/", space.oid).into_bytes();
        sides.push(Side::new(&space.to, prefix, Some(folder.clone().into_bytes()))?);
    }
    let mut rewritten: BTreeSet<&[u8]> = plan.manifest.kept.iter().map(|file| &*file.path).collect();
    rewritten.extend([
        CONTROL,
        HIDDEN.as_bytes(),
        b"global/pg_control.lastgood",
        b"postgresql.auto.conf.lastgood",
        b"backup_manifest",
        b"recovery.signal",
    ]);
    let mut found = Found {
        survey: Survey::default(),
        rewritten,
    };
    let growth = &mut found.survey.growth;
    growth.book(&plan.to, &plan.to.join("pg_wal"), plan.wal_bytes.into())?;
    for side in &sides {
        growth.book(&side.root, &side.root, 0)?;
    }
    let mut sources = plan.manifest.needed.sources.clone();
    let mut table = TableReader::new(
        &opened.repository,
        facts.backup,
        facts.table(),
        facts.postgresql.block_size,
    )?;
    while let Some(entry) = table.next(&mut sources).await? {
        context.stop.check()?;
        let number = sides.iter().rposition(|side| entry.path.starts_with(&side.prefix));
        let number = number.unwrap_or(0);
        if let Some(side) = sides.get_mut(number) {
            found.entry(number, side, &entry)?;
        }
    }
    for (number, side) in sides.iter_mut().enumerate() {
        while let Some(here) = side.next()? {
            found.foreign(number, side, &here)?;
        }
    }
    Ok(found.survey)
}

/// The data directory or a tablespace: what is there, and where its paths stand in the table.
struct Side {
    root: PathBuf,
    prefix: Vec<u8>,
    walk: Walk,
    ahead: Option<Here>,
}

impl Side {
    fn new(root: &Path, prefix: Vec<u8>, only: Option<Vec<u8>>) -> Result<Side> {
        Ok(Side {
            root: root.into(),
            prefix,
            walk: Walk::new(root, only)?,
            ahead: None,
        })
    }

    fn next(&mut self) -> Result<Option<Here>> {
        match self.ahead.take() {
            None => self.walk.next(),
            ahead => Ok(ahead),
        }
    }
}

struct Found<'a> {
    survey: Survey,
    rewritten: BTreeSet<&'a [u8]>,
}

impl Found<'_> {
    /// Judges all that comes before `entry`, and what stands in its place.
    fn entry(&mut self, number: usize, side: &mut Side, entry: &Entry) -> Result<()> {
        let path = entry.path.get(side.prefix.len()..).unwrap_or_default();
        if path.is_empty() || LeftOut::of_the_source_alone(&entry.path) {
            return Ok(());
        }
        let mut there = None;
        while let Some(here) = side.next()? {
            if *here.path >= *path {
                if here.path == path {
                    there = Some(here);
                } else {
                    side.ahead = Some(here);
                }
                break;
            }
            self.foreign(number, side, &here)?;
        }
        let fits = match (&entry.kind, there.as_ref().map(|here| here.kind)) {
            (_, None) => false,
            (EntryKind::Directory, Some(kind)) => kind == FileKind::Directory,
            (EntryKind::File { .. }, Some(kind)) => kind == FileKind::File,
            (EntryKind::Link { .. }, Some(kind)) => kind == FileKind::Link,
        };
        if let Some(here) = there.filter(|_| !fits) {
            self.in_the_way(number, side, &here)?;
        }
        let EntryKind::File { size, .. } = entry.kind else {
            return Ok(());
        };
        let place = below(&side.root, path);
        let mut usable = 0;
        if fits {
            let metadata = std::fs::symlink_metadata(&place).at("look at", &place)?;
            self.survey.candidates += 1;
            // A file with other names is made anew, since they may be another cluster's.
            if metadata.nlink() == 1 {
                usable = metadata.len().min(size);
            }
            self.survey.candidate_bytes += usable;
        } else {
            self.survey.absent += 1;
        }
        self.grow(side, &place, i128::from(size - usable))
    }

    fn in_the_way(&mut self, number: usize, side: &Side, here: &Here) -> Result<()> {
        if number == 0 && here.path == b"pg_wal" && here.kind == FileKind::Link {
            let link = side.root.join("pg_wal");
            self.survey.pg_wal_link = Some(std::fs::read_link(&link).at("read", &link)?);
        }
        self.foreign(number, side, here)
    }

    fn foreign(&mut self, number: usize, side: &Side, here: &Here) -> Result<()> {
        let place = below(&side.root, &here.path);
        let metadata = std::fs::symlink_metadata(&place).at("look at", &place)?;
        if metadata.is_dir() {
            let above = place.parent().unwrap_or(&side.root);
            if std::fs::symlink_metadata(above).at("look at", above)?.dev() != metadata.dev() {
                return Err(refused(
                    "target-mount",
                    format!(
                        "{} is not in the backup, and another file system is mounted there",
                        place.display()
                    ),
                    "Unmount it: a delta restore removes what the backup does not have.",
                ));
            }
        }
        let bytes = if metadata.is_file() && metadata.nlink() == 1 {
            metadata.len()
        } else {
            0
        };
        // A file may hold less than its length: a segment of WAL made ahead, a core dump. A relation's goes by its length, as those
        // that come do: where the file system compresses, both take less.
        let freed = match classify([&side.prefix[..], &here.path].concat()) {
            Some(_) => bytes,
            None => bytes.min(metadata.blocks() * 512),
        };
        self.grow(side, &place, -i128::from(freed))?;
        let shown = if number == 0 {
            below(Path::new(""), &here.path)
        } else {
            place
        };
        if number == 0 && self.rewritten.contains(&*here.path) {
            self.survey.ours.push(shown);
        } else if number == 0 && here.path.starts_with(b"pg_wal/") {
            self.survey.wal_bytes += bytes;
            self.survey.wal.push(shown);
        } else {
            self.survey.foreign_bytes += bytes;
            self.survey.foreign.push(shown);
        }
        if self.survey.foreign.len() + self.survey.wal.len() > FOREIGN_MAX {
            return Err(refused(
                "target-mostly-foreign",
                format!(
                    "{} holds more than {FOREIGN_MAX} files that the backup does not have",
                    side.root.display()
                ),
                "Check the path, or restore into an empty or new directory.",
            ));
        }
        Ok(())
    }

    fn grow(&mut self, side: &Side, file: &Path, bytes: i128) -> Result<()> {
        let directory = file.parent().unwrap_or(&side.root);
        self.survey.growth.book(&side.root, directory, bytes)
    }
}
