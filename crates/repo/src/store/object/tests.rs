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

#[test]
fn an_object_larger_than_its_kind_may_be_is_not_read() {
    let (folder, store) = directory();
    block_on(async {
        store
            .put_new("ledger/000000000001", Bytes::from_static(b"x"))
            .await
            .unwrap();
        let file = std::fs::File::options()
            .write(true)
            .open(folder.path().join("shop/ledger/000000000001"));
        file.unwrap().set_len(3 << 20).unwrap();
        let refused = store.get("ledger/000000000001").await;
        assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    });
}

#[test]
fn a_page_of_a_listing_holds_the_first_names_whatever_order_the_disk_has() {
    let (_folder, store) = directory();
    block_on(async {
        for number in [5, 3, 9, 1, 7] {
            let name = format!("packs/x/{number:08}");
            store.put_new(&name, Bytes::from_static(b"x")).await.unwrap();
        }
        let found = store.list_after("packs/", "packs/x/00000001", 2).await.unwrap();
        let names: Vec<_> = found.iter().map(|listed| listed.name.as_str()).collect();
        assert_eq!(names, ["packs/x/00000003", "packs/x/00000005"]);
    });
}

#[test]
fn what_a_killed_writer_left_goes_after_its_time_and_nothing_else_does() {
    let (folder, store) = directory();
    block_on(async {
        store
            .put_new("packs/x/00000001", Bytes::from_static(b"x"))
            .await
            .unwrap();
        let left = folder.path().join("shop/packs/x/00000002#1");
        std::fs::write(&left, b"half").unwrap();
        assert_eq!(store.clear_unfinished(1).await.unwrap(), 0);
        assert!(left.exists());
        assert_eq!(store.clear_unfinished(i64::MAX).await.unwrap(), 1);
        assert!(!left.exists());
        assert!(store.get("packs/x/00000001").await.unwrap().is_some());
    });
}

#[test]
fn an_empty_folder_made_by_hand_becomes_private() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("shop");
    let mode = || std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let location = Location::Directory(root.path().into());
    location.database("shop", true).unwrap();
    assert_eq!(mode(), 0o700);
}

#[test]
fn a_folder_that_is_no_folder_is_not_called_absent() {
    let root = tempfile::tempdir().unwrap();
    let location = Location::Directory(root.path().into());
    assert!(matches!(location.database("shop", false), Err(Error::Missing { .. })));
    std::fs::write(root.path().join("shop"), b"").unwrap();
    assert!(matches!(location.database("shop", false), Err(Error::Store { .. })));
    assert_eq!(location.databases().unwrap(), Vec::<String>::new());
    std::fs::create_dir(root.path().join("lost+found")).unwrap();
    std::fs::create_dir(root.path().join("app")).unwrap();
    std::fs::write(root.path().join("app/identity"), b"").unwrap();
    assert_eq!(location.databases().unwrap(), ["app"]);
}

#[test]
fn a_folder_whose_file_system_went_takes_nothing_and_lacks_nothing() {
    let (folder, made) = directory();
    let away = tempfile::tempdir().unwrap();
    block_on(made.put_new("before", Bytes::from_static(b"x"))).unwrap();
    assert_eq!(block_on(made.get("nothing")).unwrap(), None, "it is being made");
    block_on(made.put_new("identity", Bytes::from_static(b"x"))).unwrap();
    let location = Location::Directory(folder.path().to_path_buf());
    let opened = location.database("shop", false).unwrap();
    let here = folder.path().join("shop");
    std::fs::rename(&here, away.path().join("shop")).unwrap();
    std::fs::create_dir(&here).unwrap();
    for store in [&made, &opened] {
        let is_away = |error: Error| {
            let text = format!("{error:?}");
            error.is_transient() && text.contains(": is the file system mounted?")
        };
        assert!(is_away(
            block_on(store.put_new("new", Bytes::from_static(b"x"))).unwrap_err()
        ));
        assert!(is_away(block_on(store.get("before")).unwrap_err()));
        assert!(is_away(block_on(store.get_range("before", 0, 1)).unwrap_err()));
        assert!(is_away(block_on(store.head("before")).unwrap_err()));
        assert!(is_away(block_on(store.list_after("", "", 9)).unwrap_err()));
        assert!(is_away(block_on(store.delete("before")).unwrap_err()));
    }
    assert_eq!(std::fs::read_dir(&here).unwrap().count(), 0, "something was stored");
    std::fs::remove_dir(&here).unwrap();
    assert!(block_on(made.put_new("new", Bytes::from_static(b"x"))).is_err());
    std::fs::rename(away.path().join("shop"), &here).unwrap();
    assert_eq!(
        block_on(opened.put_new("new", Bytes::from_static(b"x"))).unwrap(),
        Put::Created
    );
}
