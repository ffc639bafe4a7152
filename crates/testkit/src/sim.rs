//! A deterministic world for code that takes its time, randomness and storage from outside.
//!
//! [`Sim`] runs futures on one thread and one virtual clock, choosing by a seed who goes next.
//! A [`Process`] is a group of tasks that can be killed at any of its awaits. [`FaultyStore`] is a
//! store in memory that delays, fails, loses answers and lets puts surface late, even after their
//! process died, and remembers everything for the oracles.
//!
//! Invariant: the same seed and the same calls give the same run; [`Sim::trace_hash`] tells.
//!
//! ```
//! use testkit::sim::{FaultyStore, Faults, Sim};
//! use repo::Store;
//!
//! let sim = Sim::new(7);
//! let store = FaultyStore::new(&sim, Faults::ROUGH);
//! let writer = sim.process("writer");
//! let own = store.of(&writer);
//! writer.spawn(async move { own.put_new("packs/1", "bytes".into()).await.ok(); });
//! while sim.step() {
//!     if sim.chance(10) { writer.kill(); }
//! }
//! ```

mod damage;
mod executor;
mod faults;
mod faulty_store;
mod objects;
mod process;
mod random;
mod seeds;

pub use damage::Damage;
pub use executor::{Run, Sim};
pub use faults::{Crash, Faults};
pub use faulty_store::FaultyStore;
pub use objects::{Change, Counts, What};
pub use process::Process;
pub use random::Random;
pub use seeds::seeds;
