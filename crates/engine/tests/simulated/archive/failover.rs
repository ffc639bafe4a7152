//! A server is promoted while nobody receives, and others store what it writes then before the receiver is back.

use std::sync::Arc;

use engine::{
    archive::receive::SlotChoice,
    database,
    repo::wal::{WalStream, archived_from},
};

use super::{
    SEGMENT,
    actors::{Said, receive_all, receiver},
    judge::{self, Holes, Witness},
};
use crate::model::world::{World, context};

const MOST_STEPS: u64 = 100_000;

/// A receiver without a slot stored the beginning of a segment and was killed: of its work, open runs are left, as of a
/// backup.
fn killed_within_its_first_segment() -> World {
    let world = World::new(5).initialised();
    world.cluster.transact(300_000);
    let dying = receiver(&world, "dying", SlotChoice::None, &Said::default());
    let mut steps = 0;
    while world.cluster.heard().last().map(|(.., to)| *to) != Some(world.cluster.flushed().0) {
        assert!(world.sim.step() && steps < MOST_STEPS, "nothing is acknowledged");
        steps += 1;
    }
    dying.kill();
    let (process, looking) = (world.sim.process("look"), world.clone());
    let own = process.clone();
    let kept = world.sim.run_one(&process, async move {
        let generation = looking.cluster.files().control().system_identifier;
        let store = Arc::new(looking.store.of(&own));
        let opened = database::open_store(&context(&own), store, &looking.unlock).await;
        let stream = WalStream::new(generation, 1, SEGMENT).unwrap();
        archived_from(&opened.unwrap().repository, &stream).await.unwrap()
    });
    assert_eq!(
        kept,
        Some(None),
        "a mark or a finished run tells more than this is about"
    );
    world
}

/// What comes after: more is written, the server is promoted, and a backup stores WAL of the new timeline.
fn promoted_and_backed_up(world: &World) -> Witness {
    world.cluster.transact(2_000_000);
    world.cluster.promote();
    world.cluster.transact(1_200_000);
    let process = world.sim.process("backup");
    let taken = world.backup(&process, &world.store.of(&process), "after");
    taken.expect("it ends").expect("it succeeds");
    Witness {
        was_refused: false,
        cluster: world.cluster.clone(),
        directories: Vec::new(),
        backups: vec!["after".into()],
    }
}

#[test]
fn what_an_old_timeline_still_has_is_fetched_though_its_receiver_was_killed_within_its_first_segment() {
    let world = killed_within_its_first_segment();
    let witness = promoted_and_backed_up(&world);
    let received = receive_all(&world, "next", SlotChoice::None).unwrap();
    assert_eq!(received.gaps, vec![]);
    judge::promises_are_kept(&world, &witness, "fetched");
    judge::the_archive_is_sound(&world, &witness, Holes::None, "fetched");
}

#[test]
fn what_an_old_timeline_lost_is_told_though_its_receiver_was_killed_within_its_first_segment() {
    let world = killed_within_its_first_segment();
    let here = world.cluster.heard().last().map(|(.., to)| *to);
    let witness = promoted_and_backed_up(&world);
    world.cluster.recycle(world.cluster.flushed());
    let received = receive_all(&world, "next", SlotChoice::None).unwrap();
    let told = received.gaps.first().map(|gap| (gap.timeline, gap.from.0));
    assert_eq!(told, here.map(|here| (1, here)), "{:?}", received.gaps);
    judge::promises_are_kept(&world, &witness, "lost");
    judge::the_archive_is_sound(&world, &witness, Holes::Told, "lost");
}
