//! A workload that knows what its table looked like after each of its transactions.

use engine::{pgclient::Session, pgformat::Lsn};
use testkit::{clusters::TestCluster, sim::Random};

/// What was seen after a transaction.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    /// The top-level transaction, and one of its subtransactions, if it had one that wrote.
    pub(crate) xid: u32,
    pub(crate) subtransaction: Option<u32>,
    /// When it was committed, microseconds since 1970-01-01 UTC.
    pub(crate) time: i64,
    /// A position after its commit and before the next one of this workload.
    pub(crate) lsn: Lsn,
    /// A restore point made after it, if one was.
    pub(crate) point: Option<String>,
    /// What its table was then.
    pub(crate) digest: String,
}

/// The digest of the table, whatever server it is asked of.
pub(crate) const DIGEST: &str =
    "SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(k::text || ':' || v, ',' ORDER BY k), '')) FROM public.state";

pub(crate) async fn begin(cluster: &TestCluster) {
    let session = cluster.session().await;
    session
        .execute(
            "make the tables",
            "CREATE TABLE public.state (k int PRIMARY KEY, v text NOT NULL);
             CREATE TABLE public.noise (id bigserial PRIMARY KEY, filler text)",
        )
        .await
        .unwrap();
    session.close().await;
}

/// Runs `count` transactions, one after another.
pub(crate) async fn run(cluster: &TestCluster, seed: u64, count: usize) -> Vec<Moment> {
    let session = cluster.session().await;
    let mut rng = Random::new(seed);
    let mut moments = Vec::new();
    for number in 0..count {
        moments.push(transaction(&session, &mut rng, seed, number).await);
    }
    session.close().await;
    moments
}

async fn transaction(session: &Session, rng: &mut Random, seed: u64, number: usize) -> Moment {
    let key = rng.below(200);
    let change = match rng.below(4) {
        0 => format!("DELETE FROM public.state WHERE k % 7 = {}", key % 7),
        _ => format!(
            "INSERT INTO public.state VALUES ({key}, pg_catalog.md5('{seed}.{number}')) \
             ON CONFLICT (k) DO UPDATE SET v = excluded.v"
        ),
    };
    session.execute("begin", "BEGIN").await.unwrap();
    let xid = text(session, "SELECT pg_catalog.txid_current()").await;
    session.execute("change", &change).await.unwrap();
    let mut subtransaction = None;
    if rng.below(3) == 0 {
        let nested = format!(
            "SAVEPOINT inside; INSERT INTO public.state VALUES ({}, 'inside {number}') \
             ON CONFLICT (k) DO UPDATE SET v = excluded.v",
            key + 1000
        );
        session.execute("change inside", &nested).await.unwrap();
        let inside = format!("SELECT xmin FROM public.state WHERE k = {}", key + 1000);
        subtransaction = Some(text(session, &inside).await.parse().unwrap());
        session.execute("leave", "RELEASE SAVEPOINT inside").await.unwrap();
    }
    session.execute("commit", "COMMIT").await.unwrap();
    let xid: u32 = xid.parse().unwrap();
    let time =
        format!("SELECT (extract(epoch FROM pg_catalog.pg_xact_commit_timestamp('{xid}'::xid)) * 1000000)::bigint");
    let time = text(session, &time).await.parse().unwrap();
    let digest = text(session, DIGEST).await;
    let mut point = None;
    if rng.below(5) == 0 {
        let name = format!("after {number} of {seed}");
        text(session, &format!("SELECT pg_catalog.pg_create_restore_point('{name}')")).await;
        point = Some(name);
    }
    let lsn = text(session, "SELECT pg_catalog.pg_current_wal_insert_lsn()")
        .await
        .parse()
        .unwrap();
    Moment {
        xid,
        subtransaction,
        time,
        lsn,
        point,
        digest,
    }
}

pub(crate) async fn text(session: &Session, sql: &str) -> String {
    let row = session
        .query_one("ask", &format!("SELECT ({sql})::text"), &[])
        .await
        .unwrap();
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

/// Others at work: so that transactions of all kinds stand between those that are looked at.
pub(crate) async fn noise(cluster: &TestCluster, rounds: usize) {
    let session = cluster.session().await;
    for round in 0..rounds {
        let sql = match round % 5 {
            0 => "BEGIN; INSERT INTO public.noise (filler) SELECT pg_catalog.repeat('x', 300) FROM pg_catalog.generate_series(1, 300); ROLLBACK".to_string(),
            1 => "BEGIN; SAVEPOINT a; INSERT INTO public.noise (filler) VALUES ('a'); ROLLBACK TO a; INSERT INTO public.noise (filler) VALUES ('b'); COMMIT".to_string(),
            2 => format!("BEGIN; INSERT INTO public.noise (filler) VALUES ('p'); PREPARE TRANSACTION 'p{round}'; COMMIT PREPARED 'p{round}'"),
            3 => "DELETE FROM public.noise WHERE id % 3 = 0".to_string(),
            _ => "INSERT INTO public.noise (filler) SELECT pg_catalog.repeat(pg_catalog.md5(i::text), 20) FROM pg_catalog.generate_series(1, 500) AS i".to_string(),
        };
        for statement in sql.split("; ") {
            session.execute("make noise", statement).await.unwrap();
        }
    }
    session.close().await;
}
