//! Receivers in the simulated world: killed at every write, and on a store on its worst day.
//!
//! The model recycles WAL as soon as its slot lets go: whatever is acknowledged and not here is gone, and shows as a gap.
//! `LASTGOOD_SEEDS=5000` soaks, `LASTGOOD_SEED=17` replays one.

mod clones;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    Result,
    archive::receive::{self, Options, SlotChoice, Summary},
    database::{self, Opened},
    event::Stop,
    pgformat::Lsn,
    repo::wal::{WalStream, assemble, coverage, is_done, newest_mark, read_index},
};
use testkit::sim::{Change, Crash, Faults, FaultyStore, Process, What, seeds};

use crate::model::world::{World, context};

const SEGMENT: u64 = 1 << 20;
/// Where the model's server begins to write.
const FIRST_SEGMENT: u64 = 0x0600_0000;
const MOST_WRITES: u64 = 300;
const MOST_STEPS: u64 = 3_000_000;
/// Long enough after the last byte that segments are finished and a mark is made.
const AFTERWARDS: Duration = Duration::from_secs(90);

fn options(with_slot: bool) -> Options {
    match with_slot {
        true => Options::new(SlotChoice::of_database("shop").unwrap()),
        false => Options::new(SlotChoice::None),
    }
}

/// What a process does that receives until `stop`.
async fn receive(world: World, process: Process, store: FaultyStore, stop: Stop, with_slot: bool) -> Result<Summary> {
    let mut context = context(&process);
    context.stop = stop;
    let opened = loop {
        match database::open_store(&context, Arc::new(store.clone()), &world.unlock).await {
            Ok(opened) => break opened,
            Err(_) => context.runtime.clock.sleep(Duration::from_secs(1)).await,
        }
    };
    let source = world.cluster.source(&context.runtime);
    receive::run(&context, &opened, &source, &options(with_slot)).await
}

/// Receives all that there is, and is asked to stop some time later. `None`: it died.
fn receive_all(world: &World, process: &Process, store: &FaultyStore) -> Option<Result<Summary>> {
    let (world, own, store) = (world.clone(), process.clone(), store.clone());
    let stop = Stop::default();
    let (asked, cluster, clock) = (stop.clone(), world.cluster.clone(), process.runtime().clock);
    process.spawn(async move {
        while cluster.acknowledged() < cluster.flushed() {
            clock.sleep(Duration::from_secs(1)).await;
        }
        clock.sleep(AFTERWARDS).await;
        asked.stop();
    });
    let sim = world.sim.clone();
    sim.run_one(
        process,
        async move { receive(world, own.clone(), store, stop, true).await },
    )
}

/// Everything that the server wrote is here in one stretch, byte for byte; every complete segment is finished; no gap.
fn judge(world: &World, when: &str) {
    let process = world.sim.process("judge");
    let (world, own, when) = (world.clone(), process.clone(), when.to_string());
    let sim = world.sim.clone();
    let judged = sim.run_one(&process, async move {
        let context = context(&own);
        let store = Arc::new(world.store.of(&own));
        let opened = database::open_store(&context, store, &world.unlock).await.unwrap();
        let generation = world.cluster.files().control().system_identifier;
        let stream = WalStream::new(generation, 1, SEGMENT).unwrap();
        let gaps = opened.with_state(|state| state.gaps().len()).await;
        assert_eq!(gaps, 0, "{when}: a gap");
        let stretches = coverage(&opened.repository, &stream).await.unwrap();
        let [(from, to)] = stretches[..] else {
            panic!("{when}: {stretches:x?}")
        };
        assert_eq!(Lsn(to), world.cluster.flushed(), "{when}");
        let compared = assemble(&opened.repository, stream, from, to, |start, bytes| {
            assert!(
                world.cluster.wal(start, start + bytes.len() as u64) == *bytes,
                "{when}: {start:x}"
            );
            Ok(())
        });
        compared.await.unwrap();
        for segment in (from..stream.segment_of(to)).step_by(SEGMENT as usize) {
            let done = is_done(&opened.repository, &stream, segment).await.unwrap();
            assert!(done, "{when}: {segment:x} is not finished");
        }
    });
    judged.unwrap_or_else(|| panic!("the judge did not come to an end"));
}

