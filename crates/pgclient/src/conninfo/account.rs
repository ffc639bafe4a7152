//! What the operating system and the environment say about the user who runs this process.

use std::{fs, path::PathBuf};

use super::{Environment, settings::Merged};

/// Where services may be defined: the user's file first, then the system's.
pub(super) fn service_files(merged: &Merged, environment: &Environment<'_>) -> Vec<PathBuf> {
    let named = merged
        .get("servicefile")
        .map(str::to_owned)
        .or_else(|| environment("PGSERVICEFILE"));
    let own = named
        .map(PathBuf::from)
        .or_else(|| Some(home_directory(environment)?.join(".pg_service.conf")));
    let system = environment("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".to_owned());
    own.into_iter()
        .chain([PathBuf::from(system).join("pg_service.conf")])
        .collect()
}

/// The user's home, for the files that libpq looks for there.
pub(super) fn home_directory(environment: &Environment<'_>) -> Option<PathBuf> {
    environment("HOME")
        .filter(|home| !home.is_empty())
        .or_else(|| account_field(5))
        .map(PathBuf::from)
}

/// The name of the user that runs this process: the account's, else what the environment says
/// (accounts from a directory service are not in `/etc/passwd`).
pub(super) fn os_user(environment: &Environment<'_>) -> Option<String> {
    account_field(0)
        .or_else(|| environment("USER"))
        .or_else(|| environment("LOGNAME"))
}

/// One field of this process's line in `/etc/passwd` (0 name, 5 home).
fn account_field(field: usize) -> Option<String> {
    let user_id = rustix::process::geteuid().as_raw().to_string();
    let accounts = fs::read_to_string("/etc/passwd").ok()?;
    let account = accounts.lines().find(|line| line.split(':').nth(2) == Some(&user_id))?;
    account
        .split(':')
        .nth(field)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}
