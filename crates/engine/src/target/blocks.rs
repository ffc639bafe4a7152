//! Which pages the records of a stretch of WAL changed, as far as that is known for certain.

use repo::{ledger::Lsn, wal::index::Blocks};

use crate::{Result, event::Context};

use super::{
    Piece, Timelines,
    scan::{Scan, Want, is_damage},
};

/// Hands out the changed pages of `pieces`, stretch by stretch, the first of which begins where a record does. Returns why
/// they are not all known, if they are not: what was handed out is then worth nothing.
///
/// Rules 1 to 4 and 8 of `docs/design/changed-pages.md`: a record that cannot be read, or not understood, or that does not
/// follow on the one before, ends what is known.
pub(crate) async fn changed_blocks(
    context: &Context,
    timelines: &Timelines,
    pieces: &[Piece],
    mut take: impl FnMut(Blocks) -> Option<String>,
) -> Result<Option<String>> {
    let mut scan = Scan::new(context, timelines, pieces, Want::Blocks)?;
    let mut last: Option<Lsn> = None;
    loop {
        let chunk = match scan.next().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(None),
            Err(error) if is_damage(&error) => return Ok(Some(error.to_string())),
            Err(error) => return Err(error),
        };
        let summary = &chunk.summary;
        let unknown = summary.broken.as_ref().or(summary.incomplete.as_ref());
        if let Some(why) = unknown {
            return Ok(Some(why.clone()));
        }
        if !summary.joined {
            return Ok(Some(format!(
                "a record across {} cannot be read whole",
                Lsn(chunk.from)
            )));
        }
        if last.is_some() && summary.before.is_some() && summary.before != last {
            let what = format!("the records do not follow one another at {}", Lsn(chunk.from));
            return Ok(Some(what));
        }
        last = summary.last.or(last);
        if let Some(why) = take(chunk.blocks) {
            return Ok(Some(why));
        }
    }
}
