//! A server and its clone under one identity, with receivers and `wal push` of both at once: whoever comes second is
//! refused, and never is the WAL of both in one archive.

use std::{sync::Arc, time::Duration};

use testkit::sim::{Faults, Process, seeds};

use super::{
    SEGMENT,
    actors::{Said, archiver, receiver, slot},
    directory::{Directory, Rest},
    judge::{self, Witness},
};
use crate::model::{Cluster, world::World};

const MOST_STEPS: u64 = 1_000_000;
/// How long both have at the end to store all that they have, or to hear that they must not.
const TO_THE_END: Duration = Duration::from_secs(150);

/// One of both, with all that stores its WAL.
struct Server {
    name: &'static str,
    world: World,
    directory: Option<Arc<Directory>>,
    receives: bool,
    at_work: Vec<Process>,
    said: Said,
}

impl Server {
    fn new(name: &'static str, world: World) -> Server {
        let way = world.sim.below(3);
        Server {
            name,
            directory: (way != 0).then(|| Arc::new(Directory::new(&world.cluster, Rest::Zeros))),
            receives: way != 1,
            world,
            at_work: Vec::new(),
            said: Said::default(),
        }
    }

    fn start(&mut self, life: usize) {
        for process in self.at_work.drain(..) {
            process.kill();
        }
        if let Some(directory) = &self.directory {
            let name = format!("archiver-{}-{life}", self.name);
            self.at_work
                .push(archiver(&self.world, directory, &name, 1, &self.said));
        }
        if self.receives {
            let name = format!("receiver-{}-{life}", self.name);
            self.at_work.push(receiver(&self.world, &name, slot(), &self.said));
        }
    }

    fn witness(&self) -> Witness {
        Witness {
            was_refused: self.was_refused(),
            cluster: self.world.cluster.clone(),
            directories: self.directory.iter().cloned().collect(),
            backups: Vec::new(),
        }
    }

    fn was_refused(&self) -> bool {
        !self.said.lock().unwrap().is_empty()
    }
}

fn simulate(seed: u64) -> String {
    let world = World::new(seed).initialised();
    let clone = World {
        cluster: Cluster::new(seed),
        ..world.clone()
    };
    let sim = world.sim.clone();
    let when = format!("seed {seed} (replay with LASTGOOD_SEED={seed})");
    world.store.set_faults(Faults {
        delay: Duration::from_secs(5),
        ..Faults::ROUGH
    });
    let mut servers = [Server::new("a", world.clone()), Server::new("b", clone)];
    // What both have: the clone was made then.
    let common = sim.below(2 * SEGMENT);
    let (mut written, mut steps, mut lives) = (0, 0u64, 0);
    servers[0].start(0);
    let joins = sim.below(3 * SEGMENT);
    while written < 3 * SEGMENT {
        if sim.chance(15) || !sim.step() {
            let bytes = 1 + sim.below(150_000);
            let other = if written < common {
                bytes
            } else {
                1 + sim.below(150_000)
            };
            servers[0].world.cluster.transact(bytes as usize);
            servers[1].world.cluster.transact(other as usize);
            written += bytes;
        }
        steps += 1;
        assert!(steps < MOST_STEPS, "{when}: it never ends");
        let joined = written >= joins && servers[1].at_work.is_empty();
        if joined || sim.chance(2) {
            lives += 1;
            let number = if joined { 1 } else { sim.below(2) as usize };
            if number == 0 || written >= joins {
                servers[number].start(lives);
            }
        }
    }
    world.store.set_faults(Faults::NONE);
    for server in &mut servers {
        server.start(lives + 1);
    }
    let until = sim.now() + TO_THE_END;
    while sim.now() < until {
        if !sim.step() {
            let refused = servers.iter().all(Server::was_refused);
            assert!(refused, "{when}: nothing happens any more");
            break;
        }
    }
    let refused: Vec<&str> = servers
        .iter()
        .filter(|server| server.was_refused())
        .map(|server| server.name)
        .collect();
    for server in &mut servers {
        for process in server.at_work.drain(..) {
            process.kill();
        }
        judge::promises_are_kept(
            &world,
            &server.witness(),
            &format!("{when}: {}, {refused:?} refused", server.name),
        );
    }
    judge::all_is_of_one(&world, [&servers[0].world.cluster, &servers[1].world.cluster], &when);
    refused.join(" ")
}

#[test]
fn of_a_server_and_its_clone_one_is_refused_and_their_wal_is_never_mixed() {
    let mut refused: Vec<String> = seeds(20).map(simulate).collect();
    refused.sort();
    let count = |who: &str| refused.iter().filter(|found| *found == who).count();
    // Who has no complete segment of its own to push meets nobody.
    let met = refused.iter().filter(|found| !found.is_empty()).count();
    assert!(
        refused.len() < 20 || met >= refused.len() / 2,
        "they hardly ever meet: {met}"
    );
    println!(
        "{} seeds, refused: a {}, b {}, both {}",
        refused.len(),
        count("a"),
        count("b"),
        count("a b")
    );
}
