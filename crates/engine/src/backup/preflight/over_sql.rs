//! What a backup through SQL needs, and from what it is taken.

use std::sync::Arc;

use pgclient::catalog::grants_for_reader;
use pgformat::relation::tablespace_version_directory;
use repo::manifest::Owner;

use crate::{
    Error, Result,
    event::Context,
    server::{LiveServer, ServerFacts},
    source::{Source, SqlDirectory},
};

use super::{
    super::{
        Options, control,
        walk::{Spaces, check_spaces, unreadable},
    },
    Check, Plan, refused,
};

/// As packages call the user that runs a server. Whose the files are cannot be seen through SQL.
const USER: &str = "postgres";

/// Conditions beside those that hold for every reader.
pub(super) fn judge(facts: &ServerFacts) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(missing_rights(facts));
    if facts.wal_keep_mebibytes == 0 {
        checks.push(Check {
            code: "wal-not-reserved",
            what: "wal_keep_size is 0, and over SQL nothing else holds WAL back: a server that recycles it before it is read ends the backup".into(),
            mend: "Set wal_keep_size to what the server writes in some minutes, such as 2GB, and reload.".into(),
            bearable: true,
        });
    }
    checks
}

/// What the role must be granted to begin a backup and read files.
pub(super) fn missing_rights(facts: &ServerFacts) -> Option<Check> {
    let rights = &facts.rights;
    let missing = match (rights.backup, rights.read_files) {
        (true, true) => return None,
        (false, true) => "start a backup",
        (true, false) => "read the server's files",
        (false, false) => "start a backup and read the server's files",
    };
    Some(Check {
        code: if rights.backup {
            "no-file-right"
        } else {
            "no-backup-right"
        },
        what: format!("the role {} may not {missing}", rights.role),
        mend: format!(
            "As a superuser, in the database {}: {}",
            rights.database,
            grants_for_reader(facts.major, &rights.role)
        ),
        bearable: false,
    })
}

/// Opens the readers and looks at the data directory through them.
pub(super) async fn plan(
    context: &Context,
    server: &LiveServer,
    facts: ServerFacts,
    options: &Options,
    warnings: Vec<Check>,
) -> Result<Plan> {
    let source: Arc<dyn Source> = Arc::new(SqlDirectory::new(server.files(options.jobs).await?));
    let (_, control) = control::read(context, &*source).await?;
    if control.system_identifier != facts.system_identifier {
        return Err(Error::Refused {
            code: "other-server",
            what: format!(
                "the server said that it is the cluster {}, its files are of {}",
                facts.system_identifier, control.system_identifier
            ),
            hint: "Name one server in the connection string.".into(),
        });
    }
    let version_directory = tablespace_version_directory(facts.major, control.catalog_version);
    let spaces = Spaces {
        inside: inside(&*source, &facts, &version_directory)?,
        known: facts.tablespaces.iter().map(|space| space.oid).collect(),
        version_directory,
    };
    check_spaces(&*source, &spaces).map_err(refused)?;
    Ok(Plan {
        source,
        facts,
        control,
        spaces,
        owner: owner(),
        beside: None,
        warnings,
    })
}

/// Whose the files are, as far as is known.
pub(super) fn owner() -> Owner {
    Owner {
        user: USER.into(),
        group: USER.into(),
    }
}

/// Tablespaces inside the data directory. Where that is, the role may not know; but a directory in it with the end of a
/// tablespace's path and with the cluster's own folder is that tablespace.
pub(super) fn inside(source: &dyn Source, facts: &ServerFacts, version_directory: &str) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for space in &facts.tablespaces {
        let mut end = space.location.strip_prefix('/');
        while let Some(path) = end {
            let folder = format!("{path}/{version_directory}").into_bytes();
            let seen = source.stat(&folder).map_err(|error| unreadable(&folder, error))?;
            // What comes by way of its link must not be taken for a second copy of itself.
            if seen.is_some() && !path.starts_with("pg_tblspc/") {
                found.push(path.as_bytes().to_vec());
            }
            end = path.split_once('/').map(|(_, rest)| rest);
        }
    }
    Ok(found)
}
