//! What engines report while they work. They print nothing.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde::Serialize;

use crate::{Error, Result};

/// Something to tell whoever watches.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A step of the procedure begins.
    Step {
        /// A word for programs: `start`, `copy`, `wal`, `commit`, `fetch`, `recover`, `check` …
        step: &'static str,
        /// A few words for people.
        what: String,
    },
    /// How far the step is. Sent often; who shows it thins it out.
    Progress {
        /// Bytes done.
        done: u64,
        /// Bytes in all, as far as known.
        total: u64,
    },
    /// Something the user should know though the work goes on.
    Warning(Warning),
}

/// A warning, as shown and as it stands in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// A stable word for programs.
    pub code: &'static str,
    /// What was found, with names, and what to do.
    pub message: String,
}

/// Somebody who watches.
pub trait Observer: Send + Sync {
    /// Takes note of `event`. Must be quick: workers call it.
    fn event(&self, event: Event);
}

/// Whether to go on. Clones are one and the same.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks everybody to stop at the next safe place.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// [`Error::Interrupted`] once somebody asked.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    }
}

/// What every engine is handed.
#[derive(Clone)]
pub struct Context {
    /// Time, randomness, workers.
    pub runtime: repo::runtime::Runtime,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// Whether to go on.
    pub stop: Stop,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Context")
    }
}

impl Context {
    /// Tells the watcher that a step begins.
    pub fn step(&self, step: &'static str, what: impl Into<String>) {
        self.observer.event(Event::Step {
            step,
            what: what.into(),
        });
    }

    /// Tells the watcher of something to know.
    pub fn warn(&self, code: &'static str, message: impl Into<String>) {
        self.observer.event(Event::Warning(Warning {
            code,
            message: message.into(),
        }));
    }
}
