//! Restores onto a directory that mostly matches: only pages that differ are fetched and written.
//!
//! Invariants: nothing goes onto a directory on which a server works, or which is not the backup's cluster; before the
//! first change `pg_control` is out of the way, and it comes back last of all, so that no server starts on a mixture; what
//! is removed was in the plan. A delta restore that dies is finished by the same command.

mod ground;
mod held;
mod patch;
mod survey;
mod walk;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

pub(super) use ground::{Ground, judge};
pub(super) use patch::{Patcher, Totals, ready, settle};
use survey::{Survey, survey};

use crate::{Result, database::Opened, error::At as _, event::Context};

use super::{
    Plan,
    claim::{Claim, HIDDEN, is_unfinished},
    refused,
};

/// How many names of what goes are shown to people; programs get all.
const SHOWN: usize = 8;

/// What a delta restore finds, and what it will do to it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DeltaPlan {
    /// Whether it goes on with a restore that was cut off.
    pub resumes: bool,
    /// What stands in a `postmaster.pid` whose server is not seen from here: it crashed, or works in another container or on
    /// another machine, and nothing on the disk tells which.
    pub pid_file: Option<String>,
    /// Files that are there and in the backup.
    pub candidates: u64,
    /// Bytes of them that are compared with the backup.
    pub candidate_bytes: u64,
    /// Files of the backup that are not there.
    pub absent: u64,
    /// What the backup does not have and is removed: relative to the data directory, or absolute in tablespaces.
    #[serde(serialize_with = "names")]
    pub removes: Vec<PathBuf>,
    /// Bytes of these files.
    pub removes_bytes: u64,
    /// Everything in `pg_wal`, which is removed too.
    #[serde(serialize_with = "names")]
    pub removes_wal: Vec<PathBuf>,
    /// Bytes of that.
    pub removes_wal_bytes: u64,
    /// Where `pg_wal` leads, if it is a link: the link becomes a directory, and what it leads to is left alone.
    pub pg_wal_link: Option<PathBuf>,
}

/// What a delta restore did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Delta {
    /// Pages of files that were there and were compared.
    pub pages_compared: u64,
    /// Pages that differed or were missing, and were written.
    pub pages_written: u64,
    /// Bytes of these pages.
    pub bytes_written: u64,
    /// Bytes of the repository that were fetched for them: sealed frames.
    pub bytes_fetched: u64,
    /// Files and directories that were removed, those in `pg_wal` among them.
    pub removed: u64,
}