#[test]
fn a_receiver_that_dies_at_any_write_loses_nothing_it_acknowledged() {
    for crash in [Crash::Before, Crash::After] {
        let mut tried = 0;
        loop {
            let when = format!("it dies {crash:?} write {tried}");
            let world = World::new(5).initialised();
            world.cluster.transact(1000);
            let dying = world.sim.process("dying");
            let store = world.store.of(&dying);
            store.crash_after(tried, crash);
            // Two segments and a half, in transactions.
            for bytes in [1_200_000, 300, 900_000, 400_000] {
                world.cluster.transact(bytes);
            }
            let whole = receive_all(&world, &dying, &store).is_some_and(|done| done.is_ok());
            assert_eq!(whole, dying.is_alive(), "{when}");
            let next = world.sim.process("next");
            world.cluster.transact(700_000);
            let done = receive_all(&world, &next, &world.store.of(&next)).unwrap().unwrap();
            assert_eq!(done.gaps, vec![], "{when}");
            judge(&world, &when);
            if whole {
                break;
            }
            tried += 1;
            assert!(tried < MOST_WRITES);
        }
        println!("{crash:?}: {tried} writes");
        assert!(
            tried >= 10,
            "only {tried} writes: session, entries, runs, finished runs, marks"
        );
    }
}

/// Steps until `done` says so.
fn until(world: &World, mut done: impl FnMut() -> bool) {
    let mut steps = 0;
    while !done() {
        steps += 1;
        assert!(steps < MOST_STEPS && world.sim.step(), "it never comes to that");
    }
}

fn until_received(world: &World) {
    until(world, || world.cluster.acknowledged() == world.cluster.flushed());
}

/// What a new process finds in the repository.
fn look<T: Send + 'static, F: Future<Output = T> + Send>(
    world: &World,
    find: impl FnOnce(Opened, WalStream) -> F + Send + 'static,
) -> T {
    let (process, world) = (world.sim.process("reader"), world.clone());
    let (own, sim) = (process.clone(), world.sim.clone());
    let found = sim.run_one(&process, async move {
        let store = Arc::new(world.store.of(&own));
        let opened = database::open_store(&context(&own), store, &world.unlock)
            .await
            .unwrap();
        let generation = world.cluster.files().control().system_identifier;
        find(opened, WalStream::new(generation, 1, SEGMENT).unwrap()).await
    });
    found.unwrap()
}

/// A receiver that was killed before it finished a segment, and a damaged run of it: where that begins.
fn with_a_damaged_run() -> (World, u64) {
    let world = World::new(5).initialised();
    let first = start(&world, "first");
    let mut starts = Vec::new();
    for bytes in [1000, 2000, 3000] {
        starts.push(world.cluster.flushed());
        world.cluster.transact(bytes);
        until_received(&world);
    }
    first.kill();
    let hole = starts[1].0;
    look(&world, async move |opened: Opened, stream: WalStream| {
        let (store, name) = (opened.repository.store(), stream.run_name(hole));
        let mut bytes = store.get(&name).await.unwrap().unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        store.delete(&name).await.unwrap();
        store.put_new(&name, bytes.into()).await.unwrap();
    });
    (world, hole)
}

/// A receiver that goes on for ever.
fn start(world: &World, name: &str) -> Process {
    let process = world.sim.process(name);
    let store = world.store.of(&process);
    let receiving = receive(world.clone(), process.clone(), store, Stop::default(), true);
    process.spawn(async move { drop(receiving.await) });
    process
}

#[test]
fn a_damaged_run_is_fetched_again_though_nothing_was_finished_yet() {
    let (world, _) = with_a_damaged_run();
    world.cluster.transact(4000);
    let next = world.sim.process("next");
    receive_all(&world, &next, &world.store.of(&next)).unwrap().unwrap();
    judge(&world, "damaged");
}

