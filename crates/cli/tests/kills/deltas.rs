//! Restores onto what is there, killed at random moments.

use std::{collections::BTreeMap, fs, os::unix::fs::FileExt, path::Path};

use super::{
    ACCOUNTS, Ended, Major, PathBuf, TestCluster, Window, World, bank, kills, measured, row_digests, succeeded,
};

const MARK: &str = "lastgood-restore-unfinished";

/// Every file below `root` with its content, but for the mark of an unfinished restore.
fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if !path.ends_with(MARK) {
                let content = fs::read(&path).unwrap();
                found.insert(path.strip_prefix(root).unwrap().to_path_buf(), content);
            }
        }
    }
    found
}

fn assert_equal(found: &BTreeMap<PathBuf, Vec<u8>>, expected: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let differ = |(path, content): &(&PathBuf, &Vec<u8>)| found.get(*path) != Some(*content);
    let wrong: Vec<&PathBuf> = expected.iter().filter(differ).map(|(path, _)| path).collect();
    let left: Vec<&PathBuf> = found.keys().filter(|path| !expected.contains_key(*path)).collect();
    assert!(
        wrong.is_empty() && left.is_empty(),
        "{what}: wrong {wrong:?}, left over {left:?}"
    );
}

/// What use and a crash make of a cluster: pages changed, files cut, gone and new, old WAL.
fn disturb(root: &Path, number: u64) {
    for name in fs::read_dir(root.join("base/1")).unwrap() {
        let file = fs::OpenOptions::new().write(true).open(name.unwrap().path()).unwrap();
        let length = file.metadata().unwrap().len();
        match number % 3 {
            0 if length > 8192 => file.write_all_at(b"changed", length / 2).unwrap(),
            1 => file.set_len(length / 3).unwrap(),
            _ => file.write_all_at(b"longer", length).unwrap(),
        }
    }
    fs::create_dir_all(root.join("base/77")).unwrap();
    fs::write(root.join(format!("base/77/{number}")), "foreign").unwrap();
    fs::write(root.join("pg_wal/0000000900000000000000FF"), "old WAL").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_restore_killed_at_any_moment_opens_to_nobody_and_is_finished_by_the_same_command() {
    let mut world = World::new().await;
    bank::create(&world.server.session().await, ACCOUNTS).await;
    succeeded(&world.init("repository").output().unwrap());
    succeeded(&world.run("repository", &["backup"]));
    let digests = row_digests(&world.server.conninfo()).await;
    let to = world.path("restored");
    let into = to.to_str().unwrap();
    let full = ["restore", "--to", into, "--yes"];
    let delta = ["restore", "--to", into, "--delta", "--yes"];
    let mut window_of_full = Window::new(measured(world.command("repository", &full)));
    let expected = contents(&to);
    disturb(&to, 0);
    // The quicker of two: deaths that come too late tell nothing.
    let whole = measured(world.command("repository", &delta));
    disturb(&to, 0);
    let mut window = Window::new(whole.min(measured(world.command("repository", &delta))));
    assert_equal(&contents(&to), &expected, "without a kill");

    let (mut killed, mut resumed) = (0, 0);
    for number in 0..kills() {
        // Now and then it is a full restore that dies; what it leaves is gone on with all the same.
        let (command, window) = if number % 4 == 3 {
            fs::remove_dir_all(&to).unwrap();
            (world.command("repository", &full), &mut window_of_full)
        } else {
            disturb(&to, number);
            (world.command("repository", &delta), &mut window)
        };
        let before = if to.exists() { contents(&to) } else { BTreeMap::new() };
        match world.killed(command, window).await {
            Ended::Done(output) => succeeded(&output),
            Ended::Killed => {
                killed += 1;
                resumed += u64::from(to.join(MARK).exists());
                if to.join("global/pg_control").exists() {
                    // Either nothing was changed yet, or all is done.
                    let found = contents(&to);
                    let as_it_was = if found == before { &before } else { &expected };
                    assert_equal(&found, as_it_was, "a server could have started");
                }
                succeeded(&world.run("repository", &delta));
            }
        }
        assert!(!to.join(MARK).exists());
        assert_equal(&contents(&to), &expected, &format!("kill {number}"));
    }
    println!(
        "{killed} of {} restores were killed within {window}, {resumed} in their middle",
        kills()
    );
    assert!(resumed >= kills().div_ceil(20), "hardly any restore was killed in time");

    // What writes over something is to be said outright where nobody can be asked.
    let refused = world.run("repository", &delta[..4]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(4) && said.contains("--yes"), "{said}");
    assert_equal(&contents(&to), &expected, "refused");
    let mut server = TestCluster::on(Major::V15, &to);
    server.start().await;
    assert_eq!(row_digests(&server.conninfo()).await, digests);
}
