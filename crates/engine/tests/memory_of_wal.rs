//! Promise 9: what receives and hands out WAL takes at most 64 MiB, whatever there is of it.
//!
//! Counted is what is allocated. Resident memory is more, by what the C library keeps for each thread.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use engine::{
    database,
    event::{Context, Event, Observer, Stop},
    init,
    repo::{
        keys::Unlock,
        store::Location,
        wal::{MAX_RUN, WalStream, append_run, assemble, contiguous_end},
    },
};
use peak_alloc::PeakAlloc;
use testkit::sim::Random;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const ALLOWED: usize = 64 << 20;
const SEGMENT: u64 = MAX_RUN as u64;

struct Deaf;

impl Observer for Deaf {
    fn event(&self, _: Event) {}
}

/// The longest runs there are, also where another receiver has stored them before.
#[tokio::test(flavor = "multi_thread")]
async fn wal_is_kept_and_assembled_within_its_own_promise() {
    let folder = tempfile::tempdir().unwrap();
    let context = Context {
        runtime: testkit::host::runtime(),
        observer: Arc::new(Deaf),
        stop: Stop::default(),
    };
    let location = Location::parse(folder.path().to_str().unwrap(), std::path::Path::new("/")).unwrap();
    let (_, unlock) = Unlock::generate("shop");
    init::run(&context, &location, "shop", &unlock).await.unwrap();
    let store = location.database("shop", false).unwrap();
    let opened = database::open_store(&context, store, &unlock).await.unwrap();
    let (repository, session) = (&opened.repository, opened.begin_session().await.unwrap());
    let stream = WalStream::new(7, 1, SEGMENT).unwrap();

    let (first, end) = (SEGMENT, 9 * SEGMENT);
    let mut bytes = vec![0; MAX_RUN];
    for at in (first..end).step_by(MAX_RUN) {
        Random::new(at).fill(&mut bytes);
        for _ in 0..2 {
            let stored = append_run(repository, &session, &stream, at, &bytes).await;
            assert_eq!(stored.unwrap(), at + SEGMENT);
        }
    }
    drop(bytes);
    assert_eq!(contiguous_end(repository, &stream, first).await.unwrap(), end);
    let mut read = 0;
    let sink = |_, bytes: &[u8]| {
        read += bytes.len() as u64;
        Ok(())
    };
    assemble(repository, stream, first, end, sink).await.unwrap();
    assert_eq!(read, end - first);

    let peak = MEMORY.peak_usage();
    assert!(peak <= ALLOWED, "{} MiB", peak >> 20);
}
