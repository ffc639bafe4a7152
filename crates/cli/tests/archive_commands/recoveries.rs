//! Servers that recover with `wal get`, and what they archive when they are promoted.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use engine::pgformat::Major;
use testkit::clusters::{TestCluster, bank, give_to_server_user, row_digests, server_user};

use crate::{
    kills::processes::nobody_fetches_ahead,
    world::{KEEP, World, archived, code, marked, segment, set_archive_command, sql, stderr, succeeded, switch, write},
};

/// Restores the newest moment and adds settings; the last of a name wins.
fn restored(world: &World, name: &str, settings: &[String]) -> PathBuf {
    restored_at(world, "latest", name, settings)
}

/// Restores the moment `at` and adds settings.
fn restored_at(world: &World, at: &str, name: &str, settings: &[String]) -> PathBuf {
    let to = world.path(name);
    succeeded(&world.run(
        world.folder.path(),
        &["restore", "shop", "--to", to.to_str().unwrap(), "--at", at, "--yes"],
    ));
    let mut file = OpenOptions::new()
        .append(true)
        .open(to.join("postgresql.auto.conf"))
        .unwrap();
    writeln!(file, "{}", settings.join("\n")).unwrap();
    give_to_server_user(&to);
    to
}

/// To the end of the WAL, out of the repository alone.
fn to_the_end(world: &World) -> Vec<String> {
    vec![
        format!("restore_command = '{}'", world.restore_command()),
        "recovery_target_lsn = ''".into(),
        "recovery_target_timeline = 'latest'".into(),
    ]
}

