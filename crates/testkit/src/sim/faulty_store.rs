//! A store in memory that behaves as badly as the contract allows.
//!
//! Every operation breathes before and after its effect, so a process can die at either place.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use repo::store::{Listed, Put};
use repo::{Error, Result, Store};

use super::executor::lock;
use super::objects::{Objects, Stored};
use super::process::{breathe, sleep};
use super::{Change, Counts, Crash, Faults, Process, Sim};

/// The store as one process sees it. All made from one by [`FaultyStore::of`] hold the same objects.
#[derive(Clone)]
pub struct FaultyStore {
    pub(super) sim: Sim,
    pub(super) objects: Arc<Mutex<Objects>>,
    faults: Arc<Mutex<Faults>>,
    process: Process,
    own: Arc<Mutex<Own>>,
}

/// What belongs to the process alone.
#[derive(Default)]
struct Own {
    writes: u64,
    crash: Option<(u64, Crash)>,
    dead: bool,
}

/// What becomes of one operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    NotDone,
    AnswerLost,
    Delayed,
}

impl std::fmt::Debug for FaultyStore {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "FaultyStore of {} objects", lock(&self.objects).stored.len())
    }
}

impl FaultyStore {
    /// An empty store.
    pub fn new(sim: &Sim, faults: Faults) -> FaultyStore {
        FaultyStore {
            sim: sim.clone(),
            objects: Arc::default(),
            faults: Arc::new(Mutex::new(faults)),
            process: sim.process("test"),
            own: Arc::default(),
        }
    }

    /// The same store as `process` sees it.
    pub fn of(&self, process: &Process) -> FaultyStore {
        FaultyStore {
            process: process.clone(),
            own: Arc::default(),
            ..self.clone()
        }
    }

    /// From now on it behaves like this, for everybody; a burst under way ends. What is delayed already
    /// still arrives.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.objects).burst_until = Duration::ZERO;
        *lock(&self.faults) = faults;
    }

    /// Has the process die at its write number `writes` from now, counted from 0, creates and deletes
    /// alike. From there on nothing it does reaches the store; outside a simulation, where
    /// nobody drops its futures, it sees errors that are not transient.
    pub fn crash_after(&self, writes: u64, crash: Crash) {
        let mut own = lock(&self.own);
        own.crash = Some((own.writes.saturating_add(writes), crash));
    }

    /// Creates and deletes this process has tried.
    pub fn writes(&self) -> u64 {
        lock(&self.own).writes
    }

    /// Operations of all processes.
    pub fn counts(&self) -> Counts {
        lock(&self.objects).counts
    }

    /// Everything that ever changed, in order.
    pub fn history(&self) -> Vec<Change> {
        lock(&self.objects).history.clone()
    }

    /// The names of all objects, in order.
    pub fn names(&self) -> Vec<String> {
        lock(&self.objects).stored.keys().cloned().collect()
    }

    /// What an object holds, without any fault: for oracles.
    pub fn bytes(&self, name: &str) -> Option<Bytes> {
        lock(&self.objects).stored.get(name).map(|stored| stored.bytes.clone())
    }

    fn error(&self, operation: &'static str, name: &str) -> Error {
        let transient = !lock(&self.own).dead;
        Error::Store {
            operation,
            name: name.to_owned(),
            transient,
            source: "a fault of the simulated store".into(),
        }
    }

    /// Time passes, others run, and the operation's fate is drawn.
    async fn begin(&self, operation: &'static str, name: &str, write: bool) -> Result<Fate> {
        breathe().await;
        self.travel().await;
        if lock(&self.own).dead {
            return Err(self.error(operation, name));
        }
        let faults = *lock(&self.faults);
        let fate = self.draw(&faults, write);
        self.sim.note(operation);
        self.sim.note(name);
        self.sim.note(match fate {
            Fate::Done => "done",
            Fate::NotDone => "not done",
            Fate::AnswerLost => "answer lost",
            Fate::Delayed => "delayed",
        });
        if fate == Fate::NotDone && !write {
            return Err(self.error(operation, name));
        }
        Ok(fate)
    }

    fn draw(&self, faults: &Faults, write: bool) -> Fate {
        let now = self.sim.now();
        if lock(&self.objects).burst_until > now {
            return Fate::NotDone;
        }
        if self.sim.chance(faults.burst) {
            lock(&self.objects).burst_until = now.saturating_add(self.up_to(faults.burst_time));
            return Fate::NotDone;
        }
        if self.sim.chance(faults.not_done) {
            return Fate::NotDone;
        }
        if write && self.sim.chance(faults.answer_lost) {
            return Fate::AnswerLost;
        }
        if write && self.sim.chance(faults.delayed) {
            return Fate::Delayed;
        }
        Fate::Done
    }

    fn up_to(&self, longest: Duration) -> Duration {
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.sim.below(micros.saturating_add(1)))
    }

    async fn travel(&self) {
        let latency = lock(&self.faults).latency;
        if latency > Duration::ZERO {
            sleep(&self.sim, self.up_to(latency)).await;
        }
    }

    /// Carries out a write as its fate and the crash plan say. `None` if the caller is to see an error.
    async fn write<T: Send + 'static>(
        &self,
        fate: Fate,
        effect: impl FnOnce(&mut Objects, i64) -> T + Send + 'static,
    ) -> Option<T> {
        let crash = {
            let mut own = lock(&self.own);
            let crash = own.crash.filter(|(at, _)| own.writes == *at).map(|(_, crash)| crash);
            own.writes += 1;
            own.dead |= crash.is_some();
            crash
        };
        let mut done = None;
        match (crash, fate) {
            (Some(Crash::Before), _) | (None, Fate::NotDone) => {}
            (None, Fate::Delayed) => self.later(effect),
            (Some(Crash::After), _) | (None, Fate::Done | Fate::AnswerLost) => {
                done = Some(effect(&mut lock(&self.objects), self.sim.now_micros()));
            }
        }
        if crash.is_some() {
            self.process.kill();
        }
        breathe().await;
        self.travel().await;
        done.filter(|_| crash.is_none() && fate == Fate::Done)
    }

    /// The effect belongs to the network now: it comes about whether or not its sender lives.
    fn later<T>(&self, effect: impl FnOnce(&mut Objects, i64) -> T + Send + 'static) {
        let faults = *lock(&self.faults);
        let wait = sleep(&self.sim, self.up_to(faults.delay));
        let (sim, objects) = (self.sim.clone(), self.objects.clone());
        self.sim.spawn_in_network(Box::pin(async move {
            wait.await;
            sim.note("surfaces");
            effect(&mut lock(&objects), sim.now_micros());
        }));
    }

    fn read<T>(&self, name: &str, part: impl FnOnce(&Stored) -> T) -> Option<T> {
        lock(&self.objects).stored.get(name).map(part)
    }
}

