//! What makes backups hard: files that come, go and are rewritten while they are read.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use pgclient::{Conninfo, Session};
use pgformat::Major;
use tokio::task::JoinHandle;

/// How often each thing was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Tables created with an index, filled, truncated, filled and dropped.
    pub tables: u64,
    /// Databases created, written to and dropped, by copying files and by WAL in turn where there is a choice.
    pub databases: u64,
    /// Tables rewritten into new files by `VACUUM FULL` and `CLUSTER`.
    pub rewrites: u64,
    /// Settings changed by `ALTER SYSTEM`, which replaces `postgresql.auto.conf`.
    pub settings: u64,
}

/// Sessions that do all this until told to stop.
#[derive(Debug)]
pub struct Storm {
    stop: Arc<AtomicBool>,
    databases_done: Arc<AtomicU64>,
    tables: JoinHandle<u64>,
    databases: JoinHandle<u64>,
    rewrites: JoinHandle<u64>,
    settings: JoinHandle<u64>,
}

impl Storm {
    /// Starts it in the database of `conninfo`, with four sessions.
    pub async fn start(conninfo: &Conninfo) -> Storm {
        let first = connect(conninfo).await;
        let prepare = "CREATE TABLE IF NOT EXISTS public.storm_rewritten (id int PRIMARY KEY, filler text);
            INSERT INTO public.storm_rewritten
                SELECT i, pg_catalog.repeat('x', 200) FROM pg_catalog.generate_series(1, 5000) AS i
                ON CONFLICT DO NOTHING";
        first
            .execute("prepare the storm", prepare)
            .await
            .expect("the storm can be prepared");
        let major = first.major();
        let stop = Arc::new(AtomicBool::new(false));
        let databases_done = Arc::new(AtomicU64::new(0));
        let count = databases_done.clone();
        Storm {
            tables: until(&stop, first, tables),
            databases: until(&stop, connect(conninfo).await, move |session, round| {
                count.store(round, Ordering::Relaxed);
                databases(session, round, major)
            }),
            databases_done,
            rewrites: until(&stop, connect(conninfo).await, rewrite),
            settings: until(&stop, connect(conninfo).await, settings),
            stop,
        }
    }

    /// How many databases it has made and dropped so far: its slowest part.
    pub fn databases_done(&self) -> u64 {
        self.databases_done.load(Ordering::Relaxed)
    }

    /// Ends it.
    ///
    /// # Panics
    /// If something failed while its session was alive: then the storm did not do what it says.
    pub async fn stop(self) -> Done {
        self.stop.store(true, Ordering::Relaxed);
        let ended = "this part of the storm went on to its end";
        Done {
            tables: self.tables.await.expect(ended),
            databases: self.databases.await.expect(ended),
            rewrites: self.rewrites.await.expect(ended),
            settings: self.settings.await.expect(ended),
        }
    }
}

async fn connect(conninfo: &Conninfo) -> Session {
    Session::connect(conninfo).await.expect("a session for the storm")
}

/// Repeats a round until told to stop or the server is gone; how many were finished.
fn until<Round, Ending>(stop: &Arc<AtomicBool>, session: Session, round: Round) -> JoinHandle<u64>
where
    Round: Fn(Arc<Session>, u64) -> Ending + Send + 'static,
    Ending: Future<Output = pgclient::Result<()>> + Send,
{
    let (stop, session) = (stop.clone(), Arc::new(session));
    tokio::spawn(async move {
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) {
            match round(session.clone(), rounds).await {
                Ok(()) => rounds += 1,
                // The server went down, which is for the test to judge.
                Err(error) if error.is_transient() || !session.is_alive() => break,
                Err(error) => panic!("a part of the storm failed: {error}"),
            }
        }
        rounds
    })
}

async fn tables(session: Arc<Session>, round: u64) -> pgclient::Result<()> {
    let name = format!("public.storm_table_{round}");
    let fill =
        format!("INSERT INTO {name} SELECT i, pg_catalog.md5(i::text) FROM pg_catalog.generate_series(1, 500) AS i");
    for statement in [
        &format!("CREATE TABLE {name} (id int PRIMARY KEY, word text)"),
        &fill,
        &format!("CREATE INDEX ON {name} (word)"),
        &format!("TRUNCATE {name}"),
        &fill,
        &format!("DROP TABLE {name}"),
    ] {
        session.execute("storm over tables", statement).await?;
    }
    Ok(())
}

/// How often a database is tried to be dropped: the server gives those who are connected to it five seconds to go
/// (`CountOtherDBBackends`, `procarray.c`).
const DROPS: u32 = 6;
/// SQLSTATE of a database that somebody is still connected to.
const OBJECT_IN_USE: &str = "55006";

#[allow(
    clippy::print_stdout,
    reason = "who is in the way is to be known from the test's output"
)]
async fn databases(session: Arc<Session>, round: u64, major: Major) -> pgclient::Result<()> {
    // From 15 on a database can be made through WAL, page by page, or as before by copying files.
    let strategy = match (major >= Major::V15, round.is_multiple_of(2)) {
        (true, true) => " STRATEGY file_copy",
        (true, false) => " STRATEGY wal_log",
        (false, _) => "",
    };
    let name = format!("storm_database_{round}");
    let create = format!("CREATE DATABASE {name} TEMPLATE template0{strategy}");
    session.execute("storm over databases", &create).await?;
    let inside = Session::connect(&session.conninfo().clone().with_dbname(&name)).await?;
    inside
        .execute(
            "write into a new database",
            "CREATE TABLE public.short_lived AS SELECT 1 AS one",
        )
        .await?;
    inside.close().await;
    let drop = format!("DROP DATABASE {name} WITH (FORCE)");
    let mut dropped = session.execute("storm over databases", &drop).await;
    for _ in 1..DROPS {
        if dropped.as_ref().err().and_then(pgclient::Error::sqlstate) != Some(OBJECT_IN_USE) {
            break;
        }
        let there = "SELECT pg_catalog.string_agg(backend_type || ' ' || coalesce(state, '-') || ': ' || query, '; ')
            FROM pg_catalog.pg_stat_activity WHERE datname = $1";
        let there = session.query_one("see who is there", there, &[&name]).await?;
        println!("{name} was not dropped: {:?}", there.get::<_, Option<String>>(0));
        dropped = session.execute("storm over databases", &drop).await;
    }
    dropped
}

async fn rewrite(session: Arc<Session>, round: u64) -> pgclient::Result<()> {
    let touch = format!(
        "UPDATE public.storm_rewritten SET filler = pg_catalog.repeat('{}', 200) WHERE id % 7 = 0",
        round % 10
    );
    session.execute("storm over a table's files", &touch).await?;
    let statement = if round.is_multiple_of(2) {
        "VACUUM FULL public.storm_rewritten"
    } else {
        "CLUSTER public.storm_rewritten USING storm_rewritten_pkey"
    };
    session.execute("storm over a table's files", statement).await
}

async fn settings(session: Arc<Session>, round: u64) -> pgclient::Result<()> {
    // Without influence on anything a test may look at.
    let change = format!(
        "ALTER SYSTEM SET log_min_duration_statement = {}",
        1_000_000 + round % 1000
    );
    session.execute("storm over settings", &change).await?;
    // The file's length changes too: a reader that asked for it earlier reads too little or too much.
    let change = format!(
        "ALTER SYSTEM SET event_source = '{}'",
        "x".repeat(1 + (round % 60) as usize)
    );
    session.execute("storm over settings", &change).await?;
    session
        .execute("storm over settings", "SELECT pg_catalog.pg_reload_conf()")
        .await
}
