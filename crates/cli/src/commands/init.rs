//! `lastgood init`: repository, key and configuration, in the order in which a crash leaves nothing to mend.
//!
//! The key is durable before anything is sealed with it, and the configuration is written last. So the next
//! `init` with the same words goes on where this one was cut off.

mod discover;

use std::path::{Path, PathBuf};

use engine::{
    database::Database,
    pgclient::Conninfo,
    repo::{self, keys::Unlock, store::Location},
};
use serde::Serialize;

use crate::{
    Error, Result,
    args::Init,
    commands::Run,
    config::{self, Config, Entry},
    key,
    output::Outcome,
    render,
};

/// A database to be set up.
struct Wanted {
    name: String,
    server: Conninfo,
}

/// A database that is set up.
#[derive(Debug, Serialize)]
struct Made {
    name: String,
    repository: String,
    id: String,
    key: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
    server: String,
    created: bool,
    probe: Vec<String>,
}

/// Sets everything up.
pub(crate) async fn run(run: &Run, args: Init) -> Result<Outcome> {
    let path = configuration_path(run);
    let config = if path.exists() {
        Config::load(Some(&path), &run.current)?
    } else {
        Config::default()
    };
    let location = repository(run)?;
    let mut wanted = Vec::new();
    for named in args.databases {
        wanted.push(Wanted {
            server: config::parse_server(&named.conninfo)?,
            name: named.name,
        });
    }
    if wanted.is_empty() {
        let found = discover::local_server(&run.context).await?;
        let name = run.global.name.clone().unwrap_or(found.name);
        wanted.push(Wanted {
            name,
            server: found.server,
        });
    }
    // Every refusal comes before the first thing is made.
    for database in &wanted {
        refuse_other(&config, &path, &location, &database.name)?;
        keep_key_out(&location, &key_path(run, &path, &config, &database.name))?;
    }
    let mut made = Vec::new();
    for database in &wanted {
        made.push(set_up(run, &path, &config, &location, database).await?);
    }
    let text = text(&path, &made);
    Ok(Outcome::new(
        serde_json::json!({ "configuration": path, "databases": made }),
        text,
    ))
}

async fn set_up(run: &Run, path: &Path, config: &Config, location: &Location, database: &Wanted) -> Result<Made> {
    let name = &database.name;
    let mut entry = Entry {
        repository: location.to_string(),
        ..Entry::default()
    };
    let unlock = match &run.global.passphrase_file {
        Some(file) => {
            let file = run.current.join(file);
            let unlock = Unlock::Passphrase(key::passphrase_of_file(&file)?);
            entry.passphrase_file = Some(file);
            unlock
        }
        None => {
            let file = key_path(run, path, config, name);
            if !file.exists() && location.databases()?.contains(name) {
                // A new key cannot open it: making one would only be a trap for later.
                let what = format!(
                    "{location} holds a database {name} already, and its key {} is not here",
                    file.display()
                );
                return Err(repo::Error::Foreign { what }.into());
            }
            let (unlock, _) = key::read_or_create(&file, name)?;
            entry.key = Some(file);
            unlock
        }
    };
    let (id, created, probe) = repository_for(run, location, name, unlock).await?;
    entry.id = Some(id.clone());
    entry.server = Some(database.server.to_string_without_password());
    if !config.databases.contains_key(name) {
        config::append(path, name, &entry)?;
    }
    Ok(Made {
        name: name.clone(),
        repository: location.to_string(),
        id,
        key: entry.key,
        passphrase_file: entry.passphrase_file,
        server: database.server.to_string_without_password(),
        created,
        probe,
    })
}

