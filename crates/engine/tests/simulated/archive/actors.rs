//! Who writes into the archive, each in a process that may be killed.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    Result,
    archive::{
        push::{self, Pushed, Request},
        receive::{self, Options, SlotChoice, Summary},
    },
    database,
    event::Stop,
};
use testkit::sim::{FaultyStore, Process};

use super::directory::Directory;
use crate::model::world::{World, context};

/// How long a server waits before it looks again, or calls a command again that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Long enough after the last byte that segments are finished and a mark is made.
const AFTERWARDS: Duration = Duration::from_secs(90);

/// What actors said that should not have ended.
pub(crate) type Said = Arc<Mutex<Vec<String>>>;

/// Receives until `stop`.
pub(crate) async fn receive(world: World, process: Process, stop: Stop, slot: SlotChoice) -> Result<Summary> {
    let mut context = context(&process);
    context.stop = stop;
    let store = world.store.of(&process);
    let opened = loop {
        match database::open_store(&context, Arc::new(store.clone()), &world.unlock).await {
            Ok(opened) => break opened,
            Err(_) => context.runtime.clock.sleep(AGAIN).await,
        }
    };
    let source = world.cluster.source(&context.runtime);
    receive::run(&context, &opened, &source, &Options::new(slot)).await
}

pub(crate) fn slot() -> SlotChoice {
    SlotChoice::of_database("shop").unwrap()
}

/// A receiver that goes on for ever.
pub(crate) fn receiver(world: &World, name: &str, slot: SlotChoice, said: &Said) -> Process {
    let process = world.sim.process(name);
    let receiving = receive(world.clone(), process.clone(), Stop::default(), slot);
    let (said, name) = (said.clone(), name.to_string());
    process.spawn(async move {
        let done = receiving.await;
        said.lock().unwrap().push(format!("{name}: {done:?}"));
    });
    process
}

/// Receives all that there is, and is asked to stop some time later.
pub(crate) fn receive_all(world: &World, name: &str, slot: SlotChoice) -> Result<Summary> {
    let process = world.sim.process(name);
    let stop = Stop::default();
    let (asked, cluster, clock) = (stop.clone(), world.cluster.clone(), process.runtime().clock);
    process.spawn(async move {
        let has_all = || {
            let heard = cluster.heard();
            let tip = heard.iter().filter(|(timeline, ..)| *timeline == cluster.timeline());
            tip.map(|(_, _, to)| *to).max() == Some(cluster.flushed().0)
        };
        while !has_all() {
            clock.sleep(AGAIN).await;
        }
        clock.sleep(AFTERWARDS).await;
        asked.stop();
    });
    let receiving = receive(world.clone(), process.clone(), stop, slot);
    let received = world.sim.run_one(&process, receiving);
    received.expect("it ends")
}

/// `archive_command` for one file: a program of its own.
pub(crate) async fn push(
    world: &World,
    process: &Process,
    store: &FaultyStore,
    directory: &Directory,
    name: &str,
    jobs: usize,
) -> Result<Pushed> {
    let context = context(process);
    let opened = database::open_store(&context, Arc::new(store.clone()), &world.unlock).await?;
    let request = Request {
        path: directory.file(name),
        current: directory.data(),
        jobs,
    };
    push::run(&context, &opened.repository, &request).await
}

/// A server's archiver: file after file, each until it succeeds. What no repetition mends is said.
pub(crate) fn archiver(world: &World, directory: &Arc<Directory>, name: &str, jobs: usize, said: &Said) -> Process {
    let process = world.sim.process(name);
    let (world, own, directory) = (world.clone(), process.clone(), Arc::clone(directory));
    let (said, called) = (said.clone(), name.to_string());
    process.spawn(async move {
        loop {
            if !archive_next(&world, &own, &directory, jobs, &said, &called).await {
                own.runtime().clock.sleep(AGAIN).await;
            }
        }
    });
    process
}

/// Archives what is ready, once; whether it could.
async fn archive_next(
    world: &World,
    process: &Process,
    directory: &Directory,
    jobs: usize,
    said: &Said,
    called: &str,
) -> bool {
    directory.write();
    let Some(name) = directory.next() else {
        return false;
    };
    let store = world.store.of(process);
    match push(world, process, &store, directory, &name, jobs).await {
        Ok(_) => {
            directory.done(&name);
            true
        }
        Err(error) => {
            if is_final(&error) {
                said.lock().unwrap().push(format!("{called}: {name}: {error}"));
            }
            false
        }
    }
}

/// Whether the same call fails for ever.
pub(crate) fn is_final(error: &engine::Error) -> bool {
    match error {
        engine::Error::Repository(error) => !error.is_transient(),
        engine::Error::Refused { .. } | engine::Error::Conflict { .. } => true,
        _ => false,
    }
}

/// Archives everything that there is.
pub(crate) fn archive_all(world: &World, directory: &Arc<Directory>, name: &str) {
    let process = world.sim.process(name);
    let (going, own, directory) = (world.clone(), process.clone(), Arc::clone(directory));
    let said = Said::default();
    let told = said.clone();
    let archiving = async move {
        directory.write();
        while directory.next().is_some() && told.lock().unwrap().is_empty() {
            archive_next(&going, &own, &directory, 2, &told, "the last archiver").await;
        }
    };
    world.sim.run_one(&process, archiving).expect("it ends");
    assert_eq!(*said.lock().unwrap(), Vec::<String>::new());
}

/// A backup; its label is told if it succeeds.
pub(crate) fn backup(world: &World, label: &str, taken: &Said) -> Process {
    let process = world.sim.process(label);
    let (world, own, label, taken) = (world.clone(), process.clone(), label.to_string(), taken.clone());
    let store = world.store.of(&process);
    process.spawn(async move {
        if world.back_up(&own, &store, &label).await.is_ok() {
            taken.lock().unwrap().push(label);
        }
    });
    process
}
