//! From where on a timeline is archived without pause, so that a hole in it is a loss; backups alone leave holes between
//! them.
//!
//! A receiver says so in the ledger before it stores anything, or nobody would know of one that was killed before it could
//! finish a segment. `wal push` stores finished segments only, and those tell.

use repo::{
    ledger::{Lsn, State},
    wal::{WalStream, archived_from as kept_from},
};

use crate::{Result, database::Opened};

/// The beginning of the segment from which on that timeline is archived; `None` if nobody does.
pub(crate) async fn archived_from(opened: &Opened, stream: &WalStream) -> Result<Option<u64>> {
    let said = opened.with_state(|state| said(state, stream)).await;
    let said = said.map(|from| stream.segment_of(from.0));
    let kept = kept_from(&opened.repository, stream).await?;
    Ok(said.into_iter().chain(kept).min())
}

/// Whether that timeline was archived before `position`: who only said that it would begin there has lost nothing yet.
pub(super) async fn is_archived_before(opened: &Opened, stream: &WalStream, position: u64) -> Result<bool> {
    let said = opened.with_state(|state| said(state, stream)).await;
    Ok(said.is_some_and(|from| from.0 < position) || kept_from(&opened.repository, stream).await?.is_some())
}

/// From where on a receiver said that it archives that timeline.
pub(super) fn said(state: &State, stream: &WalStream) -> Option<Lsn> {
    state.archived_from(&stream.generation.to_string(), stream.timeline)
}
