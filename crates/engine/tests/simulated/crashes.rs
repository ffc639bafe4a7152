//! A crash at every write of `init` and of `backup`: nothing half-done is listed, and the next run needs no hand.
//!
//! Each write is tried twice: the process dies before it is done, and after, its answer never seen.

use std::sync::Arc;

use engine::{
    Error, database,
    repo::Error as RepositoryError,
    restore::{self, At, Request},
};
use testkit::sim::Crash;

use crate::model::world::{World, context};

/// No `init` or `backup` of the model writes as often; an enumeration that gets here does not end.
const MOST_WRITES: u64 = 200;
/// One seed for all: the same writes in the same order, whichever of them is the last.
const SEED: u64 = 5;

#[test]
fn a_crash_at_any_write_of_init_leaves_nothing_to_mend() {
    for crash in [Crash::Before, Crash::After] {
        let mut tried = 0;
        loop {
            let when = format!("init dies {crash:?} write {tried}");
            let world = World::new(SEED);
            let dying = world.sim.process("dying");
            let store = world.store.of(&dying);
            store.crash_after(tried, crash);
            if world.init(&dying, &store).is_some_and(|done| done.is_ok()) {
                assert_eq!(store.writes(), tried, "{when}: every write was tried");
                break;
            }
            assert!(!dying.is_alive(), "{when}");
            again(&world, &when);
            assert_eq!(world.judge(&when), Vec::<String>::new(), "{when}");
            first_backup(&world, &when);
            tried += 1;
            assert!(tried < MOST_WRITES);
        }
        assert!(
            tried >= 6,
            "only {tried} writes: probe, identity, two keys, session, entry"
        );
    }
}

/// The next `init`, in a new process, makes the folder or says that it is there; the program opens it then.
fn again(world: &World, when: &str) {
    let process = world.sim.process("again");
    match world.init(&process, &world.store.of(&process)).unwrap() {
        Ok(_) | Err(Error::Repository(RepositoryError::Foreign { .. })) => {}
        Err(error) => panic!("{when}: {error}"),
    }
}

fn first_backup(world: &World, when: &str) {
    let process = world.sim.process("first backup");
    let done = world.backup(&process, &world.store.of(&process), "first").unwrap();
    assert!(done.is_ok(), "{when}: {done:?}");
    assert_eq!(world.judge(when), ["first"], "{when}");
}

#[test]
fn a_crash_at_any_write_of_the_first_backup_lists_nothing_half_done_and_the_next_needs_no_hand() {
    // Three entries before the copy: the cluster, its timeline, the run.
    every_crash_of_a_backup(&[], 9);
}

#[test]
fn a_crash_at_any_write_of_a_later_backup_leaves_the_earlier_one_as_it_was() {
    every_crash_of_a_backup(&["first"], 7);
}

fn every_crash_of_a_backup(earlier: &[&str], least_writes: u64) {
    for crash in [Crash::Before, Crash::After] {
        let mut tried = 0;
        let mut listed_though_dead = 0;
        loop {
            let when = format!("backup dies {crash:?} write {tried}");
            let world = World::new(SEED).initialised();
            if !earlier.is_empty() {
                first_backup(&world, &when);
            }
            let mut expected = earlier.to_vec();
            let dying = world.sim.process("dying");
            let store = world.store.of(&dying);
            store.crash_after(tried, crash);
            if world.backup(&dying, &store, "second").is_some_and(|done| done.is_ok()) {
                assert_eq!(store.writes(), tried, "{when}: every write was tried");
                break;
            }
            assert!(!dying.is_alive(), "{when}");
            assert_eq!(
                world.cluster.running_backups(),
                0,
                "{when}: the server still runs a backup"
            );
            let listed = world.judge(&when);
            // Only the very last write, the ledger's entry, makes it a backup.
            if listed.len() > expected.len() {
                expected.push("second");
                listed_though_dead += 1;
            }
            assert_eq!(listed, expected, "{when}");
            let process = world.sim.process("third");
            let done = world.backup(&process, &world.store.of(&process), "third").unwrap();
            assert!(done.is_ok(), "{when}: {done:?}");
            expected.push("third");
            assert_eq!(world.judge(&when), expected, "{when}");
            tried += 1;
            assert!(tried < MOST_WRITES);
        }
        assert!(
            tried >= least_writes,
            "only {tried} writes: session, run, packs, WAL, table, manifest, entry"
        );
        let commits = if crash == Crash::After { 1 } else { 0 };
        assert_eq!(
            listed_though_dead, commits,
            "{crash:?}: the commit is one write, the last"
        );
    }
}

#[test]
fn what_the_model_backs_up_is_restored_byte_for_byte() {
    let world = World::new(3).initialised();
    first_backup(&world, "a restore");
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("restored");
    let process = world.sim.process("restore");
    let (store, unlock, own) = (
        Arc::new(world.store.of(&process)),
        world.unlock.clone(),
        process.clone(),
    );
    let request = Request {
        at: At::Latest,
        timeline: None,
        to: to.clone(),
        onto: restore::Onto::Empty,
        jobs: 2,
        tablespaces: Vec::new(),
        start: None,
    };
    let restored = world.sim.run_one(&process, async move {
        let context = context(&own);
        let opened = database::open_store(&context, store, &unlock).await?;
        let plan = restore::plan(&context, &opened, &request).await?;
        restore::run(&context, &opened, &request, plan).await
    });
    restored.unwrap().unwrap();
    let mut compared = 0;
    for (path, content) in world.cluster.files().all() {
        let found = std::fs::read(to.join(std::str::from_utf8(path).unwrap())).unwrap();
        assert!(found == *content, "{}", String::from_utf8_lossy(path));
        compared += 1;
    }
    assert_eq!(compared, 9);
    let segments = std::fs::read_dir(to.join("pg_wal")).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.len() == 24
    });
    assert!(segments.count() >= 1);
}
