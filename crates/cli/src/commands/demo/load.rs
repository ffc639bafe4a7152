//! A small shop's data, a customer base that buys all the time, and a digest of every row.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use engine::pgclient::{Conninfo, Session};
use tokio::task::JoinHandle;

use crate::Result;

/// Bytes that one order and its lines take, tables and indexes together; measured, for scaling only.
const BYTES_PER_ORDER: u64 = 500;
/// Rows that come over in one statement of the load, so that a stop is noticed in between.
const BATCH: u64 = 50_000;

const SCHEMA: &str = "
    CREATE TABLE public.customer (
        id bigint PRIMARY KEY, name text NOT NULL, city text NOT NULL, since date NOT NULL);
    CREATE TABLE public.orders (
        id bigint PRIMARY KEY, customer bigint NOT NULL, placed timestamptz NOT NULL, note text NOT NULL);
    CREATE TABLE public.line (
        orders bigint NOT NULL, number int NOT NULL, article int NOT NULL, cents bigint NOT NULL,
        PRIMARY KEY (orders, number));
    CREATE TABLE public.account (id int PRIMARY KEY, cents bigint NOT NULL);
    CREATE TABLE public.booking (
        id bigserial PRIMARY KEY, source int NOT NULL, target int NOT NULL, cents bigint NOT NULL,
        at timestamptz NOT NULL DEFAULT pg_catalog.now());
    INSERT INTO public.account SELECT n, 100000 FROM pg_catalog.generate_series(1, 1000) n;";

/// What is in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digest {
    /// Rows of all tables.
    pub(super) rows: i64,
    /// A hash over the hashes of all rows of all tables.
    pub(super) hash: String,
    /// Sum over all accounts: no transfer changes it.
    pub(super) cents: i64,
}

/// Loads about `megabytes` of orders. `proceed` is asked between batches.
pub(super) async fn load(session: &Session, megabytes: u32, proceed: impl Fn() -> Result<()>) -> Result<()> {
    session.execute("make the shop's tables", SCHEMA).await?;
    let orders = (u64::from(megabytes) << 20) / BYTES_PER_ORDER;
    let mut next = 1;
    while next <= orders {
        proceed()?;
        let last = (next + BATCH - 1).min(orders);
        session.execute("load orders", &batch(next, last)).await?;
        next = last + 1;
    }
    session.execute("gather statistics", "ANALYZE").await?;
    Ok(())
}

fn batch(first: u64, last: u64) -> String {
    format!(
        "INSERT INTO public.customer
            SELECT n, 'Customer ' || n, (ARRAY['Lyon','Riga','Porto','Graz','Oslo','Gent'])[(1 + n % 6)::int],
                date '2015-01-01' + (n % 3650)::int
            FROM pg_catalog.generate_series({first}::bigint, {last}) n WHERE n % 10 = 0;
         INSERT INTO public.orders
            SELECT n, n * 7919 % 100000, timestamptz '2024-01-01 00:00Z' + n * interval '37 seconds',
                pg_catalog.md5(n::text) || ' leave it at the door ' || pg_catalog.md5((n * 31)::text)
            FROM pg_catalog.generate_series({first}::bigint, {last}) n;
         INSERT INTO public.line
            SELECT n, l, (n * 31 + l * 17) % 5000, 99 + (n * 131 + l * 7) % 20000
            FROM pg_catalog.generate_series({first}::bigint, {last}) n, pg_catalog.generate_series(1::bigint, 3) l;"
    )
}

/// How large the database is.
pub(super) async fn size(session: &Session) -> Result<u64> {
    let sql = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())";
    let row = session.query_one("ask for the database's size", sql, &[]).await?;
    let bytes: i64 = row.try_get(0).map_err(unexpected)?;
    Ok(bytes.unsigned_abs())
}

