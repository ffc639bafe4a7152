//! Everybody at once, as a seed decides.

use std::{sync::Arc, time::Duration};

use engine::archive::receive::SlotChoice;
use testkit::sim::{Faults, Process, seeds};

use super::{
    SEGMENT,
    actors::{Said, archive_all, archiver, backup, receive_all, receiver, slot},
    directory::{Directory, Rest},
    judge::{self, Holes, Witness},
};
use crate::model::world::World;

const MOST_STEPS: u64 = 3_000_000;

/// What is tried on this day.
#[derive(Debug, Clone, Copy)]
struct Day {
    slot: bool,
    /// Servers that push: the primary, and perhaps a standby with `archive_mode = always`.
    archivers: usize,
    /// After so many bytes.
    promotion: Option<u64>,
    /// Bytes that are written.
    most: u64,
}

impl Day {
    fn draw(world: &World) -> Day {
        let sim = &world.sim;
        let most = 3 * SEGMENT + sim.below(2 * SEGMENT);
        Day {
            slot: sim.chance(600),
            archivers: match sim.below(10) {
                0..3 => 0,
                3..8 => 1,
                _ => 2,
            },
            promotion: sim.chance(500).then(|| sim.below(most)),
            most,
        }
    }

    fn slot(&self) -> SlotChoice {
        match self.slot {
            true => slot(),
            false => SlotChoice::None,
        }
    }
}

/// How often what was tried.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    kills: usize,
    restarts: usize,
    promotions: usize,
    backups: usize,
    pushed: usize,
}

struct Cast {
    world: World,
    day: Day,
    directories: Vec<Arc<Directory>>,
    said: Said,
    taken: Said,
    receiver: Option<Process>,
    other: Option<Process>,
    archivers: Vec<Process>,
    backups: Vec<Process>,
    counts: Counts,
}

impl Cast {
    fn new(world: &World, day: Day) -> Cast {
        let rests = [Rest::Zeros, Rest::Recycled];
        let directories = rests[..day.archivers].iter();
        let directories = directories.map(|rest| Arc::new(Directory::new(&world.cluster, *rest)));
        let mut cast = Cast {
            world: world.clone(),
            day,
            directories: directories.collect(),
            said: Said::default(),
            taken: Said::default(),
            receiver: None,
            other: None,
            archivers: Vec::new(),
            backups: Vec::new(),
            counts: Counts::default(),
        };
        cast.receiver = Some(cast.receive("receiver"));
        for number in 0..day.archivers {
            let process = cast.archive(number);
            cast.archivers.push(process);
        }
        cast
    }

    fn receive(&self, name: &str) -> Process {
        receiver(&self.world, name, self.day.slot(), &self.said)
    }

    fn archive(&self, number: usize) -> Process {
        let name = format!("archiver-{number}");
        archiver(&self.world, &self.directories[number], &name, 1 + number, &self.said)
    }

    /// What happens beside their work, now and then.
    fn disturb(&mut self, written: u64) {
        let sim = self.world.sim.clone();
        if sim.chance(2) {
            // Sometimes it stays away for a while.
            match self.receiver.take() {
                Some(receiver) => {
                    receiver.kill();
                    self.counts.kills += 1;
                    if sim.chance(600) {
                        self.receiver = Some(self.receive(&format!("receiver-{}", self.counts.kills)));
                    }
                }
                None => self.receiver = Some(self.receive(&format!("receiver-{}", self.counts.kills))),
            }
        }
        if sim.chance(1) {
            if let Some(other) = self.other.take() {
                other.kill();
            }
            // It counts on what the slot's receiver made the server keep.
            if !self.day.slot || self.world.cluster.acknowledged().0 > 0 {
                self.other = Some(receiver(&self.world, "other", SlotChoice::None, &self.said));
            }
        }
        if !self.archivers.is_empty() && sim.chance(3) {
            let number = sim.below(self.archivers.len() as u64) as usize;
            self.archivers[number].kill();
            self.counts.kills += 1;
            if sim.chance(300) {
                self.directories[number].forget();
            }
            self.archivers[number] = self.archive(number);
        }
        if sim.chance(1) {
            let label = format!("backup-{}", self.backups.len());
            self.backups.push(backup(&self.world, &label, &self.taken));
        }
        if !self.backups.is_empty() && sim.chance(1) {
            self.backups.last().unwrap().kill();
        }
        if sim.chance(1) {
            self.world.cluster.restart();
            self.counts.restarts += 1;
        }
        if sim.chance(3) {
            match self.directories.first() {
                Some(directory) => directory.recycle(),
                None if !self.day.slot => self.world.cluster.recycle(self.world.cluster.flushed()),
                None => {}
            }
        }
        if self.day.promotion.is_some_and(|at| written >= at) && self.counts.promotions == 0 {
            self.world.cluster.promote();
            self.counts.promotions += 1;
        }
    }

