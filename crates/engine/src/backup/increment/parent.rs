//! Which backup an incremental one is computed against, and how it comes to know what changed since.

use std::time::Duration;

use repo::{
    manifest::{Facts, Manifest},
    wal::contiguous_end,
};

use crate::{
    Error, Result,
    archive::archived::archived_from,
    damage,
    database::Opened,
    event::Context,
    list::{self, Backup},
    restore,
    server::{ServerFacts, Started},
    target::{Piece, Timelines, changed_blocks},
};

use super::{Changes, Wanted, suspect};

/// How long the last WAL before the backup may take to come into the repository. `archive_command` is given a segment
/// at once; a receiver stores it within seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// The newest backup that an incremental one can build on; or why none can.
///
/// # Errors
/// [`Error::Refused`] if an incremental backup was asked for and there is nothing to build on.
pub(in crate::backup) async fn parent(
    context: &Context,
    opened: &Opened,
    facts: &ServerFacts,
    wanted: Wanted,
) -> Result<Result<Manifest, String>> {
    if wanted == Wanted::Full {
        return Ok(Err("it was asked for".into()));
    }
    let found = newest(context, opened, facts).await?;
    match found {
        Err(why) if wanted == Wanted::Incremental => Err(Error::Refused {
            code: "no-parent",
            what: format!("there is no backup to build an incremental one on: {why}"),
            hint: "Take a full backup, or leave the choice to the program: `lastgood backup` alone.".into(),
        }),
        found => Ok(found),
    }
}

async fn newest(context: &Context, opened: &Opened, facts: &ServerFacts) -> Result<Result<Manifest, String>> {
    let generation = facts.system_identifier.to_string();
    let all = list::backups(opened).await;
    let ours = all
        .iter()
        .rev()
        .filter(|backup| backup.generation.as_ref() == Some(&generation));
    let mut why = None;
    for backup in ours {
        match judge(opened, facts, backup).await? {
            Ok(manifest) => return Ok(Ok(manifest)),
            Err(reason) => {
                let what = format!("{} is not built on: {reason}", backup.id);
                context.warn("backup-unsound", what.clone());
                why.get_or_insert(what);
            }
        }
    }
    Ok(Err(why.unwrap_or_else(|| "it is the first".into())))
}

async fn judge(opened: &Opened, facts: &ServerFacts, backup: &Backup) -> Result<Result<Manifest, String>> {
    if list::failure(backup).is_some() {
        return Ok(Err("a verification found it damaged".into()));
    }
    let found = opened.find(Some(&backup.id)).await?;
    let manifest = match restore::manifest(opened, &found).await {
        Ok(manifest) => manifest,
        Err(Error::Repository(error)) if !error.is_transient() => {
            let error = Error::from(error);
            damage::met(opened, &error, Some(&backup.id)).await;
            return Ok(Err(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    if let Some(why) = opened.with_state(|state| suspect::why(state, &manifest)).await {
        return Ok(Err(why));
    }
    let server = &manifest.facts.postgresql;
    let fits = server.block_size == facts.block_size && server.relation_segment_blocks == facts.relation_segment_blocks;
    match fits {
        true => Ok(Ok(manifest)),
        false => Ok(Err("its pages or files have another size than the server's".into())),
    }
}

/// The pages that changed since the parent began, as the WAL tells; or why it cannot tell.
pub(in crate::backup) async fn changes(
    context: &Context,
    opened: &Opened,
    parent: &Facts,
    facts: &ServerFacts,
    begun: &Started,
) -> Result<Result<Changes, String>> {
    if parent.postgresql.data_checksums != facts.data_checksums {
        // `pg_checksums` writes every page, and no WAL.
        return Ok(Err("page checksums were switched on or off since".into()));
    }
    if parent.totals.page_errors > 0 {
        return Ok(Err("the backup before it holds damaged pages".into()));
    }
    let pieces = match wal_between(context, opened, parent, begun).await? {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let (timelines, pieces) = pieces;
    let mut changes = Changes::default();
    let unknown = changed_blocks(context, &timelines, &pieces, |blocks| changes.add(blocks)).await?;
    Ok(unknown.map_or(Ok(changes), Err))
}

/// The WAL from the parent's start to this backup's; or why it is not all here.
async fn wal_between(
    context: &Context,
    opened: &Opened,
    parent: &Facts,
    begun: &Started,
) -> Result<Result<(Timelines, Vec<Piece>), String>> {
    let clock = &context.runtime.clock;
    let until = clock.monotonic().saturating_add(PATIENCE);
    let of_parent: Vec<Backup> = list::backups(opened).await;
    let of_parent: Vec<Backup> = of_parent
        .into_iter()
        .filter(|backup| backup.id == parent.backup.as_str())
        .collect();
    let mut is_waited = false;
    loop {
        let Some(timelines) = Timelines::of(context, opened, &of_parent).await? else {
            return Ok(Err("the backup before it has expired".into()));
        };
        let (tip, start) = (begun.timeline.0, parent.start);
        let Some(path) = timelines.path(tip, start.timeline, start.lsn.0) else {
            let what = format!(
                "the server's timeline {tip} does not come from {} on timeline {}, where the backup before it began",
                start.lsn, start.timeline
            );
            return Ok(Err(what));
        };
        // Its pages are of any time until it ended: also of one that the server, which may have left that timeline in
        // between, never saw.
        let stop = parent.stop;
        // A standby may be asked for a start before that end, if it has replayed all up to there: its backup then ends behind it.
        if begun.in_recovery && stop.lsn.0 > begun.reached.0 {
            let what = format!(
                "the backup before it ended at {}, and the standby has replayed WAL only up to {}",
                stop.lsn, begun.reached
            );
            return Ok(Err(what));
        }
        if !timelines.contains(tip, stop.timeline, stop.lsn.0) || stop.lsn.0 > begun.reached.0 {
            let what = format!(
                "the backup before it ended at {} on timeline {}, which is not in the past of the server's timeline {tip}",
                stop.lsn, stop.timeline
            );
            return Ok(Err(what));
        }
        let end = path.end().max(start.lsn.0);
        let needed = no_record_from(begun.start.0, timelines.segment_size());
        if end >= needed {
            return Ok(Ok((timelines, path.until(needed))));
        }
        let missing = format!("WAL from {} on is not in the repository", pgformat::Lsn(end));
        // What comes late comes on the newest timeline, and may seem to be missing in its middle: this backup keeps the WAL from
        // its start on already. What is missing before it stays missing.
        // And what has come and is a hole all the same was found damaged.
        if is_waited || path.gap.is_some_and(|gap| gap.timeline != tip) {
            return Ok(Err(missing));
        }
        let stream = timelines.stream(tip)?;
        if archived_from(opened, &stream).await?.is_none() {
            return Ok(Err(format!("{missing}: nobody archives it between backups")));
        }
        while contiguous_end(&opened.repository, &stream, end).await? < needed {
            context.stop.check()?;
            if clock.monotonic() >= until {
                return Ok(Err(missing));
            }
            clock.sleep(LOOK).await;
        }
        is_waited = true;
    }
}

/// From where on no record lies before `start`: at the beginning of a segment is only its page's header
/// (`SizeOfXLogLongPHD`, `access/xlog_internal.h`).
fn no_record_from(start: u64, segment_size: u64) -> u64 {
    const HEADER: u64 = 40;
    let within = start % segment_size;
    if within <= HEADER { start - within } else { start }
}
