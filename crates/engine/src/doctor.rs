//! What can be protected and how well, what is missing, and the line that mends it.

mod wal;

pub(crate) use wal::warnings as wal_warnings;

use std::path::{Path, PathBuf};

use pgclient::{
    Binaries, Conninfo,
    catalog::{READING_MEANS, grants_for_reader},
};
use serde::Serialize;

use crate::{
    Error, Result,
    backup::{self, Options, Plan, Reader},
    database::{self, Database},
    event::Context,
    server::{LiveServer, Server, ServerFacts},
};

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// It prevents backups or restores.
    Failed,
    /// It could not be looked at, because of another failure.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A stable word for programs.
    pub id: &'static str,
    /// How it stands.
    pub outcome: Outcome,
    /// What was found, as a sentence.
    pub detail: String,
    /// What mends it: a sentence, SQL or a line of configuration.
    pub remedy: Option<String>,
}

/// All that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The checks, repository first.
    pub checks: Vec<Check>,
    /// What this setup can give, in a sentence.
    pub protection: String,
}

impl Report {
    /// Whether nothing prevents backups and restores.
    pub fn is_sound(&self) -> bool {
        !self.checks.iter().any(|check| check.outcome == Outcome::Failed)
    }
}

/// Looks at repository, server, data directory and programs. Nothing is changed but a probe object, which goes
/// again. Problems are checks, not errors.
pub async fn examine(
    context: &Context,
    database: Option<&Database>,
    server: Option<&Conninfo>,
    options: &Options,
    binaries: Option<&Path>,
) -> Result<Report> {
    let mut checks = Vec::new();
    match database {
        Some(database) => repository(context, database, &mut checks).await,
        None => skip(&mut checks, "repository", "no repository was given"),
    }
    let found = match server {
        Some(conninfo) => connect(context, conninfo, &mut checks).await,
        None => {
            skip(&mut checks, "server", "no server was given");
            None
        }
    };
    if let Some((live, facts)) = found {
        let major = facts.major;
        let asked = facts.clone();
        if options.reader == Reader::Sql {
            checks.push(over_sql(&facts));
        }
        checks.extend(source(&facts, options));
        let local = ready(context, &live, facts, options, &mut checks).await;
        if let Some(conninfo) = server {
            wal::examine(conninfo, &asked, local.as_deref(), &mut checks).await;
        }
        match Binaries::find(major, binaries) {
            Ok(found) => ok(
                &mut checks,
                "binaries",
                format!(
                    "PostgreSQL {major} for verifying restores: {}",
                    found.directory().display()
                ),
            ),
            Err(error) => checks.push(Check {
                id: "binaries",
                outcome: Outcome::Warning,
                detail: format!("{error}; restores cannot be proven on this machine"),
                remedy: error.hint(),
            }),
        }
    } else {
        skip(&mut checks, "backup", "the server was not reached");
    }
    let sound = !checks.iter().any(|check| check.outcome == Outcome::Failed);
    let protection = if sound {
        "Physical backups, full and incremental, encrypted and verified. With `lastgood wal receive` or archive_command = 'lastgood wal push %p NAME', any moment between them; else the moments at which backups ended."
    } else {
        "Nothing until what failed above is mended."
    };
    Ok(Report {
        checks,
        protection: protection.into(),
    })
}

async fn repository(context: &Context, database: &Database, checks: &mut Vec<Check>) {
    match database::open(context, database).await {
        Ok(opened) => {
            let alarms = opened.with_state(|state| state.alarms().count()).await;
            ok(
                checks,
                "repository",
                format!("{} in {} opens with the key", database.name, database.location),
            );
            if alarms > 0 {
                checks.push(Check {
                    id: "ledger",
                    outcome: Outcome::Warning,
                    detail: format!("the ledger raised {alarms} alarms"),
                    remedy: Some(format!("See `lastgood status {}`.", database.name)),
                });
            }
            match crate::init::probe(context, &**opened.repository.store()).await {
                Ok(found) => ok(checks, "store", found.join("; ")),
                Err(error) => fail(checks, "store", &error),
            }
        }
        Err(error) => fail(checks, "repository", &error),
    }
}

