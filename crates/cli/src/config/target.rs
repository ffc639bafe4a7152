//! What a command is about: flags, variables and the file brought together, flags first.

use std::path::PathBuf;

use engine::{
    database::Database,
    pgclient::Conninfo,
    repo::{keys::Unlock, store::Location},
};

use super::{Config, Entry, strict::nearest};
use crate::{
    Error, Result,
    args::{Global, check_name, is_conninfo},
    key,
};

/// What to do about a password where none may stand.
pub(crate) const NO_PASSWORD: &str =
    "Put it into ~/.pgpass or the file that PGPASSFILE names: every user of the machine can read command lines.";

/// One database, with everything known about it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Its name, and its folder in the repository.
    pub(crate) name: String,
    /// Where the repository is.
    pub(crate) location: Location,
    /// How to reach the server, if known.
    pub(crate) server: Option<Conninfo>,
    /// The rest of its settings; flags that stand here too have replaced them.
    pub(crate) entry: Entry,
}

/// What no name at all means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Many {
    /// Every configured database.
    All,
    /// The only one; several are a mistake.
    One,
}

impl Target {
    /// What the engines open. Reads the key.
    pub(crate) fn database(&self) -> Result<Database> {
        Ok(Database {
            name: self.name.clone(),
            location: self.location.clone(),
            unlock: self.unlock()?,
            expected_id: self.entry.id.clone(),
        })
    }

    /// The server, which must be known.
    pub(crate) fn server(&self) -> Result<&Conninfo> {
        self.server.as_ref().ok_or_else(|| {
            Error::usage(
                format!("how to reach the server of {} is not known", self.name),
                format!(
                    "Write `server = \"host=… user=…\"` into [database.{}], or give a connection string.",
                    self.name
                ),
            )
        })
    }

    fn unlock(&self) -> Result<Unlock> {
        if let Some(path) = &self.entry.key {
            return key::read(path);
        }
        let passphrase = match (&self.entry.passphrase_file, &self.entry.passphrase_command) {
            (Some(path), _) => key::passphrase_of_file(path)?,
            (None, Some(command)) => key::passphrase_of_command(command)?,
            (None, None) => key::ask_passphrase(&format!("Passphrase of {}: ", self.name))?,
        };
        Ok(Unlock::Passphrase(passphrase))
    }
}

/// The databases that `word` (a name, a connection string, or nothing) means.
pub(crate) fn resolve(
    global: &Global,
    config: &Config,
    word: Option<&str>,
    many: Many,
    current: &std::path::Path,
) -> Result<Vec<Target>> {
    let conninfo = word.filter(|word| is_conninfo(word)).map(parse_server).transpose()?;
    let named = word.filter(|word| !is_conninfo(word)).or(global.name.as_deref());
    if let Some(name) = named {
        check_name(name).map_err(|what| Error::usage(what, "Names are shown by `lastgood status`."))?;
    }
    let names = match (named, &global.repository) {
        (Some(name), Some(_)) => vec![name.to_string()],
        (Some(name), None) if config.databases.contains_key(name) => vec![name.to_string()],
        (Some(name), None) => return Err(unknown(name, config)),
        (None, Some(repository)) => vec![only_folder(repository, current)?],
        (None, None) if conninfo.is_some() => {
            return Err(Error::usage(
                "a connection string alone does not say where the backups are",
                "Add --repository URL and --key-file FILE, or give the name of a configured database.",
            ));
        }
        (None, None) => config.databases.keys().cloned().collect(),
    };
    if names.is_empty() {
        return Err(nothing_configured(config));
    }
    if many == Many::One && names.len() > 1 {
        return Err(Error::usage(
            "which database?",
            format!("Name one of: {}.", names.join(", ")),
        ));
    }
    names
        .into_iter()
        .map(|name| assemble(global, config, name, conninfo.clone(), current))
        .collect()
}

/// The one database that `word` means.
pub(crate) fn one(global: &Global, config: &Config, word: Option<&str>, current: &std::path::Path) -> Result<Target> {
    let mut targets = resolve(global, config, word, Many::One, current)?;
    targets.pop().ok_or_else(|| nothing_configured(config))
}

