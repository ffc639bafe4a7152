//! What SQL shows of a data directory is what is in it.

use std::{collections::BTreeMap, ffi::OsStr, fs, io::ErrorKind, os::unix::ffi::OsStrExt, process::Command};

use engine::{
    pgclient::reader::FileReader,
    source::{FileKind, LocalDirectory, Source, SqlDirectory},
};
use pgformat::Major;
use testkit::clusters::{TestCluster, give_to_server_user, majors_to_test};

use super::{
    act::directory_beside,
    over_sql::{over_sql, poor},
};
use crate::{
    ask::{sql, value},
    world::{World, durable, durable_with},
};

/// Kind, size and content, or the target of a link, of everything below `path`.
fn everything(source: &dyn Source, path: &[u8], found: &mut BTreeMap<Vec<u8>, (FileKind, Vec<u8>)>) {
    let names = source.list(path).unwrap().unwrap();
    for (name, kind) in names.iter() {
        let path = if path.is_empty() {
            name.to_vec()
        } else {
            [path, b"/", name].concat()
        };
        // What the server rewrites while nobody asks for anything.
        if path.starts_with(b"pg_stat") || path.starts_with(b"postmaster") || path.starts_with(b"pg_wal") {
            continue;
        }
        let content = match kind {
            FileKind::File => content(source, &path),
            FileKind::Link => source.link(&path).unwrap().unwrap(),
            FileKind::Directory | FileKind::Special => Vec::new(),
        };
        found.insert(path.clone(), (kind, content));
        if matches!(kind, FileKind::Directory | FileKind::Link) {
            everything(source, &path, found);
        }
    }
}

