//! A process: tasks that die together, with a clock and randomness of their own.

use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use repo::runtime::{Clock, Rng, Runtime, Workers};

use super::executor::lock;
use super::{Random, Sim};

/// A process of the simulated world. Clones are the same process.
#[derive(Clone)]
pub struct Process {
    sim: Sim,
    id: u64,
    name: Arc<str>,
    random: Arc<Mutex<Random>>,
    clock_offset_micros: Arc<AtomicI64>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "process {}", self.name)
    }
}

impl Process {
    pub(super) fn new(sim: Sim, id: u64, name: &str) -> Process {
        let mut seed = [0; 8];
        sim.fill(&mut seed);
        let random = Arc::new(Mutex::new(Random::new(u64::from_le_bytes(seed))));
        Process {
            sim,
            id,
            name: name.into(),
            random,
            clock_offset_micros: Arc::default(),
        }
    }

    /// Its name in histories.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts a task in it; a dead process starts nothing.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.sim.spawn(self.id, Box::pin(future));
    }

    /// Kills it: its tasks are dropped where they stand, now or, for the one that is running, at its
    /// next await. What it sent to a store may still arrive.
    pub fn kill(&self) {
        if self.is_alive() {
            self.sim.kill(self.id);
        }
    }

    /// Whether nobody killed it.
    pub fn is_alive(&self) -> bool {
        self.sim.is_alive(self.id)
    }

    /// Sets its wall clock off by so many microseconds from now on. Its steady clock is untouched.
    pub fn shift_clock(&self, micros: i64) {
        self.clock_offset_micros.store(micros, Ordering::Relaxed);
    }

    /// What the code under test gets for the real world.
    pub fn runtime(&self) -> Runtime {
        Runtime {
            clock: Arc::new(self.clone()),
            rng: Arc::new(self.clone()),
            workers: Arc::new(self.clone()),
        }
    }

    /// The world it lives in.
    pub fn sim(&self) -> &Sim {
        &self.sim
    }
}

impl Clock for Process {
    fn now_micros(&self) -> i64 {
        self.sim
            .now_micros()
            .saturating_add(self.clock_offset_micros.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.sim.now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(sleep(&self.sim, duration))
    }
}

impl Rng for Process {
    fn fill(&self, bytes: &mut [u8]) {
        lock(&self.random).fill(bytes);
    }
}

impl Workers for Process {
    fn spawn(&self, job: BoxFuture<'static, ()>) {
        self.sim.spawn(self.id, job);
    }
}

/// Completes after `duration` of virtual time.
pub(super) fn sleep(sim: &Sim, duration: Duration) -> Sleep {
    Sleep {
        deadline: sim.now().saturating_add(duration),
        sim: sim.clone(),
        timer: None,
    }
}

/// See [`sleep`].
pub(super) struct Sleep {
    sim: Sim,
    deadline: Duration,
    /// Its timer. There is one however often it is looked at, and none once it is dropped: who waits for several things
    /// by turns would make more and more of them otherwise.
    timer: Option<u64>,
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.sim.clear_timer(self.deadline, timer);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.sim.now() >= self.deadline {
            return Poll::Ready(());
        }
        let timer = self.sim.set_timer(self.deadline, self.timer, context.waker().clone());
        self.timer = Some(timer);
        Poll::Pending
    }
}

/// Lets others go first; a process that is killed meanwhile does not come back. Needs no timer, so it
/// works under any executor.
pub(super) async fn breathe() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
