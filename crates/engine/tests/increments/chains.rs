//! Many increments, one on the other, under load; and each of them alone.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use engine::{
    database,
    pgclient::{Conninfo, Session},
    restore::At,
};
use pgformat::Major;
use testkit::sim::Random;
use tokio::task::JoinHandle;

use crate::{
    act::{sql, until, value},
    rounds::full_matrix,
    scene::{Depth, Scene, options, stop_and_forget},
};

const ACCOUNTS: u64 = 4000;

async fn open_accounts(scene: &Scene) {
    let tables = format!(
        "CREATE TABLE public.account (id int PRIMARY KEY, balance bigint NOT NULL, filler text) WITH (fillfactor = 80);
         INSERT INTO public.account SELECT i, 0, repeat('-', 200) FROM generate_series(1, {ACCOUNTS}) AS i;
         CREATE TABLE public.history (id bigserial PRIMARY KEY, account int, amount bigint, at timestamptz DEFAULT now());
         CREATE INDEX ON public.history (account);
         CREATE TABLE public.archive AS SELECT i, repeat(md5(i::text), 30) AS filler FROM generate_series(1, 8000) AS i"
    );
    sql(&scene.cluster, &tables).await;
}

/// Money that goes from one account to another until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(conninfo: &Conninfo, seed: u64) -> Load {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let worker = |number| tokio::spawn(transfer(conninfo.clone(), seed + number, stop.clone(), done.clone()));
        let workers = (0..2).map(worker).collect();
        Load { stop, done, workers }
    }

    async fn wait_for(&self, count: u32) {
        until("the load is under way", || async {
            self.done.load(Ordering::Relaxed) >= count
        })
        .await;
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await.unwrap();
        }
    }
}

async fn transfer(conninfo: Conninfo, seed: u64, stop: Arc<AtomicBool>, done: Arc<AtomicU32>) {
    let session = Session::connect(&conninfo).await.unwrap();
    let mut rng = Random::new(seed);
    while !stop.load(Ordering::Relaxed) {
        let (from, to) = (1 + rng.below(ACCOUNTS), 1 + rng.below(ACCOUNTS));
        // In order, so that two never wait for each other.
        let (low, high) = (from.min(to), from.max(to));
        let amount = rng.below(100);
        let housekeeping = match rng.below(40) {
            0 => "; DELETE FROM public.history WHERE id % 100 = 0 AND amount = 0",
            1 => "; DELETE FROM public.history WHERE at < now() - interval '1 second' AND amount = 0",
            _ => "",
        };
        let transaction = format!(
            "UPDATE public.account SET balance = balance - {amount} WHERE id = {low};
             UPDATE public.account SET balance = balance + {amount} WHERE id = {high};
             INSERT INTO public.history (account, amount) VALUES ({low}, -{amount}), ({high}, {amount}){housekeeping}"
        );
        session.execute("transfer", &transaction).await.unwrap();
        done.fetch_add(1, Ordering::Relaxed);
        if rng.below(200) == 0 {
            session.execute("vacuum", "VACUUM public.history").await.unwrap();
        }
    }
    session.close().await;
}

/// The balances, and what the history makes of them.
const BOOKS: &str = "SELECT sum(balance)::text || ' ' || (SELECT coalesce(sum(amount), 0) FROM public.history)
       || ' ' || count(*) FILTER (WHERE balance <> coalesce((SELECT sum(amount) FROM public.history WHERE account = account.id), 0))
  FROM public.account";

#[tokio::test(flavor = "multi_thread")]
async fn every_backup_of_a_long_chain_brings_back_what_was_there() {
    let count = if full_matrix() { 30 } else { 6 };
    let mut scene = Scene::begin(Major::V15, options(false, &[])).await;
    open_accounts(&scene).await;
    scene.world.backup(&scene.cluster).await;
    let mut taken = Vec::new();
    for number in 0..count {
        let load = Load::start(&scene.cluster.conninfo(), 100 * number);
        load.wait_for(100).await;
        let what = format!("increment {number}");
        // Every other one is taken under load: what it brings back is told by the books.
        if number % 2 == 1 {
            let (summary, _) = scene.by_wal(100, &what).await;
            load.stop().await;
            taken.push((summary.backup.id, None));
        } else {
            load.stop().await;
            let rows = scene.rows().await;
            let (summary, _) = scene.by_wal(100, &what).await;
            taken.push((summary.backup.id, Some(rows)));
        }
    }
    for (number, (id, rows)) in taken.iter().enumerate() {
        if !full_matrix() && !(1..=2).contains(&number) {
            continue;
        }
        match rows {
            Some(rows) => scene.brings_back(id, rows, Depth::All).await,
            None => {
                let server = scene.revive(id).await;
                assert_eq!(value(&server, BOOKS).await, "0 0 0", "of backup {id}");
                stop_and_forget(server).await;
            }
        }
    }
    let end = scene.rows().await;
    let (last, _) = scene.by_wal(1, "the last").await;
    alone(&mut scene, &last.backup.id).await;
    scene.brings_back(&last.backup.id, &end, Depth::All).await;
    scene.stop_receiving().await;
}

/// Takes every other backup's manifest and file table away: what a backup needs of others are their packs and maps.
async fn alone(scene: &mut Scene, id: &str) {
    let repository = scene.world.target("repository/shop");
    for kind in ["backups", "files"] {
        let mut others = 0;
        for entry in fs::read_dir(repository.join(kind)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_str() != Some(id) {
                fs::remove_dir_all(entry.path()).unwrap();
                others += 1;
            }
        }
        assert!(others > 5, "{kind}: {others}");
    }
    let opened = database::open_to_restore(&scene.world.context, &scene.world.database, &At::Backup(id.into())).await;
    assert!(opened.is_ok());
}
