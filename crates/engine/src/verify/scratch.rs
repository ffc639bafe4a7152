//! Level three: a server comes up from the backup, and what it holds agrees with itself.

use std::time::Duration;

use pgclient::{
    Binaries, Cluster,
    cluster::{Start as Options, StopMode},
};
use repo::manifest::Manifest;

use crate::{
    Error, Result,
    database::Opened,
    event::Context,
    restore::{self, without_bad_advice},
};

pub(super) use super::folder::{PORT, Scratch};
use super::{Findings, Request, amcheck, cause, damage, queries};

/// A bound for recoveries that replay for very long; a server that fails ends the wait at once.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// How long a server may take to shut down.
const STOP_PATIENCE: Duration = Duration::from_secs(300);

/// Restores into a scratch directory, starts a server there, asks it, and removes everything again.
pub(super) async fn check(
    context: &Context,
    opened: &Opened,
    manifest: Manifest,
    request: &Request,
    binaries: &Binaries,
    findings: &mut Findings,
) -> Result<()> {
    let scratch = Scratch::make(context, request, &manifest.facts)?;
    let began = context.runtime.clock.monotonic();
    let plan = scratch.plan(manifest)?;
    let restore = restore::Request {
        at: restore::At::Latest,
        timeline: None,
        to: plan.to.clone(),
        onto: restore::Onto::Empty,
        jobs: request.jobs,
        tablespaces: Vec::new(),
        start: None,
    };
    if let Err(error) = restore::into_scratch(context, opened, &restore, &plan).await {
        return damage(findings, error);
    }
    context.step("recover", "starting a scratch server");
    let mut cluster = Cluster::start(binaries, &plan.to, options(&scratch)?)?;
    match restore::ready(context, &mut cluster, PATIENCE).await {
        Err(Error::Server(error)) => return not_open(findings, error),
        opened => opened?,
    }
    findings.open_seconds = Some(context.runtime.clock.monotonic().saturating_sub(began).as_secs_f64());
    findings
        .checked
        .push("restored and recovered: the server is open".into());
    context.step("check", "asking the server");
    let asked = queries::check(context, &cluster, plan.facts(), plan.relations(), findings).await;
    if asked.is_ok() {
        amcheck::check(
            context,
            binaries,
            &scratch,
            &plan.facts().postgresql.superuser,
            findings,
        )
        .await?;
    }
    let stopped = cluster.stop(StopMode::Fast, STOP_PATIENCE).await;
    match asked {
        Err(Error::Server(error)) => {
            let what = format!("the scratch server failed when asked: {error}");
            if cause::is_environment(&what) {
                findings.unchecked.push(what);
            } else {
                findings.found.push(what);
            }
        }
        other => other?,
    }
    if let Err(error) = stopped {
        findings
            .found
            .push(format!("the scratch server did not stop in order: {error}"));
    }
    Ok(())
}

fn not_open(findings: &mut Findings, error: pgclient::Error) -> Result<()> {
    let pgclient::Error::ServerExited { status, log_tail, .. } = error else {
        return Err(error.into());
    };
    let log = without_bad_advice(&log_tail);
    let what = format!("the scratch server ended with {status} before it was open: {log}");
    if cause::is_environment_log(&log) {
        findings.unchecked.push(what);
    } else {
        findings.found.push(what);
    }
    Ok(())
}

/// No TCP, no archiving, no background work, and everybody who can enter the folder is let in: only its
/// owner can, to whom it is given here.
///
/// `shared_preload_libraries` stays as it is: tables and indexes of their access methods cannot be read without them.
/// What such a library would do by itself, it does in background workers, of which there are none.
fn options(scratch: &Scratch) -> Result<Options> {
    let hba = scratch.root.join("pg_hba.conf");
    let ident = scratch.root.join("pg_ident.conf");
    restore::write_new(&hba, 0o600, b"local all all trust\n", scratch.owner)?;
    restore::write_new(&ident, 0o600, b"", scratch.owner)?;
    restore::give(&scratch.root, scratch.owner)?;
    let set = |name: &str, value: &str| (name.to_string(), value.to_string());
    let options = vec![
        set("hba_file", &hba.display().to_string()),
        set("ident_file", &ident.display().to_string()),
        set("archive_mode", "off"),
        set("autovacuum", "off"),
        // Recovery without hot standby asks for no more of them than this.
        set("max_worker_processes", "0"),
        set("max_logical_replication_workers", "0"),
        // pg_cron's jobs run as sessions where it has no workers. A setting that no library knows is no error.
        set("cron.launch_active_jobs", "off"),
        set("shared_buffers", "64MB"),
        set("huge_pages", "off"),
        set("ssl", "off"),
        set("logging_collector", "off"),
        set("log_destination", "stderr"),
        set("lc_messages", "C"),
        set("cluster_name", "lastgood-verify"),
    ];
    Ok(Options {
        port: PORT,
        socket_dir: scratch.root.clone(),
        options,
        run_as: scratch.owner.map(|ids| (ids.user, ids.group)),
        log: scratch.root.join("server.log"),
    })
}
