//! A crash at every write of `wal push`, as the server calls it: again and again until it succeeds.

use std::sync::Arc;

use testkit::sim::Crash;

use super::{
    actors::{archive_all, push, receive_all, slot},
    directory::{Directory, Rest},
    judge::{self, Holes, Witness},
};
use crate::model::world::World;

const MOST_WRITES: u64 = 100;

/// What is in the repository before anybody pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// A receiver stored the beginning, and finished none of it.
    OpenRuns,
}

fn world(before: Before) -> (World, Arc<Directory>) {
    let world = World::new(5).initialised();
    if before == Before::OpenRuns {
        world.cluster.transact(700_000);
        receive_all(&world, "receiver", slot()).unwrap();
    }
    for bytes in [1_200_000, 300, 900_000, 400_000] {
        world.cluster.transact(bytes);
    }
    world.cluster.promote();
    world.cluster.transact(1_300_000);
    let directory = Arc::new(Directory::new(&world.cluster, Rest::Recycled));
    (world, directory)
}

/// Pushes what is ready, one file after the other, until the process dies; whether it came to the end.
fn push_until_it_dies(world: &World, directory: &Arc<Directory>, tried: u64, crash: Crash) -> bool {
    let process = world.sim.process("dying");
    let store = world.store.of(&process);
    store.crash_after(tried, crash);
    let (own, going, directory) = (process.clone(), world.clone(), Arc::clone(directory));
    let pushing = async move {
        directory.write();
        while let Some(name) = directory.next() {
            push(&going, &own, &store, &directory, &name, 1).await.unwrap();
            directory.done(&name);
        }
    };
    let ended = world.sim.run_one(&process, pushing);
    assert_eq!(ended.is_some(), process.is_alive());
    ended.is_some()
}

#[test]
fn a_push_that_dies_at_any_write_keeps_what_it_said_and_succeeds_when_called_again() {
    for before in [Before::Nothing, Before::OpenRuns] {
        for crash in [Crash::Before, Crash::After] {
            let mut tried = 0;
            loop {
                let when = format!("{before:?}, it dies {crash:?} write {tried}");
                let (world, directory) = world(before);
                let whole = push_until_it_dies(&world, &directory, tried, crash);
                let mut witness = Witness {
                    was_refused: false,
                    cluster: world.cluster.clone(),
                    directories: vec![Arc::clone(&directory)],
                    backups: Vec::new(),
                };
                judge::promises_are_kept(&world, &witness, &when);
                // The standby, promoted or not, has the same to push.
                let other = Arc::new(Directory::new(&world.cluster, Rest::Zeros));
                archive_all(&world, &other, "other");
                archive_all(&world, &directory, "next");
                witness.directories.push(other);
                judge::promises_are_kept(&world, &witness, &when);
                assert_eq!(receive_all(&world, "last", slot()).unwrap().gaps, vec![], "{when}");
                judge::the_archive_is_sound(&world, &witness, Holes::None, &when);
                judge::nothing_goes_that_is_not_kept_elsewhere(&world, &witness, &when);
                if whole {
                    break;
                }
                tried += 1;
                assert!(tried < MOST_WRITES);
            }
            println!("{before:?}, {crash:?}: {tried} writes");
            assert!(
                tried >= 10,
                "only {tried} writes: sessions, entries, runs, partial, history"
            );
        }
    }
}
