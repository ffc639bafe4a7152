//! From text to [`Config`]: every key known, every value sensible, every complaint with file and line.

use std::path::Path;

use serde::{Deserialize, Deserializer, de::Error as _};
use toml::de::{DeTable, DeValue};

use super::{Config, Entry, target};
use crate::{
    Error, Result,
    args::{Compression, check_name, parse_rate},
};

/// Keys of a `[database.NAME]`; a test holds them equal to [`Entry`]'s fields.
pub(crate) const KEYS: [&str; 14] = [
    "repository",
    "id",
    "key",
    "passphrase_file",
    "passphrase_command",
    "server",
    "reader",
    "data_directory",
    "standby",
    "jobs",
    "compress",
    "max_rate",
    "postgres",
    "scratch",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    database: std::collections::BTreeMap<String, Entry>,
}

/// Where in which file, for complaints.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn wrong(&self, offset: usize, what: impl Into<String>, hint: Option<String>) -> Error {
        let line = self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        Error::Config {
            place: format!("{}:{line}", self.path.display()),
            what: what.into(),
            hint,
        }
    }

    /// The complaint of the TOML library. Only its own words: they quote no line, which may hold a secret.
    fn library(&self, error: &toml::de::Error) -> Error {
        self.wrong(error.span().map_or(0, |span| span.start), error.message(), None)
    }
}

/// Reads `text`, the content of `path`.
pub(super) fn parse(text: &str, path: &Path) -> Result<Config> {
    let place = Place { path, text };
    let table = DeTable::parse(text).map_err(|error| place.library(&error))?;
    check_keys(&place, table.get_ref())?;
    let file: File = toml::from_str(text).map_err(|error| place.library(&error))?;
    let base = path.parent().unwrap_or(Path::new("/"));
    let mut config = Config {
        path: Some(path.into()),
        ..Config::default()
    };
    for (name, mut entry) in file.database {
        let at = offset_of(table.get_ref(), &name);
        check_entry(&name, &entry)
            .map_err(|(what, hint)| place.wrong(at, format!("[database.{name}]: {what}"), Some(hint)))?;
        make_absolute(&mut entry, base);
        config.databases.insert(name, entry);
    }
    Ok(config)
}

fn check_keys(place: &Place<'_>, table: &DeTable<'_>) -> Result<()> {
    for (key, value) in table {
        if key.get_ref() != "database" {
            return Err(unknown(
                place,
                key.span().start,
                key.get_ref(),
                &["database"],
                "at the top level",
            ));
        }
        let DeValue::Table(databases) = value.get_ref() else {
            continue;
        };
        for (name, entry) in databases {
            let DeValue::Table(entry) = entry.get_ref() else {
                continue;
            };
            if let Some(key) = entry.keys().find(|key| !KEYS.contains(&key.get_ref().as_ref())) {
                let within = format!("in [database.{}]", name.get_ref());
                return Err(unknown(place, key.span().start, key.get_ref(), &KEYS, &within));
            }
        }
    }
    Ok(())
}

fn unknown(place: &Place<'_>, offset: usize, key: &str, known: &[&str], within: &str) -> Error {
    let hint = match nearest(key, known) {
        Some(near) => format!("Write `{near}` if that was meant."),
        None => format!("Remove it; known there: {}.", known.join(", ")),
    };
    place.wrong(offset, format!("unknown key `{key}` {within}"), Some(hint))
}

/// The known word that was probably meant.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = |candidate: &&str| strsim::jaro_winkler(word, candidate);
    let best = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    // Below this, words have little more in common than a letter or two.
    (alike(best) > 0.75).then_some(*best)
}

fn check_entry(name: &str, entry: &Entry) -> Result<(), (String, String)> {
    let wrong = |what: &str, hint: &str| Err((what.to_string(), hint.to_string()));
    if let Err(what) = check_name(name) {
        return wrong(&what, "Rename the section.");
    }
    if entry.repository.is_empty() {
        return wrong(
            "`repository` is empty",
            "Write the directory or URL where its backups are.",
        );
    }
    if entry
        .id
        .as_ref()
        .is_some_and(|id| id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return wrong(
            "`id` is not 32 hex digits",
            "Copy it from what `lastgood init` printed, or remove it.",
        );
    }
    let methods = [
        entry.key.is_some(),
        entry.passphrase_file.is_some(),
        entry.passphrase_command.is_some(),
    ];
    if methods.iter().filter(|given| **given).count() > 1 {
        return wrong(
            "more than one of `key`, `passphrase_file`, `passphrase_command`",
            "Keep one of them.",
        );
    }
    if entry.passphrase_command.as_ref().is_some_and(Vec::is_empty) {
        return wrong(
            "`passphrase_command` is empty",
            "Write the program and its arguments as a list.",
        );
    }
    if entry.jobs.is_some_and(|jobs| !(1..=64).contains(&jobs)) {
        return wrong(
            "`jobs` is not from 1 to 64",
            "Remove it; the default fits most machines.",
        );
    }
    if entry.server.as_deref().is_some_and(target::has_password) {
        return wrong("`server` holds a password", target::NO_PASSWORD);
    }
    if entry.standby.as_deref().is_some_and(target::has_password) {
        return wrong("`standby` holds a password", target::NO_PASSWORD);
    }
    Ok(())
}

fn make_absolute(entry: &mut Entry, base: &Path) {
    let paths = [&mut entry.key, &mut entry.passphrase_file, &mut entry.data_directory];
    for path in paths
        .into_iter()
        .chain([&mut entry.postgres, &mut entry.scratch])
        .flatten()
    {
        *path = base.join(&*path);
    }
    if !entry.repository.contains("://") {
        entry.repository = base.join(&entry.repository).display().to_string();
    }
}

/// Where the section of a database begins.
fn offset_of(table: &DeTable<'_>, name: &str) -> usize {
    let databases = table.iter().find_map(|(_, value)| match value.get_ref() {
        DeValue::Table(databases) => Some(databases),
        _ => None,
    });
    let section = databases.and_then(|databases| databases.keys().find(|key| key.get_ref() == name));
    section.map_or(0, |key| key.span().start)
}

/// `compress = 3` or `compress = "none"`.
pub(super) fn compress<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Compression>, D::Error> {
    read_word(from)?
        .parse()
        .map(Some)
        .map_err(|what: String| D::Error::custom(format!("compress: {what}")))
}

/// `max_rate = "50M"` or bytes.
pub(super) fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    parse_rate(&read_word(from)?)
        .map(Some)
        .map_err(|what| D::Error::custom(format!("max_rate: {what}")))
}

fn read_word<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "it must be a number or a text")]
    enum Word {
        Number(u64),
        Text(String),
    }
    Ok(match Word::deserialize(from)? {
        Word::Number(number) => number.to_string(),
        Word::Text(text) => text,
    })
}
