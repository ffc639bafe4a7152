//! Work that goes on beside a backup, and what is known of it at any moment.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use engine::pgclient::{Conninfo, Session};
use testkit::{clusters::give_to_server_user, sim::Random};
use tokio::task::JoinHandle;

use super::workload::each;
use crate::{
    ask::{sql, until},
    moments::workload as witness,
    scene::Scene,
};

const ACCOUNTS: u64 = 4000;

pub(crate) async fn begin(scene: &Scene) {
    let tables = format!(
        "CREATE TABLE public.account (id int PRIMARY KEY, balance bigint NOT NULL, filler text) WITH (fillfactor = 80);
         INSERT INTO public.account SELECT i, 0, repeat('-', 200) FROM generate_series(1, {ACCOUNTS}) AS i;
         CREATE TABLE public.history (id bigserial PRIMARY KEY, account int, amount bigint, at timestamptz DEFAULT now());
         CREATE INDEX ON public.history (account);
         CREATE TABLE public.archive AS SELECT i, repeat(md5(i::text), 30) AS filler FROM generate_series(1, 8000) AS i"
    );
    sql(&scene.cluster, &tables).await;
    sql(&scene.cluster, LASTING).await;
    witness::begin(&scene.cluster).await;
    let space = scene.cluster.folder().join("elsewhere");
    std::fs::create_dir(&space).unwrap();
    give_to_server_user(&space);
    let space = format!("CREATE TABLESPACE \"elsewhere ü\" LOCATION '{}'", space.display());
    each(&scene.cluster, "postgres", &[&space]).await;
}

/// A table that nobody drops, with an index of each kind.
const LASTING: &str = "
    CREATE TABLE public.lasting (n int, word text, place point, tags int[]);
    CREATE INDEX ON public.lasting USING btree (n);
    CREATE INDEX ON public.lasting USING hash (word);
    CREATE INDEX ON public.lasting USING gist (place);
    CREATE INDEX ON public.lasting USING spgist (place);
    CREATE INDEX ON public.lasting USING gin (tags);
    CREATE INDEX ON public.lasting USING brin (n);
    INSERT INTO public.lasting SELECT i, md5(i::text), point(i % 50, i / 50), ARRAY[i % 9, i % 5]
      FROM generate_series(1, 4000) AS i";

/// A change of some of its rows. Two workers never change the same row, so they do not wait for each other.
fn lasting(rng: &mut Random, worker: u64) -> String {
    let (part, own) = (rng.below(30), format!("n % 2 = {worker}"));
    match rng.below(4) {
        0 => format!(
            "UPDATE public.lasting SET word = md5(word), place = point(place[1], place[0]), tags = tags || ARRAY[{part} % 9]
              WHERE {own} AND n % 31 = {part}"
        ),
        1 => format!("DELETE FROM public.lasting WHERE {own} AND n % 62 = {part} * 2 + {worker}"),
        2 => format!("UPDATE public.lasting SET n = n + 2 WHERE {own} AND n % 31 = {part}"),
        _ => format!(
            "INSERT INTO public.lasting SELECT i * 2 + {worker}, md5((i * {part})::text), point(i % 50, i / 50), ARRAY[i % 9, i % 5]
               FROM generate_series({part} * 50, {part} * 50 + 100) AS i"
        ),
    }
}

/// Money that goes from one account to another until it is told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(conninfo: &Conninfo, seed: u64) -> Load {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let worker = |number| tokio::spawn(transfer(conninfo.clone(), (seed, number), stop.clone(), done.clone()));
        let workers = (0..2).map(worker).collect();
        Load { stop, done, workers }
    }

    pub(crate) async fn wait_for(&self, count: u32) {
        until("the load is under way", || async {
            self.done.load(Ordering::Relaxed) >= count
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await.unwrap();
        }
    }
}

async fn transfer(conninfo: Conninfo, (seed, worker): (u64, u64), stop: Arc<AtomicBool>, done: Arc<AtomicU32>) {
    let session = Session::connect(&conninfo).await.unwrap();
    let mut rng = Random::new(seed ^ worker);
    while !stop.load(Ordering::Relaxed) {
        let (from, to) = (1 + rng.below(ACCOUNTS), 1 + rng.below(ACCOUNTS));
        // In order, so that two never wait for each other.
        let (low, high) = (from.min(to), from.max(to));
        let amount = rng.below(100);
        let housekeeping = match rng.below(40) {
            0 => "DELETE FROM public.history WHERE id % 100 = 0 AND amount = 0".into(),
            1 => "DELETE FROM public.history WHERE at < now() - interval '1 second' AND amount = 0".into(),
            2..=4 => lasting(&mut rng, worker),
            _ => String::new(),
        };
        let transaction = format!(
            "UPDATE public.account SET balance = balance - {amount} WHERE id = {low};
             UPDATE public.account SET balance = balance + {amount} WHERE id = {high};
             INSERT INTO public.history (account, amount) VALUES ({low}, -{amount}), ({high}, {amount});
             {housekeeping}"
        );
        session.execute("transfer", &transaction).await.unwrap();
        done.fetch_add(1, Ordering::Relaxed);
        if rng.below(200) == 0 {
            let table = ["history", "lasting"][rng.below(2) as usize];
            session
                .execute("vacuum", &format!("VACUUM public.{table}"))
                .await
                .unwrap();
        }
    }
    session.close().await;
}

/// The balances, and what the history makes of them.
pub(crate) const BOOKS: &str = "SELECT sum(balance)::text || ' ' || (SELECT coalesce(sum(amount), 0) FROM public.history)
       || ' ' || count(*) FILTER (WHERE balance <> coalesce((SELECT sum(amount) FROM public.history WHERE account = account.id), 0))
  FROM public.account";
