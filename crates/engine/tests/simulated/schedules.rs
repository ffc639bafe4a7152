//! Two backups at once on a store on its worst day, with processes killed and the server restarted at random.
//!
//! `LASTGOOD_SEEDS=5000` soaks, `LASTGOOD_SEED=17` replays one. A failure names its seed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::Error;
use testkit::sim::{Faults, Process, What, seeds};

use crate::model::world::World;

/// A run of the model ends after some tens of thousands of steps.
const MOST_STEPS: u64 = 3_000_000;

/// How a backup ended, as its caller heard it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ended {
    /// It is listed, and restores.
    Done,
    /// It is not there and never will be.
    Failed,
    /// The caller was told that nobody knows.
    Unknown,
    /// Its process died.
    Killed,
}

/// What came of a run.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    trace: String,
    /// Name and size of every object ever made, in order; no size where age adds a random stanza (its "grease").
    made: Vec<(String, Option<usize>)>,
    ended: BTreeMap<String, Ended>,
    restarts: usize,
}

fn simulate(seed: u64) -> Outcome {
    let world = World::new(seed).initialised();
    // Some days are worse: the store falls silent for longer than anybody tries.
    let silence = 10 + 60 * world.sim.below(3);
    world.store.set_faults(Faults {
        delay: Duration::from_secs(5),
        burst: 15,
        burst_time: Duration::from_secs(silence),
        ..Faults::ROUGH
    });
    let ended = Arc::new(Mutex::new(BTreeMap::new()));
    let mut living = Vec::new();
    for label in ["one", "two"] {
        living.push((label.to_string(), start(&world, label, &ended)));
    }
    let mut kills = world.sim.below(3);
    let mut restarts = world.sim.below(2);
    let (mut steps, mut restarted) = (0, 0);
    while world.sim.step() {
        steps += 1;
        assert!(steps < MOST_STEPS, "seed {seed}: it never ends");
        if kills > 0 && world.sim.chance(2) {
            kills -= 1;
            let index = world.sim.below(living.len() as u64) as usize;
            let (label, process) = &living[index];
            if !ended.lock().unwrap().contains_key(label) {
                process.kill();
                ended.lock().unwrap().insert(label.clone(), Ended::Killed);
            }
            // Somebody else tries again beside whoever is left.
            let label = format!("again-{kills}");
            living[index] = (label.clone(), start(&world, &label, &ended));
        }
        if restarts > 0 && world.sim.chance(1) {
            restarts -= 1;
            restarted += 1;
            world.cluster.restart();
        }
    }
    world.store.set_faults(Faults::NONE);
    let ended = std::mem::take(&mut *ended.lock().unwrap());
    judge(&world, seed, &ended);
    let history = world.store.history();
    let made = history.iter().filter_map(|change| match &change.what {
        What::Created(bytes) => Some((change.name.clone(), fixed_size(&change.name, bytes.len()))),
        _ => None,
    });
    Outcome {
        trace: world.sim.trace_hash(),
        made: made.collect(),
        ended,
        restarts: restarted,
    }
}

fn fixed_size(name: &str, size: usize) -> Option<usize> {
    let by_age = name.starts_with("sessions/") || name.starts_with("keys/1/unlock-");
    (!by_age).then_some(size)
}

fn start(world: &World, label: &str, ended: &Arc<Mutex<BTreeMap<String, Ended>>>) -> Process {
    let process = world.sim.process(label);
    let (world, own, label, ended) = (world.clone(), process.clone(), label.to_string(), ended.clone());
    let store = world.store.of(&process);
    process.spawn(async move {
        let done = match world.back_up(&own, &store, &label).await {
            Ok(_) => Ended::Done,
            Err(Error::Failed {
                code: "outcome-unknown",
                ..
            }) => Ended::Unknown,
            Err(_) => Ended::Failed,
        };
        ended.lock().unwrap().insert(label, done);
    });
    process
}

/// After all that was under way has arrived: whoever heard of success finds it, whoever heard of failure does not,
/// everything that is listed verifies, and the next backup needs no hand.
fn judge(world: &World, seed: u64, ended: &BTreeMap<String, Ended>) {
    let when = format!("seed {seed} (replay with LASTGOOD_SEED={seed})");
    let listed = world.judge(&when);
    for (label, end) in ended {
        let is_listed = listed.contains(label);
        match end {
            Ended::Done => assert!(is_listed, "{when}: {label} reported success and is not listed"),
            Ended::Failed => assert!(!is_listed, "{when}: {label} reported failure and is listed"),
            Ended::Unknown | Ended::Killed => {}
        }
    }
    let running = world.cluster.running_backups();
    assert_eq!(running, 0, "{when}: the server still runs a backup");
    let process = world.sim.process("next");
    let next = world.backup(&process, &world.store.of(&process), "next").unwrap();
    assert!(next.is_ok(), "{when}: the next backup fails: {next:?}");
    let mut expected = listed;
    expected.push("next".into());
    assert_eq!(world.judge(&when), expected, "{when}");
}

#[test]
fn a_reported_success_is_listed_and_verifies_and_a_reported_failure_never_shows_up() {
    let (mut counts, mut restarts, mut runs) = (BTreeMap::<Ended, usize>::new(), 0, 0);
    for seed in seeds(200) {
        let outcome = simulate(seed);
        runs += 1;
        restarts += outcome.restarts;
        for end in outcome.ended.values() {
            *counts.entry(*end).or_default() += 1;
        }
    }
    println!("{runs} seeds: {counts:?}, {restarts} restarts of the server");
    if runs >= 100 {
        for end in [Ended::Done, Ended::Failed, Ended::Unknown, Ended::Killed] {
            assert!(
                counts.get(&end).is_some_and(|count| *count >= 5),
                "{end:?} is hardly ever tried"
            );
        }
        assert!(restarts >= 10, "the server is hardly ever restarted");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let first = simulate(11);
    assert_eq!(first, simulate(11));
    assert_ne!(first.trace, simulate(12).trace);
}
