use super::*;
use crate::{
    runtime::{Clock, Rng, Workers},
    store::Location,
};
use futures::{executor::block_on, future::BoxFuture};
use std::time::Duration;

struct Still;
impl Clock for Still {
    fn now_micros(&self) -> i64 {
        1_700_000_000_000_000
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
impl Rng for Still {
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).unwrap();
    }
}
impl Workers for Still {
    fn spawn(&self, _: BoxFuture<'static, ()>) {}
}

fn runtime() -> Runtime {
    Runtime {
        clock: Arc::new(Still),
        rng: Arc::new(Still),
        workers: Arc::new(Still),
    }
}

fn folder() -> (tempfile::TempDir, Arc<dyn Store>) {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::parse(folder.path().to_str().unwrap(), std::path::Path::new("/")).unwrap();
    let store = location.database("shop", true).unwrap();
    (folder, store)
}

#[test]
fn what_one_process_seals_another_opens() {
    let (_folder, store) = folder();
    let (_, unlock) = Unlock::generate("shop");
    block_on(async {
        let made = Repository::create(store.clone(), runtime(), "shop", &unlock)
            .await
            .unwrap();
        let session = made.begin_session().await.unwrap();
        let mut draft = made.draft(&session, Kind::Report, "reports/x".into(), 0).unwrap();
        draft.frame(b"hello", 5, crate::envelope::Codec::Stored).unwrap();
        made.put_finished(&draft.finish(Vec::new()).unwrap()).await.unwrap();

        let opened = Repository::open(store.clone(), runtime(), &unlock).await.unwrap();
        let report = opened.open_whole(Kind::Report, "reports/x").await.unwrap();
        let mut opener = crate::envelope::Opener::new().unwrap();
        assert_eq!(report.read(&mut opener, 0).unwrap(), b"hello");
        let pin = Pin {
            size: report.tail.total,
            hash: report.tail.hash,
        };
        let ranged = opened
            .open_ranged(Kind::Report, "reports/x", &pin, report.tail.directory_length)
            .await
            .unwrap();
        let sealed = ranged.fetch(&**opened.store(), 0, 1).await.unwrap();
        let mut out = Vec::new();
        ranged.open_frame(&mut opener, 0, &sealed, &mut out).unwrap();
        assert_eq!(out, b"hello");
    });
}

#[test]
fn init_on_a_finished_repository_changes_nothing() {
    let (_folder, store) = folder();
    let (_, unlock) = Unlock::generate("shop");
    block_on(async {
        Repository::create(store.clone(), runtime(), "shop", &unlock)
            .await
            .unwrap();
        let again = Repository::create(store.clone(), runtime(), "shop", &Unlock::generate("shop").1).await;
        assert!(matches!(again, Err(Error::Foreign { .. })));
        assert!(Repository::open(store, runtime(), &unlock).await.is_ok());
    });
}

#[test]
fn another_key_is_refused_and_says_so() {
    let (_folder, store) = folder();
    let (_, unlock) = Unlock::generate("shop");
    block_on(async {
        Repository::create(store.clone(), runtime(), "shop", &unlock)
            .await
            .unwrap();
        let other = Repository::open(store, runtime(), &Unlock::generate("shop").1).await;
        assert!(matches!(other, Err(Error::WrongKey { .. })));
    });
}

#[test]
fn an_object_of_a_newer_format_is_not_called_damaged() {
    let (_folder, store) = folder();
    let (_, unlock) = Unlock::generate("shop");
    block_on(async {
        let made = Repository::create(store, runtime(), "shop", &unlock).await.unwrap();
        // Another length, another end, another place of the session: only the first sixteen bytes stay.
        let newer = [&b"LASTGOOD"[..], &[2, 0, 64, 0, 0, 0, 0, 0], &[0; 7]].concat();
        made.put("reports/x", newer.clone().into()).await.unwrap();
        let pin = Pin {
            size: newer.len() as u64,
            hash: [0; 32],
        };
        let name = "reports/x";
        let found = [
            made.open_whole(Kind::Report, name).await.err(),
            made.open_pinned(Kind::Report, name, &pin).await.err(),
            made.open_known(Kind::Report, name, newer.into()).err(),
        ];
        for error in found {
            assert!(matches!(error, Some(Error::Unsupported { .. })), "{error:?}");
        }
        let pin = Pin { size: 5, ..pin };
        let grown = made.open_pinned(Kind::Report, name, &pin).await.err();
        assert!(grown.unwrap().to_string().contains("another size"));
    });
}