/// Reads every row of every table.
pub(super) async fn digest(session: &Session) -> Result<Digest> {
    let tables = ["customer", "orders", "line", "account", "booking"];
    let each: Vec<String> = tables
        .iter()
        .map(|table| {
            format!(
                "SELECT '{table}' AS name, pg_catalog.count(*) AS rows,
                    pg_catalog.sum(pg_catalog.hashtextextended(t::text, 0)::numeric)::text AS hash
                 FROM public.{table} t"
            )
        })
        .collect();
    let sql = format!(
        "SELECT pg_catalog.sum(rows)::bigint,
            pg_catalog.md5(pg_catalog.string_agg(name || rows || ' ' || coalesce(hash, ''), ',' ORDER BY name)),
            (SELECT pg_catalog.sum(cents)::bigint FROM public.account)
         FROM ({}) each_table",
        each.join(" UNION ALL ")
    );
    let row = session.query_one("read every row", &sql, &[]).await?;
    Ok(Digest {
        rows: row.try_get(0).map_err(unexpected)?,
        hash: row.try_get(1).map_err(unexpected)?,
        cents: row.try_get(2).map_err(unexpected)?,
    })
}

/// What somebody did by mistake.
pub(super) struct Accident {
    /// The transaction.
    pub(super) xid: u32,
    /// Orders that it deleted.
    pub(super) rows: i64,
}

/// Deletes every second order, in one transaction.
pub(super) async fn accident(session: &Session) -> Result<Accident> {
    let sql = "WITH gone AS (DELETE FROM public.orders WHERE id % 2 = 0 RETURNING 1)
        SELECT (pg_catalog.txid_current() % 4294967296)::bigint, pg_catalog.count(*) FROM gone";
    let row = session.query_one("make a mistake", sql, &[]).await?;
    let (xid, rows): (i64, i64) = (row.try_get(0).map_err(unexpected)?, row.try_get(1).map_err(unexpected)?);
    let xid = u32::try_from(xid).unwrap_or_default();
    Ok(Accident { xid, rows })
}

/// One sale.
pub(super) async fn buy_once(session: &Session) -> Result<()> {
    let sql = "INSERT INTO public.booking (source, target, cents) VALUES (1, 2, 1)";
    Ok(session.execute("buy once more", sql).await?)
}

/// Customers who move money without a pause, until told to stop.
pub(super) struct Workload {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    task: JoinHandle<Result<()>>,
}

impl Workload {
    /// Begins.
    pub(super) async fn begin(server: &Conninfo) -> Result<Workload> {
        let session = Session::connect(server).await?;
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let task = tokio::spawn(transfers(session, Arc::clone(&stop), Arc::clone(&done)));
        Ok(Workload { stop, done, task })
    }

    /// Transactions committed so far.
    pub(super) fn committed(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until so many more transactions were committed.
    pub(super) async fn wait_for(&self, count: u64) -> Result<()> {
        let wanted = self.committed().saturating_add(count);
        // One that failed has ended; what failed, its end tells.
        while self.committed() < wanted && !self.task.is_finished() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Ends it and says how many transactions were committed.
    pub(super) async fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        match self.task.await {
            Ok(result) => result?,
            Err(error) => {
                let path = std::path::Path::new("the demo's workload");
                return Err(crate::Error::file("run", path, std::io::Error::other(error)));
            }
        }
        Ok(self.done.load(Ordering::Relaxed))
    }
}

async fn transfers(session: Session, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Result<()> {
    let mut turn: i64 = 1;
    while !stop.load(Ordering::Relaxed) {
        // Every transfer takes from one account what it gives to another.
        turn = turn
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let bits = turn.unsigned_abs();
        let (source, target, cents) = (1 + (bits >> 20) % 1000, 1 + (bits >> 40) % 1000, 1 + (bits >> 10) % 500);
        let sql = format!(
            "BEGIN;
             UPDATE public.account SET cents = cents - {cents} WHERE id = {source};
             UPDATE public.account SET cents = cents + {cents} WHERE id = {target};
             INSERT INTO public.booking (source, target, cents) VALUES ({source}, {target}, {cents});
             COMMIT;"
        );
        session.execute("move money", &sql).await?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    session.close().await;
    Ok(())
}

/// An answer of another type than the query gives.
fn unexpected(error: impl std::fmt::Display) -> crate::Error {
    let what = error.to_string();
    engine::pgclient::Error::Protocol {
        server: "the demo's server".into(),
        what,
    }
    .into()
}
