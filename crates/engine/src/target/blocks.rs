//! Which pages the records of a stretch of WAL changed, as far as that is known for certain.

use repo::{
    ledger::Lsn,
    wal::index::{Blocks, Summary},
};

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
    let mut chain = Chain::default();
    loop {
        let chunk = match scan.next().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(None),
            Err(error) if is_damage(&error) => return Ok(Some(error.to_string())),
            Err(error) => return Err(error),
        };
        if let Some(why) = chain.doubt(chunk.from, &chunk.summary) {
            return Ok(Some(why));
        }
        if let Some(why) = take(chunk.blocks) {
            return Ok(Some(why));
        }
    }
}

/// Whether one stretch follows on another, record by record.
#[derive(Debug, Default)]
struct Chain {
    /// The last record so far.
    last: Option<Lsn>,
}

impl Chain {
    /// Why what the stretch from `from` on did is not all known, if it is not.
    fn doubt(&mut self, from: u64, summary: &Summary) -> Option<String> {
        let unknown = summary.broken.as_ref().or(summary.incomplete.as_ref());
        if let Some(why) = unknown {
            return Some(why.clone());
        }
        if !summary.joined {
            return Some(format!("a record across {} cannot be read whole", Lsn(from)));
        }
        if self.last.is_some() && summary.before.is_some() && summary.before != self.last {
            return Some(format!("the records do not follow one another at {}", Lsn(from)));
        }
        self.last = summary.last.or(self.last);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(before: Option<u64>, last: Option<u64>) -> Summary {
        Summary {
            joined: true,
            before: before.map(Lsn),
            last: last.map(Lsn),
            ..Summary::default()
        }
    }

    #[test]
    fn a_stretch_that_does_not_follow_on_the_one_before_ends_what_is_known() {
        let mut chain = Chain::default();
        assert_eq!(chain.doubt(0, &stretch(Some(5), Some(90))), None);
        // Nothing ends in a stretch that lies within one record.
        assert_eq!(chain.doubt(100, &stretch(None, None)), None);
        assert_eq!(chain.doubt(200, &stretch(Some(90), Some(290))), None);
        assert!(chain.doubt(300, &stretch(Some(280), Some(390))).is_some());
    }

    #[test]
    fn what_was_not_read_or_not_understood_ends_what_is_known() {
        let doubt = |change: fn(&mut Summary)| {
            let mut summary = stretch(None, Some(9));
            change(&mut summary);
            Chain::default().doubt(0, &summary)
        };
        assert_eq!(doubt(|_| ()), None);
        assert!(doubt(|summary| summary.joined = false).is_some());
        assert!(doubt(|summary| summary.broken = Some("cut off".into())).is_some());
        assert!(doubt(|summary| summary.incomplete = Some("minimal".into())).is_some());
    }
}
