//! What goes in comes out: on every version, judged by PostgreSQL's own tools.

mod world;

use pgformat::Major;
use testkit::clusters::{self, TestCluster, majors_to_test, row_digests, sample};
use world::{World, durable};

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