fn assemble(
    global: &Global,
    config: &Config,
    name: String,
    conninfo: Option<Conninfo>,
    current: &std::path::Path,
) -> Result<Target> {
    let mut entry = config.databases.get(&name).cloned().unwrap_or_default();
    if let Some(repository) = &global.repository {
        entry.repository.clone_from(repository);
    }
    let given = |path: &Option<PathBuf>| path.as_ref().map(|path| current.join(path));
    if global.key_file.is_some() || global.passphrase_file.is_some() {
        entry.key = given(&global.key_file);
        entry.passphrase_file = given(&global.passphrase_file);
        entry.passphrase_command = None;
    }
    let server = match (conninfo, &entry.server) {
        (Some(conninfo), _) => Some(conninfo),
        (None, Some(text)) => Some(parse_server(text)?),
        (None, None) => None,
    };
    let location = Location::parse(&entry.repository, current)?;
    Ok(Target {
        name,
        location,
        server,
        entry,
    })
}

/// The only database in a repository that was named without one.
fn only_folder(repository: &str, current: &std::path::Path) -> Result<String> {
    let location = Location::parse(repository, current)?;
    let mut folders = location.databases()?;
    match (folders.pop(), folders.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            folders.push(last);
            Err(Error::usage(
                format!("the repository {location} holds {} databases", folders.len()),
                format!("Add --name with one of: {}.", folders.join(", ")),
            ))
        }
        (None, _) => Err(Error::not_found(
            format!("no database's folder in the repository {location}"),
            "Check --repository; `lastgood init` makes a new one.",
        )),
    }
}

fn unknown(name: &str, config: &Config) -> Error {
    let known: Vec<&str> = config.databases.keys().map(String::as_str).collect();
    let place = config
        .path
        .as_ref()
        .map_or("there is no configuration file".into(), |path| {
            path.display().to_string()
        });
    let hint = match (nearest(name, &known), known.is_empty()) {
        (Some(near), _) => format!("Write `{near}` if that was meant."),
        (None, false) => format!("Known are: {}.", known.join(", ")),
        (None, true) => "Run `lastgood init`, or give --repository and --key-file.".into(),
    };
    Error::not_found(format!("no database {name} is configured ({place})"), hint)
}

fn nothing_configured(config: &Config) -> Error {
    let what = match &config.path {
        Some(path) => format!("{} names no database", path.display()),
        None => "no configuration file was found and no repository was given".into(),
    };
    Error::usage(what, "Run `lastgood init`, or give --repository and --key-file.")
}

/// libpq's variables, as this process has them.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads a connection string that others can read too: a password in it is refused.
pub(crate) fn parse_server(text: &str) -> Result<Conninfo> {
    if has_password(text) {
        return Err(Error::usage("the connection string holds a password", NO_PASSWORD));
    }
    Ok(Conninfo::parse(text, &environment)?)
}

/// Whether the text itself (not the environment) says a password.
pub(crate) fn has_password(text: &str) -> bool {
    if let Some((_, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map(|(user, _)| user).unwrap_or_default();
        if user.split_once(':').is_some_and(|(_, password)| !password.is_empty()) {
            return true;
        }
    }
    let keys = text.match_indices("password").filter(|(at, word)| {
        let before = text.get(..*at).and_then(|before| before.chars().next_back());
        let after = text.get(at + word.len()..).unwrap_or_default().trim_start();
        after.starts_with('=') && !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
            || text.get(..*at).is_some_and(|before| before.ends_with("ssl")) && after.starts_with('=')
    });
    if keys.count() > 0 {
        return true;
    }
    // What the words above do not see (an escaped keyword of a URI): the parser's view, without environment
    // and service file, where a password may stand.
    !text.contains("service")
        && Conninfo::parse(text, &|_| None)
            .is_ok_and(|conninfo| conninfo.to_redacted_string() != conninfo.to_string_without_password())
}