#[test]
fn a_damaged_run_that_the_server_no_longer_has_is_told_and_keeps_no_receiver_from_going_on_after_it() {
    let (world, hole) = with_a_damaged_run();
    world.cluster.transact(2_500_000);
    world.cluster.recycle(world.cluster.flushed());
    start(&world, "next");
    world.cluster.transact(4000);
    until_received(&world);
    let (reached, gaps) = look(&world, async |opened: Opened, stream: WalStream| {
        let stretches = coverage(&opened.repository, &stream).await.unwrap();
        let gaps = opened.with_state(|state| state.gaps().to_vec()).await;
        (stretches.last().map(|(_, to)| *to), gaps)
    });
    assert_eq!(reached, Some(world.cluster.flushed().0));
    assert_eq!(gaps.iter().map(|gap| gap.from.0).collect::<Vec<_>>(), [hole]);
}

#[test]
fn nothing_is_stored_behind_a_run_that_is_not_finished() {
    let world = World::new(5).initialised();
    world.store.set_faults(Faults {
        delay: Duration::from_secs(5),
        ..Faults::ROUGH
    });
    let process = world.sim.process("receiver");
    world.cluster.transact(1000);
    let receiving = receive(
        world.clone(),
        process.clone(),
        world.store.of(&process),
        Stop::default(),
        true,
    );
    process.spawn(async move { drop(receiving.await) });
    until_received(&world);
    for _ in 0..40 {
        world.cluster.transact(150_000);
        until(&world, || world.sim.chance(50));
    }
    until_received(&world);
    let mut open = 0;
    let mut finished = Vec::new();
    let created = |change: &Change| matches!(change.what, What::Created { .. });
    for name in world
        .store
        .history()
        .into_iter()
        .filter(created)
        .map(|change| change.name)
    {
        let parts: Vec<&str> = name.split('/').skip(3).collect();
        let (segment, is_done) = match parts[..] {
            ["done", segment, _] => (segment, true),
            [segment, _] if name.starts_with("wal/") => (segment, false),
            _ => continue,
        };
        let segment = u64::from_str_radix(segment, 16).unwrap();
        if is_done {
            finished.push(segment);
            continue;
        }
        open += 1;
        let before = segment - SEGMENT;
        assert!(
            finished.contains(&before) || segment == FIRST_SEGMENT,
            "{name} is stored before {before:x} is finished: {finished:x?}"
        );
    }
    assert!(finished.len() > 4 && open > finished.len(), "{open} {finished:x?}");
}

#[test]
fn a_mark_of_the_future_gives_way_to_what_the_clock_says_now() {
    const DAY_MICROS: i64 = 86_400_000_000;
    let world = World::new(5).initialised();
    world.cluster.transact(1000);
    let newest = || {
        look(&world, async |opened: Opened, stream| {
            newest_mark(&opened.repository, &stream).await.unwrap().unwrap()
        })
    };
    let receive = |ahead_micros| {
        let process = world.sim.process("receiver");
        // The model's server tells the time of who asks.
        process.shift_clock(ahead_micros);
        receive_all(&world, &process, &world.store.of(&process))
            .unwrap()
            .unwrap();
    };
    receive(DAY_MICROS);
    let future = newest();
    receive(0);
    let now = newest();
    assert_eq!(now.position, future.position, "nothing was written meanwhile");
    assert!(now.at < future.at, "{now:?} {future:?}");
}

