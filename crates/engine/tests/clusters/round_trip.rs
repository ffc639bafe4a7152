//! What goes in comes out: on every version, judged by PostgreSQL's own tools.

use engine::{
    database,
    restore::{self, At, Request},
};
use pgformat::Major;
use testkit::clusters::{self, TestCluster, majors_to_test, row_digests, sample};

use crate::world::{World, durable};

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_has_the_rows_of_its_source() {
    for major in majors_to_test() {
        let world = World::new().await;
        let source = TestCluster::new(major, durable()).await;
        sample::create(&source, None).await;
        let before = row_digests(&source.conninfo()).await;
        world.backup(&source).await;
        drop(source);
        let restored = world.revive(major, "restored").await;
        assert_eq!(row_digests(&restored.conninfo()).await, before, "PostgreSQL {major}");
        assert_eq!(clusters::amcheck(&restored.conninfo()).await, Vec::<String>::new());
        assert_eq!(clusters::index_counts(&restored.conninfo()).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresqls_own_tools_find_nothing_to_complain_of() {
    let world = World::new().await;
    let source = TestCluster::new(Major::V15, durable()).await;
    sample::create(&source, None).await;
    world.backup(&source).await;
    let restored = world.restore(&world.request("restored")).await;
    clusters::verifybackup(&restored.to).unwrap();
    let mut server = TestCluster::on(Major::V15, &restored.to);
    server.start().await;
    server.stop().await;
    clusters::checksums(&restored.to).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_named_comes_back_although_the_ledger_has_a_hole() {
    let world = World::new().await;
    let source = TestCluster::new(Major::V15, durable()).await;
    let id = world.backup(&source).await.backup.id;
    let entry = world.target("repository/shop/ledger/000000000002");
    std::fs::remove_file(entry).expect("the ledger has a second entry");
    assert!(database::open(&world.context, &world.database).await.is_err());
    let latest = database::open_to_restore(&world.context, &world.database, &At::Latest).await;
    assert!(latest.is_err(), "only the ledger knows which backup is the newest");

    let request = Request {
        at: At::Backup(id),
        timeline: None,
        ..world.request("restored")
    };
    let opened = database::open_to_restore(&world.context, &world.database, &request.at).await;
    let opened = opened.expect("a restore needs no ledger");
    let plan = restore::plan(&world.context, &opened, &request).await.expect("a plan");
    let restored = restore::run(&world.context, &opened, &request, plan).await;
    clusters::verifybackup(&restored.expect("a restore").to).unwrap();
}