/// Makes the folder, or opens the one that an earlier `init` with the same key finished.
async fn repository_for(
    run: &Run,
    location: &Location,
    name: &str,
    unlock: Unlock,
) -> Result<(String, bool, Vec<String>)> {
    match engine::init::run(&run.context, location, name, &unlock).await {
        Ok(made) => Ok((made.database_id, true, made.probe)),
        Err(engine::Error::Repository(repo::Error::Foreign { .. })) => {
            let database = Database {
                name: name.into(),
                location: location.clone(),
                unlock,
                expected_id: None,
            };
            let opened = engine::database::open(&run.context, &database).await?;
            Ok((opened.repository.identity().database.clone(), false, Vec::new()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The file to write: the one that is named or in use, else the machine's (root) or this directory's.
fn configuration_path(run: &Run) -> PathBuf {
    config::find(run.global.config.as_deref(), &run.current).unwrap_or_else(|| {
        if is_root() {
            PathBuf::from("/etc/lastgood/lastgood.toml")
        } else {
            run.current.join("lastgood.toml")
        }
    })
}

fn repository(run: &Run) -> Result<Location> {
    if let Some(text) = &run.global.repository {
        return Ok(Location::parse(text, &run.current)?);
    }
    let home = || config::environment("HOME").map(|home| Path::new(&home).join("lastgood"));
    let directory = if is_root() {
        Some(PathBuf::from("/var/lib/lastgood"))
    } else {
        home()
    };
    directory.map(Location::Directory).ok_or_else(|| {
        Error::usage(
            "where shall the backups go?",
            "Add --repository with a directory on another disk.",
        )
    })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn key_path(run: &Run, path: &Path, config: &Config, name: &str) -> PathBuf {
    let configured = config.databases.get(name).and_then(|entry| entry.key.clone());
    let beside = || path.with_file_name(format!("{name}.key"));
    run.global
        .key_file
        .as_ref()
        .map(|file| run.current.join(file))
        .or(configured)
        .unwrap_or_else(beside)
}

/// A section that says something else is not touched.
fn refuse_other(config: &Config, path: &Path, location: &Location, name: &str) -> Result<()> {
    let Some(entry) = config.databases.get(name) else {
        return Ok(());
    };
    if entry.repository == location.to_string() {
        return Ok(());
    }
    let what = format!(
        "{} says that {name} is in {}, not in {location}",
        path.display(),
        entry.repository
    );
    Err(repo::Error::Foreign { what }.into())
}

/// Whoever gets hold of the backups must not get their key with them.
fn keep_key_out(location: &Location, key: &Path) -> Result<()> {
    let Location::Directory(directory) = location;
    if !settled(key).starts_with(settled(directory)) {
        return Ok(());
    }
    Err(Error::refused(
        "key-in-repository",
        format!("the key {} would lie inside the repository {location}", key.display()),
        "Choose another place with --key-file, or another --config: whoever copies the repository would have the key.",
    ))
}

/// Where a path leads, as far as it exists with all links followed.
fn settled(path: &Path) -> PathBuf {
    let real = path.ancestors().find_map(|ancestor| {
        let rest = path.strip_prefix(ancestor).ok()?;
        Some(ancestor.canonicalize().ok()?.join(rest))
    });
    real.unwrap_or_else(|| path.into())
}

fn text(path: &Path, made: &[Made]) -> String {
    let mut text = String::new();
    for database in made {
        let word = if database.created { "made" } else { "there already" };
        text.push_str(&format!("{} ({word})\n", database.name));
        let mut fields = vec![
            ("  repository", database.repository.clone()),
            ("  id", database.id.clone()),
        ];
        fields.extend(database.key.as_ref().map(|key| ("  key", key.display().to_string())));
        fields.extend(
            database
                .passphrase_file
                .as_ref()
                .map(|file| ("  passphrase", file.display().to_string())),
        );
        fields.push(("  server", database.server.clone()));
        text.push_str(&render::fields(&fields));
    }
    text.push_str(&format!("Configuration: {}\n\n", path.display()));
    if made.iter().any(|database| database.key.is_some()) {
        text.push_str("Copy the key to a safe place away from this machine and from the repository now:\n");
        text.push_str("without it nobody can read the backups, not even you.\n\n");
    }
    let next = made.first().map(|database| database.name.as_str()).unwrap_or_default();
    text.push_str(&format!("Next: lastgood doctor {next}\n      lastgood backup {next}\n"));
    text
}
