//! What tests stand on: a world whose time, schedule, faults and crashes come from a seed.
//!
//! For tests only. Nothing that ships depends on this crate.

pub mod clusters;
pub mod fuzz;
pub mod host;
pub mod sim;
