//! Whether a backup can begin, and from what. Nothing is changed here.

mod beside;
mod over_sql;

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use pgformat::{control::Control, relation::tablespace_version_directory};
use repo::manifest::Owner;
use serde::Serialize;

use crate::{
    Error, Result,
    event::Context,
    server::{LiveServer, ServerFacts},
    source::{LocalDirectory, Source},
};

use super::{
    Options, Reader,
    beside::Beside,
    control,
    walk::{Spaces, check_spaces},
};

/// What sessions are called unless the connection string says otherwise.
const APPLICATION_NAME: &str = "lastgood";

/// One condition and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A stable word for programs.
    pub code: &'static str,
    /// What was found, as a sentence.
    pub what: String,
    /// What mends it: a sentence, SQL or a line of configuration.
    pub mend: String,
    /// Whether a backup can still be taken.
    pub bearable: bool,
}

/// What will be read, and the facts it rests on.
pub struct Plan {
    pub(super) source: Arc<dyn Source>,
    pub(super) facts: ServerFacts,
    pub(super) control: Control,
    pub(super) spaces: Spaces,
    pub(super) owner: Owner,
    /// The standby whose relation files are read, if it is not the server's own that are.
    pub(super) beside: Option<Beside>,
    /// Conditions that do not prevent the backup and should be known.
    pub warnings: Vec<Check>,
}

impl Plan {
    /// A plan from parts that belong together, unjudged: for sources that are no directory of this machine, and for
    /// models of a server. [`plan`] is what judges a real one.
    pub fn from_parts(source: Arc<dyn Source>, facts: ServerFacts, control: Control, owner: Owner) -> Plan {
        let spaces = spaces(&facts, &control, None);
        Plan {
            source,
            facts,
            control,
            spaces,
            owner,
            beside: None,
            warnings: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Plan(system {})", self.facts.system_identifier)
    }
}

/// Judges server and data directory.
///
/// # Errors
/// [`Error::Refused`] with the first condition that prevents a backup.
pub async fn plan(context: &Context, server: &LiveServer, facts: ServerFacts, options: &Options) -> Result<Plan> {
    let conditions = judge(&facts, options.reader);
    let (refusals, mut warnings): (Vec<Check>, Vec<Check>) = conditions.into_iter().partition(|check| !check.bearable);
    if let Some(check) = refusals.into_iter().next() {
        return Err(Error::Refused {
            code: check.code,
            what: check.what,
            hint: check.mend,
        });
    }
    if !facts.data_checksums {
        warnings.push(no_checksums());
    }
    if let Some(standby) = &options.standby {
        return beside::plan(context, server, facts, options, standby, warnings).await;
    }
    if options.reader == Reader::Sql {
        return over_sql::plan(context, server, facts, options, warnings).await;
    }
    let (directory, source, control) = local(context, &facts, options).await?;
    let spaces = spaces(&facts, &control, Some(&directory));
    check_spaces(&*source, &spaces).map_err(refused)?;
    let owner = crate::restore::owner_of(&directory)?;
    Ok(Plan {
        source,
        facts,
        control,
        spaces,
        owner,
        beside: None,
        warnings,
    })
}

/// The data directory of the server that `facts` are of, as this machine has it.
async fn local(
    context: &Context,
    facts: &ServerFacts,
    options: &Options,
) -> Result<(PathBuf, Arc<dyn Source>, Control)> {
    let directory = directory(facts, options)?;
    let source: Arc<dyn Source> = Arc::new(reader(&directory, facts));
    let (_, control) = control::read(context, &*source)
        .await
        .map_err(|error| not_readable(&directory, error))?;
    if control.system_identifier != facts.system_identifier {
        return Err(Error::Refused {
            code: "foreign-directory",
            what: format!(
                "{} holds the cluster {}, the server is {}",
                directory.display(),
                control.system_identifier,
                facts.system_identifier
            ),
            hint: "Give the data directory of that very server with --data-directory.".into(),
        });
    }
    Ok((directory, source, control))
}

/// The data directory, read so that what the server reads again and again stays in memory.
fn reader(directory: &Path, facts: &ServerFacts) -> LocalDirectory {
    let memory = rustix::system::sysinfo();
    let memory = (memory.totalram as u64).saturating_mul(memory.mem_unit.into());
    let source = LocalDirectory::new(directory.into());
    match facts.databases_bytes() > memory {
        true => source.passing_by(),
        false => source,
    }
}

fn no_checksums() -> Check {
    Check {
        code: "no-checksums",
        what: "the cluster has no page checksums, so damage on its disk goes unnoticed".into(),
        mend: "Switch them on with `pg_checksums --enable` in the next maintenance window.".into(),
        bearable: true,
    }
}

/// What fails before anything was begun is a refusal.
fn refused(error: Error) -> Error {
    match error {
        Error::Failed { code, what, hint } => Error::Refused { code, what, hint },
        error => error,
    }
}

/// The tablespaces, and which of them lie inside the data directory, however either is written.
fn spaces(facts: &ServerFacts, control: &Control, directory: Option<&Path>) -> Spaces {
    let ways = |path: &Path| {
        [Some(path.to_path_buf()), path.canonicalize().ok()]
            .into_iter()
            .flatten()
    };
    let roots: Vec<PathBuf> = directory.into_iter().flat_map(ways).collect();
    let inside = |space: &pgclient::catalog::Tablespace| {
        let location = Path::new(&space.location);
        let mut found = ways(location).flat_map(|location| {
            let relative = roots.iter().find_map(|root| location.strip_prefix(root).ok());
            relative.map(|path| path.as_os_str().as_bytes().to_vec())
        });
        found.next()
    };
    Spaces {
        version_directory: tablespace_version_directory(facts.major, control.catalog_version),
        inside: facts.tablespaces.iter().filter_map(inside).collect(),
        known: facts.tablespaces.iter().map(|space| space.oid).collect(),
    }
}

/// Every condition on the server's side that is not as it should be.
pub(crate) fn judge(facts: &ServerFacts, reader: Reader) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut check = |wrong: bool, bearable: bool, code: &'static str, what: String, mend: String| {
        if wrong {
            checks.push(Check {
                code,
                what,
                mend,
                bearable,
            });
        }
    };
    check(
        !facts.fsync,
        false,
        "fsync-off",
        "the server runs with fsync=off: after a power cut its files are not what it says".into(),
        "Set `fsync = on`, reload, run a CHECKPOINT, then take the backup.".into(),
    );
    // What a standby itself would do as a primary says nothing about the WAL that it replays; of that, it tells when the
    // backup begins and ends.
    let writes = !facts.in_recovery;
    check(
        writes && !facts.full_page_writes,
        false,
        "full-page-writes-off",
        "the server runs with full_page_writes=off: pages torn during the copy could not be mended".into(),
        "Set `full_page_writes = on` and reload.".into(),
    );
    check(
        writes && facts.wal_level == "minimal",
        false,
        "wal-level-minimal",
        "wal_level is minimal: the WAL does not hold what a backup needs".into(),
        "Set `wal_level = replica` and restart the server.".into(),
    );
    if reader == Reader::Sql {
        checks.extend(over_sql::judge(facts));
        return checks;
    }
    check(
        facts.max_wal_senders == 0,
        false,
        "no-wal-senders",
        "max_wal_senders is 0: the server does not stream WAL".into(),
        "Set `max_wal_senders = 10` and restart the server.".into(),
    );
    let role = quote(&facts.rights.role);
    check(
        !facts.rights.backup,
        false,
        "no-backup-right",
        format!("the role {} may not start a backup", facts.rights.role),
        format!(
            "As a superuser, in the database {}: {}",
            facts.rights.database,
            grant(facts)
        ),
    );
    check(
        !facts.rights.replication,
        false,
        "no-replication-right",
        format!("the role {} may not stream WAL", facts.rights.role),
        format!("As a superuser: ALTER ROLE {role} REPLICATION;"),
    );
    check(
        facts.commits_may_wait_for(APPLICATION_NAME),
        true,
        "synchronous-standby",
        format!(
            "synchronous_standby_names is '{}', which fits the backup's own WAL stream too: so that no commit ever waits for it, it acknowledges nothing, and the server keeps all WAL until the backup ends",
            facts.synchronous_standby_names
        ),
        "Name the standbys in synchronous_standby_names instead of `*`, and leave room for the WAL in pg_wal.".into(),
    );
    checks
}

