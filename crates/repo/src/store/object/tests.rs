use super::*;
use futures::executor::block_on;

fn directory() -> (tempfile::TempDir, Arc<dyn Store>) {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::parse(folder.path().to_str().unwrap(), std::path::Path::new("/")).unwrap();
    let store = location.database("shop", true).unwrap();
    (folder, store)
}

#[test]
fn the_second_create_loses_and_changes_nothing() {
    let (_folder, store) = directory();
    block_on(async {
        assert_eq!(
            store.put_new("a/b", Bytes::from_static(b"ours")).await.unwrap(),
            Put::Created
        );
        assert_eq!(
            store.put_new("a/b", Bytes::from_static(b"theirs")).await.unwrap(),
            Put::Exists
        );
        assert_eq!(store.get("a/b").await.unwrap().unwrap(), "ours");
    });
}

#[test]
fn a_range_beyond_the_end_is_damage_and_an_absent_object_is_none() {
    let (_folder, store) = directory();
    block_on(async {
        store.put_new("a", Bytes::from_static(b"0123456789")).await.unwrap();
        assert_eq!(store.get_range("a", 2, 3).await.unwrap().unwrap(), "234");
        assert!(matches!(store.get_range("a", 8, 3).await, Err(Error::Damaged { .. })));
        assert!(matches!(store.get_range("a", 80, 3).await, Err(Error::Damaged { .. })));
        assert_eq!(store.get_range("b", 0, 1).await.unwrap(), None);
        assert_eq!(store.get("b").await.unwrap(), None);
        store.delete("b").await.unwrap();
    });
}

#[test]
fn a_listing_is_in_order_and_begins_after_the_name_given() {
    let (folder, store) = directory();
    block_on(async {
        for name in [
            "ledger/000000000002",
            "ledger/000000000001",
            "ledger/000000000003",
            "packs/x/1",
        ] {
            store.put_new(name, Bytes::from_static(b"x")).await.unwrap();
        }
        std::fs::write(folder.path().join("shop/ledger/000000000004#1"), b"unfinished").unwrap();
        let names = |found: Vec<Listed>| found.into_iter().map(|listed| listed.name).collect::<Vec<_>>();
        let found = store.list_after("ledger/", "ledger/000000000001", 10).await.unwrap();
        assert_eq!(names(found), ["ledger/000000000002", "ledger/000000000003"]);
        let found = store.list_after("ledger/", "", 1).await.unwrap();
        assert_eq!(names(found), ["ledger/000000000001"]);
    });
}

#[test]
fn a_scheme_without_a_driver_is_refused_in_words() {
    let error = Location::parse("s3://bucket/x", std::path::Path::new("/")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "s3://bucket/x needs a driver for s3:// repositories, which this version of lastgood cannot read"
    );
    assert_eq!(
        Location::parse("backups", std::path::Path::new("/srv")).unwrap(),
        Location::Directory("/srv/backups".into())
    );
    assert_eq!(
        Location::parse("file:///srv/b", std::path::Path::new("/")).unwrap(),
        Location::Directory("/srv/b".into())
    );
}
