//! Tells a restored cluster how far to recover.
//!
//! Invariant: recovery has an explicit target, the record that ends the backup. PostgreSQL told to recover "to
//! the end" opens over missing WAL; told this, it stops with an error before it opens for anybody.

use std::{io::Write as _, path::Path};

use repo::manifest::Facts;

use crate::{Result, error::At as _};

use super::{
    inline::write_new,
    owner::{self, Ids},
};

const FILE: &str = "postgresql.auto.conf";
const BEGIN: &str = "# lastgood: recovery begins here";
const END: &str = "# lastgood: recovery ends here";

/// Appends the settings of the recovery and makes `recovery.signal`.
pub(super) fn prepare(root: &Path, facts: &Facts, owner: Option<Ids>) -> Result<()> {
    let path = root.join(FILE);
    if !path.exists() {
        write_new(&path, 0o600, b"", owner)?;
    }
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).at("open", &path)?;
    file.write_all(settings(facts).as_bytes()).at("write", &path)?;
    file.sync_all().at("sync", &path)?;
    owner::give(&path, owner)?;
    write_new(&root.join("recovery.signal"), 0o600, b"", owner)
}

/// The last setting of a name wins, so these overrule whatever the source had.
fn settings(facts: &Facts) -> String {
    let lines = [
        // All WAL that is needed lies in pg_wal; nothing comes from anywhere else. PostgreSQL insists on a command.
        "restore_command = 'false'".to_string(),
        "recovery_target = ''".into(),
        "recovery_target_name = ''".into(),
        "recovery_target_time = ''".into(),
        "recovery_target_xid = ''".into(),
        format!("recovery_target_lsn = '{}'", facts.stop.record),
        "recovery_target_inclusive = on".into(),
        format!("recovery_target_timeline = '{}'", facts.stop.timeline),
        "recovery_target_action = 'promote'".into(),
        "recovery_end_command = ''".into(),
        "archive_cleanup_command = ''".into(),
        "primary_conninfo = ''".into(),
        "primary_slot_name = ''".into(),
        // Nobody gets in before the target is reached.
        "hot_standby = off".into(),
        // A copy must not archive into its source's archive.
        "archive_mode = off".into(),
        // Nor take over its source's subscriptions while it recovers.
        "max_logical_replication_workers = 0".into(),
    ];
    format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
}

/// Takes the settings out again once recovery is done, but for `archive_mode = off`: whether this server
/// archives, and where, is its owner's decision.
pub(super) fn clean_up(root: &Path, owner: Option<Ids>) -> Result<()> {
    let path = root.join(FILE);
    let content = std::fs::read_to_string(&path).at("read", &path)?;
    let Some(cleaned) = without_block(&content) else {
        return Ok(());
    };
    let staged = root.join("postgresql.auto.conf.lastgood");
    let _ = std::fs::remove_file(&staged);
    write_new(&staged, 0o600, cleaned.as_bytes(), owner)?;
    std::fs::rename(&staged, &path).at("rename", &staged)
}

fn without_block(content: &str) -> Option<String> {
    let (before, rest) = content.split_once(BEGIN)?;
    let (_, after) = rest.split_once(&format!("{END}\n"))?;
    let note = "# Restored by lastgood. Set this when the server shall archive its WAL.\narchive_mode = 'off'\n";
    Some(format!("{before}{note}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_recovery_the_sources_own_settings_are_left_and_archiving_stays_off() {
        let content = format!("work_mem = '8MB'\n{BEGIN}\nhot_standby = off\n{END}\nport = 5433\n");
        let cleaned = without_block(&content).unwrap();
        assert!(cleaned.starts_with("work_mem = '8MB'\n") && cleaned.ends_with("port = 5433\n"));
        assert!(cleaned.contains("archive_mode = 'off'") && !cleaned.contains("hot_standby"));
        assert_eq!(without_block("work_mem = '8MB'\n"), None);
    }
}
