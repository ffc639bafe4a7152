//! `lastgood backup`: one backup of a running server, committed only when it is whole.

use engine::{
    backup::{self, ChangesBy, Increment, Options, Summary, Wanted},
    pgclient::Conninfo,
};

use crate::{
    Result,
    args::Backup,
    commands::{Run, jobs},
    config::{Entry, parse_server},
    exit::Exit,
    output::{Outcome, Problem},
    render,
};

/// Takes the backup.
pub(crate) async fn run(run: &Run, args: Backup) -> Result<Outcome> {
    let target = run.target(args.target.as_deref())?;
    let server = target.server()?;
    let data_directory = args.data_directory.map(|path| run.current.join(path));
    let standby = standby(args.standby.as_deref(), &target.entry)?;
    let options = Options {
        wanted: match (args.full, args.incremental) {
            (true, _) => Wanted::Full,
            (_, true) => Wanted::Incremental,
            _ => Wanted::Either,
        },
        rebase: args.rebase,
        difference: args.difference.0,
        audit: args.audit,
        label: args.label,
        level: args
            .compress
            .or(target.entry.compress)
            .map(|level| level.0)
            .unwrap_or_default(),
        jobs: jobs(args.jobs, target.entry.jobs),
        max_rate: args.max_rate.or(target.entry.max_rate),
        reader: args.reader.or(target.entry.reader).map(Into::into).unwrap_or_default(),
        data_directory: data_directory.or_else(|| target.entry.data_directory.clone()),
        standby,
    };
    let opened = engine::database::open(&run.context, &target.database()?).await?;
    let summary = backup::run(&run.context, &opened, server, &options).await?;
    let text = text(&target.name, &summary);
    Ok(Outcome::new(&summary, text).but(problem(&summary)))
}

/// The standby that is meant, by flag or configuration.
pub(crate) fn standby(given: Option<&str>, entry: &Entry) -> Result<Option<Conninfo>> {
    given.or(entry.standby.as_deref()).map(parse_server).transpose()
}

fn text(name: &str, summary: &Summary) -> String {
    let backup = &summary.backup;
    let mut text = format!("Backed up {name} as {}\n", backup.id);
    let rate = render::rate(summary.bytes_per_second);
    text.push_str(&render::fields(&[
        ("  kind", kind(summary)),
        ("  read", render::size(summary.bytes_read)),
        (
            "  data",
            format!(
                "{} in {} files, {} ({rate})",
                render::size(backup.bytes),
                backup.files,
                render::duration(summary.seconds)
            ),
        ),
        (
            "  stored",
            format!("{}{}", render::size(backup.stored), share(backup.stored, backup.bytes)),
        ),
        ("  WAL", render::size(summary.wal_bytes)),
        ("  brings back", render::moment(backup.stopped)),
    ]));
    text.push_str(&format!(
        "It is complete, and unproven until it was restored once:\n  lastgood verify {name} --level restore\n"
    ));
    text
}

/// Whether it is full, and why; or what told what changed.
fn kind(summary: &Summary) -> String {
    match (&summary.increment, &summary.full_because) {
        (Some(Increment { by: ChangesBy::Wal, .. }), _) => "incremental: the WAL tells what changed".into(),
        (Some(Increment { why, .. }), _) => format!(
            "incremental: every page was read and compared, because {}",
            why.as_deref().unwrap_or("the WAL does not tell")
        ),
        (None, Some(why)) => format!("full: {why}"),
        (None, None) => "full".into(),
    }
}

/// Such as ` (31% of it)`.
fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return String::new();
    }
    format!(" ({}% of it)", u128::from(part) * 100 / u128::from(whole))
}

