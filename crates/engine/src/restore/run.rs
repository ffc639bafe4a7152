//! The procedure of a restore.

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, Permissions},
    io::BufWriter,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use pgformat::{
    Lsn, Major, Tli,
    control::Control,
    exclude::RECREATED_DIRECTORIES,
    manifest::{ManifestWriter, Version, WalRange},
};
use serde::Serialize;

use crate::{Error, Result, database::Opened, error::At as _, event::Context};

use super::{
    Plan, Request, Running, config,
    copy::Copy,
    inline::{self, sync_directory, write_control, write_kept, write_new},
    owner::{self, Ids},
    recovery, start,
    target::UNFINISHED,
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
    /// Bytes of WAL laid out for recovery.
    pub wal_bytes: u64,
    /// Seconds until all files were durable.
    pub copy_seconds: f64,
    /// Seconds until the end: with a server, until it was open.
    pub seconds: f64,
    /// Configuration files that had to be made.
    pub made: Vec<&'static str>,
    /// The server, if one was started.
    pub server: Option<Running>,
}

/// Carries out a plan.
///
/// On failure what was written is removed again: the target was empty, and nothing half restored is left.
pub async fn run(context: &Context, opened: &Opened, request: &Request, plan: Plan) -> Result<Restored> {
    let clock = &context.runtime.clock;
    let began = clock.monotonic();
    let existed = Existed::now(&plan);
    let written = write(context, opened, request, &plan).await;
    let (wal_bytes, made) = match written {
        Ok(written) => written,
        Err(error) => {
            existed.put_back(&plan);
            return Err(error);
        }
    };
    let copy_seconds = clock.monotonic().saturating_sub(began).as_secs_f64();
    let mut server = None;
    if let Some(how) = &request.start {
        context.step("recover", "starting the server and waiting until it is open");
        server = Some(start::start(&plan, how).await?);
        recovery::clean_up(&plan.to, plan.owner)?;
    }
    Ok(Restored {
        backup: plan.backup,
        to: plan.to,
        bytes: plan.bytes,
        files: plan.files,
        wal_bytes,
        copy_seconds,
        seconds: clock.monotonic().saturating_sub(began).as_secs_f64(),
        made,
        server,
    })
}

/// A restore into a directory of ours that is thrown away afterwards; nothing is started.
pub(crate) async fn into_scratch(context: &Context, opened: &Opened, request: &Request, plan: &Plan) -> Result<u64> {
    Ok(write(context, opened, request, plan).await?.0)
}

/// The order matters: a mark that the work is unfinished comes first; `pg_control`, without which no server
/// starts, comes after everything else is durable; the mark goes last.
async fn write(context: &Context, opened: &Opened, request: &Request, plan: &Plan) -> Result<(u64, Vec<&'static str>)> {
    let (root, owner, manifest) = (&plan.to, plan.owner, &plan.manifest);
    let facts = &manifest.facts;
    make_directory(root, owner)?;
    for space in &plan.tablespaces {
        make_directory(&space.to, owner)?;
    }
    let mark = root.join(UNFINISHED);
    write_new(&mark, 0o600, facts.backup.to_string().as_bytes(), owner)?;

    context.step("fetch", "restoring files");
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
    };
    let directories = copy.run(&mut emitted).await?;
    let micros = facts.stopped;
    write_kept(root, &manifest.kept, &plan.tablespaces, owner, micros, &mut emitted)?;
    let control = control(manifest)?;
    let made = config::fill_in(root, &control, owner, micros, &mut emitted)?;

    context.step("wal", "laying out WAL");
    for name in RECREATED_DIRECTORIES {
        let directory = root.join(name);
        if !directory.exists() {
            make_directory(&directory, owner)?;
        }
    }
    let wal_bytes = wal::lay(context, &opened.repository, facts, root, owner).await?;
    let buffered = emitted.finish(&ranges(facts)).at("write", &emitted_path)?;
    let file = buffered
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .at("write", &emitted_path)?;
    file.sync_all().at("sync", &emitted_path)?;
    owner::give(&emitted_path, owner)?;
    recovery::prepare(root, facts, owner)?;
    for (path, mode) in directories.iter().rev() {
        std::fs::set_permissions(path, Permissions::from_mode(mode & 0o777)).at("set the mode of", path)?;
    }

    context.step("sync", "making everything durable");
    sync(plan)?;
    write_control(root, &manifest.kept, owner)?;
    std::fs::remove_file(&mark).at("remove", &mark)?;
    sync_directory(root)?;
    Ok((wal_bytes, made))
}

fn major(facts: &repo::manifest::Facts) -> Result<Major> {
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
pub(crate) fn make_directory(path: &Path, owner: Option<Ids>) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::set_permissions(path, Permissions::from_mode(0o700)).at("set the mode of", path)?;
        }
        made => made.at("create", path)?,
    }
    owner::give(path, owner)
}

/// One sync per file system costs far less than one per file, and reports write errors all the same.
fn sync(plan: &Plan) -> Result<()> {
    let mut devices = BTreeSet::new();
    for path in std::iter::once(&plan.to).chain(plan.tablespaces.iter().map(|space| &space.to)) {
        let directory = std::fs::File::open(path).at("open", path)?;
        if devices.insert(directory.metadata().at("look at", path)?.dev()) {
            rustix::fs::syncfs(&directory).at("sync", path)?;
        }
    }
    Ok(())
}

/// Which directories were there before us: after a failure they are empty again, the others gone.
struct Existed(Vec<(PathBuf, bool)>);

impl Existed {
    fn now(plan: &Plan) -> Existed {
        let places = std::iter::once(&plan.to).chain(plan.tablespaces.iter().map(|space| &space.to));
        Existed(places.map(|path| (path.clone(), path.exists())).collect())
    }

    /// Best effort: the mark tells whoever finds the rest what it is.
    fn put_back(&self, plan: &Plan) {
        // The data directory goes last, and in it the mark: see `write`.
        for (path, existed) in self.0.iter().rev() {
            let _ = clear(path, path == &plan.to);
            if !existed {
                let _ = std::fs::remove_dir(path);
            }
        }
    }
}

/// Removes what is in a directory that was empty before us.
fn clear(path: &Path, marked: bool) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "lost+found" || (marked && name == UNFINISHED) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    if marked {
        std::fs::remove_file(path.join(UNFINISHED))
    } else {
        Ok(())
    }
}
