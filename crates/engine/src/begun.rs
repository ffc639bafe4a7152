//! Says in the ledger which cluster and which timelines are here. Backups, receivers and pushes all do, and may at the same
//! moment.

use repo::ledger::{Entry, Lsn, State};

use crate::{Error, Result, database::Opened};

/// What the ledger holds of a cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cluster {
    /// Its system identifier.
    pub(crate) generation: u64,
    /// Bytes of a WAL segment.
    pub(crate) segment_size: u64,
    /// Bytes of a page.
    pub(crate) block_size: u32,
    /// Its major version.
    pub(crate) major: u32,
}

/// Says that WAL and backups of this cluster come, where that is news.
pub(crate) async fn generation(opened: &Opened, cluster: Cluster) -> Result<()> {
    let generation = cluster.generation.to_string();
    let entry = Entry::GenerationBegun {
        generation: generation.clone(),
        segment_size: u32::try_from(cluster.segment_size).unwrap_or(u32::MAX),
        block_size: cluster.block_size,
        major: cluster.major,
    };
    append_once(opened, entry, |state| state.knows_generation(&generation)).await
}

/// Says that this timeline of a cluster has begun, and of which parent it left where, if that is known, where that is news.
pub(crate) async fn timeline(
    opened: &Opened,
    generation: u64,
    timeline: u32,
    parent: Option<(u32, Lsn)>,
) -> Result<()> {
    let generation = generation.to_string();
    let entry = Entry::TimelineBegun {
        generation: generation.clone(),
        timeline,
        parent: parent.map(|(parent, _)| parent),
        switch: parent.map(|(_, switch)| switch),
    };
    append_once(opened, entry, |state| state.knows_timeline(&generation, timeline)).await
}

/// Appends what is not `known`, nor said by another writer at the same moment.
async fn append_once(opened: &Opened, entry: Entry, known: impl Fn(&State) -> bool) -> Result<()> {
    if opened.with_state(&known).await {
        return Ok(());
    }
    match opened.append(entry).await {
        // The state is now that on which it was refused.
        Err(Error::Failed {
            code: "ledger-refused", ..
        }) if opened.with_state(&known).await => Ok(()),
        done => done.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use repo::{Repository, keys::Unlock, store::Location};

    use super::*;

    #[tokio::test]
    async fn two_who_say_the_same_at_the_same_moment_both_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Directory(folder.path().to_path_buf());
        let (_, unlock) = Unlock::generate("shop");
        let runtime = testkit::host::runtime();
        let store = location.database("shop", true).unwrap();
        Repository::create(store, runtime.clone(), "shop", &unlock)
            .await
            .unwrap();
        let open = async || {
            let store = location.database("shop", false).unwrap();
            let repository = Repository::open(store, runtime.clone(), &unlock).await.unwrap();
            let opened = Opened::new(repository).await.unwrap();
            opened.begin_session().await.unwrap();
            opened
        };
        let (one, other) = (open().await, open().await);
        let cluster = Cluster {
            generation: 7,
            segment_size: 1 << 24,
            block_size: 8192,
            major: 15,
        };
        // Each has read the ledger before the other said anything.
        for opened in [&one, &other] {
            generation(opened, cluster).await.unwrap();
        }
        for opened in [&other, &one] {
            timeline(opened, 7, 2, Some((1, Lsn(9)))).await.unwrap();
        }
    }
}
