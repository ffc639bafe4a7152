//! Level three: a server comes up from the backup, and what it holds agrees with itself.

use std::{path::PathBuf, process::Stdio, time::Duration};

use pgclient::{
    Binaries, Cluster,
    cluster::{Start as Options, StopMode},
};
use pgformat::Major;
use repo::manifest::Manifest;

use crate::{
    Error, Result,
    database::Opened,
    error::At as _,
    event::Context,
    restore::{self, Ids, Plan, without_bad_advice},
};

use super::{Findings, Request, damage, queries};

/// A bound for recoveries that replay for very long; a server that fails ends the wait at once.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// How long a server may take to shut down.
const STOP_PATIENCE: Duration = Duration::from_secs(300);
/// Part of the socket's name only: the scratch server listens on nothing else.
const PORT: u16 = 5432;

/// Restores into a scratch directory, starts a server there, asks it, and removes everything again.
pub(super) async fn check(
    context: &Context,
    opened: &Opened,
    manifest: Manifest,
    request: &Request,
    findings: &mut Findings,
) -> Result<()> {
    let scratch = Scratch::make(context, request, &manifest)?;
    let began = context.runtime.clock.monotonic();
    let plan = scratch.plan(manifest)?;
    let restore = restore::Request {
        at: restore::At::Latest,
        to: scratch.data(),
        jobs: request.jobs,
        tablespaces: Vec::new(),
        start: None,
    };
    if let Err(error) = restore::into_scratch(context, opened, &restore, &plan).await {
        return damage(findings, error);
    }
    context.step("recover", "starting a scratch server");
    let major = Major::from_server_version_num(plan.facts().postgresql.version_num);
    let major = major.map_err(|error| Error::Failed {
        code: "version-unknown",
        what: error.to_string(),
        hint: "Upgrade lastgood to a version that knows it.".into(),
    })?;
    let binaries = Binaries::find(major, request.binaries.as_deref())?;
    let mut cluster = Cluster::start(&binaries, &scratch.data(), scratch.options()?)?;
    if let Err(error) = cluster.wait_ready(PATIENCE).await {
        return not_open(findings, error);
    }
    findings.open_seconds = Some(context.runtime.clock.monotonic().saturating_sub(began).as_secs_f64());
    findings
        .checked
        .push("restored and recovered: the server is open".into());
    context.step("check", "asking the server");
    let asked = queries::check(context, &cluster, plan.facts(), plan.relations(), findings).await;
    if asked.is_ok() {
        amcheck(context, &binaries, &scratch, plan.facts(), findings).await?;
    }
    let stopped = cluster.stop(StopMode::Fast, STOP_PATIENCE).await;
    match asked {
        Err(Error::Server(error)) => findings
            .found
            .push(format!("the scratch server failed when asked: {error}")),
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
    findings.found.push(format!(
        "the scratch server ended with {status} before it was open: {log}"
    ));
    Ok(())
}

/// `pg_amcheck` is judged by its own word; where it is missing, that is said.
async fn amcheck(
    context: &Context,
    binaries: &Binaries,
    scratch: &Scratch,
    facts: &repo::manifest::Facts,
    findings: &mut Findings,
) -> Result<()> {
    let program = binaries.program("pg_amcheck");
    if !program.exists() {
        context.warn(
            "no-amcheck",
            "pg_amcheck is not installed beside the server; indexes are compared by counts only",
        );
        return Ok(());
    }
    let mut command = std::process::Command::new(program);
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .current_dir("/");
    command.args(["--all", "--heapallindexed", "--install-missing", "--no-password"]);
    command
        .arg("--host")
        .arg(&scratch.root)
        .arg("--port")
        .arg(PORT.to_string());
    command.arg("--username").arg(&facts.postgresql.superuser);
    let (done_in, done_out) = async_channel::bounded(1);
    // It reads every index: on a worker of its own, as any other work that takes long.
    context.runtime.workers.spawn(Box::pin(async move {
        let _ = done_in.send(command.output()).await;
    }));
    let output = done_out
        .recv()
        .await
        .map_err(|_| Error::Interrupted)?
        .at("run", "pg_amcheck")?;
    if output.status.success() {
        findings.checked.push("pg_amcheck --heapallindexed: clean".into());
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    findings.found.extend(
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .take(50)
            .map(|line| format!("pg_amcheck: {line}")),
    );
    if findings.found.is_empty() {
        findings.found.push(format!("pg_amcheck ended with {}", output.status));
    }
    Ok(())
}

/// A private folder that is gone when this is dropped, the server in it ended before.
struct Scratch {
    root: PathBuf,
    owner: Option<Ids>,
}

impl Scratch {
    fn make(context: &Context, request: &Request, manifest: &Manifest) -> Result<Scratch> {
        let base = request.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let root = base.join(format!(
            "lastgood-verify-{}",
            hex::encode(context.runtime.random::<4>())
        ));
        let owner = restore::owner_for_scratch(&manifest.facts.owner)?;
        restore::make_directory(&root, owner)?;
        Ok(Scratch { root, owner })
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// All tablespaces go below the scratch folder.
    fn plan(&self, manifest: Manifest) -> Result<Plan> {
        restore::plan_for_scratch(manifest, &self.root, self.data(), self.owner)
    }

    /// No TCP, no archiving, no background work, and everybody who can enter the folder is let in: only its
    /// owner can.
    fn options(&self) -> Result<Options> {
        let hba = self.root.join("pg_hba.conf");
        restore::write_new(&hba, 0o600, b"local all all trust\n", self.owner)?;
        let set = |name: &str, value: &str| (name.to_string(), value.to_string());
        let options = vec![
            set("hba_file", &hba.display().to_string()),
            set("archive_mode", "off"),
            set("autovacuum", "off"),
            set("max_logical_replication_workers", "0"),
            set("shared_buffers", "64MB"),
            set("huge_pages", "off"),
            set("ssl", "off"),
            set("logging_collector", "off"),
            set("cluster_name", "lastgood-verify"),
        ];
        Ok(Options {
            port: PORT,
            socket_dir: self.root.clone(),
            options,
            run_as: self.owner.map(|ids| (ids.user, ids.group)),
            log: self.root.join("server.log"),
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It holds a copy of the database: what cannot be removed is said by nobody here, so try twice.
        if std::fs::remove_dir_all(&self.root).is_err() {
            let _ = std::fs::remove_dir_all(&self.root);
        }
    }
}
