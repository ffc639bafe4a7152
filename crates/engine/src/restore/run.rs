//! The procedure of a restore.

use std::{
    fs::{DirBuilder, Permissions},
    io::BufWriter,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use pgformat::{
    Lsn, Major, Tli,
    control::Control,
    exclude::RECREATED_DIRECTORIES,
    manifest::{ManifestWriter, Version, WalRange},
};
use serde::Serialize;

use crate::{Error, Result, archive::damaged, damage, database::Opened, error::At as _, event::Context};

use super::{
    Plan, Request, Running,
    claim::Claim,
    config,
    copy::Copy,
    delta::{self, Begun, Delta},
    inline::{self, write_control, write_kept},
    owner::{self, Ids},
    recovery, start,
    sync::sync,
    wal,
};

/// What a restore left behind.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    /// The backup.
    pub backup: String,
    /// The new data directory.
    pub to: PathBuf,
    /// Bytes of files written.
    pub bytes: u64,
    /// Files written.
    pub files: u64,
    /// Bytes of the repository that were fetched for them: sealed frames of pages.
    pub bytes_fetched: u64,
    /// Bytes of WAL laid out for recovery.
    pub wal_bytes: u64,
    /// Seconds until all files were durable.
    pub copy_seconds: f64,
    /// Seconds until the end: with a server, until it was open.
    pub seconds: f64,
    /// Configuration files that had to be made.
    pub made: Vec<&'static str>,
    /// What was compared and written, if something was there before.
    pub delta: Option<Delta>,
    /// The server, if one was started.
    pub server: Option<Running>,
}

/// Carries out a plan.
///
/// On failure what was written is removed again: the target was empty, and nothing half restored is left. A delta restore
/// leaves what it did, marked as unfinished: carrying out a new plan for it goes on from there.
pub async fn run(context: &Context, opened: &Opened, request: &Request, plan: Plan) -> Result<Restored> {
    let clock = &context.runtime.clock;
    let began = clock.monotonic();
    let Written {
        bytes_fetched,
        wal_bytes,
        made,
        delta,
    } = write(context, opened, request, &plan).await?;
    settings_elsewhere(context, &plan.to);
    let copy_seconds = clock.monotonic().saturating_sub(began).as_secs_f64();
    let mut server = None;
    if let Some(how) = &request.start {
        context.step("recover", "starting the server and waiting until it is open");
        server = Some(start::start(context, &plan, how).await?);
        if let Err(error) = recovery::clean_up(&plan.to, plan.owner) {
            // The server is open, and the settings say nothing to it any more before its next recovery.
            context.warn(
                "recovery-settings-left",
                format!(
                    "{error}; remove the block that lastgood put into {}",
                    plan.to.join(recovery::FILE).display()
                ),
            );
        }
    }
    Ok(Restored {
        backup: plan.backup,
        to: plan.to,
        bytes: plan.bytes,
        files: plan.files,
        bytes_fetched,
        wal_bytes,
        copy_seconds,
        seconds: clock.monotonic().saturating_sub(began).as_secs_f64(),
        made,
        delta,
        server,
    })
}

/// A restore into a directory of ours that is thrown away afterwards; nothing is started.
pub(crate) async fn into_scratch(context: &Context, opened: &Opened, request: &Request, plan: &Plan) -> Result<u64> {
    Ok(write(context, opened, request, plan).await?.wal_bytes)
}

/// What came of writing.
struct Written {
    bytes_fetched: u64,
    wal_bytes: u64,
    made: Vec<&'static str>,
    delta: Option<Delta>,
}

/// What was met damaged is told to whoever comes next.
async fn write(context: &Context, opened: &Opened, request: &Request, plan: &Plan) -> Result<Written> {
    let written = claim_and_fill(context, opened, request, plan).await;
    if let Err(error) = &written {
        remember(opened, error, Some(plan.facts().backup.as_str())).await;
    }
    written
}

/// A hole in the WAL, or a backup that nothing should be built on.
pub(super) async fn remember(opened: &Opened, error: &Error, of: Option<&str>) {
    damaged::remember(opened, error).await;
    damage::met(opened, error, of).await;
}

/// The order matters: a mark that the work is unfinished comes first; the mark goes last.
async fn claim_and_fill(context: &Context, opened: &Opened, request: &Request, plan: &Plan) -> Result<Written> {
    if let Some(found) = &plan.delta {
        let begun = delta::begin(context, opened, plan, found).await?;
        let written = fill(context, opened, request, plan, Some(&begun)).await;
        let written = written.and_then(|written| begun.claim.hand_over(plan.owner).map(|()| written));
        if written.is_err() {
            delta::unfinished(context, plan);
        }
        return written;
    }
    let claim = Claim::take(plan)?;
    let written = fill(context, opened, request, plan, None).await;
    match written.and_then(|written| claim.hand_over(plan.owner).map(|()| written)) {
        Ok(written) => Ok(written),
        Err(error) => {
            claim.give_up();
            Err(error)
        }
    }
}

