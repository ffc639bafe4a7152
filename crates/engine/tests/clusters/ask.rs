//! What tests ask of servers, and tell them.

use std::time::Duration;

use testkit::clusters::TestCluster;
use tokio::time::Instant;

/// How long anything may take that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs statements as superuser in database `postgres`.
pub(crate) async fn sql(cluster: &TestCluster, statements: &str) {
    let session = cluster.session().await;
    let done = session.execute("do a test's bidding", statements).await;
    done.unwrap_or_else(|error| panic!("{error:?}\n{statements}"));
    session.close().await;
}

/// One value, as text; empty for NULL.
pub(crate) async fn value(cluster: &TestCluster, query: &str) -> String {
    let session = cluster.session().await;
    let sql = format!("SELECT ({query})::text");
    let row = session.query_one("ask", &sql, &[]).await.unwrap();
    session.close().await;
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

/// Waits until a query has that value.
pub(crate) async fn comes_to_be(cluster: &TestCluster, query: &str, wanted: &str) {
    until(&format!("{query} is {wanted:?}"), || async {
        value(cluster, query).await == wanted
    })
    .await;
}

/// Waits until `done` says so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
