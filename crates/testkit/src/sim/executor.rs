//! Runs futures on one thread and one virtual clock; a seed chooses who goes next.
//!
//! Time stands still while anybody can run and jumps to the next timer when nobody can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::future::BoxFuture;

use super::{Process, Random};

/// The virtual clock begins here: 2027-01-15 08:00:00 UTC, in microseconds since 1970-01-01 UTC.
const EPOCH_MICROS: i64 = 1_800_000_000_000_000;

/// The world. Clones are the same world.
#[derive(Clone)]
pub struct Sim(Arc<Mutex<Core>>);

/// Why [`Sim::run`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Every task has ended.
    Finished,
    /// Some tasks wait for what nobody will do.
    Stalled,
    /// The bound on steps was reached.
    StepsExhausted,
}

struct Core {
    random: Random,
    now: Duration,
    tasks: BTreeMap<u64, Task>,
    ready: Arc<Mutex<BTreeSet<u64>>>,
    timers: BTreeMap<(Duration, u64), Waker>,
    dead: BTreeSet<u64>,
    last_id: u64,
    steps: u64,
    trace: blake3::Hasher,
}

struct Task {
    process: u64,
    /// Absent while it is polled.
    future: Option<BoxFuture<'static, ()>>,
}

struct Awakener {
    task: u64,
    ready: Arc<Mutex<BTreeSet<u64>>>,
}

impl Wake for Awakener {
    fn wake(self: Arc<Self>) {
        lock(&self.ready).insert(self.task);
    }
}

/// A panic in a task ends the test; what it leaves behind may still be looked at.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let core = lock(&self.0);
        write!(out, "Sim after {} steps at {:?}", core.steps, core.now)
    }
}

impl Sim {
    /// A world that does what `seed` says.
    pub fn new(seed: u64) -> Sim {
        Sim(Arc::new(Mutex::new(Core {
            random: Random::new(seed),
            now: Duration::ZERO,
            tasks: BTreeMap::new(),
            ready: Arc::default(),
            timers: BTreeMap::new(),
            dead: BTreeSet::new(),
            last_id: 0,
            steps: 0,
            trace: blake3::Hasher::new(),
        })))
    }

    /// A new process with nothing to do yet.
    pub fn process(&self, name: &str) -> Process {
        Process::new(self.clone(), self.id(), name)
    }

    /// Lets one task run to its next await, or time jump to the next timer. False if there is nothing
    /// left that could happen.
    pub fn step(&self) -> bool {
        let Some((id, mut future, ready)) = self.choose() else {
            return self.advance();
        };
        let waker = Waker::from(Arc::new(Awakener { task: id, ready }));
        let ended = future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Ready(());
        let mut core = lock(&self.0);
        core.steps += 1;
        core.trace.update(&id.to_le_bytes()).update(&[u8::from(ended)]);
        // The process may have been killed from within.
        let alive = core
            .tasks
            .get(&id)
            .is_some_and(|task| !core.dead.contains(&task.process));
        if !ended
            && alive
            && let Some(task) = core.tasks.get_mut(&id)
        {
            task.future = Some(future);
            return true;
        }
        core.tasks.remove(&id);
        drop(core);
        // Dropping it may call back into this world, so the lock is free by now.
        drop(future);
        true
    }

    /// Steps until nothing can happen any more, at most `steps` times.
    pub fn run(&self, steps: u64) -> Run {
        for _ in 0..steps {
            if !self.step() {
                return if lock(&self.0).tasks.is_empty() {
                    Run::Finished
                } else {
                    Run::Stalled
                };
            }
        }
        Run::StepsExhausted
    }

