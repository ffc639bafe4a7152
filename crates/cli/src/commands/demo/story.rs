//! The story itself: load, receive and back up under load, the last good moment, the accident, the loss, the way back
//! to just before it, the proof.

use std::time::Instant;

use engine::{
    backup::{self, Options, Summary},
    database::{Database, Opened},
    pgclient::{Conninfo, Session},
    repo::{keys::Unlock, ledger::Outcome as Found, store::Location},
    restore, verify,
};

use super::{
    Figures,
    cluster::Place,
    load::{self, Workload},
    stream::Stream,
};
use crate::{
    Result,
    args::Demo,
    commands::{Run, jobs, show::word},
    exit::Exit,
    output::Problem,
    render,
};

/// The demo's database, with us and on the server.
const NAME: &str = "shop";

/// Tells it; whatever happens, `place` is removed by the caller.
pub(super) async fn tell(run: &Run, args: &Demo, place: &mut Place) -> Result<(Figures, Option<Problem>)> {
    let mut figures = Figures {
        postgresql: place.binaries.major().to_string(),
        ..Figures::default()
    };

    run.say(&format!(
        "1. A shop on PostgreSQL {}, made for this demo.",
        figures.postgresql
    ));
    let server = place.start().await?;
    make_database(&server).await?;
    let shop = server.clone().with_dbname(NAME);
    let began = Instant::now();
    let session = Session::connect(&shop).await?;
    load::load(&session, args.megabytes, || Ok(run.context.stop.check()?)).await?;
    figures.loaded_bytes = load::size(&session).await?;
    let took = render::duration(began.elapsed().as_secs_f64());
    run.say(&format!(
        "   {} of orders loaded in {took}.",
        render::size(figures.loaded_bytes)
    ));

    run.say("2. WAL is received as it is written, and a backup taken while customers keep buying.");
    let (database, opened) = make_repository(run, place).await?;
    let mut stream = Stream::begin(run, &database, &server, NAME)?;
    let customers = Workload::begin(&shop).await?;
    let before = customers.committed();
    let under_load = back_up(run, &opened, &shop, "under load").await?;
    figures.transactions_during_backup = customers.committed() - before;
    tell_backup(run, &mut figures, &under_load);

    run.say("3. The last good moment: every row is read. No backup is taken now.");
    customers.end().await?;
    let wanted = load::digest(&session).await?;
    (figures.rows, figures.digest) = (wanted.rows, wanted.hash.clone());
    run.say(&format!("   {} rows, digest {}.", wanted.rows, wanted.hash));

    run.say("4. Then somebody deletes the wrong orders, and business goes on.");
    let accident = load::accident(&session).await?;
    (figures.rows_deleted, figures.accident_xid) = (accident.rows, accident.xid);
    run.say(&format!(
        "   {} orders are gone, deleted by transaction {}.",
        accident.rows, accident.xid
    ));
    let customers = Workload::begin(&shop).await?;
    customers.wait_for(100).await?;
    customers.end().await?;
    load::buy_once(&session).await?;
    figures.commit_to_restorable_seconds = stream.caught_up(&session).await?.as_secs_f64();
    session.close().await;
    run.say(&format!(
        "   The last sale was safe in the repository {} after its commit.",
        render::duration(figures.commit_to_restorable_seconds)
    ));

    run.say("5. Disaster: the server dies, too, and its data directory is gone.");
    place.lose().await?;
    let lost = Instant::now();
    figures.wal_received_bytes = stream.end().await?.bytes;

    run.say("6. The way back to just before the deletion, into a new directory, with a server on it.");
    let restored = bring_back(run, &opened, place, accident.xid).await?;
    let back = connection(&restored)?;
    let session = Session::connect(&back).await?;
    figures.time_to_get_back_seconds = lost.elapsed().as_secs_f64();
    figures.restored_bytes = restored.bytes;
    let found = load::digest(&session).await?;
    session.close().await;
    figures.digests_equal = found == wanted;
    let (size, took) = (
        render::size(restored.bytes),
        render::duration(figures.time_to_get_back_seconds),
    );
    run.say(&format!("   {size} back and open for business in {took}."));
    let verdict = if figures.digests_equal {
        "the same, every one"
    } else {
        "NOT THE SAME"
    };
    run.say(&format!("   {} rows, digest {}: {verdict}.", found.rows, found.hash));

    run.say("7. The proof for the backup that was taken under load.");
    let report = prove(run, &opened, place, &under_load.backup.id).await?;
    figures.verify_outcome = word(&report.outcome);
    figures.verify_seconds = report.seconds;
    run.say(&format!(
        "   Restored and checked by PostgreSQL itself: {}.",
        figures.verify_outcome.to_uppercase()
    ));
    for line in report.checked.iter().chain(&report.found).chain(&report.unchecked) {
        for line in render::wrap(line, "     ", 78) {
            run.say(&line);
        }
    }
    let problem = problem(&figures, report.outcome);
    Ok((figures, problem))
}