/// `pg_control`, without which no server starts, comes after everything else is durable.
async fn fill(
    context: &Context,
    opened: &Opened,
    request: &Request,
    plan: &Plan,
    begun: Option<&Begun>,
) -> Result<Written> {
    let (root, owner, manifest) = (&plan.to, plan.owner, &plan.manifest);
    let facts = &manifest.facts;

    // First: what it says decides what is written of the files.
    context.step("wal", "laying out WAL");
    let (wal_bytes, left_out) = wal::lay(context, &opened.repository, plan).await?;
    match begun {
        None => context.step("fetch", "restoring files"),
        Some(_) => context.step("compare", "comparing files, and restoring what differs"),
    }
    let emitted_path = root.join("backup_manifest");
    let mut file = std::fs::OpenOptions::new();
    let file = file
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&emitted_path)
        .at("create", &emitted_path)?;
    let version = Version::of(major(facts)?, facts.postgresql.generation);
    let mut emitted = ManifestWriter::new(BufWriter::new(file), version).at("write", &emitted_path)?;
    let copy = Copy {
        context,
        repository: &opened.repository,
        manifest,
        root: root.clone(),
        tablespaces: &plan.tablespaces,
        owner,
        jobs: request.jobs,
        delta: begun.map(|begun| begun.totals.clone()),
        left_out: Arc::new(left_out),
    };
    let copied = copy.run(&mut emitted).await?;
    let micros = facts.stopped;
    write_kept(root, &manifest.kept, &plan.tablespaces, owner, micros, &mut emitted)?;
    let control = control(manifest)?;
    let made = config::fill_in(root, &control, owner, micros, &mut emitted)?;

    for name in RECREATED_DIRECTORIES {
        let directory = root.join(name);
        if !directory.exists() {
            make_directory(&directory, owner)?;
        }
    }
    let buffered = emitted.finish(&ranges(facts)).at("write", &emitted_path)?;
    let file = buffered
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .at("write", &emitted_path)?;
    file.sync_all().at("sync", &emitted_path)?;
    owner::give_file(&file, &emitted_path, owner)?;
    recovery::prepare(root, plan)?;
    for (path, mode) in copied.directories.iter().rev() {
        std::fs::set_permissions(path, Permissions::from_mode(mode & 0o777)).at("set the mode of", path)?;
        if path != root {
            owner::give(path, owner)?;
        }
    }

    let laid_out = copied.directories.iter().map(|(path, _)| &**path);
    sync(context, laid_out.chain(places(plan)).chain([&*root.join("pg_wal")]))?;
    write_control(root, &manifest.kept, owner)?;
    let delta = begun.map(Begun::done);
    Ok(Written {
        bytes_fetched: delta.as_ref().map_or(copied.fetched_bytes, |delta| delta.bytes_fetched),
        wal_bytes,
        made,
        delta,
    })
}

/// The data directory, and those of the tablespaces.
fn places(plan: &Plan) -> impl Iterator<Item = &Path> {
    std::iter::once(&*plan.to).chain(plan.tablespaces.iter().map(|space| &*space.to))
}

/// A `data_directory` in the restored configuration leads a server that is started here to the directory that it
/// names: the source's. No setting elsewhere in the directory overrules it, only the command line does. And files
/// that say who is let in, where they lie elsewhere, are the source's too: they count again once the settings of the
/// recovery are gone.
fn settings_elsewhere(context: &Context, root: &Path) {
    if recovery::source_sets(root, "data_directory") {
        context.warn(
            "data-directory-elsewhere",
            format!(
                "the restored postgresql.conf sets data_directory; before starting a server by hand, remove that line from {}",
                root.join("postgresql.conf").display()
            ),
        );
    }
    for name in ["hba_file", "ident_file"] {
        if recovery::source_sets(root, name) {
            context.warn(
                "access-elsewhere",
                format!(
                    "the source sets {name}: a server that is started by hand after the recovery lets in whom that file names, not whom the one in {} does; remove the line from its configuration if that is not meant",
                    root.display()
                ),
            );
        }
    }
}

pub(super) fn major(facts: &repo::manifest::Facts) -> Result<Major> {
    Major::from_server_version_num(facts.postgresql.version_num).map_err(|error| {
        let what = error.to_string();
        repo::Error::Unsupported {
            name: repo::names::manifest(&facts.backup),
            what,
        }
        .into()
    })
}

fn control(manifest: &repo::manifest::Manifest) -> Result<Control> {
    let kept = manifest.kept.iter().find(|file| file.path == inline::CONTROL);
    let content = kept.map_or(&[][..], |file| &file.content);
    Control::parse(content).map_err(|error| {
        let what = format!("the pg_control in it: {error}");
        Error::Repository(repo::Error::Damaged {
            name: repo::names::manifest(&manifest.facts.backup),
            what,
        })
    })
}

/// The newest timeline first, as PostgreSQL writes them.
fn ranges(facts: &repo::manifest::Facts) -> Vec<WalRange> {
    let range = |range: &repo::manifest::WalRange| WalRange {
        timeline: Tli(range.timeline),
        start: Lsn(range.from.0),
        end: Lsn(range.to.0),
    };
    facts.wal_needed().iter().rev().map(range).collect()
}

/// Makes a directory that only its owner may enter, or makes an existing one so.
pub(super) fn make_directory(path: &Path, owner: Option<Ids>) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::set_permissions(path, Permissions::from_mode(0o700)).at("set the mode of", path)?;
        }
        made => made.at("create", path)?,
    }
    owner::give(path, owner)
}