async fn connect(context: &Context, conninfo: &Conninfo, checks: &mut Vec<Check>) -> Option<(LiveServer, ServerFacts)> {
    let live = LiveServer::new(conninfo.clone(), context.runtime.clone());
    match live.facts().await {
        Ok(facts) => {
            let bytes = facts.databases_bytes();
            ok(
                checks,
                "server",
                format!(
                    "PostgreSQL {}, cluster {}, {bytes} bytes in {} databases",
                    facts.version,
                    facts.system_identifier,
                    facts.databases.len()
                ),
            );
            Some((live, facts))
        }
        Err(error) => {
            fail(checks, "server", &error);
            None
        }
    }
}

/// What a backup is taken from, where that is a standby.
fn source(facts: &ServerFacts, options: &Options) -> Option<Check> {
    let detail = match (&options.standby, facts.in_recovery) {
        (Some(standby), _) => format!(
            "tables and indexes are read from the standby {}, once it has come to the backup's start; all other files, beginning, end and WAL are the server's",
            standby.to_redacted_string()
        ),
        (None, true) => "the server is a standby: a backup of it begins at its last restartpoint, holds what it has replayed, and needs nothing of the primary".into(),
        (None, false) => return None,
    };
    Some(Check {
        id: "standby",
        outcome: Outcome::Ok,
        detail,
        remedy: None,
    })
}

/// What reading through SQL needs, and how much that gives away.
fn over_sql(facts: &ServerFacts) -> Check {
    let (major, role) = (facts.major, &facts.rights.role);
    Check {
        id: "reader",
        outcome: Outcome::Ok,
        detail: format!(
            "files and WAL are read through SQL, which takes neither SUPERUSER nor REPLICATION but the rights below; {READING_MEANS}"
        ),
        remedy: Some(grants_for_reader(major, role)),
    }
}

/// Whether a backup could begin now: everything on the server's side at once, then the data directory.
/// Where the data directory is, if it is here.
async fn ready(
    context: &Context,
    live: &LiveServer,
    facts: ServerFacts,
    options: &Options,
    checks: &mut Vec<Check>,
) -> Option<PathBuf> {
    let told = facts.data_directory.as_ref().map(PathBuf::from);
    let conditions = backup::judge(&facts, options.reader);
    let prevented = conditions.iter().any(|condition| !condition.bearable);
    for condition in conditions {
        let outcome = if condition.bearable {
            Outcome::Warning
        } else {
            Outcome::Failed
        };
        checks.push(Check {
            id: condition.code,
            outcome,
            detail: condition.what,
            remedy: Some(condition.mend),
        });
    }
    if prevented {
        skip(checks, "data-directory", "the server does not allow backups yet");
        return None;
    }
    // One reader shows what many would.
    let options = Options {
        jobs: 1,
        ..options.clone()
    };
    match backup::plan(context, live, facts, &options).await {
        Ok(plan) => {
            planned(checks, &plan);
            let here = options.data_directory.or(told);
            here.filter(|_| options.reader == Reader::Local && options.standby.is_none())
        }
        Err(error) => {
            fail(checks, "data-directory", &error);
            None
        }
    }
}

fn planned(checks: &mut Vec<Check>, plan: &Plan) {
    ok(
        checks,
        "data-directory",
        "the data directory is this server's and can be read".into(),
    );
    for warning in &plan.warnings {
        let (detail, remedy) = (warning.what.clone(), Some(warning.mend.clone()));
        checks.push(Check {
            id: warning.code,
            outcome: Outcome::Warning,
            detail,
            remedy,
        });
    }
}

fn ok(checks: &mut Vec<Check>, id: &'static str, detail: String) {
    checks.push(Check {
        id,
        outcome: Outcome::Ok,
        detail,
        remedy: None,
    });
}

fn skip(checks: &mut Vec<Check>, id: &'static str, why: &str) {
    checks.push(Check {
        id,
        outcome: Outcome::Skipped,
        detail: why.into(),
        remedy: None,
    });
}

fn fail(checks: &mut Vec<Check>, id: &'static str, error: &Error) {
    checks.push(Check {
        id,
        outcome: Outcome::Failed,
        detail: error.to_string(),
        remedy: error.hint(),
    });
}
