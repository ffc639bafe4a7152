use pgclient::{
    BackupSession, Cluster, Conninfo, Error, Replication, Session,
    backup_session::Checkpoint,
    catalog::{Rights, ServerFacts, tables},
    replication::WalStream,
};
use pgformat::{label::BackupLabel, label::TakenFrom};

use crate::server::Server;

const HBA: &str = "local all all trust";

#[tokio::test]
async fn a_plain_role_backs_up_with_the_grant_that_the_refusal_names() {
    let server = Server::new(HBA, &[]).await;
    server.sql("CREATE ROLE \"Plain \"\"R\"\"\" LOGIN").await;
    let conninfo = server.admin().with_user("Plain \"R\"");

    let refused = BackupSession::start(&conninfo, "nightly", Checkpoint::Fast)
        .await
        .unwrap_err();
    let Error::MissingRight { grant, .. } = &refused else {
        panic!("{refused:?}")
    };
    assert!(
        grant.contains("pg_catalog.pg_backup_start(text, boolean), pg_catalog.pg_backup_stop(boolean)"),
        "{grant}"
    );
    server.sql(grant).await;

    let (backup, started) = BackupSession::start(&conninfo, "nightly", Checkpoint::Fast)
        .await
        .unwrap();
    assert!(backup.is_alive());
    let facts = ServerFacts::read(backup.session()).await.unwrap();
    assert!(facts.rights.backup && !facts.rights.superuser);
    let stopped = backup.stop().await.unwrap();
    assert!(started.start < stopped.stop && !started.in_recovery);
    let label = BackupLabel::parse(stopped.backup_label.as_bytes()).unwrap();
    assert_eq!(
        (
            label.start_lsn,
            label.start_timeline,
            label.label.as_str(),
            label.taken_from
        ),
        (started.start, started.timeline, "nightly", TakenFrom::Primary)
    );
    assert_eq!(stopped.tablespace_map, "");
}

#[tokio::test]
async fn a_backup_whose_session_was_ended_by_the_server_is_no_backup() {
    let server = Server::new(HBA, &[]).await;
    let (backup, _) = BackupSession::start(&server.admin(), "x", Checkpoint::Fast)
        .await
        .unwrap();
    server
        .sql("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
        .await;
    let error = backup.stop().await.unwrap_err();
    assert!(matches!(error, Error::ConnectionLost { .. }), "{error:?}");
}

#[tokio::test]
async fn hostile_timeouts_and_search_paths_of_a_role_do_not_reach_the_session() {
    let server = Server::new(HBA, &[]).await;
    server
        .sql(
            "CREATE ROLE r LOGIN; ALTER ROLE r SET statement_timeout = '1s'; ALTER ROLE r SET idle_session_timeout = '1s'; \
             ALTER ROLE r SET idle_in_transaction_session_timeout = '1s'; ALTER ROLE r SET lock_timeout = '1s'; \
             CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO r; ALTER ROLE r SET search_path = evil, pg_catalog; \
             CREATE FUNCTION evil.pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT -1'",
        )
        .await;
    let session = Session::connect(&server.admin().with_user("r")).await.unwrap();
    let sql = "SELECT current_setting('statement_timeout'), current_setting('idle_session_timeout'), \
               current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout'), \
               current_setting('search_path'), pg_backend_pid()::text";
    let row = session.query_one("read settings", sql, &[]).await.unwrap();
    let settings: Vec<String> = (0..5).map(|column| row.get(column)).collect();
    assert_eq!(settings, ["0", "0", "0", "0", "\"\""]);
    assert_ne!(row.get::<_, String>(5), "-1");
    assert_eq!(Rights::read(&session).await.unwrap().role, "r");
    session.close().await;
}

#[tokio::test]
async fn a_dropped_backup_leaves_the_server_without_its_session() {
    let server = Server::new(HBA, &[]).await;
    server.sql("CREATE ROLE r SUPERUSER LOGIN").await;
    let (backup, _) = BackupSession::start(&server.admin().with_user("r"), "x", Checkpoint::Fast)
        .await
        .unwrap();
    let watcher = server.session().await;
    let sessions = async || -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'r'";
        watcher.query_one("count sessions", sql, &[]).await.unwrap().get(0)
    };
    assert_eq!(sessions().await, 1);
    drop(backup);
    let gone = async { while sessions().await > 0 {} };
    tokio::time::timeout(crate::server::LONG, gone)
        .await
        .expect("the session stayed");
}

/// An engine runs these as tasks of a runtime with threads.
#[test]
fn the_futures_of_this_crate_can_move_between_threads() {
    fn check<T: Send>(_: T) {}
    // Only their types matter; there is no server.
    fn methods(backup: BackupSession, session: &Session, stream: &mut WalStream, cluster: &mut Cluster) {
        check(backup.stop());
        check(ServerFacts::read(session));
        check(tables(session, 1));
        check(stream.next());
        check(cluster.wait_ready(crate::server::LONG));
    }
    let _: fn(BackupSession, &Session, &mut WalStream, &mut Cluster) = methods;
    let conninfo = Conninfo::parse("user=u", &|_| None).unwrap();
    check(Session::connect(&conninfo));
    check(Replication::connect(&conninfo));
    check(BackupSession::start(&conninfo, "x", Checkpoint::Fast));
}