    /// Runs `future` as a task of `process` until it ends, beside everything else. `None` if the
    /// process dies, nothing can happen any more, or a million steps were not enough.
    pub fn run_one<T: Send + 'static>(
        &self,
        process: &Process,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let slot = Arc::new(Mutex::new(None));
        let result = slot.clone();
        process.spawn(async move {
            let value = future.await;
            *lock(&result) = Some(value);
        });
        for _ in 0..1_000_000 {
            if let Some(value) = lock(&slot).take() {
                return Some(value);
            }
            if !process.is_alive() || !self.step() {
                break;
            }
        }
        lock(&slot).take()
    }

    /// How many polls there were.
    pub fn steps(&self) -> u64 {
        lock(&self.0).steps
    }

    /// Virtual time since the beginning.
    pub fn now(&self) -> Duration {
        lock(&self.0).now
    }

    /// Virtual wall clock, microseconds since 1970-01-01 UTC.
    pub fn now_micros(&self) -> i64 {
        EPOCH_MICROS.saturating_add(i64::try_from(self.now().as_micros()).unwrap_or(i64::MAX))
    }

    /// True in `per_mille` of a thousand cases, by the seed.
    pub fn chance(&self, per_mille: u32) -> bool {
        lock(&self.0).random.chance(per_mille)
    }

    /// A number below `bound`, by the seed.
    pub fn below(&self, bound: u64) -> u64 {
        lock(&self.0).random.below(bound)
    }

    /// Random bytes, by the seed.
    pub fn fill(&self, bytes: &mut [u8]) {
        lock(&self.0).random.fill(bytes);
    }

    /// Adds to the trace what a run is to be recognised by.
    pub fn note(&self, what: &str) {
        let mut core = lock(&self.0);
        core.trace
            .update(&(what.len() as u64).to_le_bytes())
            .update(what.as_bytes());
    }

    /// A hash over all that happened so far: who ran when, and every operation of the stores.
    pub fn trace_hash(&self) -> String {
        let core = lock(&self.0);
        let mut trace = core.trace.clone();
        trace.update(&core.now.as_nanos().to_le_bytes());
        trace.finalize().to_hex().to_string()
    }

    fn id(&self) -> u64 {
        let mut core = lock(&self.0);
        core.last_id += 1;
        core.last_id
    }

    pub(super) fn spawn(&self, process: u64, future: BoxFuture<'static, ()>) {
        let id = self.id();
        let mut core = lock(&self.0);
        if core.dead.contains(&process) {
            return;
        }
        core.tasks.insert(
            id,
            Task {
                process,
                future: Some(future),
            },
        );
        lock(&core.ready).insert(id);
    }

    /// Work that belongs to no process and outlives them all: what is under way in the network.
    pub(super) fn spawn_in_network(&self, future: BoxFuture<'static, ()>) {
        self.spawn(0, future);
    }

    pub(super) fn kill(&self, process: u64) {
        let mut core = lock(&self.0);
        core.dead.insert(process);
        core.trace.update(b"kill").update(&process.to_le_bytes());
        // The task that is being polled has no future here; `step` drops it.
        let idle = core
            .tasks
            .iter()
            .filter(|(_, task)| task.process == process && task.future.is_some());
        let ids: Vec<u64> = idle.map(|(id, _)| *id).collect();
        let futures: Vec<Option<Task>> = ids.iter().map(|id| core.tasks.remove(id)).collect();
        drop(core);
        drop(futures);
    }

    pub(super) fn is_alive(&self, process: u64) -> bool {
        !lock(&self.0).dead.contains(&process)
    }

    /// Sets a timer, or gives the one called `known` another waker; its name.
    pub(super) fn set_timer(&self, deadline: Duration, known: Option<u64>, waker: Waker) -> u64 {
        let id = known.unwrap_or_else(|| self.id());
        lock(&self.0).timers.insert((deadline, id), waker);
        id
    }

    /// Nobody waits for it any more.
    pub(super) fn clear_timer(&self, deadline: Duration, id: u64) {
        let timer = lock(&self.0).timers.remove(&(deadline, id));
        drop(timer);
    }

    #[expect(clippy::type_complexity, reason = "one use, taken apart at once")]
    fn choose(&self) -> Option<(u64, BoxFuture<'static, ()>, Arc<Mutex<BTreeSet<u64>>>)> {
        let mut core = lock(&self.0);
        let ready = core.ready.clone();
        loop {
            let id = {
                let mut ready = lock(&ready);
                let index = core.random.below(ready.len() as u64);
                let id = *ready.iter().nth(usize::try_from(index).unwrap_or(0))?;
                ready.remove(&id);
                id
            };
            // Tasks that ended or were killed may still be woken.
            if let Some(future) = core.tasks.get_mut(&id).and_then(|task| task.future.take()) {
                return Some((id, future, ready));
            }
        }
    }

    fn advance(&self) -> bool {
        let mut core = lock(&self.0);
        let Some(((deadline, _), waker)) = core.timers.pop_first() else {
            return false;
        };
        core.now = core.now.max(deadline);
        drop(core);
        waker.wake();
        true
    }
}
