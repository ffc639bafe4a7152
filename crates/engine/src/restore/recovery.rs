//! Tells a restored cluster how far to recover.
//!
//! Invariant: recovery has an explicit target, a record that is here with everything before it. PostgreSQL told to recover "to
//! the end" opens over missing WAL; told this, it stops with an error before it opens for anybody.

use std::{os::unix::ffi::OsStrExt, path::Path};

use crate::{Result, error::At as _};

use super::{
    Plan,
    inline::{sync_directory, write_new},
    owner::Ids,
};

/// Where the settings go.
pub(super) const FILE: &str = "postgresql.auto.conf";
const BEGIN: &str = "# lastgood: recovery begins here";
const END: &str = "# lastgood: recovery ends here";
/// What stays when recovery is done.
const NOTE: &str = "# Restored by lastgood. Set this when the server shall archive its WAL.";
const ARCHIVE_MODE: &str = "archive_mode = 'off'";

/// Appends the settings of the recovery and makes `recovery.signal`. What an earlier restore left in them, if the
/// source itself was restored once, goes.
pub(super) fn prepare(root: &Path, plan: &Plan) -> Result<()> {
    let path = root.join(FILE);
    let before = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read.at("read", &path)?,
    };
    let mut content = without_ours(&before);
    content.extend(settings(root, plan));
    replace(root, &content, plan.owner)?;
    write_new(&root.join("recovery.signal"), 0o600, b"", plan.owner)
}

/// Takes the settings out again once recovery is done, but for `archive_mode = off`: whether this server
/// archives, and where, is its owner's decision.
pub(super) fn clean_up(root: &Path, owner: Option<Ids>) -> Result<()> {
    let path = root.join(FILE);
    let before = std::fs::read(&path).at("read", &path)?;
    let mut content = without_ours(&before);
    content.extend(format!("{NOTE}\n{ARCHIVE_MODE}\n").into_bytes());
    replace(root, &content, owner)
}

/// Whether the restored configuration sets `name`, apart from what stands in the block of ours.
pub(super) fn source_sets(root: &Path, name: &str) -> bool {
    let read = |file: &str| std::fs::read(root.join(file)).unwrap_or_default();
    [read("postgresql.conf"), without_ours(&read(FILE))]
        .iter()
        .flat_map(|content| content.split(|byte| *byte == b'\n'))
        .any(|line| {
            let line = line.trim_ascii_start().to_ascii_lowercase();
            let rest = line.strip_prefix(name.as_bytes()).and_then(<[u8]>::first);
            rest.is_some_and(|next| next.is_ascii_whitespace() || *next == b'=')
        })
}

/// Whole or not at all: a server that finds half a file does not start.
fn replace(root: &Path, content: &[u8], owner: Option<Ids>) -> Result<()> {
    let staged = root.join("postgresql.auto.conf.lastgood");
    let _ = std::fs::remove_file(&staged);
    write_new(&staged, 0o600, content, owner)?;
    std::fs::rename(&staged, root.join(FILE)).at("rename", &staged)?;
    sync_directory(root)
}

/// The last setting of a name wins, so these overrule whatever the source had.
fn settings(root: &Path, plan: &Plan) -> Vec<u8> {
    let lines = [
        // All WAL that is needed lies in pg_wal; nothing comes from anywhere else. PostgreSQL insists on a command.
        "restore_command = 'false'".to_string(),
        "recovery_target = ''".into(),
        "recovery_target_name = ''".into(),
        "recovery_target_time = ''".into(),
        "recovery_target_xid = ''".into(),
        format!("recovery_target_lsn = '{}'", plan.target_lsn),
        "recovery_target_inclusive = on".into(),
        format!("recovery_target_timeline = '{}'", plan.target_timeline),
        "recovery_target_action = 'promote'".into(),
        "recovery_end_command = ''".into(),
        "archive_cleanup_command = ''".into(),
        "primary_conninfo = ''".into(),
        "primary_slot_name = ''".into(),
        // A standby that lags on purpose would lag here too.
        "recovery_min_apply_delay = 0".into(),
        // Nobody gets in before the target is reached.
        "hot_standby = off".into(),
        // A copy must not archive into its source's archive.
        "archive_mode = off".into(),
        // Nor take over its source's subscriptions while it recovers.
        "max_logical_replication_workers = 0".into(),
        // Nor write over the file in which its source's process id stands.
        "external_pid_file = ''".into(),
    ];
    let mut text = format!("{BEGIN}\n{}\n", lines.join("\n")).into_bytes();
    // Who is let in stands in this directory, not in what the source's setting named.
    for (name, file) in [("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")] {
        text.extend(format!("{name} = ").into_bytes());
        text.extend(quoted(root.join(file).as_os_str().as_bytes()));
        text.push(b'\n');
    }
    text.extend(format!("{END}\n").into_bytes());
    text
}

