//! What a restore will do, judged before anything is touched.

use std::path::{Path, PathBuf};

use pgclient::Binaries;
use repo::{
    BackupId,
    manifest::{Facts, Manifest},
    wal::index::EndingKind,
};
use serde::Serialize;

use crate::{
    Error, Result,
    database::Opened,
    event::Context,
    list,
    target::{self, Moment, Piece, Target, Timelines},
};

use super::{
    At, Onto, Request,
    delta::{self, DeltaPlan, Ground},
    find_binaries,
    owner::{self, Ids},
    place, refused,
    room::Growth,
    run::remember,
};

/// Where one tablespace goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TablespacePlan {
    /// Its oid.
    pub oid: u32,
    /// Its name in SQL.
    pub name: String,
    /// Where it was.
    pub from: PathBuf,
    /// Where it goes.
    pub to: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
}

/// A judged restore.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The backup it begins with.
    pub backup: String,
    /// The user's name for it.
    pub label: Option<String>,
    /// The moment that comes back, microseconds since 1970-01-01 UTC: that of the last transaction's end before the
    /// target, where one is known, else when the backup ended.
    pub moment: i64,
    /// The new data directory.
    pub to: PathBuf,
    /// PostgreSQL's version.
    pub postgresql: String,
    /// Where the last record to replay begins.
    pub target_lsn: String,
    /// On which timeline.
    pub target_timeline: u32,
    /// What stands around the target, where it is not the backup's end.
    pub target: Option<Target>,
    /// Bytes of files to write.
    pub bytes: u64,
    /// Files to write.
    pub files: u64,
    /// Bytes of WAL to replay.
    pub wal_bytes: u64,
    /// Tablespaces and where they go.
    pub tablespaces: Vec<TablespacePlan>,
    /// Whose the files will be; none: the user's who runs this.
    pub owner: Option<Ids>,
    /// Bytes free on the fullest file system that is written to.
    pub free: u64,
    /// Whether a server is started at the end.
    pub start: bool,
    /// What is there already, for a delta restore.
    pub delta: Option<DeltaPlan>,
    #[serde(skip)]
    pub(super) manifest: Manifest,
    /// The WAL to lay out.
    #[serde(skip)]
    pub(super) wal: Vec<Piece>,
    /// The server's programs, if one is to be started.
    #[serde(skip)]
    pub(super) binaries: Option<Binaries>,
}

impl Plan {
    /// What the manifest says of the backup.
    pub(crate) fn facts(&self) -> &Facts {
        &self.manifest.facts
    }

    /// The tables that the source listed.
    pub(crate) fn relations(&self) -> &[repo::manifest::Relation] {
        &self.manifest.relations
    }

    /// The plan for people, a line each.
    pub fn lines(&self) -> Vec<String> {
        let moment = jiff::Timestamp::from_microsecond(self.moment).unwrap_or_default();
        let mut lines = vec![
            format!(
                "backup    {}{}",
                self.backup,
                self.label.as_ref().map(|l| format!("  {l}")).unwrap_or_default()
            ),
            format!("moment    {} UTC", moment.strftime("%Y-%m-%d %H:%M:%S")),
            format!("target    LSN {} on timeline {}", self.target_lsn, self.target_timeline),
            format!("to        {}", self.to.display()),
            format!(
                "{} {} bytes in {} files, {} bytes of WAL",
                if self.delta.is_some() { "brings   " } else { "writes   " },
                self.bytes,
                self.files,
                self.wal_bytes
            ),
        ];
        lines.extend(self.delta.iter().flat_map(DeltaPlan::lines));
        lines.extend(self.target.iter().flat_map(around));
        for space in &self.tablespaces {
            lines.push(format!(
                "tablespace {}  {} -> {}",
                space.name,
                space.from.display(),
                space.to.display()
            ));
        }
        if self.start {
            lines.push(format!(
                "then      starts PostgreSQL {} and waits until it is open",
                self.postgresql
            ));
        }
        lines
    }
}

/// What stands around the target, for people.
fn around(target: &Target) -> Vec<String> {
    let moment = |moment: &Moment| {
        let time = jiff::Timestamp::from_microsecond(moment.time).unwrap_or_default();
        let name = if moment.name.is_empty() {
            String::new()
        } else {
            format!(" {:?}", moment.name)
        };
        let what = match moment.kind {
            EndingKind::Commit => "commit",
            EndingKind::Abort => "rollback",
            EndingKind::Prepare => "prepare",
            EndingKind::CommitPrepared => "commit prepared",
            EndingKind::AbortPrepared => "rollback prepared",
        };
        let time = time.strftime("%Y-%m-%d %H:%M:%S%.6f UTC");
        format!("{time}  {what} of {}{name} at {}", moment.xid, moment.lsn)
    };
    let mut lines = vec![
        format!(
            "last in   {}",
            target.before.as_ref().map_or("nothing since the backup".into(), moment)
        ),
        format!(
            "first out {}",
            target.after.as_ref().map_or("nothing that is here".into(), moment)
        ),
    ];
    lines.extend(target.prepared.iter().map(|one| format!("prepared  {}", moment(one))));
    lines.extend(
        target
            .later
            .iter()
            .map(|one| format!("out too   {}  (later in the WAL, with an earlier time)", moment(one))),
    );
    lines
}

