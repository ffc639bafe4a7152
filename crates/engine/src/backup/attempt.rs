//! Begins a backup, and takes it anew where what it rested on was found unsound.

use pgclient::Conninfo;
use repo::{
    BackupId,
    ledger::{Entry, Severity},
};

use crate::{
    Error, Result,
    database::Opened,
    event::Context,
    server::{LiveServer, Server, SqlServer},
};

use super::{
    Options, Plan, Reader, Summary,
    audit::UNSOUND,
    base::Base,
    begin::{begin, check_generation, reason},
    preflight,
    run::Work,
};

/// An unfinished file of that age (a day) is nobody's any more: no writer works on one for more than minutes.
const UNFINISHED_MICROS: i64 = 24 * 3600 * 1_000_000;

/// Backs up the server at `conninfo`.
pub async fn run(context: &Context, opened: &Opened, conninfo: &Conninfo, options: &Options) -> Result<Summary> {
    let server = LiveServer::new(conninfo.clone(), context.runtime.clone());
    context.step("start", "looking at the server");
    let facts = server.facts().await?;
    check_generation(opened, facts.system_identifier).await?;
    let plan = preflight::plan(context, &server, facts, options).await?;
    match options.reader {
        Reader::Local => run_with(context, opened, &server, plan, options).await,
        Reader::Sql => {
            let server = SqlServer::new(server, &plan.facts, &context.runtime);
            run_with(context, opened, &server, plan, options).await
        }
    }
}

/// Backs up `server` as planned.
///
/// A page that changed and of which the WAL tells nothing makes all that the WAL tells worth nothing: that is said, and
/// kept in the ledger, and the backup is taken anew, with every page read.
pub async fn run_with(
    context: &Context,
    opened: &Opened,
    server: &dyn Server,
    plan: Plan,
    options: &Options,
) -> Result<Summary> {
    for check in &plan.warnings {
        context.warn(check.code, format!("{}. {}", check.what, check.mend));
    }
    let unsound = match attempt(context, opened, server, &plan, options, None).await {
        Err(Error::Failed {
            code: UNSOUND, what, ..
        }) => what,
        ended => return ended,
    };
    context.warn(UNSOUND, unsound.clone());
    let began = context.runtime.clock.now_micros();
    let raised = Entry::AlertRaised {
        alert: format!("{UNSOUND}-{began}"),
        severity: Severity::Critical,
        text: unsound.clone(),
    };
    opened.append(raised).await?;
    let summary = attempt(context, opened, server, &plan, options, Some(&unsound)).await?;
    Ok(Summary {
        unsound: Some(unsound),
        ..summary
    })
}

/// One run; `doubt` is why the WAL is not to be trusted, if it is not.
async fn attempt(
    context: &Context,
    opened: &Opened,
    server: &dyn Server,
    plan: &Plan,
    options: &Options,
    doubt: Option<&str>,
) -> Result<Summary> {
    let clock = &context.runtime.clock;
    let began = clock.monotonic();
    let started = clock.now_micros();
    let id = BackupId::new(started, context.runtime.random());
    tidy(context, opened).await;
    let base = Base::find(context, opened, &plan.facts, options.wanted).await?;
    let session = opened.begin_session().await?;
    begin(opened, &session, plan, id, base.parent()).await?;
    let work = Work {
        context,
        opened,
        server,
        plan,
        options,
        session,
        id,
        started,
        base,
        doubt,
    };
    match work.run().await {
        Ok(done) => work.summary(done, clock.monotonic().saturating_sub(began)).await,
        Err(error) => {
            // Best effort: a run without an outcome is not listed either.
            let _ = opened
                .append(Entry::Failed {
                    run: id.to_string(),
                    reason: reason(&error),
                })
                .await;
            Err(error)
        }
    }
}

/// Removes what writers that were killed left half written. Whatever comes of it, the backup goes on.
async fn tidy(context: &Context, opened: &Opened) {
    let before = context.runtime.clock.now_micros().saturating_sub(UNFINISHED_MICROS);
    if let Err(error) = opened.repository.store().clear_unfinished(before).await {
        context.warn(
            "unfinished-files",
            format!("what killed runs left was not removed: {error}"),
        );
    }
}
