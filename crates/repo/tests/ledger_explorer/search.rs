//! Walks through all worlds that can be reached.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use repo::ledger::append::{Action, Append, Event, Found, Outcome};

use crate::ledgers::{Ledgers, Word};
use crate::scenario::Scenario;
use crate::world::{End, World};

/// Explores the scenario whole. How many worlds there are, or what is wrong in one of them.
pub(crate) fn explore(scenario: &Scenario) -> Result<usize, String> {
    let mut ledgers = Ledgers::new(scenario);
    let first = World::new(scenario);
    let mut seen = HashSet::from([fingerprint(&first)]);
    let mut stack = vec![first];
    while let Some(world) = stack.pop() {
        for next in successors(&mut ledgers, scenario, &world)? {
            next.check(&ledgers)?;
            if seen.insert(fingerprint(&next)) {
                stack.push(next);
            }
        }
    }
    Ok(seen.len())
}

/// 128 bits of fixed hashes: among millions of worlds, two of the same are not to be expected.
fn fingerprint(world: &World) -> (u64, u64) {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    (hasher.hash_one(world), hasher.hash_one((1_u8, world)))
}

fn successors(ledgers: &mut Ledgers, scenario: &Scenario, world: &World) -> Result<Vec<World>, String> {
    let mut worlds = Vec::new();
    for word in &world.under_way {
        let mut next = world.clone();
        next.land(ledgers, scenario, *word)?;
        worlds.push(next);
    }
    let mut running = false;
    for who in 0..world.processes.len() {
        if world.processes[who].end.is_some() {
            continue;
        }
        running = true;
        for fate in world.fates(who) {
            let mut next = world.clone();
            next.advance(ledgers, scenario, who, *fate)?;
            worlds.push(next);
        }
        if world.crashes > 0 {
            let mut next = world.clone();
            next.crashes -= 1;
            next.processes[who].end = Some(End::Crashed);
            next.processes[who].append = None;
            a_new_writer_can_go_on(ledgers, scenario, &next)?;
            worlds.push(next);
        }
    }
    if !running {
        a_new_writer_can_go_on(ledgers, scenario, world)?;
    }
    Ok(worlds)
}

/// Whatever state others left behind, and whatever of theirs still arrives just before it writes.
fn a_new_writer_can_go_on(ledgers: &mut Ledgers, scenario: &Scenario, world: &World) -> Result<(), String> {
    for late in [None, world.under_way.first()] {
        let mut node = world.node;
        let mut late = late.copied();
        let mut append = Append::new(0, scenario.limits);
        let mut action = append.action();
        for _ in 0..100 {
            let length = ledgers.length(node);
            let event = match action {
                Action::Read(n) if n > length => Event::Read(Found::Absent),
                Action::Read(_) => Event::Read(Found::Other),
                Action::Decide => Event::Decided(true),
                Action::Create(n) => {
                    if let Some(word) = late.take() {
                        node = ledgers.child(scenario, node, word);
                    }
                    let free = n > ledgers.length(node);
                    if free {
                        let word = Word {
                            process: 0,
                            step: 0,
                            choice: 0,
                            fill: true,
                        };
                        node = ledgers.child(scenario, node, word);
                    }
                    Event::Put(free)
                }
                Action::Fill(_) => Event::Put(false),
                Action::Pause(_) => Event::Waited,
                Action::Finish(_) => break,
            };
            action = append.step(event);
        }
        if !matches!(action, Action::Finish(Outcome::Won(_))) {
            return Err(format!("a new writer cannot go on: {action:?}"));
        }
    }
    Ok(())
}
