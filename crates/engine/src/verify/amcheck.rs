//! Has `pg_amcheck` look at the scratch server, where it is installed.

use std::{
    fs::File,
    io::Read,
    process::{Child, Command, Stdio},
    time::Duration,
};

use pgclient::Binaries;

use crate::{Result, error::At as _, event::Context};

use super::{
    Findings, cause,
    scratch::{PORT, Scratch},
};

/// How often it is looked at, and at somebody's wish to stop.
const LOOK: Duration = Duration::from_millis(100);
/// What is kept of its words.
const OUTPUT_BYTES: u64 = 64 << 10;

/// Asks it, and judges it by its own word. Where it is missing, that is said, and nothing claimed.
pub(super) async fn check(
    context: &Context,
    binaries: &Binaries,
    scratch: &Scratch,
    superuser: &str,
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
    let (out, err) = (scratch.root.join("amcheck.out"), scratch.root.join("amcheck.err"));
    let mut command = Command::new(&program);
    command.env_clear().env("HOME", &scratch.root).current_dir("/");
    // A setting of the database must not end the check half-way, nor keep the extension from being made, nor put
    // what is said into words that are not judged.
    command.env(
        "PGOPTIONS",
        "-c statement_timeout=0 -c lock_timeout=0 -c default_transaction_read_only=off -c lc_messages=C",
    );
    command
        .stdin(Stdio::null())
        .stdout(File::create_new(&out).at("create", &out)?)
        .stderr(File::create_new(&err).at("create", &err)?);
    command.args(["--all", "--heapallindexed", "--install-missing", "--no-password"]);
    command
        .arg("--host")
        .arg(&scratch.root)
        .arg("--port")
        .arg(PORT.to_string());
    command.arg("--username").arg(superuser);
    let mut child = Running(command.spawn().at("run", &program)?);
    let status = loop {
        if let Some(status) = child.0.try_wait().at("wait for", &program)? {
            break status;
        }
        context.stop.check()?;
        context.runtime.clock.sleep(LOOK).await;
    };
    let read = |path: &std::path::Path| -> Result<String> {
        let mut bytes = Vec::new();
        let file = File::open(path).and_then(|file| file.take(OUTPUT_BYTES).read_to_end(&mut bytes));
        file.at("read", path)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match cause::amcheck(status.code(), &read(&out)?, &read(&err)?) {
        cause::Amcheck::Clean => findings.checked.push("pg_amcheck --heapallindexed: clean".into()),
        cause::Amcheck::Found(lines) => findings.found.extend(lines),
        cause::Amcheck::Unchecked(lines) => findings.unchecked.extend(lines),
    }
    Ok(())
}

/// Ends the program when whoever waits for it does not wait any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, or is asked to; either way it is reaped.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