/// Finds the backup and judges the target.
///
/// # Errors
/// [`crate::Error::NotFound`] without such a backup, [`crate::Error::Refused`] for a target that is not empty,
/// not there, too small, or in use. Nothing was changed but the ledger, if something of the repository was met damaged.
pub async fn plan(context: &Context, opened: &Opened, request: &Request) -> Result<Plan> {
    let planned = find_and_judge(context, opened, request).await;
    if let Err(error) = &planned {
        let of = match &request.at {
            At::Backup(id) => Some(id.as_str()),
            _ => None,
        };
        remember(opened, error, of).await;
    }
    planned
}

async fn find_and_judge(context: &Context, opened: &Opened, request: &Request) -> Result<Plan> {
    context.step("plan", "reading the manifest");
    let alarms = opened.with_state(|state| state.alarms().count()).await;
    if alarms > 0 {
        context.warn(
            "ledger-damaged",
            format!("the ledger raised {alarms} alarms: there may be other backups than those it lists. See `lastgood status`."),
        );
    }
    if let At::Backup(id) = &request.at {
        let manifest = match opened.find(Some(id)).await {
            Ok(backup) => super::manifest(opened, &backup).await?,
            Err(error) => unlisted(context, opened, id).await?.ok_or(error)?,
        };
        return delta::complete(context, opened, judge(request, manifest, None)?).await;
    }
    let mut backups = list::backups(opened).await;
    let Some(timelines) = Timelines::of(context, opened, &backups).await? else {
        // There is no backup: the sentence for that.
        return Err(opened.find(None).await.err().unwrap_or(Error::Interrupted));
    };
    loop {
        let target = target::find(context, &timelines, &backups, &request.at, request.timeline).await?;
        let found = opened.find(Some(&target.backup)).await?;
        match super::manifest(opened, &found).await {
            Ok(manifest) => {
                warn_of_failure(context, opened, &target.backup).await;
                return delta::complete(context, opened, judge(request, manifest, Some(target))?).await;
            }
            // Another backup may lead to the same moment.
            Err(Error::Repository(error)) if !error.is_transient() && backups.len() > 1 => {
                let error = Error::from(error);
                remember(opened, &error, Some(&target.backup)).await;
                let what = format!("the backup {} is left aside: {error}", target.backup);
                context.warn("backup-unreadable", what);
                backups.retain(|backup| backup.id != target.backup);
            }
            Err(error) => return Err(error),
        }
    }
}

/// A backup that failed its last check is taken only where no other leads to the moment that was asked for. Whether it is
/// what is wanted is the user's decision.
async fn warn_of_failure(context: &Context, opened: &Opened, id: &str) {
    let backups = list::backups(opened).await;
    let of = |backup: &&list::Backup| backup.id == id;
    let Some(failure) = backups.iter().find(of).and_then(list::failure) else {
        return;
    };
    let good = backups.iter().rev().find(|backup| list::failure(backup).is_none());
    let instead = good.map_or("there is none that did not".into(), |good| {
        format!("the newest that did not is {0} (--at backup:{0})", good.id)
    });
    let found = failure.found.first().cloned().unwrap_or_default();
    context.warn(
        "backup-failed-verification",
        format!("the backup {id}, with which this begins, failed its last verification: {found}; {instead}"),
    );
}

