//! `backup_label` and the backup history file: where recovery of a backup begins.
//!
//! Format: `access/transam/xlogbackup.c` (`build_backup_content`). The file is restored byte for byte
//! as the server gave it; it is read here only to learn from it.

use crate::bytes::decimal;
use crate::error::{Error, Result};
use crate::{Lsn, Tli};

const WHAT: &str = "backup_label";

/// Where a backup was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenFrom {
    /// A server that accepted writes.
    Primary,
    /// A server in recovery: its backup ends at `minRecoveryPoint`, not at a backup-end record.
    Standby,
}

/// The content of `backup_label`, or of `<segment>.<offset>.backup`, which adds the stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupLabel {
    /// Recovery replays from here.
    pub start_lsn: Lsn,
    /// Name of the segment that holds it.
    pub start_file: String,
    /// Where the backup's checkpoint record begins.
    pub checkpoint_lsn: Lsn,
    /// Where it was taken.
    pub taken_from: TakenFrom,
    /// When it began, in the server's log time zone; for people.
    pub start_time: String,
    /// What its maker called it.
    pub label: String,
    /// The timeline it began on.
    pub start_timeline: Tli,
    /// The stop; only a backup history file has it.
    pub stop: Option<Stop>,
}

/// The end of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// WAL up to here is needed.
    pub lsn: Lsn,
    /// Name of the segment that `lsn` lies in.
    pub file: String,
    /// When, in the server's log time zone; for people.
    pub time: String,
    /// The timeline it ended on.
    pub timeline: Tli,
}

impl BackupLabel {
    /// Reads either file.
    ///
    /// The label of an incremental backup is [`Error::Unsupported`]: a server refuses to start from
    /// it, and what belongs to it is no complete cluster.
    pub fn parse(content: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(content);
        if text.lines().any(|line| line.starts_with("INCREMENTAL FROM ")) {
            return Err(Error::unsupported(WHAT, "it is that of an incremental backup"));
        }
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let required = |name: &str| field(name).ok_or_else(|| Error::damaged(WHAT, format!("{name} is missing")));

        let (start_lsn, start_file) = place("START WAL LOCATION", required("START WAL LOCATION")?)?;
        let stop = match field("STOP WAL LOCATION") {
            None => None,
            Some(value) => {
                let (lsn, file) = place("STOP WAL LOCATION", value)?;
                let timeline = timeline("STOP TIMELINE", required("STOP TIMELINE")?)?;
                Some(Stop {
                    lsn,
                    file,
                    time: required("STOP TIME")?.to_owned(),
                    timeline,
                })
            }
        };
        Ok(BackupLabel {
            start_lsn,
            start_file,
            checkpoint_lsn: position("CHECKPOINT LOCATION", required("CHECKPOINT LOCATION")?)?,
            taken_from: match required("BACKUP FROM")? {
                // Version 13 says it with the older word.
                "primary" | "master" => TakenFrom::Primary,
                "standby" => TakenFrom::Standby,
                other => return Err(wrong("BACKUP FROM", other)),
            },
            start_time: required("START TIME")?.to_owned(),
            label: required("LABEL")?.to_owned(),
            start_timeline: timeline("START TIMELINE", required("START TIMELINE")?)?,
            stop,
        })
    }

    /// The file as a server writes it.
    pub fn print(&self) -> String {
        let mut text = format!("START WAL LOCATION: {} (file {})\n", self.start_lsn, self.start_file);
        if let Some(stop) = &self.stop {
            text += &format!("STOP WAL LOCATION: {} (file {})\n", stop.lsn, stop.file);
        }
        let from = match self.taken_from {
            TakenFrom::Primary => "primary",
            TakenFrom::Standby => "standby",
        };
        text += &format!("CHECKPOINT LOCATION: {}\n", self.checkpoint_lsn);
        text += &format!(
            "BACKUP METHOD: streamed\nBACKUP FROM: {from}\nSTART TIME: {}\n",
            self.start_time
        );
        text += &format!("LABEL: {}\nSTART TIMELINE: {}\n", self.label, self.start_timeline);
        if let Some(stop) = &self.stop {
            text += &format!("STOP TIME: {}\nSTOP TIMELINE: {}\n", stop.time, stop.timeline);
        }
        text
    }
}

