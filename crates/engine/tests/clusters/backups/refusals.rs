//! Backups that are refused: each with its reason and what mends it, and with nothing changed.

use engine::{Error, database, pgclient::Conninfo, repo, repo::keys::Unlock};
use pgformat::Major;
use testkit::clusters::{Options as ClusterOptions, TestCluster};

use super::act::refusal;
use crate::{
    ask::sql,
    world::{World, durable, durable_with},
};

/// Tries a backup and asserts that the repository is as it was.
async fn refused(world: &World, conninfo: &Conninfo, options: &engine::backup::Options) -> Error {
    let before = world.objects();
    let opened = world.open().await;
    let error = engine::backup::run(&world.context, &opened, conninfo, options)
        .await
        .expect_err("it was not refused");
    assert_eq!(world.objects(), before, "a refused backup left something behind");
    assert_eq!(world.listed().await, Vec::<String>::new());
    error
}

/// A server with one setting that rules a backup out.
async fn check_setting(setting: &str, code: &str, named: &str) {
    let options = ClusterOptions {
        conf: vec!["fsync = on".into(), setting.into()],
        ..ClusterOptions::default()
    };
    let source = TestCluster::new(Major::V15, options).await;
    let world = World::new().await;
    let (found, what, hint) = refusal(refused(&world, &source.conninfo(), &world.options(&source)).await);
    assert_eq!(found, code);
    assert!(what.contains(named), "{what}");
    let setting = named.split('=').next().unwrap();
    assert!(hint.contains(&format!("`{setting} = ")), "{hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_under_which_files_cannot_be_trusted_are_refused_by_name() {
    check_setting("fsync = off", "fsync-off", "fsync=off").await;
    check_setting("full_page_writes = off", "full-page-writes-off", "full_page_writes=off").await;
    check_setting(
        "wal_level = minimal\nmax_wal_senders = 0",
        "wal-level-minimal",
        "wal_level",
    )
    .await;
    check_setting("max_wal_senders = 0", "no-wal-senders", "max_wal_senders").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_server_is_named() {
    let mut source = TestCluster::new(Major::V15, durable()).await;
    let world = World::new().await;
    source.stop().await;
    let error = refused(&world, &source.conninfo(), &world.options(&source)).await;
    assert!(
        matches!(error, Error::Server(engine::pgclient::Error::Unreachable { .. })),
        "{error:?}"
    );
    assert!(error.to_string().contains(&source.port().to_string()), "{error}");
    assert!(error.hint().unwrap().contains("PostgreSQL runs"));
}

/// Each refusal names the grant; running just that leads to the next one, and at last to a backup.
#[tokio::test(flavor = "multi_thread")]
async fn every_missing_right_is_named_with_the_sql_that_gives_it() {
    for major in testkit::clusters::majors_to_test() {
        let source = TestCluster::new(major, durable()).await;
        sql(&source, "CREATE ROLE \"Sichern \"\"1\"\"\" LOGIN").await;
        let text = source.conninfo_text().replace("user=postgres", "user='Sichern \"1\"'");
        let conninfo = Conninfo::parse(&text, &|_| None).unwrap();
        let world = World::new().await;
        let options = engine::backup::Options {
            data_directory: None,
            ..world.options(&source)
        };
        let mut codes = Vec::new();
        for expected in ["no-backup-right", "no-replication-right", "data-directory-unknown"] {
            let (code, what, hint) = refusal(refused(&world, &conninfo, &options).await);
            assert_eq!(code, expected, "PostgreSQL {major}: {what} {hint}");
            assert!(what.contains("Sichern \"1\""), "{what}");
            let grant = ["GRANT", "ALTER ROLE"]
                .iter()
                .find_map(|word| hint.find(word))
                .unwrap_or_else(|| panic!("no SQL in: {hint}"));
            sql(&source, &hint[grant..]).await;
            codes.push(code);
        }
        let opened = world.open().await;
        engine::backup::run(&world.context, &opened, &conninfo, &options)
            .await
            .unwrap_or_else(|error| panic!("PostgreSQL {major} after {codes:?}: {error:?}"));
        assert_eq!(world.listed().await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_refused_as_server_and_as_directory() {
    let (source, other) = (
        TestCluster::new(Major::V15, durable()).await,
        TestCluster::new(Major::V15, durable_with(&[])).await,
    );
    let world = World::new().await;

    let wrong_directory = engine::backup::Options {
        data_directory: Some(other.data_dir().to_path_buf()),
        ..world.options(&source)
    };
    let (code, what, hint) = refusal(refused(&world, &source.conninfo(), &wrong_directory).await);
    assert_eq!(code, "foreign-directory");
    assert!(what.contains(&other.data_dir().display().to_string()), "{what}");
    assert!(hint.contains("--data-directory"), "{hint}");

    let nowhere = engine::backup::Options {
        data_directory: Some("/nowhere/at/all".into()),
        ..world.options(&source)
    };
    let (code, what, _) = refusal(refused(&world, &source.conninfo(), &nowhere).await);
    assert_eq!(code, "data-directory-elsewhere");
    assert!(what.contains("/nowhere/at/all"), "{what}");

    world.backup(&source).await;
    let before = world.objects();
    let error = world.try_backup(&other, &world.options(&other)).await.unwrap_err();
    let (code, what, hint) = refusal(error);
    assert_eq!(code, "foreign-server");
    let identifier = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
    for cluster in [&source, &other] {
        assert!(what.contains(&crate::ask::value(cluster, identifier).await), "{what}");
    }
    assert!(hint.contains("lastgood init"), "{hint}");
    assert_eq!(world.objects(), before);
    assert_eq!(world.listed().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_a_missing_folder_and_a_foreign_database_are_told_apart() {
    let world = World::new().await;
    let before = world.objects();
    let open = async |database: database::Database| database::open(&world.context, &database).await.unwrap_err();

    let (_, other_key) = Unlock::generate("shop");
    let wrong_key = open(database::Database {
        unlock: other_key,
        ..world.database.clone()
    })
    .await;
    assert!(
        matches!(wrong_key, Error::Repository(repo::Error::WrongKey { .. })),
        "{wrong_key:?}"
    );
    assert!(wrong_key.hint().unwrap().contains("key file"));

    let missing = open(database::Database {
        name: "shpo".into(),
        ..world.database.clone()
    })
    .await;
    let Error::NotFound { what, hint } = missing else {
        panic!("{missing:?}")
    };
    assert!(
        what.contains("shpo") && what.contains(&world.repository().display().to_string()),
        "{what}"
    );
    assert!(hint.contains("lastgood init"), "{hint}");

    let foreign = open(database::Database {
        expected_id: Some("00".repeat(16)),
        ..world.database.clone()
    })
    .await;
    assert!(
        matches!(foreign, Error::Repository(repo::Error::Foreign { .. })),
        "{foreign:?}"
    );
    assert_eq!(world.objects(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_without_a_backup_says_so_at_a_restore() {
    let world = World::new().await;
    let opened = world.open().await;
    for at in [
        engine::restore::At::Latest,
        engine::restore::At::Backup("20200101T000000Z-00000000".into()),
    ] {
        let mut request = world.request("restored");
        request.at = at;
        let error = engine::restore::plan(&world.context, &opened, &request)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
        assert!(error.to_string().contains("shop"), "{error}");
        assert!(!request.to.exists());
    }
}
