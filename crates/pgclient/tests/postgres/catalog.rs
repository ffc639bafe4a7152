use pgclient::{
    Session,
    catalog::{ServerFacts, tables},
};
use pgformat::Major;

use crate::server::Server;

#[tokio::test]
async fn the_facts_are_the_servers_and_lacking_rights_leave_them_open() {
    let server = Server::new("local all all trust", &[("max_slot_wal_keep_size", "1GB")]).await;
    server
        .sql("CREATE ROLE plain LOGIN; REVOKE CONNECT ON DATABASE template1 FROM PUBLIC")
        .await;

    let facts = ServerFacts::read(&server.session().await).await.unwrap();
    assert_eq!(
        (facts.major, facts.block_size, facts.wal_block_size),
        (Major::V15, 8192, 8192)
    );
    assert_eq!(
        (facts.wal_segment_size.bytes(), facts.relation_segment_blocks),
        (16 << 20, 131_072)
    );
    assert!(facts.data_checksums && !facts.fsync && facts.full_page_writes && !facts.in_recovery);
    assert_eq!(
        (facts.wal_level.as_str(), facts.archive_mode.as_str()),
        ("replica", "off")
    );
    assert_eq!(facts.max_slot_wal_keep_mebibytes, Some(1024));
    assert_eq!(facts.data_directory.as_deref(), server.data_dir().to_str());
    assert_eq!(facts.bootstrap_superuser, "postgres");
    assert!(facts.rights.superuser && facts.rights.replication && facts.rights.backup && facts.rights.read_files);
    let names: Vec<_> = facts.databases.iter().map(|database| database.name.as_str()).collect();
    assert_eq!(names, ["postgres", "template0", "template1"]);
    assert!(facts.databases_bytes() > 3 << 20);

    let session = Session::connect(&server.admin().with_user("plain")).await.unwrap();
    let plain = ServerFacts::read(&session).await.unwrap();
    assert_eq!(plain.system_identifier, facts.system_identifier);
    assert_eq!((plain.data_directory, plain.hba_file), (None, None));
    assert!(!plain.rights.superuser && !plain.rights.backup && !plain.rights.replication && !plain.rights.read_files);
    let template = plain
        .databases
        .iter()
        .find(|database| database.name == "template1")
        .unwrap();
    assert!(template.bytes.is_none() && !template.may_connect);
}

#[tokio::test]
async fn tables_come_largest_first_and_not_more_than_asked_for() {
    let server = Server::new("", &[]).await;
    server
        .sql(
            "CREATE TABLE public.small AS SELECT 1 AS a; CREATE TABLE public.large AS SELECT generate_series(1, 10000) AS a; \
             CREATE MATERIALIZED VIEW public.middle AS SELECT a FROM public.large WHERE a < 2000; \
             CREATE TABLE public.empty (a int); ANALYZE",
        )
        .await;
    let session = server.session().await;
    let found = tables(&session, 3).await.unwrap();
    let names: Vec<_> = found.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["large", "middle", "small"]);
    assert_eq!((found[0].estimated_rows, found[0].schema.as_str()), (10_000, "public"));
    assert!(found[0].estimated_bytes > found[1].estimated_bytes && found[2].estimated_bytes == 8192);

    // A table under reorganisation must not hold up the list.
    let other = server.session().await;
    other
        .execute("lock", "BEGIN; LOCK TABLE public.small IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let found = tables(&session, 10).await.unwrap();
    assert_eq!(found.len(), 4);
}
