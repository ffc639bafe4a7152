//! Transfers between accounts: a load whose every committed piece can be accounted for afterwards.
//!
//! Invariants, in every state that a recovery may bring back:
//! - money is neither made nor lost: the balances add up to what was paid in at the start;
//! - each balance is what the history says it must be;
//! - no balance is ever zero, so that no row can come back or go unnoticed by sums alone.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pgclient::{Conninfo, Session};
use tokio::task::JoinHandle;

/// What every account begins with.
const OPENING_BALANCE: i64 = 1000;
/// How long a worker waits before it tries a server again that is down.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

const TABLES: &str = "
    CREATE TABLE public.bank_account (
        id int PRIMARY KEY,
        balance bigint NOT NULL CHECK (balance > 0),
        note text NOT NULL
    ) WITH (fillfactor = 70);
    CREATE TABLE public.bank_transfer (
        worker int, number bigint,
        payer int NOT NULL REFERENCES public.bank_account, payee int NOT NULL REFERENCES public.bank_account,
        amount bigint NOT NULL, at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
        PRIMARY KEY (worker, number)
    );
    CREATE INDEX bank_transfer_payer ON public.bank_transfer (payer);
    CREATE INDEX bank_transfer_payee ON public.bank_transfer (payee);";

/// A transfer's name: which worker, and which of its transfers.
pub type Transfer = (i32, i64);

/// Makes the tables and opens accounts 1 to `accounts`.
pub async fn create(session: &Session, accounts: i32) {
    session
        .execute("make the bank's tables", TABLES)
        .await
        .expect("the bank opens");
    let fill = format!(
        "INSERT INTO public.bank_account SELECT i, {OPENING_BALANCE}, pg_catalog.repeat('account ', i % 20)
           FROM pg_catalog.generate_series(1, {accounts}) AS i"
    );
    session
        .execute("open accounts", &fill)
        .await
        .expect("accounts are opened");
}

/// Workers that transfer until told to stop.
#[derive(Debug)]
pub struct RunningBank {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeSet<Transfer>>>,
    workers: Vec<JoinHandle<()>>,
}

impl RunningBank {
    /// Starts `workers` sessions of their own in the database of `conninfo`, where the bank is. They outlive
    /// crashes of the server: a worker that loses its session opens another. `seed` decides who pays whom.
    pub fn start(conninfo: &Conninfo, workers: i32, accounts: i32, seed: u64) -> RunningBank {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let workers = (0..workers).map(|worker| {
            let choices = Choices(seed.wrapping_mul(1000).wrapping_add(worker.unsigned_abs().into()) | 1);
            let worker = Worker {
                worker,
                next: 0,
                accounts,
                choices,
                acknowledged: acknowledged.clone(),
            };
            tokio::spawn(worker.run(conninfo.clone(), stop.clone()))
        });
        let workers = workers.collect();
        RunningBank {
            stop,
            acknowledged,
            workers,
        }
    }

    /// The transfers whose commit PostgreSQL has acknowledged so far.
    pub fn acknowledged(&self) -> BTreeSet<Transfer> {
        self.acknowledged.lock().expect("no worker panicked").clone()
    }

    /// Waits until `count` transfers have been acknowledged since the start.
    pub async fn wait_for(&self, count: usize) {
        while self.acknowledged.lock().expect("no worker panicked").len() < count {
            assert!(
                !self.workers.iter().all(JoinHandle::is_finished),
                "every worker has ended"
            );
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Ends the load; every transfer acknowledged.
    pub async fn stop(self) -> BTreeSet<Transfer> {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await.expect("the worker ends in order");
        }
        self.acknowledged.lock().expect("no worker panicked").clone()
    }
}

/// What a bank has come to, as its invariants see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Books {
    /// Every transfer in the history.
    pub transfers: BTreeSet<Transfer>,
    /// What is wrong; empty if nothing is.
    pub faults: Vec<String>,
}

/// Reads the whole bank and checks its invariants.
pub async fn audit(session: &Session, accounts: i32) -> Books {
    let mut faults = Vec::new();
    let sums = "SELECT pg_catalog.count(*), pg_catalog.count(DISTINCT id),
        COALESCE(pg_catalog.sum(balance), 0)::bigint FROM public.bank_account";
    let row = session
        .query_one("add up the balances", sums, &[])
        .await
        .expect("accounts can be read");
    let (count, distinct, sum): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    if (count, distinct, sum) != (accounts.into(), accounts.into(), i64::from(accounts) * OPENING_BALANCE) {
        faults.push(format!(
            "{count} accounts ({distinct} different) hold {sum}, of {accounts} accounts"
        ));
    }
    let wrong = format!(
        "SELECT account.id, account.balance, {OPENING_BALANCE}
             + COALESCE((SELECT pg_catalog.sum(amount) FROM public.bank_transfer WHERE payee = account.id), 0)::bigint
             - COALESCE((SELECT pg_catalog.sum(amount) FROM public.bank_transfer WHERE payer = account.id), 0)::bigint
           FROM public.bank_account AS account"
    );
    for row in session
        .query("compare balances with the history", &wrong, &[])
        .await
        .expect("history can be read")
    {
        let (id, balance, expected): (i32, i64, i64) = (row.get(0), row.get(1), row.get(2));
        if balance != expected {
            faults.push(format!("account {id} holds {balance}, by its history {expected}"));
        }
    }
    let names = session
        .query("list transfers", "SELECT worker, number FROM public.bank_transfer", &[])
        .await;
    let transfers = names
        .expect("transfers can be read")
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    Books { transfers, faults }
}

struct Worker {
    worker: i32,
    next: i64,
    accounts: i32,
    choices: Choices,
    acknowledged: Arc<Mutex<BTreeSet<Transfer>>>,
}

impl Worker {
    async fn run(mut self, conninfo: Conninfo, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            let Ok(session) = Session::connect(&conninfo).await else {
                tokio::time::sleep(RECONNECT_PAUSE).await;
                continue;
            };
            while !stop.load(Ordering::Relaxed) && session.is_alive() {
                self.transfer(&session).await;
            }
        }
    }

    /// One transfer. A lost answer leaves open whether it was committed; its number is not used again.
    async fn transfer(&mut self, session: &Session) {
        let accounts = self.accounts.unsigned_abs().into();
        let payer = self.choices.below(accounts) + 1;
        // Never the payer itself.
        let payee = (payer + self.choices.below(accounts - 1)) % accounts + 1;
        let amount = 1 + self.choices.below(20);
        let (worker, number) = (self.worker, self.next);
        self.next += 1;
        // Rows are locked in order of id, or workers would wait for each other in a circle. Who cannot pay
        // does not: the row would violate its check, and the whole transfer is rolled back.
        let sql = format!(
            "BEGIN;
             SELECT id FROM public.bank_account WHERE id IN ({payer}, {payee}) ORDER BY id FOR UPDATE;
             UPDATE public.bank_account SET balance = balance - {amount} WHERE id = {payer};
             UPDATE public.bank_account SET balance = balance + {amount} WHERE id = {payee};
             INSERT INTO public.bank_transfer (worker, number, payer, payee, amount)
                 VALUES ({worker}, {number}, {payer}, {payee}, {amount});
             COMMIT"
        );
        match session.execute("transfer money", &sql).await {
            Ok(()) => {
                self.acknowledged
                    .lock()
                    .expect("no worker panicked")
                    .insert((worker, number));
            }
            // After an error the transaction is still open, unless the session is gone.
            Err(_) => drop(session.execute("roll back", "ROLLBACK").await),
        }
    }
}

/// Choices that a seed decides (xorshift64).
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}
