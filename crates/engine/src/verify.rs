//! Proves that a backup can be restored, or finds why not.
//!
//! Three levels, each including those before it: every object is there and intact; every frame opens and every page
//! is what was read; a server comes up from it and its tables and indexes agree. What was not looked at is never
//! reported as good.

mod amcheck;
mod cause;
mod folder;
mod objects;
mod pages;
mod queries;
mod scratch;

use std::path::PathBuf;

use repo::ledger::Entry;
pub use repo::ledger::{Level, Outcome};
use serde::Serialize;

use crate::{Result, damage, database::Opened, event::Context, unsound};

/// What to verify, and how deep.
#[derive(Debug, Clone)]
pub struct Request {
    /// The backup; `None`: the newest.
    pub backup: Option<String>,
    /// How deep.
    pub level: Level,
    /// Workers side by side.
    pub jobs: usize,
    /// Where `postgres` is, for the deepest level.
    pub binaries: Option<PathBuf>,
    /// Where a server is brought up, for the deepest level; `None`: the system's temporary directory.
    pub scratch: Option<PathBuf>,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The backup.
    pub backup: String,
    /// How deep it was looked at.
    pub level: Level,
    /// Whether it passed.
    pub outcome: Outcome,
    /// How long it took.
    pub seconds: f64,
    /// How long until its server was open, for the deepest level.
    pub open_seconds: Option<f64>,
    /// What was looked at, a line each.
    pub checked: Vec<String>,
    /// What is wrong, with names.
    pub found: Vec<String>,
    /// What could not be looked at, and why.
    pub unchecked: Vec<String>,
}

/// What the levels gather.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) checked: Vec<String>,
    pub(crate) found: Vec<String>,
    pub(crate) unchecked: Vec<String>,
    pub(crate) open_seconds: Option<f64>,
}

/// The most findings that the ledger's entry lists; the report has all.
pub(crate) const LISTED: usize = 20;

/// Verifies a backup and writes the result into the ledger.
///
/// # Errors
/// Only what prevents looking at all. Damage is no error here: it is in the report, as `failed`.
pub async fn run(context: &Context, opened: &Opened, request: &Request) -> Result<Report> {
    let began = context.runtime.clock.monotonic();
    let backup = opened.find(request.backup.as_deref()).await?;
    let before = opened.with_state(repo::ledger::State::last).await;
    let mut findings = Findings::default();
    look(context, opened, request, &backup, &mut findings).await?;
    let outcome = match (findings.found.is_empty(), findings.unchecked.is_empty()) {
        (false, _) => Outcome::Failed,
        (true, false) => Outcome::Incomplete,
        (true, true) => Outcome::Passed,
    };
    let seconds = context.runtime.clock.monotonic().saturating_sub(began).as_secs_f64();
    opened.begin_session().await?;
    let found = findings
        .found
        .iter()
        .chain(&findings.unchecked)
        .take(LISTED)
        .cloned()
        .collect();
    let (id, level) = (backup.id.clone(), request.level);
    let rounded = seconds.ceil() as u64;
    opened
        .append(Entry::Verified {
            backup: id,
            level,
            outcome,
            details: None,
            seconds: rounded,
            found,
        })
        .await?;
    // Each is tried: neither needs the other.
    let unsound = unsound::clear(opened, &backup, level, outcome).await;
    if outcome == Outcome::Passed {
        damage::clear(opened, &backup, level, before).await?;
    }
    unsound?;
    let Findings {
        checked,
        found,
        unchecked,
        open_seconds,
    } = findings;
    Ok(Report {
        backup: backup.id,
        level,
        outcome,
        seconds,
        open_seconds,
        checked,
        found,
        unchecked,
    })
}

/// Goes level by level and stops where going deeper can tell nothing more.
async fn look(
    context: &Context,
    opened: &Opened,
    request: &Request,
    backup: &repo::ledger::state::Backup,
    findings: &mut Findings,
) -> Result<()> {
    let manifest = match crate::restore::manifest(opened, backup).await {
        Ok(manifest) => manifest,
        Err(error) => return damage(findings, error),
    };
    // What a server needs of this machine is to be known before hours of reading, not after.
    let binaries = match request.level {
        Level::Restore => {
            scratch::Scratch::place(request, &manifest.facts)?;
            Some(crate::restore::find_binaries(
                &manifest.facts,
                request.binaries.as_deref(),
            )?)
        }
        _ => None,
    };
    context.step("objects", "looking at every object");
    objects::check(context, opened, &manifest, request.jobs, findings).await?;
    if request.level == Level::Objects || !findings.found.is_empty() {
        return Ok(());
    }
    context.step("pages", "opening every frame and checking every page");
    pages::check(context, opened, &manifest, request.jobs, findings).await?;
    match binaries {
        Some(binaries) if findings.found.is_empty() => {
            scratch::check(context, opened, manifest, request, &binaries, findings).await
        }
        _ => Ok(()),
    }
}

/// Damage is what verification is for; anything else prevents it.
pub(crate) fn damage(findings: &mut Findings, error: crate::Error) -> Result<()> {
    match error {
        crate::Error::Repository(
            error @ (repo::Error::Damaged { .. } | repo::Error::Missing { .. } | repo::Error::Unsupported { .. }),
        ) => {
            findings.found.push(error.to_string());
            Ok(())
        }
        error => Err(error),
    }
}
