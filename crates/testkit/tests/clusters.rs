//! The kit itself: servers start in every version, loads do what they say, oracles see what is wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::{fs, os::unix::fs::FileExt, path::PathBuf, process::Command};

use pgformat::Major;
use testkit::clusters::{
    Options, TestCluster, amcheck, bank, checksums, give_to_server_user, index_counts, majors_to_test, row_digests,
    sample, storm::Storm, verifybackup, visibility,
};

/// The file of a relation in database `postgres`.
async fn file_of(cluster: &TestCluster, relation: &str) -> PathBuf {
    let sql = format!("SELECT pg_catalog.pg_relation_filepath('{relation}')");
    let row = cluster
        .session()
        .await
        .query_one("find a file", &sql, &[])
        .await
        .unwrap();
    cluster.data_dir().join(row.get::<_, String>(0))
}

fn flip_a_bit(file: &std::path::Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_in_a_storm_loses_no_acknowledged_transfer() {
    for major in majors_to_test() {
        let options = Options {
            wal_segment_size_mib: 1,
            ..Options::default()
        };
        let mut cluster = TestCluster::new(major, options).await;
        bank::create(&cluster.session().await, 50).await;
        let storm = Storm::start(&cluster.conninfo()).await;
        let running = bank::RunningBank::start(&cluster.conninfo(), 3, 50, 7);
        running.wait_for(200).await;
        // It crashes in the midst of a storm, not at its beginning.
        while storm.databases_done() < 1 {
            running.wait_for(running.acknowledged().len() + 10).await;
        }
        cluster.crash().await;
        cluster.start().await;
        let before = running.acknowledged().len();
        running.wait_for(before + 100).await;
        let acknowledged = running.stop().await;
        let done = storm.stop().await;
        let books = bank::audit(&cluster.session().await, 50).await;
        assert_eq!(books.faults, Vec::<String>::new(), "PostgreSQL {major}");
        assert!(acknowledged.is_subset(&books.transfers), "PostgreSQL {major}");
        assert!(
            done.tables > 0 && done.rewrites > 0 && done.settings > 0,
            "PostgreSQL {major}: {done:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_does_everything_it_says_in_every_version() {
    for major in majors_to_test() {
        let cluster = TestCluster::new(major, Options::default()).await;
        let storm = Storm::start(&cluster.conninfo()).await;
        let running = bank_of(&cluster).await;
        // Long enough for a few rounds of the slowest, which makes databases.
        while storm.databases_done() < 2 {
            running.wait_for(running.acknowledged().len() + 10).await;
        }
        running.stop().await;
        let done = storm.stop().await;
        assert!(done.databases >= 2, "PostgreSQL {major}: {done:?}");
        assert!(
            done.tables > 0 && done.rewrites > 0 && done.settings > 0,
            "PostgreSQL {major}: {done:?}"
        );
    }
}

async fn bank_of(cluster: &TestCluster) -> bank::RunningBank {
    bank::create(&cluster.session().await, 20).await;
    bank::RunningBank::start(&cluster.conninfo(), 1, 20, 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_passes_every_oracle_and_outlives_a_restart() {
    for major in majors_to_test() {
        let mut cluster = TestCluster::new(major, Options::default()).await;
        let elsewhere = cluster.folder().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        give_to_server_user(&elsewhere);
        sample::create(&cluster, Some(&elsewhere)).await;
        let before = row_digests(&cluster.conninfo()).await;
        assert!(before.len() > 20, "{:?}", before.keys());
        assert!(before.keys().any(|table| table.starts_with(sample::ODD_DATABASE)));
        let conninfo = cluster.conninfo();
        for findings in [
            amcheck(&conninfo).await,
            visibility(&conninfo).await,
            index_counts(&conninfo).await,
        ] {
            assert_eq!(findings, Vec::<String>::new(), "PostgreSQL {major}");
        }
        cluster.restart().await;
        assert_eq!(row_digests(&cluster.conninfo()).await, before, "PostgreSQL {major}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_digest_differs_when_one_row_does() {
    let cluster = TestCluster::new(Major::V15, Options::default()).await;
    sample::create(&cluster, None).await;
    let before = row_digests(&cluster.conninfo()).await;
    for change in [
        "UPDATE public.indexed SET score = score + 1 WHERE id = 17",
        "SELECT pg_catalog.lo_put(424242, 100000, 'x')",
        "DELETE FROM public.parted WHERE at = '2024-02-29'",
        "ALTER ROLE reader CONNECTION LIMIT 4",
    ] {
        let session = cluster.session().await;
        session
            .execute("change one row", &format!("BEGIN; {change}; COMMIT"))
            .await
            .unwrap();
        let after = row_digests(&cluster.conninfo()).await;
        let differing = before
            .iter()
            .filter(|(table, digest)| after.get(*table) != Some(digest))
            .count();
        assert!(differing > 0, "{change}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oracles_see_an_index_that_is_older_than_its_table() {
    let mut cluster = TestCluster::new(
        Major::V15,
        Options {
            checksums: false,
            ..Options::default()
        },
    )
    .await;
    sample::create(&cluster, None).await;
    let index = file_of(&cluster, "public.toasted_pkey").await;
    cluster.stop().await;
    let old = fs::read(&index).unwrap();
    cluster.start().await;
    let change = "INSERT INTO public.toasted SELECT i, 'new' FROM pg_catalog.generate_series(100, 200) AS i";
    cluster.session().await.execute("change a table", change).await.unwrap();
    cluster.stop().await;
    fs::write(&index, old).unwrap();
    cluster.start().await;
    assert!(
        amcheck(&cluster.conninfo())
            .await
            .iter()
            .any(|finding| finding.contains("toasted"))
    );
    assert!(
        index_counts(&cluster.conninfo())
            .await
            .iter()
            .any(|finding| finding.contains("toasted_pkey"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oracles_see_a_visibility_map_that_promises_too_much() {
    let mut cluster = TestCluster::new(
        Major::V15,
        Options {
            checksums: false,
            ..Options::default()
        },
    )
    .await;
    let session = cluster.session().await;
    session
        .execute("make a table", "CREATE TABLE public.seen AS SELECT 1 AS one")
        .await
        .unwrap();
    session
        .execute("vacuum it", "VACUUM (FREEZE) public.seen")
        .await
        .unwrap();
    session.close().await;
    let map = file_of(&cluster, "public.seen").await;
    let map = PathBuf::from(format!("{}_vm", map.display()));
    cluster.stop().await;
    let old = fs::read(&map).unwrap();
    cluster.start().await;
    cluster
        .session()
        .await
        .execute("change a row", "UPDATE public.seen SET one = 2")
        .await
        .unwrap();
    cluster.stop().await;
    fs::write(&map, old).unwrap();
    cluster.start().await;
    assert!(
        visibility(&cluster.conninfo())
            .await
            .iter()
            .any(|finding| finding.contains("public.seen"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_seen_in_a_backup_and_in_a_stopped_cluster() {
    let mut cluster = TestCluster::new(Major::V15, Options::default()).await;
    sample::create(&cluster, None).await;
    let table = file_of(&cluster, "public.indexed").await;
    let backup = cluster.folder().join("backup");
    let taken = Command::new(cluster.binaries().program("pg_basebackup"))
        .args([
            "--checkpoint=fast",
            "--wal-method=stream",
            "--dbname",
            &cluster.conninfo_text(),
            "--pgdata",
        ])
        .arg(&backup)
        .status();
    assert!(taken.unwrap().success());
    assert_eq!(verifybackup(&backup), Ok(()));
    flip_a_bit(
        &backup.join(table.strip_prefix(cluster.data_dir()).unwrap()),
        8192 + 3000,
    );
    assert!(verifybackup(&backup).unwrap_err().contains("checksum mismatch"));

    cluster.stop().await;
    assert_eq!(checksums(cluster.data_dir()), Ok(()));
    flip_a_bit(&table, 8192 + 3000);
    assert!(checksums(cluster.data_dir()).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_made_elsewhere_can_be_started_as_it_is() {
    let mut cluster = TestCluster::new(
        Major::V15,
        Options {
            tcp: true,
            ..Options::default()
        },
    )
    .await;
    sample::create(&cluster, None).await;
    let before = row_digests(&cluster.conninfo()).await;
    cluster.stop().await;
    let copy = tempfile::tempdir().unwrap();
    fs::set_permissions(copy.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let data = copy.path().join("data");
    assert!(
        Command::new("cp")
            .arg("-a")
            .arg(cluster.data_dir())
            .arg(&data)
            .status()
            .unwrap()
            .success()
    );
    let mut second = TestCluster::on(Major::V15, &data);
    second.start().await;
    assert_eq!(row_digests(&second.conninfo()).await, before);
}
