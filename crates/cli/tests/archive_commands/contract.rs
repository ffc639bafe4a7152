//! What exit codes promise, and what is refused.

use std::{fs, process::Command, time::Instant};

use engine::pgformat::Major;
use testkit::clusters::{TestCluster, give_to_server_user};

use crate::world::{
    KEEP, PATIENCE, World, archived, code, done_segments, marked, segment, set_archive_command, stderr, switch, write,
};

/// A server whose first segments are archived.
async fn archiving() -> (World, TestCluster, Vec<String>) {
    let world = World::new();
    let server = world.server(Major::V15, 1, &world.archive_command()).await;
    write(&server, 5).await;
    switch(&server).await;
    archived(&server).await;
    let names = done_segments(&server);
    assert!(names.len() >= 5);
    (world, server, names)
}

/// A file beside the server's, in a directory of its own.
fn forged(world: &World, name: &str, bytes: &[u8]) -> String {
    let directory = world.path("forged");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_again_succeed_and_other_bytes_never_replace_them() {
    let (world, server, names) = archiving().await;
    let name = &names[2];
    let good = segment(&server, name);
    let mut other = good.clone();
    other[5000] ^= 1;
    let other = forged(&world, name, &other);
    for _ in 0..2 {
        assert_eq!(code(&world.push(&server, &format!("pg_wal/{name}"))), 0);
        let refused = world.push(&server, &other);
        let said = stderr(&refused);
        assert_eq!((code(&refused), said.lines().count()), (1, 1), "{said}");
        assert!(
            said.contains("two servers claim one identity: wal/") && said.contains("try: "),
            "{said}"
        );
    }
    assert!(world.get(&server, name, &[]).1.unwrap() == good);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_what_its_name_says_is_refused() {
    let (world, server, names) = archiving().await;
    let good = segment(&server, &names[2]);
    let next = "000000010000000000000FF0";
    for (name, bytes, expected) in [
        (next, &good[..], "holds the WAL of"),
        (&names[2], &good[..good.len() - 8192], "where a segment has 1048576"),
        (&names[2], &good[..30], "too short"),
        (&names[2], &vec![0; 1 << 20], "is no WAL"),
        (
            "000000010000000000000FF0.ready",
            &good,
            "no file that a server archives",
        ),
        ("xlogtemp.17", &good, "no file that a server archives"),
    ] {
        let refused = world.push(&server, &forged(&world, name, bytes));
        let said = stderr(&refused);
        assert_eq!((code(&refused), said.lines().count()), (1, 1), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    let note = "000000010000000000000003.00000028.backup";
    assert_eq!(code(&world.push(&server, &forged(&world, note, b"START"))), 0);
    assert_eq!(world.get(&server, next, &[]).0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_refused() {
    let (world, _server, _) = archiving().await;
    let stranger = world.server(Major::V15, 1, KEEP).await;
    switch(&stranger).await;
    let name = marked(&stranger, ".ready").remove(0);
    let refused = world.push(&stranger, &format!("pg_wal/{name}"));
    assert_eq!(code(&refused), 1);
    assert!(
        stderr(&refused).contains("the repository holds the cluster"),
        "{}",
        stderr(&refused)
    );
    assert!(!marked(&stranger, ".ready").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_never_taken_for_the_end() {
    let (world, server, names) = archiving().await;
    let objects = world.objects("wal");
    let object = |number: usize| {
        let name = &names[number];
        let start = u64::from_str_radix(&name[16..], 16).unwrap() << 20;
        let ending = format!("done/{start:016x}/{start:016x}");
        let found = objects.iter().find(|path| path.to_str().unwrap().ends_with(&ending));
        found.unwrap_or_else(|| panic!("{ending}")).clone()
    };
    let last = names.len() - 1;
    let get = |number: usize, more: &[&str]| world.get(&server, &names[number], more).0;
    assert_eq!(world.get(&server, "0000000100000000000000F0", &[]).0, 1);

    fs::remove_file(object(2)).unwrap();
    let (code, got, said) = world.get(&server, &names[2], &[]);
    assert_eq!((code, got), (200, None), "{said}");
    assert!(
        said.contains("WAL of timeline 1 is missing at") && said.lines().count() == 1,
        "{said}"
    );

    let mut bytes = fs::read(object(3)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(object(3), bytes).unwrap();
    let (code, got, said) = world.get(&server, &names[3], &[]);
    assert_eq!((code, got), (200, None), "{said}");

    // A plan knows what must be there, also where nothing later is.
    fs::remove_file(object(last)).unwrap();
    assert_eq!(get(last, &[]), 1);
    let position = |number: usize| {
        let start = u64::from_str_radix(&names[number][16..], 16).unwrap() << 20;
        format!("1:0/{:X}", start + 0x100)
    };
    assert_eq!(get(last, &["--until", &position(last)]), 200);
    assert_eq!(get(last, &["--until", &position(last - 1)]), 1);
    assert_eq!(get(last - 1, &["--until", &position(last - 1)]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_mean_to_servers_what_they_shall() {
    let world = World::new();
    let server = world.server(Major::V15, 1, KEEP).await;
    let run = |words: &[&str]| {
        let output = world.run(server.data_dir(), words);
        (code(&output), stderr(&output))
    };
    let to = world.path("got");
    let to = to.to_str().unwrap();
    // A mistake in a setting must neither end a recovery nor the archiver.
    for words in [
        &["wal", "push"][..],
        &["wal", "push", "pg_wal/000000010000000000000001", "shop", "--nonsense"],
        &["wal", "push", "pg_wal/000000010000000000000001", "nosuch"],
        &["wal", "push", "pg_wal/0000000100000000000000AA", "shop"],
        &[
            "wal",
            "push",
            "pg_wal/000000010000000000000001",
            "shop",
            "--repository",
            "/nowhere",
        ],
    ] {
        let (code, said) = run(words);
        assert_eq!(code, 1, "{words:?}: {said}");
    }
    for words in [
        &["wal", "get"][..],
        &["wal", "get", "000000010000000000000001"],
        &["wal", "get", "000000010000000000000001", to, "shop", "--nonsense"],
        &["wal", "get", "000000010000000000000001", to, "nosuch"],
        &["wal", "get", "000000010000000000000001", to, "shop", "--until", "x"],
        &[
            "wal",
            "get",
            "000000010000000000000001",
            to,
            "shop",
            "--repository",
            "/nowhere",
        ],
        &[
            "wal",
            "get",
            "000000010000000000000001",
            to,
            "shop",
            "--key-file",
            "/nowhere",
        ],
        &[
            "wal",
            "get",
            "00000002.history",
            to,
            "shop",
            "--name",
            "wal",
            "--json",
            "--repository",
            "x",
        ],
    ] {
        let (code, said) = run(words);
        assert_eq!(code, 200, "{words:?}: {said}");
    }
    for file in [
        "000000010000000000000001",
        "00000002.history",
        "000000010000000000000001.00000028.backup",
        "x",
    ] {
        assert_eq!(world.get(&server, file, &[]), (1, None, String::new()), "{file}");
    }
    // Outside of a data directory nobody knows the cluster.
    let output = world.run(world.folder.path(), &["wal", "get", "00000002.history", to, "shop"]);
    assert_eq!(code(&output), 200, "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_keeps_what_cannot_be_stored() {
    let (world, server, _) = archiving().await;
    let wal = world.path("repository/shop");
    let away = world.path("repository/away");
    fs::rename(&wal, &away).unwrap();
    switch(&server).await;
    let name = marked(&server, ".ready").remove(0);
    assert_eq!(code(&world.push(&server, &format!("pg_wal/{name}"))), 1);
    assert_eq!(marked(&server, ".ready"), [name]);
    fs::rename(&away, &wal).unwrap();
    // The archiver waits a minute after three failures, unless it is asked anew.
    set_archive_command(&server, &world.archive_command()).await;
    switch(&server).await;
    archived(&server).await;
    crate::world::compare_all(&world, &server);
}

/// A file system in memory over the repository, gone with this. Mounting needs root, as the tests' full disks do.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn over(path: std::path::PathBuf) -> SmallDisk {
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        fs::create_dir(&path).unwrap();
        let disk = SmallDisk(path);
        disk.mount("size=2m,mode=0755");
        let copied = Command::new("cp").arg("-a").arg(aside.join(".")).arg(&disk.0).status();
        assert!(copied.unwrap().success());
        disk
    }

    fn mount(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&self.0);
        assert!(mount.status().unwrap().success(), "mounting needs root");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_with_room_everything_is_stored() {
    let world = World::new();
    let disk = SmallDisk::over(world.path("repository"));
    give_to_server_user(&world.path("repository"));
    let server = world.server(Major::V15, 1, KEEP).await;
    write(&server, 8).await;
    switch(&server).await;
    let waiting = marked(&server, ".ready");
    let mut last = None;
    for name in &waiting {
        let output = world.push(&server, &format!("pg_wal/{name}"));
        let full = code(&output) != 0;
        last = Some(output);
        if full {
            break;
        }
    }
    let said = stderr(&last.unwrap());
    assert!(
        said.to_lowercase().contains("no space left") && said.lines().count() == 1,
        "{said}"
    );
    let keeps = marked(&server, ".ready");
    for done in waiting.iter().filter(|name| !keeps.contains(name)) {
        assert!(
            world.get(&server, done, &[]).1.unwrap() == segment(&server, done),
            "{done}"
        );
    }
    disk.mount("remount,size=64m");
    set_archive_command(&server, &world.archive_command()).await;
    switch(&server).await;
    archived(&server).await;
    crate::world::compare_all(&world, &server);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_segment_is_stored_before_one_that_comes_before_it() {
    let (world, server, _) = archiving().await;
    set_archive_command(&server, KEEP).await;
    // The archiver knows of it from its next segment on, or the one after that.
    let told = || {
        fs::read_to_string(server.log())
            .unwrap()
            .contains("archive command failed")
    };
    let began = Instant::now();
    while !told() {
        assert!(began.elapsed() < PATIENCE, "the archiver never learns of its command");
        write(&server, 1).await;
        switch(&server).await;
    }
    let stored = world.objects("wal");
    write(&server, 8).await;
    switch(&server).await;
    let waiting = marked(&server, ".ready");
    assert!(waiting.len() >= 8);
    // The first that waits cannot be stored: what is in its place is damaged.
    let last = stored
        .iter()
        .rfind(|path| path.to_str().unwrap().contains("/done/"))
        .unwrap();
    let start = u64::from_str_radix(&waiting[0][16..], 16).unwrap() << 20;
    let done = last.parent().unwrap().parent().unwrap();
    let place = done.join(format!("{start:016x}"));
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join(format!("{start:016x}")), b"damaged").unwrap();
    give_to_server_user(&place);
    let words = ["wal", "push", &format!("pg_wal/{}", waiting[0]), "shop", "--jobs", "8"];
    assert_eq!(code(&world.run(server.data_dir(), &words)), 1);
    assert_eq!(world.objects("wal").len(), stored.len() + 1);
    fs::remove_dir_all(&place).unwrap();
    assert_eq!(code(&world.run(server.data_dir(), &words)), 0);
    assert_eq!(world.objects("wal").len(), stored.len() + waiting.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_run_of_a_segment_keeps_nobody_from_pushing_it() {
    let world = World::new();
    let server = world.server(Major::V15, 1, KEEP).await;
    // Its own WAL is the beginning of a segment.
    world.backup(&server);
    for object in world.objects("wal") {
        let mut bytes = fs::read(&object).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&object, bytes).unwrap();
    }
    switch(&server).await;
    for name in marked(&server, ".ready").iter().filter(|name| name.len() == 24) {
        let pushed = world.push(&server, &format!("pg_wal/{name}"));
        assert_eq!(code(&pushed), 0, "{name}: {}", stderr(&pushed));
        let (code, got, said) = world.get(&server, name, &[]);
        assert_eq!(code, 0, "{name}: {said}");
        assert!(got.unwrap() == segment(&server, name), "{name}");
    }
}
