//! Finds PostgreSQL's programs of one major version on this machine.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use pgformat::Major;

use super::process::command;
use crate::{Error, Result};

/// The directory with `postgres`, `initdb` and the other programs of one major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    directory: PathBuf,
    major: Major,
}

impl Binaries {
    /// Looks at the configured directory, if there is one, and then nowhere else; else where packages put
    /// them, where `pg_config` says, and along `PATH`. Each candidate must itself say that it is of that version.
    ///
    /// # Errors
    /// [`Error::NoBinaries`] with everything that was looked at.
    pub fn find(major: Major, configured: Option<&Path>) -> Result<Binaries> {
        let mut searched = Vec::new();
        for directory in candidates(major, configured) {
            match version_of(&directory.join("postgres")) {
                Some(Ok(found)) if found == major => return Ok(Binaries { directory, major }),
                Some(Ok(found)) => searched.push(format!("{} (PostgreSQL {found})", directory.display())),
                Some(Err(said)) => searched.push(format!("{} ({said})", directory.display())),
                None => searched.push(directory.display().to_string()),
            }
        }
        searched.dedup();
        Err(Error::NoBinaries {
            major: major.to_string(),
            searched,
        })
    }

    /// The path of one program, such as `initdb` or `pg_amcheck`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Their major version.
    pub fn major(&self) -> Major {
        self.major
    }
}

fn candidates(major: Major, configured: Option<&Path>) -> Vec<PathBuf> {
    if let Some(configured) = configured {
        return vec![configured.to_owned()];
    }
    let mut found = vec![
        PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")),
        PathBuf::from(format!("/usr/pgsql-{major}/bin")),
    ];
    if let Some(output) = output_of(Path::new("pg_config"), "--bindir") {
        found.push(PathBuf::from(output.trim()));
    }
    if let Some(path) = std::env::var_os("PATH") {
        found.extend(std::env::split_paths(&path).filter(|directory| directory.join("postgres").is_file()));
    }
    found
}

/// What `postgres --version` says; `None` if there is no such program.
fn version_of(postgres: &Path) -> Option<Result<Major, String>> {
    let output = output_of(postgres, "--version")?;
    // "postgres (PostgreSQL) 15.4 (Debian 15.4-1)", also "18beta1".
    let version = output.split_whitespace().nth(2).unwrap_or_default();
    let number = version
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .and_then(|digits| digits.parse::<u32>().ok());
    let major = number.and_then(|number| Major::from_server_version_num(number.checked_mul(10_000)?).ok());
    Some(major.ok_or_else(|| format!("it says {:?}", output.trim())))
}

fn output_of(program: &Path, argument: &str) -> Option<String> {
    // Even for a question: what is in our environment is not for other programs.
    let output = command(program, None)
        .arg(argument)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