/// A backup with damage in it must not pass for a success, nor must one of a server whose disk has damage.
fn problem(summary: &Summary) -> Option<Problem> {
    if let Some(unsound) = &summary.unsound {
        return Some(Problem::found(
            Exit::Partly,
            "map-unsound",
            format!(
                "the backup is made, with every page read, since a change was found that no WAL tells of: {unsound}"
            ),
            "Check the server's disk, and who else writes to its data directory. Verify earlier incremental backups: `lastgood verify --level restore`; the alert goes when this one, or a later, passes that.",
        ));
    }
    if let Some(first) = summary.page_errors.first() {
        let mut what = format!(
            "the backup is made, with damage of the server's disk in it: the checksum of {} does not fit, the first in {first}",
            pages(summary.page_errors_total)
        );
        if summary.rotten_pages_total > 0 {
            what.push_str(&format!(
                "; {} more on the server's disk, and whole in the backup",
                pages(summary.rotten_pages_total)
            ));
        }
        return Some(Problem::found(
            Exit::Partly,
            "page-errors",
            what,
            "Keep older backups; look for a failing disk, and restore the damaged tables from a backup before the damage.",
        ));
    }
    let first = summary.rotten_pages.first()?;
    Some(Problem::found(
        Exit::Partly,
        "server-rotten",
        format!(
            "the backup is made and whole, but the server's disk is damaged: the checksum of {} there does not fit, the first in {first}; the backup has what the one before it has of them",
            pages(summary.rotten_pages_total)
        ),
        "Look for a failing disk, and mend the server: this backup restores without the damage, onto the stopped server itself with `lastgood restore --delta`, whose plan says what would be lost by that.",
    ))
}

/// Such as `3 pages`.
fn pages(count: u64) -> String {
    match count {
        1 => "1 page".into(),
        count => format!("{count} pages"),
    }
}

#[cfg(test)]
mod tests {
    use engine::{list, repo::ledger::BackupKind};

    use super::*;

    fn summary(stored: u64, rotten: u64) -> Summary {
        let first = |count: u64, path: &str| match count {
            0 => Vec::new(),
            _ => vec![format!("{path} block 7")],
        };
        Summary {
            backup: list::Backup {
                id: "20261120T143000Z-7f3k9q".into(),
                kind: BackupKind::Incremental,
                label: None,
                started: 0,
                stopped: 0,
                start_lsn: None,
                stop_lsn: None,
                timeline: None,
                generation: None,
                major: None,
                bytes: 0,
                stored: 0,
                files: 0,
                databases: 0,
                committed: 1,
                proofs: Vec::new(),
            },
            increment: None,
            full_because: None,
            unsound: None,
            bytes_read: 0,
            seconds: 0.0,
            bytes_per_second: 0.0,
            wal_bytes: 0,
            page_errors: first(stored, "base/5/1"),
            page_errors_total: stored,
            rotten_pages: first(rotten, "base/5/2"),
            rotten_pages_total: rotten,
        }
    }

    /// What is said, and whether the hint sends to a backup before the damage; or to this one.
    fn check(stored: u64, rotten: u64, expected: Option<(&str, &[&str], &str)>) {
        let said = problem(&summary(stored, rotten));
        let Some((code, words, hint)) = expected else {
            assert!(said.is_none(), "{said:?}");
            return;
        };
        let said = said.unwrap();
        assert_eq!((said.exit, &*said.code), (Exit::Partly, code));
        for word in words {
            assert!(said.message.contains(word), "{word:?} in {said:?}");
        }
        assert!(said.hint.as_ref().unwrap().contains(hint), "{said:?}");
    }

    #[test]
    fn damage_in_the_backup_and_damage_on_the_servers_disk_alone_are_told_apart() {
        check(0, 0, None);
        let before = "from a backup before the damage";
        check(
            1,
            0,
            Some((
                "page-errors",
                &["with damage", "1 page does", "base/5/1 block 7"],
                before,
            )),
        );
        check(12_345, 0, Some(("page-errors", &["12345 pages"], before)));
        let both = ["with damage", "2 pages do", "3 pages more", "whole in the backup"];
        check(2, 3, Some(("page-errors", &both, before)));
        let whole = ["made and whole", "12345 pages there", "base/5/2 block 7"];
        check(
            0,
            12_345,
            Some(("server-rotten", &whole, "this backup restores without the damage")),
        );
    }
}
