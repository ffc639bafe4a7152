//! `lastgood.toml`: one section per protected database, read strictly.
//!
//! A key that nobody reads is a setting that its author believes in: it is an error, with the line and
//! the key that was probably meant.

mod append;
mod strict;
mod target;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub(crate) use append::append;
#[cfg(test)]
pub(crate) use strict::KEYS;
pub(crate) use target::{Many, Target, environment, has_password, one, parse_server, resolve};

use crate::{Error, Result};

/// Where a configuration is looked for when neither flag nor variable names one.
const SEARCHED: [&str; 2] = ["lastgood.toml", "/etc/lastgood/lastgood.toml"];
/// Many times what a thousand databases need; more is not a configuration.
const SIZE_MAX: u64 = 4 << 20;

/// A configuration file, read and checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Config {
    /// The file, absolute; `None` if there is none.
    pub(crate) path: Option<PathBuf>,
    /// The databases by name.
    pub(crate) databases: BTreeMap<String, Entry>,
}

/// One `[database.NAME]`. Paths are absolute: relative ones count from the file's directory.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Where its repository is.
    pub(crate) repository: String,
    /// The repository's database id, 32 hex digits; another repository is refused.
    pub(crate) id: Option<String>,
    /// Key file.
    pub(crate) key: Option<PathBuf>,
    /// A file whose first line is the passphrase.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// A program that prints the passphrase, and its arguments.
    pub(crate) passphrase_command: Option<Vec<String>>,
    /// Connection string, without a password.
    pub(crate) server: Option<String>,
    /// How the server's files are read.
    pub(crate) reader: Option<crate::args::Reader>,
    /// The server's data directory, where it is not what the server says (a container's mount).
    pub(crate) data_directory: Option<PathBuf>,
    /// Connection string of a standby whose files are read instead of the server's, without a password.
    pub(crate) standby: Option<String>,
    /// Workers side by side.
    pub(crate) jobs: Option<u16>,
    /// `"none"` or zstd's level.
    #[serde(default, deserialize_with = "strict::compress")]
    pub(crate) compress: Option<crate::args::Compression>,
    /// The most bytes to read in a second.
    #[serde(default, deserialize_with = "strict::rate")]
    pub(crate) max_rate: Option<u64>,
    /// Where PostgreSQL's programs are.
    pub(crate) postgres: Option<PathBuf>,
    /// Where scratch servers may be made.
    pub(crate) scratch: Option<PathBuf>,
}

impl Config {
    /// Reads the file that `named` says (flag or variable), else the first that exists where one is
    /// looked for, else nothing.
    pub(crate) fn load(named: Option<&Path>, current: &Path) -> Result<Config> {
        match find(named, current) {
            Some(path) => {
                if named.is_none() && path.parent() == Some(current) {
                    check_trusted(&path)?;
                }
                Config::read(&path, named.is_some())
            }
            None => Ok(Config::default()),
        }
    }

    fn read(path: &Path, named: bool) -> Result<Config> {
        use std::io::Read;
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(SIZE_MAX).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named => Err(Error::Config {
                place: path.display().to_string(),
                what: "there is no such file".into(),
                hint: Some("Make one with `lastgood init`, or correct --config.".into()),
            }),
            Err(error) => Err(Error::file("read", path, error)),
            Ok(_) => strict::parse(&text, path),
        }
    }
}

/// A file that merely lies where somebody is may have been put there by anybody: it names programs to run and files
/// to open. Whoever means it can name it.
fn check_trusted(path: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).map_err(|error| Error::file("look at", path, error))?;
    let us = rustix::process::geteuid().as_raw();
    let caller = caller(us, std::env::var("SUDO_UID").ok().as_deref());
    let ours = [0, us, caller].contains(&metadata.uid());
    if ours && metadata.mode() & others(metadata.uid(), metadata.gid()) == 0 {
        return Ok(());
    }
    let shown = path.display();
    let (why, mend) = if ours {
        ("can be written by others", format!("Run `chmod go-w {shown}`"))
    } else {
        ("belongs to another user", "Look into it".to_string())
    };
    Err(Error::refused(
        "configuration-untrusted",
        format!("{shown} in the current directory {why}"),
        format!("{mend}, or name it with --config {shown} if you trust it."),
    ))
}

/// The bits that let somebody else than its owner write a file. Where every user has a group of its own (Debian's
/// way), that group's right is the user's.
fn others(user: u32, group: u32) -> u32 {
    if user != 0 && user == group { 0o002 } else { 0o022 }
}

/// Who became root by sudo means its own files too.
fn caller(us: u32, sudo: Option<&str>) -> u32 {
    let before = sudo.filter(|_| us == 0).and_then(|uid| uid.parse().ok());
    before.unwrap_or(us)
}

/// The file to read, if any: absolute.
pub(crate) fn find(named: Option<&Path>, current: &Path) -> Option<PathBuf> {
    match named {
        Some(path) => Some(current.join(path)),
        None => SEARCHED
            .iter()
            .map(|path| current.join(path))
            .find(|path| path.exists()),
    }
}

#[cfg(test)]
mod tests;
