//! `wal get` killed while a server recovers with it: no death of a fetch is taken for the end of the WAL.
//!
//! PostgreSQL ends a recovery whose `restore_command` dies by a signal (`RestoreArchivedFile`, xlogarchive.c), and takes
//! every other failure for the end of what there is.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
};

use engine::pgformat::Major;
use testkit::clusters::{TestCluster, bank, give_to_server_user, row_digests};

use super::{
    processes::{ended, kill_a_fetch, processes, recover, signal},
    random, share,
};
use crate::world::{World, archived, succeeded, switch, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_whose_fetches_are_killed_goes_on_to_the_full_end_and_opens_no_earlier() {
    let (world, mut random) = (World::new(), random());
    let mut server = world.server(Major::V15, 1, &world.archive_command()).await;
    let transfers = beyond_its_backup(&world, &server).await;
    let digests = row_digests(&server.conninfo()).await;
    server.stop().await;
    let mut to = recovering(&world, "restored");
    let folder = world.folder.path().to_str().unwrap();
    let (kills, mut number, mut missed) = (share(2), 0, 0);
    while number < kills {
        let log = world.path(&format!("recovery-{number}.log"));
        let mut recovery = recover(&server, &to, &log);
        let passed = random.below(10);
        if !kill_a_fetch(&mut recovery, &to, passed, &mut random).await {
            // All of them were quicker, as may be on a busy machine. Once more from the beginning.
            missed += 1;
            assert!(missed < 20 + kills, "{number} fetches were killed, and no more");
            drop(recovery);
            to = recovering(&world, &format!("restored-{missed}"));
            continue;
        }
        ended(&mut recovery).await;
        if random.chance(500) {
            // Whoever fetches ahead outlives the server, and may be amid a file.
            for ahead in processes(|words| words.contains("\0--ahead\0") && words.contains(folder)) {
                signal("KILL", ahead);
            }
        }
        let said = fs::read_to_string(&log).unwrap();
        assert!(
            to.join("recovery.signal").exists(),
            "kill {number} let it open early\n{said}"
        );
        assert!(!said.contains("archive recovery complete"), "kill {number}\n{said}");
        number += 1;
    }
    println!("{kills} fetches were killed");
    let mut recovered = TestCluster::on(Major::V15, &to);
    recovered.start().await;
    assert_eq!(row_digests(&recovered.conninfo()).await, digests);
    let books = bank::audit(&recovered.session().await, 500).await;
    assert_eq!(books.faults, Vec::<String>::new());
    assert!(transfers.is_subset(&books.transfers), "acknowledged transfers are lost");
}

/// A backup, and some dozens of segments beyond it in the repository; the transfers that were acknowledged.
async fn beyond_its_backup(world: &World, server: &TestCluster) -> BTreeSet<bank::Transfer> {
    bank::create(&server.session().await, 500).await;
    world.backup(server);
    let load = bank::RunningBank::start(&server.conninfo(), 2, 500, 1);
    load.wait_for(100).await;
    write(server, 24).await;
    load.wait_for(300).await;
    let transfers = load.stop().await;
    switch(server).await;
    archived(server).await;
    transfers
}

/// The newest backup, restored, and set to recover by hand as far as there is WAL.
fn recovering(world: &World, name: &str) -> PathBuf {
    let (to, at) = (world.path(name), format!("backup:{}", world.newest_backup()));
    let words = ["restore", "shop", "--to", to.to_str().unwrap(), "--at", &at, "--yes"];
    succeeded(&world.run(world.folder.path(), &words));
    let mut file = OpenOptions::new()
        .append(true)
        .open(to.join("postgresql.auto.conf"))
        .unwrap();
    let command = world.restore_command();
    writeln!(
        file,
        "restore_command = '{command}'\nrecovery_target_lsn = ''\nrecovery_target_timeline = 'latest'"
    )
    .unwrap();
    give_to_server_user(&to);
    to
}
