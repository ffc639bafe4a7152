//! `lastgood verify`: proves that a backup can be restored, or says what is wrong with it.

use engine::{
    database::Opened,
    repo::ledger::Outcome as Found,
    verify::{Level, Report, Request},
};

use crate::{
    Result,
    args::{Verify, VerifyLevel, check_name},
    commands::{
        Run, jobs,
        show::{find, word},
    },
    config::Target,
    exit::Exit,
    output::{Outcome, Problem},
    render,
};

/// Verifies the newest backup of a database, or one backup.
pub(crate) async fn run(run: &Run, args: Verify) -> Result<Outcome> {
    let (target, opened, backup) = meant(run, args.target.as_deref()).await?;
    let request = Request {
        backup,
        level: match args.level {
            VerifyLevel::Objects => Level::Objects,
            VerifyLevel::Pages => Level::Pages,
            VerifyLevel::Restore => Level::Restore,
        },
        jobs: jobs(args.jobs, target.entry.jobs),
        binaries: run.absolute(args.postgres).or_else(|| target.entry.postgres.clone()),
        scratch: run.absolute(args.scratch).or_else(|| target.entry.scratch.clone()),
    };
    let report = engine::verify::run(&run.context, &opened, &request).await?;
    Ok(Outcome::new(&report, text(&report)).but(problem(&report)))
}

/// A word that no database is named by is a backup's id: those begin with a date.
async fn meant(run: &Run, word: Option<&str>) -> Result<(Target, Opened, Option<String>)> {
    match word {
        Some(id) if check_name(id).is_err() => {
            let (target, opened) = find(run, id).await?;
            Ok((target, opened, Some(id.to_string())))
        }
        word => {
            let target = run.target(word)?;
            let opened = engine::database::open(&run.context, &target.database()?).await?;
            Ok((target, opened, None))
        }
    }
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "Verified {} ({}): {}, {}\n",
        report.backup,
        word(&report.level),
        word(&report.outcome).to_uppercase(),
        render::duration(report.seconds)
    );
    for (mark, lines) in [
        ("  ok       ", &report.checked),
        ("  FOUND    ", &report.found),
        ("  skipped  ", &report.unchecked),
    ] {
        for line in lines {
            for (number, line) in render::wrap(line, "", 67).iter().enumerate() {
                text.push_str(&format!("{}{line}\n", if number == 0 { mark } else { "           " }));
            }
        }
    }
    text
}

fn problem(report: &Report) -> Option<Problem> {
    let backup = &report.backup;
    match report.outcome {
        Found::Passed => None,
        Found::Failed => Some(Problem::found(
            Exit::Unproven,
            "verification-failed",
            format!("the backup {backup} is not what it should be"),
            "Take a new backup now and verify it; do not delete older ones.",
        )),
        Found::Incomplete => Some(Problem::found(
            Exit::Partly,
            "verification-incomplete",
            format!("not everything of the backup {backup} could be checked"),
            "See what is missing above, mend it, and verify again.",
        )),
    }
}