fn place(name: &str, value: &str) -> Result<(Lsn, String)> {
    let (lsn, rest) = value.split_once(" (file ").ok_or_else(|| wrong(name, value))?;
    let file = rest.strip_suffix(')').ok_or_else(|| wrong(name, value))?;
    if file.len() != 24 || !file.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong(name, value));
    }
    Ok((position(name, lsn)?, file.to_owned()))
}

fn position(name: &str, value: &str) -> Result<Lsn> {
    value.parse().map_err(|_| wrong(name, value))
}

fn timeline(name: &str, value: &str) -> Result<Tli> {
    decimal(value)
        .filter(|tli| *tli > 0)
        .map(Tli)
        .ok_or_else(|| wrong(name, value))
}

fn wrong(name: &str, value: &str) -> Error {
    Error::damaged(WHAT, format!("{name} is {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REAL: &str = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)
CHECKPOINT LOCATION: 0/2000060
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIME: 2026-11-20 10:00:00 UTC
LABEL: nightly: every table
START TIMELINE: 1
";
    const HISTORY: &str = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)
STOP WAL LOCATION: 0/2000138 (file 000000010000000000000002)
CHECKPOINT LOCATION: 0/2000060
BACKUP METHOD: streamed
BACKUP FROM: standby
START TIME: 2026-11-20 10:00:00 UTC
LABEL: x
START TIMELINE: 16
STOP TIME: 2026-11-20 10:00:01 UTC
STOP TIMELINE: 17
";

    #[test]
    fn a_label_is_read_and_printed_as_the_server_wrote_it() {
        for text in [REAL, HISTORY] {
            assert_eq!(BackupLabel::parse(text.as_bytes()).unwrap().print(), text);
        }
        let label = BackupLabel::parse(REAL.as_bytes()).unwrap();
        assert_eq!(
            (label.start_lsn, label.checkpoint_lsn, label.start_timeline),
            (Lsn(0x2000028), Lsn(0x2000060), Tli(1))
        );
        assert_eq!(label.label, "nightly: every table");
        let stop = BackupLabel::parse(HISTORY.as_bytes()).unwrap().stop.unwrap();
        assert_eq!((stop.lsn, stop.timeline), (Lsn(0x2000138), Tli(17)));
    }

    #[test]
    fn the_word_of_version_13_for_a_primary_is_understood() {
        let label = BackupLabel::parse(REAL.replace("primary", "master").as_bytes()).unwrap();
        assert_eq!(label.taken_from, TakenFrom::Primary);
    }

    #[test]
    fn the_label_of_an_incremental_backup_is_refused() {
        for line in ["INCREMENTAL FROM LSN: 0/2000028\n", "INCREMENTAL FROM TLI: 1\n"] {
            let error = BackupLabel::parse(format!("{REAL}{line}").as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        }
    }

    #[test]
    fn a_label_without_one_of_its_lines_is_damaged() {
        for (n, line) in REAL
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.starts_with("BACKUP METHOD"))
        {
            let rest: Vec<&str> = REAL
                .lines()
                .enumerate()
                .filter(|(m, _)| *m != n)
                .map(|(_, line)| line)
                .collect();
            assert!(
                BackupLabel::parse(rest.join("\n").as_bytes()).is_err(),
                "without {line}"
            );
        }
    }

    #[test]
    fn values_that_no_server_writes_are_damage() {
        for (from, to) in [
            ("0/2000028", "x"),
            ("(file 0", "(file -"),
            ("primary", "moon"),
            ("TIMELINE: 1", "TIMELINE: 0"),
            ("TIMELINE: 1", "TIMELINE: +1"),
            ("0002)", "0002"),
            ("0/2000060", ""),
        ] {
            assert!(
                BackupLabel::parse(REAL.replacen(from, to, 1).as_bytes()).is_err(),
                "{from} -> {to}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(content: Vec<u8>) {
            let _ = BackupLabel::parse(&content);
        }

        #[test]
        fn a_line_of_anything_does_not_panic(at in 0usize..7, junk: String) {
            let lines: Vec<&str> = REAL.lines().enumerate()
                .map(|(n, line)| if n == at { junk.as_str() } else { line }).collect();
            let _ = BackupLabel::parse(lines.join("\n").as_bytes());
        }
    }
}
