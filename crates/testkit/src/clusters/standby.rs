//! A standby of a server that a test already has.

use std::{fs, path::Path, process::Command, time::Duration};

use pgformat::Lsn;
use tokio::time::Instant;

use super::TestCluster;

/// How long replay may take to come to where the primary was.
const PATIENCE: Duration = Duration::from_secs(60);

/// A standby of `primary` in `to`, from its files as they are when it is down; both started.
pub async fn standby_of(primary: &mut TestCluster, to: &Path) -> TestCluster {
    primary.stop().await;
    let copied = Command::new("cp").arg("-a").arg(primary.data_dir()).arg(to).status();
    assert!(copied.expect("cp runs").success());
    primary.start().await;
    let configuration = to.join("postgresql.auto.conf");
    let mut text = fs::read_to_string(&configuration).unwrap_or_default();
    text.push_str(&format!("primary_conninfo = '{}'\n", primary.conninfo_text()));
    fs::write(&configuration, text).expect("the configuration can be written");
    fs::write(to.join("standby.signal"), "").expect("the signal can be written");
    let mut standby = TestCluster::on(primary.major(), to);
    standby.start().await;
    standby
}

/// Waits until the standby has replayed everything that the primary had written.
pub async fn caught_up(primary: &TestCluster, standby: &TestCluster) {
    let end: Lsn = text(primary, "pg_current_wal_flush_lsn()")
        .await
        .parse()
        .expect("a position");
    let began = Instant::now();
    let replayed = async || text(standby, "coalesce(pg_last_wal_replay_lsn(), '0/0')").await;
    while replayed().await.parse::<Lsn>().expect("a position") < end {
        assert!(began.elapsed() < PATIENCE, "the standby has not come to {end}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn text(server: &TestCluster, what: &str) -> String {
    let session = server.session().await;
    let sql = format!("SELECT ({what})::text");
    let row = session.query_one("ask", &sql, &[]).await.expect("an answer");
    session.close().await;
    row.get(0)
}
