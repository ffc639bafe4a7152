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

/// Damage in the source is in the backup too: that must not pass for a success.
fn problem(summary: &Summary) -> Option<Problem> {
    if let Some(unsound) = &summary.unsound {
        return Some(Problem::found(
            Exit::Partly,
            "map-unsound",
            format!(
                "the backup is made, with every page read, since a change was found that no WAL tells of: {unsound}"
            ),
            "Check the server's disk, and who else writes to its data directory. Verify earlier incremental backups: `lastgood verify --level restore`.",
        ));
    }
    let (first, count) = (summary.page_errors.first()?, summary.page_errors.len());
    Some(Problem::found(
        Exit::Partly,
        "page-errors",
        format!("the backup is made, but {count} pages of the server fail their checksum, the first in {first}"),
        "Keep older backups; look for a failing disk, and restore the damaged tables from a backup before the damage.",
    ))
}