    /// All die.
    fn stop(&self) {
        for process in self
            .receiver
            .iter()
            .chain(&self.other)
            .chain(&self.archivers)
            .chain(&self.backups)
        {
            process.kill();
        }
    }

    /// They come again on a store without faults, and get to the end.
    fn come_to_the_end(&mut self, when: &str) {
        assert_eq!(
            *self.said.lock().unwrap(),
            Vec::<String>::new(),
            "{when}: somebody gave up"
        );
        for (number, directory) in self.directories.iter().enumerate() {
            archive_all(&self.world, directory, &format!("last-archiver-{number}"));
        }
        let done = receive_all(&self.world, "last-receiver", self.day.slot());
        done.unwrap_or_else(|error| panic!("{when}: {error}"));
    }
}

fn simulate(seed: u64) -> (String, Counts) {
    let world = World::new(seed).initialised();
    let day = Day::draw(&world);
    let when = format!("seed {seed} (replay with LASTGOOD_SEED={seed}) {day:?}");
    world.store.set_faults(Faults {
        delay: Duration::from_secs(5),
        burst: 15,
        burst_time: Duration::from_secs(20),
        ..Faults::ROUGH
    });
    let mut cast = Cast::new(&world, day);
    let (mut steps, mut written) = (0u64, 0);
    while written < day.most && world.sim.step() {
        steps += 1;
        assert!(steps < MOST_STEPS, "{when}: it never ends");
        if world.sim.chance(15) {
            let bytes = 1 + world.sim.below(150_000);
            world.cluster.transact(bytes as usize);
            written += bytes;
        }
        cast.disturb(written);
    }
    world.store.set_faults(Faults::NONE);
    cast.stop();
    // Before anybody mends anything: what was promised is here already.
    let told = Witness {
        was_refused: false,
        cluster: world.cluster.clone(),
        directories: cast.directories.clone(),
        backups: cast.taken.lock().unwrap().clone(),
    };
    judge::promises_are_kept(&world, &told, &when);
    cast.come_to_the_end(&when);
    let mut witness = Witness {
        was_refused: false,
        cluster: world.cluster.clone(),
        directories: cast.directories.clone(),
        backups: cast.taken.lock().unwrap().clone(),
    };
    witness.backups.sort();
    let listed = world.judge(&when);
    for label in &witness.backups {
        assert!(listed.contains(label), "{when}: {label} is not listed");
    }
    judge::promises_are_kept(&world, &witness, &when);
    let holes = match day.slot || day.archivers > 0 {
        true => Holes::None,
        false => Holes::Told,
    };
    judge::the_archive_is_sound(&world, &witness, holes, &when);
    judge::nothing_goes_that_is_not_kept_elsewhere(&world, &witness, &when);
    cast.counts.backups = witness.backups.len();
    cast.counts.pushed = witness
        .directories
        .iter()
        .map(|directory| directory.archived().len())
        .sum();
    (world.sim.trace_hash(), cast.counts)
}

#[test]
fn whoever_is_told_that_wal_is_durable_finds_it_whatever_happened() {
    let (mut all, mut runs) = (Counts::default(), 0);
    for seed in seeds(150) {
        let (_, counts) = simulate(seed);
        runs += 1;
        all.kills += counts.kills;
        all.restarts += counts.restarts;
        all.promotions += counts.promotions;
        all.backups += counts.backups;
        all.pushed += counts.pushed;
    }
    println!("{runs} seeds: {all:?}");
    if runs >= 100 {
        for (what, count) in [
            ("kills", all.kills),
            ("restarts", all.restarts),
            ("promotions", all.promotions),
            ("backups", all.backups),
            ("pushed files", all.pushed),
        ] {
            assert!(count >= runs / 20, "{what} are hardly ever tried: {all:?}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(simulate(11), simulate(11));
}
