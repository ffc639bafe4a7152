//! Damage that the source had already is told, kept as it is, and not called damage of the backup.

use std::{fs::OpenOptions, os::unix::fs::FileExt};

use engine::{list, repo::ledger, verify};
use pgformat::Major;
use testkit::clusters::TestCluster;

use crate::{
    ask::{sql, value},
    world::{World, durable},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_a_cold_page_of_the_source_is_told_with_path_and_block() {
    let mut source = TestCluster::new(Major::V15, durable()).await;
    sql(
        &source,
        "CREATE TABLE public.cold WITH (autovacuum_enabled = off) AS
             SELECT i, pg_catalog.repeat('x', 900) AS filler FROM pg_catalog.generate_series(1, 800) AS i",
    )
    .await;
    let path = value(&source, "SELECT pg_catalog.pg_relation_filepath('public.cold')").await;
    source.stop().await;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(source.data_dir().join(&path))
        .unwrap();
    let (block, offset) = (37, 37 * 8192 + 5000);
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
    source.start().await;

    let world = World::new().await;
    let summary = world.backup(&source).await;
    assert_eq!(summary.page_errors, [format!("{path} block {block}")]);
    assert_eq!((summary.page_errors_total, summary.rotten_pages_total), (1, 0));
    let named = |(code, message): &(String, String)| {
        code == "page-damaged" && message.contains(&path) && message.contains(&block.to_string())
    };
    assert!(world.warnings().iter().any(named), "{:?}", world.warnings());
    let opened = world.open().await;
    let facts = list::show(&world.context, &opened, &summary.backup.id)
        .await
        .unwrap()
        .facts;
    assert_eq!(facts.totals.page_errors, 1);
    assert_eq!(
        (facts.page_errors[0].path.as_str(), facts.page_errors[0].block),
        (path.as_str(), block)
    );

    let request = verify::Request {
        backup: None,
        level: ledger::Level::Pages,
        jobs: 2,
        binaries: None,
        scratch: None,
    };
    let report = verify::run(&world.context, &opened, &request).await.unwrap();
    assert_eq!(report.found, Vec::<String>::new());
    assert_eq!(report.outcome, ledger::Outcome::Passed);

    // What comes back is what was there, the damage included: nobody but the owner may decide to zero it.
    let restored = world.restore(&world.request("restored")).await;
    let back = std::fs::read(restored.to.join(&path)).unwrap();
    assert_eq!(back[offset as usize], byte[0] ^ 4);
}
