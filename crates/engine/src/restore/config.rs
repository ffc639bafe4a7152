//! Configuration that a data directory of a packaged PostgreSQL does not hold: Debian keeps it in `/etc`.
//!
//! A restore shall give a directory that a server starts on. What is missing is made, small, safe and marked:
//! no TCP, local connections of the same user only.

use std::path::Path;

use pgformat::control::Control;

use crate::Result;

use super::{
    copy::Emitted,
    inline::{list, write_new},
    owner::Ids,
};

/// Makes `postgresql.conf`, `pg_hba.conf` and `pg_ident.conf` where they are missing; returns which.
pub(super) fn fill_in(
    root: &Path,
    control: &Control,
    owner: Option<Ids>,
    micros: i64,
    emitted: &mut Emitted,
) -> Result<Vec<&'static str>> {
    let mut made = Vec::new();
    for (name, content) in files(control) {
        let path = root.join(name);
        if std::fs::symlink_metadata(&path).is_err() {
            write_new(&path, 0o600, content.as_bytes(), owner)?;
            list(emitted, name.as_bytes(), content.as_bytes(), micros)?;
            made.push(name);
        }
    }
    Ok(made)
}

fn files(control: &Control) -> [(&'static str, String); 3] {
    let head = "# Made by lastgood: the backup's data directory held no file of this name.\n";
    // A server refuses to recover with less of these than its source had.
    let settings = format!(
        "{head}listen_addresses = ''\nmax_connections = {}\nmax_worker_processes = {}\nmax_wal_senders = {}\n\
         max_prepared_transactions = {}\nmax_locks_per_transaction = {}\n",
        control.max_connections,
        control.max_worker_processes,
        control.max_wal_senders,
        control.max_prepared_xacts,
        control.max_locks_per_xact
    );
    [
        ("pg_hba.conf", format!("{head}local all all peer\n")),
        ("pg_ident.conf", head.to_string()),
        ("postgresql.conf", settings),
    ]
}