/// A value as `guc-file.l` reads it: doubled quotes, and escapes by backslash.
fn quoted(value: &[u8]) -> Vec<u8> {
    let mut text = vec![b'\''];
    for byte in value {
        match byte {
            b'\'' => text.extend(b"''"),
            b'\\' => text.extend(b"\\\\"),
            b'\n' => text.extend(b"\\n"),
            byte => text.push(*byte),
        }
    }
    text.push(b'\'');
    text
}

/// The content without any block or note of ours. It need be no UTF-8: the source's settings are in the source's
/// encoding. A block whose end is missing was cut off by somebody else; what follows it is not ours to remove.
fn without_ours(content: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
    while let Some(begin) = lines.iter().position(|line| is(line, BEGIN)) {
        let mut inside = lines.iter().skip(begin + 1).take_while(|line| !is(line, BEGIN));
        let end = inside.position(|line| is(line, END)).map_or(0, |at| at + 1);
        lines.drain(begin..=begin + end);
    }
    while let Some(note) = lines.iter().position(|line| is(line, NOTE)) {
        let set = lines.get(note + 1).is_some_and(|line| is(line, ARCHIVE_MODE));
        lines.drain(note..=note + usize::from(set));
    }
    let mut content = lines.concat();
    if content.last().is_some_and(|last| *last != b'\n') {
        content.push(b'\n');
    }
    content
}

fn is(line: &[u8], text: &str) -> bool {
    line.trim_ascii_end() == text.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(content: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), content).unwrap();
        clean_up(folder.path(), None).unwrap();
        String::from_utf8_lossy(&std::fs::read(folder.path().join(FILE)).unwrap()).into_owned()
    }

    #[test]
    fn after_recovery_the_sources_own_settings_are_left_and_archiving_stays_off() {
        let content = format!("work_mem = '8MB'\n{BEGIN}\nhot_standby = off\n{END}\nport = 5433\n");
        assert_eq!(
            cleaned(content.as_bytes()),
            format!("work_mem = '8MB'\nport = 5433\n{NOTE}\n{ARCHIVE_MODE}\n")
        );
    }

    #[test]
    fn blocks_of_earlier_restores_go_too_whatever_the_encoding_around_them() {
        let once = format!("{BEGIN}\nhot_standby = off\n{END}\n{NOTE}\n{ARCHIVE_MODE}\n");
        let content = [
            b"log_line_prefix = '\xe9'\n",
            once.as_bytes(),
            once.as_bytes(),
            b"port = 1",
        ]
        .concat();
        let cleaned = cleaned(&content);
        assert_eq!(cleaned.matches(ARCHIVE_MODE).count(), 1);
        assert!(!cleaned.contains("hot_standby") && cleaned.contains("port = 1\n"));
    }

    #[test]
    fn what_the_source_set_is_told_from_what_the_recovery_sets() {
        let folder = tempfile::tempdir().unwrap();
        let sets = |name| source_sets(folder.path(), name);
        std::fs::write(folder.path().join(FILE), format!("{BEGIN}\nhba_file = 'x'\n{END}\n")).unwrap();
        assert!(!sets("hba_file"));
        std::fs::write(
            folder.path().join("postgresql.conf"),
            " HBA_file='/etc/x'\n#ident_file = 'y'\n",
        )
        .unwrap();
        assert!(sets("hba_file") && !sets("hba") && !sets("ident_file"));
    }

    #[test]
    fn a_block_without_its_end_takes_no_setting_with_it() {
        assert!(cleaned(format!("{BEGIN}\nport = 1\n").as_bytes()).contains("port = 1"));
    }

    #[test]
    fn a_path_in_a_setting_is_that_path_whatever_is_in_it() {
        assert_eq!(quoted(b"/a'b\\c\nd"), b"'/a''b\\\\c\\nd'");
    }
}
