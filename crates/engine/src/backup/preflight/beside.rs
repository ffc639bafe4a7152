//! Whether a standby's files can stand for its primary's.

use std::{path::Path, sync::Arc};

use pgclient::Conninfo;
use pgformat::{
    control::{Control, State},
    relation::tablespace_version_directory,
};

use crate::{
    Error, Result,
    event::Context,
    server::{LiveServer, Server, ServerFacts},
    source::{Source, SplitDirectory, SqlDirectory},
};

use super::{
    super::{
        Options, Reader,
        beside::Beside,
        control,
        walk::{Spaces, check_spaces},
    },
    Check, Plan, local, over_sql, refused,
};

/// Files of the primary that are no relations are few and small.
const CONNECTIONS: usize = 2;

/// Looks at the standby and at its primary's files; `facts` are the primary's.
pub(super) async fn plan(
    context: &Context,
    server: &LiveServer,
    facts: ServerFacts,
    options: &Options,
    standby: &Conninfo,
    warnings: Vec<Check>,
) -> Result<Plan> {
    if facts.in_recovery {
        return Err(refusal(
            "no-primary",
            "a standby is given to read files from, and the server is a standby too".into(),
            "Give the primary's connection string beside it; or leave the second standby out, and the first is backed up alone.",
        ));
    }
    if let Some(check) = over_sql::missing_rights(&facts) {
        return Err(refusal(
            check.code,
            format!(
                "{}; with a standby the primary's other files come through SQL",
                check.what
            ),
            check.mend,
        ));
    }
    let live = LiveServer::new(standby.clone(), context.runtime.clone());
    let theirs = live.facts().await?;
    judge(&facts, &theirs)?;
    let (files, owner, found) = match options.reader {
        Reader::Local => {
            let (directory, files, found) = local(context, &theirs, options).await?;
            (files, crate::restore::owner_of(&directory)?, found)
        }
        Reader::Sql => {
            let files: Arc<dyn Source> = Arc::new(SqlDirectory::new(live.files(options.jobs).await?));
            let (_, found) = control::read(context, &*files).await?;
            (files, over_sql::owner(), found)
        }
    };
    let others: Arc<dyn Source> = Arc::new(SqlDirectory::new(server.files(CONNECTIONS).await?));
    let (_, control) = control::read(context, &*others).await?;
    judge_files(&found, &control, &read_from(options))?;
    let version_directory = tablespace_version_directory(facts.major, control.catalog_version);
    let spaces = Spaces {
        // Of all but relations, what there is the primary says: where a tablespace lies in its data directory, too.
        inside: over_sql::inside(&*others, &facts, &version_directory)?,
        known: facts.tablespaces.iter().map(|space| space.oid).collect(),
        version_directory,
    };
    check_spaces(&*files, &spaces).map_err(refused)?;
    let session = live.session().await?;
    Ok(Plan {
        source: Arc::new(SplitDirectory::new(files.clone(), others)),
        facts,
        control,
        spaces,
        owner,
        beside: Some(Beside { files, session }),
        warnings,
    })
}

fn judge(facts: &ServerFacts, theirs: &ServerFacts) -> Result<()> {
    if theirs.system_identifier != facts.system_identifier {
        return Err(refusal(
            "foreign-standby",
            format!(
                "the standby is of the cluster {}, the server is the cluster {}",
                theirs.system_identifier, facts.system_identifier
            ),
            "Give a standby of that very primary.",
        ));
    }
    if !theirs.in_recovery {
        return Err(refusal(
            "no-standby",
            "the server that is given as standby is not in recovery: it was promoted, or is the primary itself".into(),
            "Give a standby, or leave it out: the backup then reads the primary's own files.",
        ));
    }
    if theirs.timeline != facts.timeline {
        return Err(refusal(
            "standby-timeline",
            format!(
                "the standby's last restartpoint is on timeline {}, the primary writes to timeline {}",
                theirs.timeline, facts.timeline
            ),
            "See that the standby follows this primary; after a promotion, run CHECKPOINT on the primary and then on the standby.",
        ));
    }
    if !theirs.fsync {
        return Err(refusal(
            "fsync-off",
            "the standby runs with fsync=off: after a power cut its files are not what it says".into(),
            "Set `fsync = on` there, reload, run a CHECKPOINT, then take the backup.",
        ));
    }
    Ok(())
}

/// Where the standby's files come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadFrom<'a> {
    /// A directory of this machine: the one that was given, or else that which the standby names.
    Directory(Option<&'a Path>),
    /// The standby itself, whatever directory was given.
    Server,
}

fn read_from(options: &Options) -> ReadFrom<'_> {
    match options.reader {
        Reader::Local => ReadFrom::Directory(options.data_directory.as_deref()),
        Reader::Sql => ReadFrom::Server,
    }
}

/// `found` is in the files that will be read, `control` is the primary's.
fn judge_files(found: &Control, control: &Control, from: &ReadFrom<'_>) -> Result<()> {
    if found.state != State::InArchiveRecovery {
        return Err(match from {
            ReadFrom::Directory(given) => {
                let whose = given.map_or("the standby's data directory".into(), |path| path.display().to_string());
                refusal(
                    "other-directory",
                    format!("{whose} is not that of a running standby"),
                    "With a standby, --data-directory is where the standby's files are on this machine.",
                )
            }
            ReadFrom::Server => refusal(
                "no-standby",
                "the pg_control that came from the standby through SQL is not that of a running standby: it was promoted a moment ago".into(),
                "Give a standby, or leave it out: the backup then reads the primary's own files.",
            ),
        });
    }
    if found.system_identifier != control.system_identifier {
        return Err(refusal(
            "other-server",
            "the files that were read of the primary are not of the standby's cluster".into(),
            "Name one server in each connection string.",
        ));
    }
    if found.data_checksum_version != control.data_checksum_version {
        return Err(refusal(
            "checksums-differ",
            "page checksums are on at one of primary and standby, and off at the other: the standby's pages would not fit the primary's pg_control".into(),
            "Run `pg_checksums` on the one that differs while it is down, or make the standby anew.",
        ));
    }
    Ok(())
}

fn refusal(code: &'static str, what: String, hint: impl Into<String>) -> Error {
    Error::Refused {
        code,
        what,
        hint: hint.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_not_read_is_not_named() {
        let fixture = include_bytes!("../../../../pgformat/tests/fixtures/pg_control.15");
        let mut control = Control::parse(fixture).unwrap();
        control.state = State::InProduction;
        for (reader, given, code) in [
            (Reader::Local, Some("/srv/standby"), "other-directory"),
            (Reader::Local, None, "other-directory"),
            (Reader::Sql, Some("/srv/standby"), "no-standby"),
            (Reader::Sql, None, "no-standby"),
        ] {
            let options = options(reader, given);
            let refused = judge_files(&control, &control, &read_from(&options));
            let Err(Error::Refused {
                code: found,
                what,
                hint,
            }) = refused
            else {
                panic!("{refused:?}")
            };
            assert_eq!(found, code, "{what}");
            let names_it = reader == Reader::Local && given.is_some();
            assert_eq!(what.contains("/srv/standby"), names_it, "{what}");
            assert_eq!(hint.contains("--data-directory"), reader == Reader::Local, "{hint}");
        }
    }

    fn options(reader: Reader, given: Option<&str>) -> Options {
        Options {
            label: None,
            wanted: Default::default(),
            rebase: false,
            difference: Default::default(),
            audit: 1,
            level: Default::default(),
            jobs: 1,
            max_rate: None,
            reader,
            data_directory: given.map(Into::into),
            standby: None,
        }
    }
}
