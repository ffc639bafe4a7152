//! The decoders that read what others wrote, each as a function of bytes, and a loop that throws mutations at them.
//!
//! `cargo fuzz` (folder `fuzz/`) and the tests on stable Rust run these same bodies.
//!
//! Invariant: a body returns for every input. It panics where a decoder lets two encodings stand for one value that has
//! only one, or gives out what breaks a promise of its type.

mod events;
mod mutate;
mod pgformat;

pub use mutate::{Found, Hammer};
pub use repo::fuzzing::Target;

/// All targets.
pub fn targets() -> impl Iterator<Item = &'static Target> {
    let ours = pgformat::TARGETS.iter().chain(events::TARGETS);
    ours.chain(repo::fuzzing::TARGETS)
}

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    targets().find(|target| target.name == name)
}
