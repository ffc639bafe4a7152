//! Looks for a server on this machine: what the environment says, then the sockets where packages put them.

use std::path::Path;

use engine::{
    event::Context,
    pgclient::{Conninfo, Session},
};

use crate::{Error, Result, args::check_name, config::environment};

/// Where packages and PostgreSQL itself put sockets.
const SOCKETS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// Databases whose name says nothing about what is in the cluster.
const NAMELESS: [&str; 3] = ["postgres", "template1", "root"];

/// A server that was found.
#[derive(Debug)]
pub(super) struct Found {
    /// What to call it.
    pub(super) name: String,
    /// How to reach it.
    pub(super) server: Conninfo,
}

/// The server of this machine.
///
/// # Errors
/// The first one that answers with a refusal, if none lets us in; else that none was found.
pub(super) async fn local_server(context: &Context) -> Result<Found> {
    context.step("discover", "looking for a PostgreSQL server on this machine");
    let mut refusal = None;
    for text in candidates() {
        context.stop.check()?;
        let server = Conninfo::parse(&text, &environment)?;
        match Session::connect(&server).await {
            Ok(session) => {
                session.close().await;
                return Ok(Found {
                    name: name_of(&server),
                    server,
                });
            }
            Err(engine::pgclient::Error::Unreachable { .. }) => {}
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.map_or_else(none_found, Error::from))
}

fn none_found() -> Error {
    engine::pgclient::Error::Unreachable {
        server: "a server on this machine (say where it is: --database NAME=CONNINFO)".into(),
        source: format!("nothing answers in {}", SOCKETS.join(" or ")).into(),
    }
    .into()
}

/// Connection strings to try, without those that say the same.
fn candidates() -> Vec<String> {
    let mut texts = vec![String::new()];
    if ["PGHOST", "PGSERVICE", "PGHOSTADDR"]
        .iter()
        .any(|name| environment(name).is_some())
    {
        return texts;
    }
    for directory in SOCKETS {
        for port in ports(Path::new(directory)) {
            for user in ["", " user=postgres dbname=postgres"] {
                texts.push(format!("host={directory} port={port}{user}"));
            }
        }
    }
    texts
}

/// The ports of the sockets in a directory, in order.
fn ports(directory: &Path) -> Vec<u16> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut ports: Vec<u16> = names
        .filter_map(|name| name.strip_prefix(".s.PGSQL.")?.parse().ok())
        .collect();
    ports.sort_unstable();
    ports
}

/// The database's name, if it says something and is a name with us.
fn name_of(server: &Conninfo) -> String {
    let name = server.dbname();
    if NAMELESS.contains(&name) || name == server.user() || check_name(name).is_err() {
        "main".into()
    } else {
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".s.PGSQL.5433", ".s.PGSQL.5432", ".s.PGSQL.5432.lock", "x"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(ports(folder.path()), [5432, 5433]);
        assert!(ports(&folder.path().join("none")).is_empty());
    }

    #[test]
    fn a_database_that_says_nothing_is_called_main() {
        let name = |text: &str| name_of(&Conninfo::parse(text, &|_| None).unwrap());
        assert_eq!(name("dbname=shop user=u"), "shop");
        for text in ["dbname=postgres", "user=u", "user=u dbname=U-p"] {
            assert_eq!(name(text), "main", "{text}");
        }
    }
}
