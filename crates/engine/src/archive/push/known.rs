//! Whether the repository is this cluster's, and this timeline the one that goes on.

use pgformat::{Lsn, Tli, history::History};
use repo::{
    Repository,
    ledger::{self, Severity},
    session::Session,
    wal::{WalStream, is_done, read_history},
};

use crate::{
    Error, Result,
    archive::left::{Left, alert_of, hint},
    backup::begin::check_generation,
    begun,
    database::Opened,
};

use super::file::SegmentFile;

/// What the ledger has to know of a cluster before its WAL is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cluster {
    pub(super) generation: u64,
    pub(super) timeline: u32,
    pub(super) segment_size: u64,
    pub(super) major: u32,
    /// Of the data; WAL does not tell it.
    pub(super) block_size: Option<u32>,
}

/// Checks that the repository is the cluster's and says in the ledger what begins, and where the timeline comes from: by
/// its `history`, or the stored one. A session is made only if something was said.
///
/// # Errors
/// [`Error::Refused`] if the repository holds another cluster.
pub(super) async fn check(
    repository: &Repository,
    cluster: Cluster,
    history: Option<&[u8]>,
) -> Result<Option<Session>> {
    let opened = Opened::new(repository.clone()).await?;
    check_generation(&opened, cluster.generation).await?;
    let (generation, timeline) = (cluster.generation.to_string(), cluster.timeline);
    let (known, has_begun) = opened
        .with_state(|state| {
            (
                state.knows_generation(&generation),
                state.knows_timeline(&generation, timeline),
            )
        })
        .await;
    if known && has_begun {
        return Ok(None);
    }
    if !known && cluster.block_size.is_none() {
        return Err(crate::archive::here::no_cluster("this WAL"));
    }
    let session = opened.begin_session().await?;
    if let (false, Some(block_size)) = (known, cluster.block_size) {
        let (generation, segment_size, major) = (cluster.generation, cluster.segment_size, cluster.major);
        let cluster = begun::Cluster {
            generation,
            segment_size,
            block_size,
            major,
        };
        begun::generation(&opened, cluster).await?;
    }
    if !has_begun {
        let parent = parent_of(repository, cluster, history).await?;
        begun::timeline(&opened, cluster.generation, timeline, parent).await?;
    }
    Ok(Some(session))
}

/// Where a timeline comes from, as far as its history is here.
async fn parent_of(
    repository: &Repository,
    cluster: Cluster,
    history: Option<&[u8]>,
) -> Result<Option<(u32, ledger::Lsn)>> {
    let content = match history {
        Some(content) => Some(content.to_vec()),
        None => match read_history(repository, cluster.generation, cluster.timeline).await {
            Err(repo::Error::Damaged { .. }) => None,
            read => read?,
        },
    };
    let history = content.and_then(|content| History::parse(Tli(cluster.timeline), &content).ok());
    let last = history.and_then(|history| history.switches().last().cloned());
    Ok(last.map(|switch| (switch.parent.0, ledger::Lsn(switch.at.0))))
}

/// Whether the segment before this one was pushed: then everything was checked with it.
pub(super) async fn follows_known(repository: &Repository, file: &SegmentFile) -> Result<bool> {
    match file.start.checked_sub(1) {
        Some(before) => Ok(is_done(repository, &file.stream, before).await?),
        None => Ok(false),
    }
}

/// Refuses a segment that lies past the position at which its timeline was `left`, and says so in the ledger, once.
pub(super) async fn check_not_behind(
    repository: &Repository,
    stream: &WalStream,
    start: u64,
    left: &[Left],
) -> Result<()> {
    let Some(Left { child, at }) = left.iter().find(|left| start >= left.at) else {
        return Ok(());
    };
    let (timeline, generation) = (stream.timeline, stream.generation);
    let what = format!(
        "timeline {timeline} was left for timeline {child} at {}; this server still writes it at {}",
        Lsn(*at),
        Lsn(start)
    );
    // The refusal stands whether or not it can be written down.
    let _ = alert(repository, alert_of(generation, timeline, *child), &what).await;
    Err(Error::Refused {
        code: "timeline-behind",
        what,
        hint: hint(timeline, *child, &repository.identity().name),
    })
}

async fn alert(repository: &Repository, alert: String, text: &str) -> Result<()> {
    let opened = Opened::new(repository.clone()).await?;
    if crate::alert::stands(&opened, &alert).await {
        return Ok(());
    }
    opened.begin_session().await?;
    crate::alert::raise(&opened, &alert, Severity::Critical, text.into()).await
}
