//! A backup taken while money moves brings back a state that existed, to the record.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use engine::{
    backup,
    backup::{Options, Reader},
    event::Event,
    list,
    restore::At,
};
use pgformat::Major;
use testkit::clusters::{
    TestCluster, amcheck,
    bank::{self, RunningBank},
    give_to_server_user, majors_to_test, row_digests,
};

use super::{
    act::copy_directory,
    over_sql::{over_sql, poor},
};
use crate::world::{World, durable_with};

const ACCOUNTS: i32 = 60;
/// Two to three seconds for a new cluster: long enough that hundreds of transfers fall into the copy.
const SLOWLY: u64 = 12 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_brings_back_a_state_that_existed() {
    for major in majors_to_test() {
        check(major, Reader::Local).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_through_sql_under_load_brings_back_a_state_that_existed() {
    check(Major::V15, Reader::Sql).await;
}

async fn check(major: Major, reader: Reader) {
    let mut source = TestCluster::new(major, durable_with(&["wal_keep_size = 1GB"])).await;
    bank::create(&source.session().await, ACCOUNTS).await;
    let world = World::new().await;
    let twin = cold_copy(&mut source, &world.target("twin")).await;
    let bank = Arc::new(RunningBank::start(&source.conninfo(), 3, ACCOUNTS, 7));
    bank.wait_for(50).await;
    let at_start = bank.acknowledged();

    // The server is asked to end the backup only after this event.
    let before_the_stop = Arc::new(Mutex::new(None));
    let (watched, seen) = (bank.clone(), before_the_stop.clone());
    let context = world.watching(move |event| {
        if matches!(event, Event::Step { step: "stop", .. }) {
            *seen.lock().unwrap() = Some(watched.acknowledged());
        }
    });
    let (options, conninfo) = match reader {
        Reader::Local => (world.options(&source), source.conninfo()),
        Reader::Sql => (over_sql(), poor(&source).await),
    };
    let options = Options {
        max_rate: Some(SLOWLY),
        ..options
    };
    let opened = world.open().await;
    let summary = backup::run(&context, &opened, &conninfo, &options).await.unwrap();
    bank.wait_for(bank.acknowledged().len() + 20).await;
    drop(context);
    let acknowledged = Arc::into_inner(bank).unwrap().stop().await;
    let before_the_stop = before_the_stop.lock().unwrap().take().unwrap();
    assert!(
        before_the_stop.len() > at_start.len() + 20,
        "PostgreSQL {major}: the load stood still"
    );

    // Not to the newest moment: WAL is stored by the segment, and that may hold some of the load after the backup's end.
    let mut request = world.request("restored");
    request.at = At::Backup(summary.backup.id.clone());
    let mut restored = TestCluster::on(major, &world.restore(&request).await.to);
    restored.start().await;
    let books = bank::audit(&restored.session().await, ACCOUNTS).await;
    assert_eq!(books.faults, Vec::<String>::new(), "PostgreSQL {major}");
    assert!(
        before_the_stop.is_subset(&books.transfers),
        "PostgreSQL {major}: an acknowledged transfer is lost"
    );
    assert!(
        books.transfers.len() < acknowledged.len(),
        "PostgreSQL {major}: it went on after the backup"
    );
    assert_eq!(
        amcheck(&restored.conninfo()).await,
        Vec::<String>::new(),
        "PostgreSQL {major}"
    );

    source.stop().await;
    let record = list::show(&world.context, &opened, &summary.backup.id)
        .await
        .unwrap()
        .facts
        .stop
        .record;
    replay_to(&twin, &source.data_dir().join("pg_wal"), &record.to_string());
    let mut twin = TestCluster::on(major, &twin);
    twin.start().await;
    assert_eq!(
        row_digests(&restored.conninfo()).await,
        row_digests(&twin.conninfo()).await,
        "PostgreSQL {major}"
    );
}

/// The cluster as it is when nothing runs.
async fn cold_copy(cluster: &mut TestCluster, to: &Path) -> PathBuf {
    cluster.stop().await;
    copy_directory(cluster.data_dir(), to);
    cluster.start().await;
    to.to_path_buf()
}

/// Makes PostgreSQL itself replay `pg_wal` of the source over the copy, up to and with the record at `record`.
fn replay_to(data_dir: &Path, pg_wal: &Path, record: &str) {
    let archive = data_dir.with_file_name("archive");
    copy_directory(pg_wal, &archive);
    let settings = format!(
        "restore_command = 'cp \"{}/%f\" \"%p\"'\nrecovery_target_lsn = '{record}'\nrecovery_target_inclusive = on\n\
         recovery_target_timeline = '1'\nrecovery_target_action = 'promote'\nhot_standby = off\n",
        archive.display()
    );
    let path = data_dir.join("postgresql.auto.conf");
    let before = fs::read_to_string(&path).unwrap();
    fs::write(&path, before + &settings).unwrap();
    fs::write(data_dir.join("recovery.signal"), "").unwrap();
    give_to_server_user(&archive);
}