fn listed(name: &str, stored: &Stored) -> Listed {
    let size = stored.bytes.len() as u64;
    Listed {
        name: name.to_owned(),
        size,
        modified_micros: stored.modified_micros,
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<Put> {
        lock(&self.objects).counts.puts += 1;
        let fate = self.begin("store", name, true).await?;
        let (process, object) = (self.process.name().to_owned(), name.to_owned());
        let effect = move |objects: &mut Objects, now| objects.create(now, &process, &object, bytes);
        match self.write(fate, effect).await {
            Some(true) => Ok(Put::Created),
            Some(false) => Ok(Put::Exists),
            None => Err(self.error("store", name)),
        }
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        lock(&self.objects).counts.gets += 1;
        self.begin("read", name, false).await?;
        let bytes = self.read(name, |stored| stored.bytes.clone());
        self.travel().await;
        Ok(bytes)
    }

    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Option<Bytes>> {
        lock(&self.objects).counts.gets += 1;
        self.begin("read", name, false).await?;
        let Some(bytes) = self.bytes(name) else { return Ok(None) };
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(length)?));
        match range.filter(|range| range.end <= bytes.len()) {
            Some(range) => Ok(Some(bytes.slice(range))),
            None => Err(Error::Damaged {
                name: name.to_owned(),
                what: format!("it has only {} bytes", bytes.len()),
            }),
        }
    }

    async fn head(&self, name: &str) -> Result<Option<Listed>> {
        lock(&self.objects).counts.heads += 1;
        self.begin("look at", name, false).await?;
        Ok(self.read(name, |stored| listed(name, stored)))
    }

    async fn list_after(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>> {
        lock(&self.objects).counts.lists += 1;
        self.begin("list", prefix, false).await?;
        let faults = *lock(&self.faults);
        let lag = if self.sim.chance(faults.stale_listing) {
            self.up_to(faults.listing_lag)
        } else {
            Duration::ZERO
        };
        let lag_micros = i64::try_from(lag.as_micros()).unwrap_or(i64::MAX);
        let seen_micros = self.sim.now_micros().saturating_sub(lag_micros);
        let mut page: Vec<Listed> = {
            let objects = lock(&self.objects);
            let fits = |(name, stored): &(&String, &Stored)| {
                name.starts_with(prefix) && name.as_str() > after && stored.modified_micros <= seen_micros
            };
            objects
                .stored
                .iter()
                .filter(fits)
                .take(limit)
                .map(|(name, stored)| listed(name, stored))
                .collect()
        };
        if self.sim.chance(faults.short_listing) {
            let kept = self.sim.below(page.len() as u64);
            page.truncate(usize::try_from(kept).unwrap_or(0));
        }
        Ok(page)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        lock(&self.objects).counts.deletes += 1;
        let fate = self.begin("delete", name, true).await?;
        let (process, object) = (self.process.name().to_owned(), name.to_owned());
        let effect = move |objects: &mut Objects, now| objects.delete(now, &process, &object);
        self.write(fate, effect).await.ok_or_else(|| self.error("delete", name))
    }
}