fn content(source: &dyn Source, path: &[u8]) -> Vec<u8> {
    let (file, listed) = (source.open(path).unwrap().unwrap(), source.stat(path).unwrap().unwrap());
    assert_eq!(
        file.stat().unwrap().size,
        listed.size,
        "{}",
        String::from_utf8_lossy(path)
    );
    let (mut whole, mut buffer) = (Vec::new(), vec![0; 300_000]);
    loop {
        let got = file.read_at(&mut buffer, whole.len() as u64).unwrap();
        whole.extend_from_slice(&buffer[..got]);
        if got < buffer.len() {
            break;
        }
    }
    // Going back reads again.
    let middle = whole.len() / 2;
    let mut again = vec![0; 100];
    let got = file.read_at(&mut again, middle as u64).unwrap();
    assert_eq!(again[..got], whole[middle..][..got]);
    whole
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_shows_every_file_of_a_data_directory_as_it_is() {
    for major in majors_to_test() {
        let mut lines = vec!["autovacuum = off"];
        lines.extend((major >= Major::V15).then_some("allow_in_place_tablespaces = on"));
        let source = TestCluster::new(major, durable_with(&lines)).await;
        if major >= Major::V15 {
            sql(&source, "CREATE TABLESPACE in_place LOCATION ''").await;
            sql(
                &source,
                "CREATE TABLE public.small TABLESPACE in_place AS SELECT 1 AS i",
            )
            .await;
        }
        let space = directory_beside(&source, "a space");
        sql(
            &source,
            &format!("CREATE TABLESPACE one LOCATION '{}'", space.display()),
        )
        .await;
        let table = "CREATE TABLE public.large TABLESPACE one AS SELECT pg_catalog.repeat('x', 500) FROM pg_catalog.generate_series(1, 9000)";
        sql(&source, table).await;
        sql(&source, "VACUUM").await;
        let conninfo = poor(&source).await;
        sql(&source, "CHECKPOINT").await;
        let reader = FileReader::connect(&conninfo, 3).await.unwrap();
        let over_sql = SqlDirectory::new(reader);
        let (mut seen, mut there) = (BTreeMap::new(), BTreeMap::new());
        everything(&over_sql, b"", &mut seen);
        everything(&LocalDirectory::new(source.data_dir().to_path_buf()), b"", &mut there);
        assert_eq!(
            seen.keys().collect::<Vec<_>>(),
            there.keys().collect::<Vec<_>>(),
            "PostgreSQL {major}"
        );
        for (path, found) in &there {
            assert!(
                seen[path] == *found,
                "PostgreSQL {major}: {} differs",
                String::from_utf8_lossy(path)
            );
        }
        assert!(there.values().any(|(_, content)| content.len() > 4 << 20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_is_no_error_and_what_would_block_is_not_opened() {
    let source = TestCluster::new(Major::V15, durable()).await;
    let pipe = source.data_dir().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::write(source.data_dir().join("passing"), "soon gone").unwrap();
    give_to_server_user(source.data_dir());
    let reader = FileReader::connect(&poor(&source).await, 1).await.unwrap();
    let directory = SqlDirectory::new(reader);

    let names = directory.list(b"").unwrap().unwrap();
    assert!(names.contains(b"passing"));
    fs::remove_file(source.data_dir().join("passing")).unwrap();
    assert!(directory.open(b"passing").unwrap().is_none());
    assert!(directory.list(b"no/such").unwrap().is_none());
    assert!(directory.stat(b"no such").unwrap().is_none());
    assert!(directory.link(b"pg_tblspc/77777").unwrap().is_none());
    assert_eq!(directory.list(b"pg_twophase").unwrap().unwrap().len(), 0);

    let mut buffer = [0; 10];
    let pipe = directory.open(b"pipe").unwrap().unwrap();
    assert_eq!(pipe.read_at(&mut buffer, 0).unwrap(), 0);
}

/// No session keeps a file open: each MiB of it is asked for by its name.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_file_that_went_is_not_taken_for_a_whole_one_unless_replay_drops_it() {
    let source = TestCluster::new(Major::V15, durable()).await;
    let reader = FileReader::connect(&poor(&source).await, 1).await.unwrap();
    let directory = SqlDirectory::new(reader);
    for (path, is_relation) in [("pg_twophase/0000ABCD", false), ("base/1/99999999", true)] {
        let file = source.data_dir().join(path);
        fs::write(&file, vec![7; 3 << 20]).unwrap();
        give_to_server_user(&file);
        let open = directory.open(path.as_bytes()).unwrap().unwrap();
        let mut buffer = vec![0; 1 << 20];
        assert_eq!(open.read_at(&mut buffer, 0).unwrap(), 1 << 20, "{path}");
        fs::remove_file(&file).unwrap();
        match open.read_at(&mut buffer, 1 << 20) {
            Ok(got) => assert!(is_relation && got == 0, "{path}: {got}"),
            Err(error) => assert!(!is_relation && error.kind() == ErrorKind::NotFound, "{path}: {error}"),
        }
    }
}

/// A file's name is bytes; a database's encoding says which of them can be said.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_ascii_come_back_byte_for_byte() {
    let source = TestCluster::new(Major::V15, durable()).await;
    let name = OsStr::from_bytes(b"caf\xe9");
    fs::write(source.data_dir().join(name), "in Latin 1").unwrap();
    give_to_server_user(source.data_dir());
    let latin = "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";
    sql(&source, latin).await;
    let conninfo = poor(&source).await;
    let world = World::new().await;
    let opened = world.open().await;
    if value(&source, "SELECT pg_catalog.getdatabaseencoding()").await == "UTF8" {
        let failed = engine::backup::run(&world.context, &opened, &conninfo, &over_sql())
            .await
            .unwrap_err();
        let why = std::error::Error::source(&failed).unwrap().to_string();
        assert!(why.contains("encoding"), "{why}");
    }
    // Rights on functions are a database's own.
    let session = source.session_in("latin").await;
    let grants = engine::pgclient::catalog::grants_for_reader(Major::V15, conninfo.user());
    session.execute("grant", &grants).await.unwrap();
    session.close().await;
    let conninfo = conninfo.with_dbname("latin");
    engine::backup::run(&world.context, &opened, &conninfo, &over_sql())
        .await
        .unwrap();
    let restored = world.restore(&world.request("restored")).await;
    assert_eq!(fs::read(restored.to.join(name)).unwrap(), b"in Latin 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_thousands_of_files_costs_a_few_questions() {
    const FILES: usize = 5000;
    let source = TestCluster::new(Major::V15, durable()).await;
    let pile = source.data_dir().join("pile");
    fs::create_dir(&pile).unwrap();
    for number in 0..FILES {
        fs::write(pile.join(format!("file {number}")), vec![b'x'; number % 7]).unwrap();
    }
    give_to_server_user(&pile);
    sql(&source, "CREATE DATABASE counted").await;
    let conninfo = poor(&source).await.with_dbname("counted");
    let session = source.session_in("counted").await;
    let grants = engine::pgclient::catalog::grants_for_reader(Major::V15, conninfo.user());
    session.execute("grant", &grants).await.unwrap();
    session.close().await;
    let asked = "SELECT xact_commit FROM pg_catalog.pg_stat_database WHERE datname = 'counted'";
    // Whoever leaves adds up first what it did.
    let gone = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE datname = 'counted'";
    let count = async || {
        while value(&source, gone).await != "0" {}
        value(&source, asked).await.parse::<usize>().unwrap()
    };
    let before = count().await;
    let directory = SqlDirectory::new(FileReader::connect(&conninfo, 2).await.unwrap());
    directory.list(b"").unwrap().unwrap();
    let names = directory.list(b"pile").unwrap().unwrap();
    assert_eq!(names.len(), FILES);
    for (name, _) in names.iter() {
        let stat = directory.stat(&[b"pile/", name].concat()).unwrap().unwrap();
        let number: usize = std::str::from_utf8(&name[5..]).unwrap().parse().unwrap();
        assert_eq!(stat.size as usize, number % 7);
    }
    // One that was passed is forgotten when another is gone through: what stands above is not.
    directory.list(b"global").unwrap().unwrap();
    directory.stat(b"PG_VERSION").unwrap().unwrap();
    drop(directory);
    let questions = count().await - before;
    assert!(questions < 60, "{questions} questions for {FILES} files");
}
