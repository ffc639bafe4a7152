//! What lies in a data directory beside ordinary tables.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
};

use pgformat::Major;
use testkit::clusters::{TestCluster, give_to_server_user, majors_to_test, row_digests, verifybackup};

use super::act::files_below;
use crate::{
    ask::{comes_to_be, sql, value},
    world::{World, durable},
};

async fn file_of(cluster: &TestCluster, relation: &str) -> String {
    value(
        cluster,
        &format!("SELECT pg_catalog.pg_relation_filepath('{relation}')"),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn unlogged_tables_come_back_empty_and_usable_and_temporary_ones_not_at_all() {
    for major in majors_to_test() {
        let source = TestCluster::new(major, durable()).await;
        sql(
            &source,
            "CREATE UNLOGGED TABLE public.unlogged (id int PRIMARY KEY, word text);
             INSERT INTO public.unlogged SELECT i, 'gone' FROM pg_catalog.generate_series(1, 5000) AS i; CHECKPOINT",
        )
        .await;
        let unlogged = file_of(&source, "public.unlogged").await;
        // More than its buffers hold, so that it is on disk.
        let holder = source.session().await;
        let temporary = "SET temp_buffers = 100; CREATE TEMPORARY TABLE fleeting AS
            SELECT i, pg_catalog.repeat('t', 500) AS filler FROM pg_catalog.generate_series(1, 10000) AS i";
        holder.execute("make a temporary table", temporary).await.unwrap();
        let is_temporary = |path: &Path| {
            let name = path.file_name().unwrap().to_string_lossy();
            path.starts_with("base")
                && name
                    .strip_prefix('t')
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        assert!(
            files_below(source.data_dir()).keys().any(|path| is_temporary(path)),
            "PostgreSQL {major}"
        );

        let world = World::new().await;
        world.backup(&source).await;
        holder.close().await;
        let restored = world.restore(&world.request("restored")).await;
        let files = files_below(&restored.to);
        assert!(!files.keys().any(|path| is_temporary(path)), "PostgreSQL {major}");
        assert!(!files.contains_key(Path::new(&unlogged)), "PostgreSQL {major}");
        assert!(
            files.contains_key(Path::new(&format!("{unlogged}_init"))),
            "PostgreSQL {major}"
        );
        let mut server = TestCluster::on(major, &restored.to);
        server.start().await;
        let count = "SELECT pg_catalog.count(*) FROM public.unlogged";
        assert_eq!(value(&server, count).await, "0", "PostgreSQL {major}");
        sql(&server, "INSERT INTO public.unlogged VALUES (1, 'new')").await;
        assert_eq!(value(&server, count).await, "1", "PostgreSQL {major}");
    }
}

/// Each breaks something somewhere: format strings, JSON, shells, trees that are sorted by whole paths.
const ODD_NAMES: &[&[u8]] = &[
    b" leading and trailing ",
    b"quo\"te's",
    b"%n%s%p",
    b"back\\slash\\",
    b"new\nline",
    b"tab\t#[=]",
    b"not utf8 \xff\xfe\xc3",
    b"-rf",
    "ärger 🐘".as_bytes(),
    b"~",
    b"...",
    b"dir.with.dots/a",
    b"dir/z",
    b"dir-dash/nested \xf0/deep",
    b"base/odd",
    b"base/5\n",
    b"global/16384x",
    b"empty",
];

#[tokio::test(flavor = "multi_thread")]
async fn files_of_any_name_come_back_as_they_were() {
    let source = TestCluster::new(Major::V15, durable()).await;
    for name in ODD_NAMES {
        let path = source.data_dir().join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let content = if *name == b"empty" {
            Vec::new()
        } else {
            name.repeat(1000)
        };
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    }
    fs::create_dir(source.data_dir().join(OsStr::from_bytes(b"empty directory \xff"))).unwrap();
    give_to_server_user(source.data_dir());
    let before = row_digests(&source.conninfo()).await;
    let world = World::new().await;
    world.backup(&source).await;
    let restored = world.restore(&world.request("restored")).await;
    for name in ODD_NAMES {
        let (was, is) = (
            source.data_dir().join(OsStr::from_bytes(name)),
            restored.to.join(OsStr::from_bytes(name)),
        );
        assert_eq!(
            fs::read(&is).unwrap(),
            fs::read(&was).unwrap(),
            "{}",
            name.escape_ascii()
        );
        assert_eq!(
            fs::metadata(&is).unwrap().permissions().mode() & 0o777,
            0o640,
            "{}",
            name.escape_ascii()
        );
    }
    assert!(restored.to.join(OsStr::from_bytes(b"empty directory \xff")).is_dir());
    verifybackup(&restored.to).unwrap();
    let mut server = TestCluster::on(Major::V15, &restored.to);
    server.start().await;
    assert_eq!(row_digests(&server.conninfo()).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_leads_nowhere_and_a_socket_are_left_out_and_named() {
    let source = TestCluster::new(Major::V15, durable()).await;
    std::os::unix::fs::symlink("/nowhere/at/all", source.data_dir().join("dangling")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.data_dir().join("socket")).unwrap();
    let world = World::new().await;
    world.backup(&source).await;
    for name in ["dangling", "socket"] {
        let named = |(code, message): &(String, String)| code == "left-out" && message.starts_with(name);
        assert!(world.warnings().iter().any(named), "{name}: {:?}", world.warnings());
    }
    let restored = world.restore(&world.request("restored")).await;
    assert!(!restored.to.join("socket").exists());
    verifybackup(&restored.to).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_slots_stay_with_the_source() {
    let source = TestCluster::new(Major::V15, durable()).await;
    sql(
        &source,
        "SELECT pg_catalog.pg_create_physical_replication_slot('follower', true)",
    )
    .await;
    let world = World::new().await;
    world.backup(&source).await;
    let slots = "SELECT pg_catalog.string_agg(slot_name, ',') FROM pg_catalog.pg_replication_slots";
    // The backup's own slot goes with its session.
    comes_to_be(&source, slots, "follower").await;
    let server = world.revive(Major::V15, "restored").await;
    assert_eq!(value(&server, slots).await, "");
}