fn grant(facts: &ServerFacts) -> String {
    pgclient::catalog::grants_for_backup(facts.major, &facts.rights.role)
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn directory(facts: &ServerFacts, options: &Options) -> Result<PathBuf> {
    if let Some(directory) = &options.data_directory {
        return Ok(directory.clone());
    }
    facts
        .data_directory
        .as_ref()
        .map(PathBuf::from)
        .ok_or_else(|| Error::Refused {
            code: "data-directory-unknown",
            what: format!("the role {} may not see where the data directory is", facts.rights.role),
            hint: format!(
                "Give it with --data-directory, read through SQL with --reader sql, or as a superuser: GRANT pg_read_all_settings TO {};",
                quote(&facts.rights.role)
            ),
        })
}

fn not_readable(directory: &std::path::Path, error: Error) -> Error {
    let Error::File { source, .. } = &error else {
        return error;
    };
    let shown = directory.display();
    match source.kind() {
        std::io::ErrorKind::PermissionDenied => Error::Refused {
            code: "data-directory-unreadable",
            what: format!("this user may not read the data directory {shown}"),
            hint: "Run lastgood as the user that the server runs as (usually postgres), or as root.".into(),
        },
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Error::Refused {
            code: "data-directory-elsewhere",
            what: format!("the server's data directory {shown} is not on this machine"),
            hint: "Run lastgood on the machine of the server, or read its files through SQL with --reader sql.".into(),
        },
        _ => error,
    }
}
