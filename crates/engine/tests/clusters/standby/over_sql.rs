//! A standby whose files cannot be seen is read through SQL.

use engine::backup::Reader;
use pgformat::Major;
use testkit::clusters::bank::RunningBank;

use super::pair::{ACCOUNTS, From, Pair};
use crate::scene::Depth;

async fn through_sql(from: From) {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    let over = |options: &mut engine::backup::Options| {
        options.reader = Reader::Sql;
        options.data_directory = None;
    };
    let bank = RunningBank::start(&pair.scene.cluster.conninfo(), 2, ACCOUNTS, 5);
    bank.wait_for(100).await;
    let full = pair.take(from, over).await.unwrap();
    bank.stop().await;
    pair.change(1).await;
    pair.caught_up().await;
    let rows = pair.scene.rows().await;
    let quiet = pair.take(from, over).await.unwrap();
    assert_eq!(quiet.full_because, None);
    pair.scene.brings_back(&quiet.backup.id, &rows, Depth::All).await;
    pair.books_are_right(&full.backup.id).await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_backed_up_through_sql() {
    through_sql(From::Standby).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_is_backed_up_from_its_standbys_files_through_sql() {
    through_sql(From::Beside).await;
}
