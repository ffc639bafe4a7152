//! `lastgood demo`: the whole story on a cluster of its own, which is made for it and removed after it.
//!
//! Nothing but the demo's own temporary directory is touched. It is removed however the story ends; what
//! the demo "loses" is the data directory in there.

mod cluster;
mod load;
mod story;
mod stream;

use std::time::Instant;

use serde::Serialize;

use crate::{Result, args::Demo, commands::Run, output::Outcome, render};

/// What the story came to, for programs.
#[derive(Debug, Default, Serialize)]
struct Figures {
    postgresql: String,
    loaded_bytes: u64,
    rows: i64,
    backup_bytes: u64,
    backup_stored: u64,
    backup_seconds: f64,
    backup_bytes_per_second: f64,
    transactions_during_backup: u64,
    commit_to_restorable_seconds: f64,
    wal_received_bytes: u64,
    rows_deleted: i64,
    accident_xid: u32,
    time_to_get_back_seconds: f64,
    restored_bytes: u64,
    digests_equal: bool,
    digest: String,
    verify_outcome: String,
    verify_seconds: f64,
    total_seconds: f64,
}

/// Tells the story.
pub(crate) async fn run(run: &Run, args: Demo) -> Result<Outcome> {
    let began = Instant::now();
    let mut place = cluster::Place::make(&args)?;
    let told = story::tell(run, &args, &mut place).await;
    // Also after an interruption: servers first, then their files.
    let removed = place.remove().await;
    let (mut figures, problem) = told?;
    removed?;
    figures.total_seconds = began.elapsed().as_secs_f64();
    run.say(&format!(
        "\nCleaned up. The whole story took {}.",
        render::duration(figures.total_seconds)
    ));
    Ok(Outcome::new(&figures, "").but(problem))
}
