//! Begins a backup, and takes it anew where what it rested on was found unsound or damaged.

use pgclient::Conninfo;
use repo::{BackupId, ledger::Entry, manifest::Manifest, session::Session};

use crate::{
    Error, Result, damage,
    database::Opened,
    event::Context,
    server::{LiveServer, Server, SqlServer},
    unsound,
};

use super::{
    Options, Plan, Reader, Summary, Wanted,
    base::Base,
    begin::{begin, check_generation, reason},
    preflight,
    run::Work,
    uploads::Uploads,
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
/// kept in the ledger (`unsound`), and the backup is taken anew, with every page read. An object of the parent that is damaged
/// or missing makes the parent worth nothing: that is said and kept too, and the backup is taken anew without one.
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
    tidy(context, opened).await;
    let (mut found, mut lost) = (None, None);
    // Ends: what makes it go round happens once at most, for it takes away what it comes of.
    loop {
        let base = match &lost {
            None => Base::find(context, opened, &plan.facts, options.wanted).await?,
            Some(why) => Base::None(String::clone(why)),
        };
        let session = opened.begin_session().await?;
        let (parent, own) = (base.manifest().cloned(), session.id.object());
        let error = match attempt(context, opened, server, &plan, options, session, base).await {
            Ok(summary) => {
                return Ok(Summary {
                    unsound: found,
                    ..summary
                });
            }
            Err(error) => error,
        };
        match (error, parent) {
            (
                Error::Failed {
                    code: unsound::CODE,
                    what,
                    hint,
                },
                _,
            ) => {
                // Whatever comes of that, somebody is to hear of what was found.
                let remembered = unsound::remember(opened, &what).await;
                context.warn(unsound::CODE, what.clone());
                remembered?;
                if found.is_some() {
                    let code = unsound::CODE;
                    return Err(Error::Failed { code, what, hint });
                }
                found = Some(what);
            }
            (Error::Repository(error), Some(parent)) if lost.is_none() && is_of(&parent, &own, &error) => {
                lost = Some(give_up(context, opened, options.wanted, &parent, error).await?);
            }
            (error, _) => return Err(error),
        }
    }
}

/// Whether an error is that something of the parent is damaged or missing. What is opened with a session's key is noise
/// without it, and no session but our `own` is asked for beside the parent's.
fn is_of(parent: &Manifest, own: &str, error: &repo::Error) -> bool {
    damage::object_of(error)
        .is_some_and(|name| damage::needs(parent, name) || (damage::is_session(name) && name != own))
}

/// Says of the parent that it cannot be built on; why the backup is full therefore, if it may be.
async fn give_up(
    context: &Context,
    opened: &Opened,
    wanted: Wanted,
    parent: &Manifest,
    error: repo::Error,
) -> Result<String> {
    let id = parent.facts.backup;
    let why = format!("{id} cannot be built on: {error}");
    if let Some(name) = damage::object_of(&error) {
        damage::remember(opened, name, &error.to_string(), Some(id.as_str())).await?;
    }
    if wanted == Wanted::Incremental {
        return Err(Error::Unproven {
            what: why,
            hint: "Take a full backup now: `lastgood backup --full`. Then copy the object back from another copy of the repository, if there is one, and run `lastgood verify`.".into(),
        });
    }
    context.warn("backup-unsound", why.clone());
    Ok(why)
}

/// One run.
async fn attempt(
    context: &Context,
    opened: &Opened,
    server: &dyn Server,
    plan: &Plan,
    options: &Options,
    session: Session,
    base: Base,
) -> Result<Summary> {
    let clock = &context.runtime.clock;
    let began = clock.monotonic();
    let started = clock.now_micros();
    let id = BackupId::new(started, context.runtime.random());
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
        uploads: Uploads::new(opened.repository.clone()),
    };
    match work.run().await {
        Ok(done) => work.summary(done, clock.monotonic().saturating_sub(began)).await,
        Err(error) => {
            work.uploads.settle().await;
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