/// Names need not be UTF-8.
fn names<S: serde::Serializer>(paths: &[PathBuf], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

impl DeltaPlan {
    /// Whether there is anything that somebody could miss afterwards.
    pub fn overwrites(&self) -> bool {
        let kept = self.candidates > 0 || !self.removes_wal.is_empty();
        self.pid_file.is_some() || !self.removes.is_empty() || kept && !self.resumes
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.resumes {
            lines.push("resumes   a restore that was cut off".into());
        }
        if self.pid_file.is_some() {
            lines.push(format!(
                "CHECK     {} is there, and no server is seen: one that crashed leaves it, and one that works in a container or on another machine has it; make sure that none works on this directory",
                held::PID_FILE
            ));
        }
        lines.push(format!(
            "delta     compares {} bytes in {} files with the backup and writes only pages that differ; {} files are not there",
            self.candidate_bytes, self.candidates, self.absent
        ));
        lines.push(match self.removes.len() {
            0 => "removes   nothing: the backup has all that is there".into(),
            count => format!(
                "removes   {count} files and directories ({} bytes) that the backup does not have:",
                self.removes_bytes
            ),
        });
        lines.extend(
            self.removes
                .iter()
                .take(SHOWN)
                .map(|path| format!("          {}", path.display())),
        );
        if self.removes.len() > SHOWN {
            lines.push(format!(
                "          and {} more (--plan --json names all)",
                self.removes.len() - SHOWN
            ));
        }
        if let Some(link) = &self.pg_wal_link {
            lines.push(format!(
                "pg_wal    is a link to {}: it becomes a directory, and what is there is left alone",
                link.display()
            ));
        }
        if !self.removes_wal.is_empty() {
            lines.push(format!(
                "pg_wal    is emptied ({} files, {} bytes): WAL there that is not in the repository is lost",
                self.removes_wal.len(),
                self.removes_wal_bytes
            ));
        }
        lines
    }
}

/// Looks at what is there, and whether what is to come has room.
pub(super) async fn complete(context: &Context, opened: &Opened, mut plan: Plan) -> Result<Plan> {
    let Some(delta) = plan.delta.take() else {
        return Ok(plan);
    };
    context.step("plan", "comparing the directory with the backup's list of files");
    let found = survey(context, opened, &plan).await?;
    plan.free = found.growth.check()?;
    plan.delta = Some(DeltaPlan {
        resumes: delta.resumes,
        pid_file: delta.pid_file,
        candidates: found.candidates,
        candidate_bytes: found.candidate_bytes,
        absent: found.absent,
        removes: found.foreign,
        removes_bytes: found.foreign_bytes,
        removes_wal: found.wal,
        removes_wal_bytes: found.wal_bytes,
        pg_wal_link: found.pg_wal_link,
    });
    Ok(plan)
}

/// A delta restore that has begun.
pub(super) struct Begun {
    pub(super) claim: Claim,
    pub(super) totals: Arc<Totals>,
    removed: u64,
}

impl Begun {
    pub(super) fn done(&self) -> Delta {
        let all = self.totals.get();
        Delta {
            pages_compared: all.compared,
            pages_written: all.written,
            bytes_written: all.written_bytes,
            bytes_fetched: all.fetched_bytes,
            removed: self.removed,
        }
    }
}

/// Judges everything once more, since the plan may be minutes old, takes `pg_control` out of the way, and removes what
/// the plan said. Up to the first removal everything can be undone, and is if anything was found changed.
pub(super) async fn begin(context: &Context, opened: &Opened, plan: &Plan, delta: &DeltaPlan) -> Result<Begun> {
    let judged = judge(&plan.to, &plan.tablespaces, plan.facts())?;
    if judged.owner != plan.owner {
        return Err(changed(&plan.to));
    }
    same_pid_file(plan, delta, judged.pid_file.as_ref())?;
    let mut claim = Claim::onto(plan)?;
    let found = match last_look(context, opened, plan, delta, &mut claim).await {
        Ok(found) => found,
        Err(error) => {
            claim.withdraw();
            if is_unfinished(&plan.to) {
                unfinished(context, plan);
            }
            return Err(error);
        }
    };
    let mut begun = Begun {
        claim,
        totals: Arc::default(),
        removed: 0,
    };
    context.step("clear", "removing what the backup does not have");
    match remove(plan, &found) {
        Ok(removed) => {
            begun.removed = removed;
            Ok(begun)
        }
        Err(error) => {
            unfinished(context, plan);
            Err(error)
        }
    }
}

async fn last_look(
    context: &Context,
    opened: &Opened,
    plan: &Plan,
    delta: &DeltaPlan,
    claim: &mut Claim,
) -> Result<Survey> {
    let found = survey(context, opened, plan).await?;
    let known: BTreeSet<&Path> = delta
        .removes
        .iter()
        .chain(&delta.removes_wal)
        .map(|path| &**path)
        .collect();
    let news = found
        .foreign
        .iter()
        .chain(&found.wal)
        .find(|path| !known.contains(&***path));
    if let Some(news) = news {
        return Err(changed(&plan.to.join(news)));
    }
    claim.hide_control()?;
    // A server that began a moment ago has read it; none that begins from now on can.
    let spaces: Vec<&Path> = plan.tablespaces.iter().map(|space| &*space.to).collect();
    same_pid_file(plan, delta, held::check(&plan.to, &spaces)?.as_ref())?;
    Ok(found)
}

/// A server that starts or works where we cannot see it writes its pid file: that of the plan was another one.
fn same_pid_file(plan: &Plan, delta: &DeltaPlan, found: Option<&String>) -> Result<()> {
    if found == delta.pid_file.as_ref() {
        return Ok(());
    }
    Err(changed(&plan.to.join(held::PID_FILE)))
}

/// Deepest first: a directory into which something was put since is not empty, and stays with what is in it.
fn remove(plan: &Plan, found: &Survey) -> Result<u64> {
    let mut removed = 0;
    for path in found.foreign.iter().chain(&found.wal).chain(&found.ours).rev() {
        let path = plan.to.join(path);
        let metadata = match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            found => found.at("look at", &path)?,
        };
        let gone = if metadata.is_dir() {
            std::fs::remove_dir(&path)
        } else {
            std::fs::remove_file(&path)
        };
        gone.at("remove", &path)?;
        removed += 1;
    }
    let hidden = plan.to.join(HIDDEN);
    match std::fs::remove_file(&hidden) {
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) => {}
        gone => gone.at("remove", &hidden)?,
    }
    Ok(removed)
}

fn changed(path: &Path) -> crate::Error {
    refused(
        "target-changed",
        format!("{} has changed since the plan was made", path.display()),
        "Run the command again, and see what the plan says now.",
    )
}

/// Says what becomes of a delta restore that does not come to its end.
pub(super) fn unfinished(context: &Context, plan: &Plan) {
    context.warn(
        "restore-unfinished",
        format!(
            "{} is neither what it was nor what it shall be, and no server starts on it; run the same command again, and it goes on",
            plan.to.display()
        ),
    );
}
