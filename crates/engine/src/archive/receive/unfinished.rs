//! What is complete and was left as it came.

use pgformat::wal::Geometry;
use repo::{
    Repository, names,
    wal::{Coverage, WalStream, contiguous_end, coverage, is_done},
};

use crate::Result;

use super::{attend::Attendant, queue::Whose};

impl Attendant<'_> {
    /// The repository failed: segments may have been given up for the same reason.
    pub(super) fn looks_again(&mut self) {
        self.looked_at.clear();
    }

    /// What is complete and was left as it came, by a killed receiver or while the repository was away.
    pub(super) async fn finish_complete(&mut self, stream: &WalStream, geometry: Geometry) -> Result<()> {
        if self.looked_at.contains(&stream.timeline) {
            return Ok(());
        }
        let repository = &self.opened.repository;
        let stretches = coverage(repository, stream).await?;
        for start in complete(repository, stream, &stretches).await? {
            let whose = match is_done(repository, stream, start).await? {
                true => Whose::Left,
                false => Whose::Ours,
            };
            if !self.finisher.finish_left(*stream, geometry, start, whose) {
                // The rest is found again at the next connection.
                return Ok(());
            }
        }
        self.looked_at.insert(stream.timeline);
        Ok(())
    }

    /// What ends at `position`, complete: another receiver may have left it just now, and nothing is stored behind it before
    /// it is finished.
    pub(super) async fn finish_before(&self, stream: &WalStream, geometry: Geometry, position: u64) -> Result<()> {
        let repository = &self.opened.repository;
        let start = stream.done_start(position.saturating_sub(1));
        if stream.done_start(position) == position
            && !is_done(repository, stream, start).await?
            && contiguous_end(repository, stream, start).await? >= position
        {
            self.finisher.finish(*stream, geometry, start);
        }
        Ok(())
    }
}

/// Where the finished runs of a timeline begin that are complete, by `stretches` of WAL that are here, and of which open runs
/// are left.
async fn complete(repository: &Repository, stream: &WalStream, stretches: &Coverage) -> Result<Vec<u64>> {
    let prefix = names::wal_timeline(stream.generation, stream.timeline);
    let (mut after, mut complete) = (String::new(), Vec::new());
    loop {
        let page = repository.store().list_after(&prefix, &after, 1).await?;
        // `done/` comes after every position there can be.
        let Some(open) = page.first().and_then(|first| start_of(&prefix, &first.name)) else {
            return Ok(complete);
        };
        let (start, end) = (stream.done_start(open), stream.done_end(open));
        if stretches.iter().any(|(from, to)| *from <= start && end <= *to) {
            complete.push(start);
        }
        // To the next at once.
        after = stream.run_name(end.saturating_sub(1));
    }
}

fn start_of(prefix: &str, name: &str) -> Option<u64> {
    let (segment, start) = name.strip_prefix(prefix)?.split_once('/')?;
    u64::from_str_radix(start, 16).ok().filter(|_| segment.len() == 16)
}
