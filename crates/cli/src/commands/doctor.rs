//! `lastgood doctor`: what can be protected and how well, what is missing, and the line that mends it.

use std::path::PathBuf;

use engine::{
    backup::Options,
    doctor::{Check, Outcome as Found, Report},
    pgclient::Conninfo,
};
use serde::Serialize;

use crate::{
    Result,
    args::{Doctor, Reader, is_conninfo},
    commands::{Run, backup, jobs},
    config::{self, Entry},
    exit::Exit,
    output::{Outcome, Problem},
    render,
};

/// What was found about one database.
#[derive(Serialize)]
struct Examined {
    name: String,
    #[serde(flatten)]
    report: Report,
}

/// Examines every database that is meant.
pub(crate) async fn run(run: &Run, args: Doctor) -> Result<Outcome> {
    let mut reports = Vec::new();
    let data_directory = args.data_directory.map(|path| run.current.join(path));
    let (reader, given) = (args.reader, args.standby.as_deref());
    let word = args.target.as_deref();
    let without_repository = run.global.repository.is_none();
    let server_alone = word.is_some_and(is_conninfo) && without_repository;
    let nothing_yet = word.is_none() && without_repository && run.config()?.databases.is_empty();
    if server_alone || nothing_yet {
        // Nothing is set up: the server is what can be examined.
        let server = match word {
            Some(text) => config::parse_server(text)?,
            None => Conninfo::parse("", &config::environment)?,
        };
        let (options, binaries) = (
            options(&Entry::default(), reader, data_directory, given)?,
            args.postgres.as_deref(),
        );
        let report = engine::doctor::examine(&run.context, None, Some(&server), &options, binaries).await?;
        reports.push(Examined {
            name: server.to_redacted_string(),
            report,
        });
    } else {
        for target in run.targets(word)? {
            let binaries = args.postgres.as_deref().or(target.entry.postgres.as_deref());
            let (database, server, options) = (
                target.database()?,
                target.server.as_ref(),
                options(&target.entry, reader, data_directory.clone(), given)?,
            );
            let report = engine::doctor::examine(&run.context, Some(&database), server, &options, binaries).await?;
            reports.push(Examined {
                name: target.name,
                report,
            });
        }
    }
    let text = reports.iter().map(text).collect::<Vec<_>>().join("\n");
    let checks = reports.iter().flat_map(|examined| &examined.report.checks);
    let failed = checks.filter(|check| check.outcome == Found::Failed).count();
    let problem = (failed > 0).then(|| {
        let message = if failed == 1 {
            "one check failed".into()
        } else {
            format!("{failed} checks failed")
        };
        let hint = "Do what stands below each failed check, then run `lastgood doctor` again.";
        Problem::found(Exit::Objective, "checks-failed", message, hint)
    });
    Ok(Outcome::new(serde_json::json!({ "reports": reports }), text).but(problem))
}

/// A backup as it would be taken without other flags: that is what is examined.
fn options(
    entry: &Entry,
    reader: Option<Reader>,
    data_directory: Option<PathBuf>,
    given: Option<&str>,
) -> Result<Options> {
    Ok(Options {
        wanted: engine::backup::Wanted::default(),
        rebase: false,
        difference: engine::backup::Difference::default(),
        audit: 1,
        label: None,
        level: entry.compress.map(|level| level.0).unwrap_or_default(),
        jobs: jobs(None, entry.jobs),
        max_rate: entry.max_rate,
        reader: reader.or(entry.reader).map(Into::into).unwrap_or_default(),
        data_directory: data_directory.or_else(|| entry.data_directory.clone()),
        standby: backup::standby(given, entry)?,
    })
}

fn text(examined: &Examined) -> String {
    let mut text = format!("{}\n", render::printable(&examined.name));
    for check in &examined.report.checks {
        text.push_str(&line(check));
    }
    for line in render::wrap(&examined.report.protection, "", 78) {
        text.push_str(&format!("{line}\n"));
    }
    text
}

fn line(check: &Check) -> String {
    let word = match check.outcome {
        Found::Ok => "ok",
        Found::Warning => "warn",
        Found::Failed => "FAILED",
        Found::Skipped => "skipped",
    };
    let mut text = String::new();
    for (number, line) in render::wrap(&check.detail, "", 69).iter().enumerate() {
        text.push_str(&format!("  {:<7}  {line}\n", if number == 0 { word } else { "" }));
    }
    // A remedy is a line to copy: it is not wrapped.
    for line in check.remedy.iter().flat_map(|remedy| remedy.lines()) {
        text.push_str(&format!("           -> {}\n", render::printable(line)));
    }
    text
}
