//! What is kept beside another writer.

use std::sync::Arc;

use bytes::Bytes;
use repo::{keys::Unlock, store::Location};

use super::*;
use crate::{
    database,
    event::{Event, Observer, Stop},
};

const MIB: u64 = 1 << 20;
const SEGMENT: u64 = 16 * MIB;

struct Deaf;

impl Observer for Deaf {
    fn event(&self, _: Event) {}
}

/// The bytes of one server, a MiB at a time. A real one shares the backup's segment with its clone only as a standby.
struct Sends(Vec<u8>, u64);

#[async_trait::async_trait]
impl WalFeed for Sends {
    async fn next(&mut self) -> Result<WalEvent> {
        let (start, end) = (self.1, self.1 + MIB);
        let Some(bytes) = self.0.get(start as usize..end as usize) else {
            return Err(Error::Interrupted);
        };
        self.1 = end;
        Ok(WalEvent::Data {
            start: Lsn(SEGMENT + start),
            bytes: Bytes::copy_from_slice(bytes),
            server_end: Lsn(SEGMENT + end),
            sent_micros: 0,
        })
    }
    fn acknowledge(&mut self, _: Lsn) {}
    async fn heartbeat(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Others have stored runs of 1 and 5 MiB, with other bytes from `differs` on; how the keeper ends.
async fn kept_beside(differs: u64) -> Result<Kept> {
    let folder = tempfile::tempdir().unwrap();
    let context = Context {
        runtime: testkit::host::runtime(),
        observer: Arc::new(Deaf),
        stop: Stop::default(),
    };
    let location = Location::parse(folder.path().to_str().unwrap(), std::path::Path::new("/")).unwrap();
    let (_, unlock) = Unlock::generate("shop");
    crate::init::run(&context, &location, "shop", &unlock).await.unwrap();
    let store = location.database("shop", false).unwrap();
    let opened = database::open_store(&context, store, &unlock).await.unwrap();
    let (repository, session) = (opened.repository.clone(), opened.begin_session().await.unwrap());

    let sent: Vec<u8> = (0..8 * MIB).map(|at| (at / 1000) as u8).collect();
    let mut stored = sent.clone();
    stored[differs as usize..].fill(0xFF);
    let stream = WalStream::new(7, 1, SEGMENT).unwrap();
    for (from, to) in [(0, MIB), (MIB, 6 * MIB)] {
        let bytes = &stored[from as usize..to as usize];
        append_run(&repository, &session, &stream, SEGMENT + from, bytes)
            .await
            .unwrap();
    }
    let stretch = Stretch {
        generation: 7,
        timeline: Tli(1),
        segment_size: SegmentSize::new(SEGMENT).unwrap(),
        wal_block_size: 8192,
        major: Major::V15,
        // Behind all that comes: what is kept is not walked here.
        start: Lsn(SEGMENT + 12 * MIB),
        of: Of::Primary,
    };
    let keeper = Keeper::new(context, repository, session, stretch, Box::new(Sends(sent, 0)))?;
    let (_stop, stopped) = async_channel::bounded(1);
    keeper.run(stopped).await
}

#[tokio::test]
async fn what_another_server_stored_further_is_not_taken_into_the_backup() {
    let kept = kept_beside(5 * MIB).await;
    let Err(Error::Repository(error @ repo::Error::TwoServers { .. })) = kept else {
        panic!("{kept:?}")
    };
    assert!(error.to_string().ends_with("from 0/1500000 on"), "{error}");
    // The same WAL is no conflict: the feed's end is what ends it.
    let kept = kept_beside(6 * MIB).await;
    assert!(matches!(kept, Err(Error::Interrupted)), "{kept:?}");
}