/// A server with a backup, and WAL beyond it in the archive.
async fn beyond_its_backup(world: &World) -> TestCluster {
    let server = world.server(Major::V15, 1, &world.archive_command()).await;
    bank::create(&server.session().await, 500).await;
    world.backup(&server);
    let load = bank::RunningBank::start(&server.conninfo(), 2, 500, 1);
    load.wait_for(100).await;
    write(&server, 20).await;
    load.wait_for(300).await;
    load.stop().await;
    switch(&server).await;
    archived(&server).await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_to_the_end_of_the_wal_brings_back_every_row() {
    let world = World::new();
    let mut server = beyond_its_backup(&world).await;
    let digests = row_digests(&server.conninfo()).await;
    server.stop().await;
    let to = restored(&world, "restored", &to_the_end(&world));
    let mut recovered = TestCluster::on(Major::V15, &to);
    recovered.start().await;
    assert_eq!(row_digests(&recovered.conninfo()).await, digests);
    let books = bank::audit(&recovered.session().await, 500).await;
    assert_eq!(books.faults, Vec::<String>::new());
    let log = fs::read_to_string(recovered.log()).unwrap();
    assert!(log.contains("restored log file"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_does_not_open_over_a_gap() {
    let world = World::new();
    let mut server = beyond_its_backup(&world).await;
    server.stop().await;
    let done: Vec<_> = world
        .objects("wal")
        .into_iter()
        .filter(|path| path.to_str().unwrap().contains("/done/"))
        .collect();
    fs::remove_file(&done[done.len() - 8]).unwrap();
    // `restore` itself refuses to go past it; somebody recovers by hand.
    let at = format!("backup:{}", world.newest_backup());
    let to = restored_at(&world, &at, "restored", &to_the_end(&world));
    let log = run_to_its_end(&server, &to);
    assert!(log.contains("WAL of timeline 1 is missing at"), "{log}");
    assert!(!log.contains("ready to accept connections"), "{log}");
}

/// Starts a server that is to end by itself; its log.
fn run_to_its_end(programs: &TestCluster, data: &Path) -> String {
    let mut server = Command::new(programs.binaries().directory().join("postgres"));
    server
        .arg("-D")
        .arg(data)
        .args(["-c", "listen_addresses=", "-c", "logging_collector=off"])
        .arg("-k")
        .arg(programs.folder())
        .stdin(Stdio::null());
    if let Some((user, group)) = server_user() {
        server.uid(user).gid(group);
    }
    let output = server.output().unwrap();
    assert!(!output.status.success());
    stderr(&output)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_server_archives_its_history_and_the_rest_of_the_old_timeline() {
    let world = World::new();
    let mut server = world.server(Major::V15, 1, KEEP).await;
    bank::create(&server.session().await, 500).await;
    world.backup(&server);
    // The newest moment may be the end of the segment that the backup's end
    // switches away from, and nothing of it would be partial then.
    let to = restored_at(
        &world,
        &format!("backup:{}", world.newest_backup()),
        "restored",
        &["archive_mode = on".into(), format!("archive_command = '{KEEP}'")],
    );
    // What the backup's own stream has kept is not to hide what is pushed.
    for object in world.objects("wal") {
        fs::remove_file(object).unwrap();
    }
    let mut promoted = TestCluster::on(Major::V15, &to);
    promoted.start().await;
    switch(&promoted).await;
    let waiting = marked(&promoted, ".ready");
    let partial = waiting
        .iter()
        .find(|name| name.ends_with(".partial"))
        .expect("a partial segment")
        .clone();
    set_archive_command(&promoted, &world.archive_command()).await;
    switch(&promoted).await;
    archived(&promoted).await;

    let history = fs::read(to.join("pg_wal/00000002.history")).unwrap();
    assert_eq!(world.get(&promoted, "00000002.history", &[]).1, Some(history.clone()));
    let at = String::from_utf8(history).unwrap();
    let at = at.split_whitespace().nth(1).unwrap().to_string();
    let (_, low) = at.split_once('/').unwrap();
    let length = usize::from_str_radix(low, 16).unwrap() % (1 << 20);
    let (code_of, got, said) = world.get(&promoted, partial.strip_suffix(".partial").unwrap(), &[]);
    assert_eq!(code_of, 0, "{said}");
    let (got, file) = (got.unwrap(), fs::read(to.join("pg_wal").join(&partial)).unwrap());
    assert!(
        length > 0 && got[..length] == file[..length],
        "the partial segment came back otherwise"
    );
    assert!(got[length..].iter().all(|byte| *byte == 0) && got.len() == 1 << 20);

    // The old server comes back, and goes on where nobody follows.
    write(&server, 3).await;
    switch(&server).await;
    let behind = marked(&server, ".ready").last().unwrap().clone();
    let refused = world.push(&server, &format!("pg_wal/{behind}"));
    assert_eq!(code(&refused), 1);
    assert!(
        stderr(&refused).contains("timeline 1 was left for timeline 2"),
        "{}",
        stderr(&refused)
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_fetched_ahead_are_handed_over_only_if_they_are_what_they_promise() {
    let world = World::new();
    let mut server = world.server(Major::V15, 1, &world.archive_command()).await;
    write(&server, 8).await;
    switch(&server).await;
    archived(&server).await;
    sql(&server, "CHECKPOINT").await;
    server.stop().await;
    let names: Vec<String> = crate::world::done_segments(&server);
    let data = server.data_dir();
    let words = |name: &str| ["wal", "get", name, "pg_wal/RECOVERYXLOG", "shop"].map(str::to_string);
    let run = |name: &str, more: &[&str]| {
        let words = words(name);
        let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        code(&world.run(data, &words))
    };
    assert_eq!(run(&names[0], &["--ahead"]), 0);
    let folder = data.join("pg_wal/lastgood-ahead");
    let ahead = || {
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files
    };
    assert!(ahead().len() >= 4, "{:?}", ahead());
    // One that was damaged, one that is another segment's under this one's name, and one that somebody brought along with
    // the time of the one that was here.
    let files = ahead();
    let mut bytes = fs::read(&files[0]).unwrap();
    bytes[9000] ^= 1;
    fs::write(&files[0], &bytes).unwrap();
    fs::copy(&files[3], &files[1]).unwrap();
    let copy = folder.join("copy");
    fs::write(&copy, &bytes).unwrap();
    let modified = fs::metadata(&files[2]).unwrap().modified().unwrap();
    OpenOptions::new()
        .write(true)
        .open(&copy)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    fs::rename(&copy, &files[2]).unwrap();
    for (number, name) in names.iter().enumerate().skip(1).take(4) {
        assert_eq!(run(name, &["--until", "1:F/0"]), 0, "{number}");
        assert!(
            fs::read(data.join("pg_wal/RECOVERYXLOG")).unwrap() == segment(&server, name),
            "{number}"
        );
    }
    // At the end of the WAL nothing stays, when who was left fetching ahead has ended.
    nobody_fetches_ahead(data).await;
    assert_eq!(run("0000000100000000000000F0", &[]), 1);
    assert!(!folder.exists() || ahead().is_empty());
}