async fn make_database(server: &Conninfo) -> Result<()> {
    let session = Session::connect(server).await?;
    session
        .execute("make the shop's database", &format!("CREATE DATABASE {NAME}"))
        .await?;
    session.close().await;
    Ok(())
}

/// Repository and key, as `init` makes them, without a configuration. The key stays in memory: the demo's
/// repository does not outlive it.
async fn make_repository(run: &Run, place: &Place) -> Result<(Database, Opened)> {
    let location = Location::Directory(place.path("repository"));
    let (_, unlock) = Unlock::generate(NAME);
    let made = engine::init::run(&run.context, &location, NAME, &unlock).await?;
    let database = Database {
        name: NAME.into(),
        location,
        unlock,
        expected_id: Some(made.database_id),
    };
    let opened = engine::database::open(&run.context, &database).await?;
    Ok((database, opened))
}

async fn back_up(run: &Run, opened: &Opened, server: &Conninfo, label: &str) -> Result<Summary> {
    let options = Options {
        label: Some(label.into()),
        level: backup::Level::default(),
        jobs: jobs(None, None),
        wanted: backup::Wanted::default(),
        rebase: false,
        difference: backup::Difference::default(),
        audit: 1,
        max_rate: None,
        reader: backup::Reader::Local,
        data_directory: None,
        standby: None,
    };
    Ok(backup::run(&run.context, opened, server, &options).await?)
}

fn tell_backup(run: &Run, figures: &mut Figures, summary: &Summary) {
    figures.backup_bytes = summary.backup.bytes;
    figures.backup_stored = summary.backup.stored;
    figures.backup_seconds = summary.seconds;
    figures.backup_bytes_per_second = summary.bytes_per_second;
    run.say(&format!(
        "   {} read in {} ({}), stored encrypted in {}.",
        render::size(summary.backup.bytes),
        render::duration(summary.seconds),
        render::rate(summary.bytes_per_second),
        render::size(summary.backup.stored),
    ));
    run.say(&format!(
        "   {} transactions were committed meanwhile.",
        figures.transactions_during_backup
    ));
}

/// The restored server runs on its own: the demo has to end it.
async fn bring_back(run: &Run, opened: &Opened, place: &mut Place, before: u32) -> Result<restore::Restored> {
    let request = restore::Request {
        at: restore::At::BeforeXid(before),
        timeline: None,
        to: place.path("back/data"),
        onto: restore::Onto::Empty,
        jobs: jobs(None, None),
        tablespaces: Vec::new(),
        start: Some(restore::Start {
            port: None,
            binaries: Some(place.binaries.directory().to_path_buf()),
        }),
    };
    let plan = restore::plan(&run.context, opened, &request).await?;
    let restored = restore::run(&run.context, opened, &request, plan).await?;
    place.restored = restored.server.as_ref().map(|server| server.pid);
    Ok(restored)
}

fn connection(restored: &restore::Restored) -> Result<Conninfo> {
    let (socket, port) = match &restored.server {
        Some(server) => (server.socket_dir.display().to_string(), server.port.to_string()),
        None => (String::new(), String::new()),
    };
    // As variables nothing needs quoting, and nothing of the real environment leaks in.
    let environment = move |name: &str| match name {
        "PGHOST" => Some(socket.clone()),
        "PGPORT" => Some(port.clone()),
        "PGUSER" => Some("postgres".into()),
        "PGDATABASE" => Some(NAME.into()),
        _ => None,
    };
    Ok(Conninfo::parse("sslmode=disable", &environment)?)
}

async fn prove(run: &Run, opened: &Opened, place: &Place, backup: &str) -> Result<verify::Report> {
    let request = verify::Request {
        backup: Some(backup.into()),
        level: verify::Level::Restore,
        jobs: jobs(None, None),
        binaries: Some(place.binaries.directory().to_path_buf()),
        scratch: Some(place.path("scratch")),
    };
    Ok(verify::run(&run.context, opened, &request).await?)
}

fn problem(figures: &Figures, outcome: Found) -> Option<Problem> {
    let hint = "Please report this with the output of `lastgood demo --json`.";
    if !figures.digests_equal {
        return Some(Problem::found(
            Exit::Unproven,
            "digests-differ",
            "what came back is not what was lost",
            hint,
        ));
    }
    if outcome != Found::Passed {
        return Some(Problem::found(
            Exit::Unproven,
            "verification-failed",
            "the backup under load is not proven",
            hint,
        ));
    }
    None
}