/// A damaged or lost entry takes a backup out of the list, not out of the repository. Restoring needs no ledger: whoever
/// names such a backup gets it, told that nothing says any more whether it was ever finished or replaced.
async fn unlisted(context: &Context, opened: &Opened, id: &str) -> Result<Option<Manifest>> {
    let known = opened.with_state(|state| state.backup(id).is_some()).await;
    let Some(id) = BackupId::parse(id).filter(|_| !known) else {
        return Ok(None);
    };
    match Manifest::read(&opened.repository, &id, None).await {
        Ok(manifest) => {
            context.warn(
                "backup-unlisted",
                format!(
                    "no readable entry of the ledger lists {id}; what is in the repository under its name is taken"
                ),
            );
            Ok(Some(manifest))
        }
        Err(repo::Error::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A restore into a scratch folder, tablespaces and all.
pub(crate) fn for_scratch(manifest: Manifest, root: &Path, to: PathBuf, owner: Option<Ids>) -> Result<Plan> {
    let spaces = manifest.facts.tablespaces.iter();
    let moved = |space: &repo::manifest::Tablespace| {
        (
            PathBuf::from(&space.location),
            root.join(format!("tablespace-{}", space.oid)),
        )
    };
    let tablespaces = spaces
        .filter(|space| Path::new(&space.location).is_absolute())
        .map(moved)
        .collect();
    let request = Request {
        at: At::Latest,
        timeline: None,
        to,
        onto: Onto::Empty,
        jobs: 1,
        tablespaces,
        start: None,
    };
    Ok(Plan {
        owner,
        ..judge(&request, manifest, None)?
    })
}

/// Judges a restore of what `manifest` describes, to its own end where there is no target.
pub(super) fn judge(request: &Request, manifest: Manifest, target: Option<Target>) -> Result<Plan> {
    let facts = &manifest.facts;
    let to = place::settled(&request.to)?;
    if request.onto == Onto::Empty {
        place::check_empty(&to, "the target")?;
    }
    let tablespaces = tablespaces(facts, &request.tablespaces)?;
    if request.onto == Onto::Empty {
        for space in &tablespaces {
            place::check_empty(&space.to, "the tablespace directory")?;
        }
    }
    let places: Vec<&Path> = std::iter::once(&to)
        .chain(tablespaces.iter().map(|space| &space.to))
        .map(|p| &**p)
        .collect();
    place::check_apart(&places)?;
    let wal = target
        .as_ref()
        .map_or_else(|| own_wal(facts), |target| target.pieces.clone());
    let wal_bytes = wal_bytes(facts, &wal);
    let found = match request.onto {
        Onto::Empty => None,
        Onto::Delta => Some(delta::judge(&to, &tablespaces, facts)?),
    };
    let in_tablespaces: u64 = tablespaces.iter().map(|space| space.bytes).sum();
    let mut growth = Growth::default();
    let in_directory = facts.totals.bytes.saturating_sub(in_tablespaces) + wal_bytes;
    growth.book(&to, &to, in_directory.into())?;
    for space in &tablespaces {
        growth.book(&space.to, &space.to, space.bytes.into())?;
    }
    let (free, owner) = match &found {
        None => (growth.check()?, owner::choose(&to, Some(&facts.owner))?),
        // Room is judged when it is known what is there.
        Some(judged) => (0, judged.owner),
    };
    // A server that cannot be started is to be known before hours of copying, not after.
    let start = request.start.as_ref();
    let binaries = start
        .map(|start| find_binaries(facts, start.binaries.as_deref()))
        .transpose()?;
    Ok(Plan {
        backup: facts.backup.to_string(),
        label: facts.label.clone(),
        moment: target
            .as_ref()
            .and_then(|target| Some(target.before.as_ref()?.time))
            .unwrap_or(facts.stopped),
        postgresql: facts.postgresql.version.clone(),
        target_lsn: target
            .as_ref()
            .map_or(facts.stop.record, |target| target.record)
            .to_string(),
        target_timeline: target.as_ref().map_or(facts.stop.timeline, |target| target.timeline),
        bytes: facts.totals.bytes,
        files: facts.totals.files,
        wal_bytes,
        free,
        start: request.start.is_some(),
        delta: found.map(|judged| DeltaPlan {
            resumes: judged.ground == Ground::Unfinished,
            pid_file: judged.pid_file,
            ..DeltaPlan::default()
        }),
        owner,
        tablespaces,
        to,
        wal,
        target,
        manifest,
        binaries,
    })
}

/// The WAL that a backup itself needs.
fn own_wal(facts: &Facts) -> Vec<Piece> {
    let piece = |range: repo::manifest::WalRange| Piece {
        timeline: range.timeline,
        from: range.from.0,
        to: range.to.0,
    };
    facts.wal_needed().into_iter().map(piece).collect()
}

/// Whole segments, as they will lie in `pg_wal`.
fn wal_bytes(facts: &Facts, wal: &[Piece]) -> u64 {
    let size = facts.postgresql.segment_size;
    let segments = |piece: &Piece| (piece.to.saturating_sub(1) / size + 1) - piece.from / size;
    wal.iter().map(segments).sum::<u64>() * size
}

fn tablespaces(facts: &Facts, moved: &[(PathBuf, PathBuf)]) -> Result<Vec<TablespacePlan>> {
    for (from, _) in moved {
        if !facts.tablespaces.iter().any(|space| Path::new(&space.location) == from) {
            let known: Vec<&str> = facts.tablespaces.iter().map(|space| &*space.location).collect();
            return Err(refused(
                "tablespace-unknown",
                format!("the backup has no tablespace at {}", from.display()),
                format!(
                    "Its tablespaces are at: {}.",
                    if known.is_empty() {
                        "none".into()
                    } else {
                        known.join(", ")
                    }
                ),
            ));
        }
    }
    let plan = |space: &repo::manifest::Tablespace| {
        let from = PathBuf::from(&space.location);
        // A location that is no absolute path lies inside the data directory and moves with it.
        let chosen = moved.iter().find(|(old, _)| *old == from).map_or(&from, |(_, new)| new);
        let to = place::settled(chosen)?;
        Ok(TablespacePlan {
            oid: space.oid,
            name: space.name.clone(),
            from: from.clone(),
            to,
            bytes: space.bytes,
        })
    };
    facts
        .tablespaces
        .iter()
        .filter(|space| Path::new(&space.location).is_absolute())
        .map(plan)
        .collect()
}