#[test]
fn a_record_of_many_segments_is_stored_and_its_index_says_what_it_lacks() {
    let world = World::new(5).initialised();
    world.cluster.transact(1000);
    let from = world.cluster.flushed();
    // Its memory would be the record's size: 1 GiB at most.
    world.cluster.transact(12 << 20);
    let last = world.cluster.transact(300);
    world.cluster.transact(2_500_000);
    let process = world.sim.process("receiver");
    receive_all(&world, &process, &world.store.of(&process))
        .unwrap()
        .unwrap();
    judge(&world, "a long record");
    let summaries = look(&world, async move |opened: Opened, stream: WalStream| {
        let mut summaries = Vec::new();
        for segment in (stream.segment_of(from.0)..stream.segment_of(last.0) + 2 * SEGMENT).step_by(SEGMENT as usize) {
            let index = read_index(&opened.repository, &stream, segment).await.unwrap().unwrap();
            summaries.push(index.summary);
        }
        summaries
    });
    let broken: Vec<usize> = (0..summaries.len())
        .filter(|at| summaries[*at].broken.is_some())
        .collect();
    // Eight segments of it are too much.
    assert_eq!(broken, [8], "{summaries:#?}");
    assert!(summaries[9..12].iter().all(|summary| !summary.joined), "{summaries:#?}");
    let after = summaries.last().unwrap();
    assert!(after.joined && after.broken.is_none(), "{after:#?}");
}

fn simulate(seed: u64) -> (String, usize, usize) {
    let world = World::new(seed).initialised();
    world.store.set_faults(Faults {
        delay: Duration::from_secs(5),
        burst: 15,
        burst_time: Duration::from_secs(20),
        ..Faults::ROUGH
    });
    let ended = Arc::new(Mutex::new(Vec::new()));
    let start = |name: &str, with_slot: bool| {
        let process = world.sim.process(name);
        let (ended, name) = (ended.clone(), name.to_string());
        let receiving = receive(
            world.clone(),
            process.clone(),
            world.store.of(&process),
            Stop::default(),
            with_slot,
        );
        process.spawn(async move {
            let done = receiving.await;
            ended.lock().unwrap().push(format!("{name}: {done:?}"));
        });
        process
    };
    // The slot's receiver comes first: the other one counts on what that one made the server keep.
    let mut slotted = start("slotted", true);
    let mut other: Option<Process> = None;
    let (mut steps, mut written, mut kills, mut restarts) = (0u64, 0, 0, 0);
    let most_written = 4 * SEGMENT + world.sim.below(SEGMENT);
    while written < most_written && world.sim.step() {
        steps += 1;
        assert!(steps < MOST_STEPS, "seed {seed}: it never ends");
        if world.sim.chance(15) {
            let bytes = 1 + world.sim.below(150_000);
            world.cluster.transact(bytes as usize);
            written += bytes;
        }
        if world.sim.chance(2) {
            slotted.kill();
            kills += 1;
            slotted = start(&format!("slotted-{kills}"), true);
        }
        if world.sim.chance(1) && world.cluster.acknowledged() > Lsn(0) {
            if let Some(other) = other.take() {
                other.kill();
            }
            other = Some(start(&format!("other-{steps}"), false));
        }
        if world.sim.chance(1) {
            world.cluster.restart();
            restarts += 1;
        }
    }
    world.store.set_faults(Faults::NONE);
    slotted.kill();
    other.iter().for_each(Process::kill);
    let when = format!("seed {seed} (replay with LASTGOOD_SEED={seed})");
    assert_eq!(
        *ended.lock().unwrap(),
        Vec::<String>::new(),
        "{when}: a receiver gave up"
    );
    let last = world.sim.process("last");
    let done = receive_all(&world, &last, &world.store.of(&last)).expect("it ends");
    assert_eq!(done.unwrap().gaps, vec![], "{when}");
    judge(&world, &when);
    (world.sim.trace_hash(), kills, restarts)
}

#[test]
fn whatever_happens_to_receivers_store_and_server_no_wal_is_missing() {
    let (mut runs, mut kills, mut restarts) = (0, 0, 0);
    for seed in seeds(20) {
        let (_, killed, restarted) = simulate(seed);
        (runs, kills, restarts) = (runs + 1, kills + killed, restarts + restarted);
    }
    println!("{runs} seeds: {kills} kills, {restarts} restarts of the server");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(simulate(11), simulate(11));
}
