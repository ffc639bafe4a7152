//! A simulated world: a store, a model cluster, and processes that initialise, back up, read and verify.

use std::sync::Arc;

use engine::{
    Result,
    backup::{self, Level, Options, Plan, Summary},
    database::{self, Opened},
    event::{Context, Event, Observer, Stop},
    init::Initialised,
    list,
    repo::{
        keys::Unlock,
        ledger::{Level as Depth, Outcome},
    },
    verify,
};
use testkit::sim::{Faults, FaultyStore, Process, Sim};

use super::Cluster;

/// The world of one run. Clones are the same world.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) store: FaultyStore,
    pub(crate) cluster: Cluster,
    pub(crate) unlock: Unlock,
}

struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event) {}
}

/// The context of a process.
pub(crate) fn context(process: &Process) -> Context {
    Context {
        runtime: process.runtime(),
        observer: Arc::new(Silent),
        stop: Stop::default(),
    }
}

impl World {
    /// Nothing but a server and an empty store that does what it is told.
    pub(crate) fn new(seed: u64) -> World {
        let sim = Sim::new(seed);
        World {
            store: FaultyStore::new(&sim, Faults::NONE),
            cluster: Cluster::new(seed),
            unlock: Unlock::generate("shop").1,
            sim,
        }
    }

    /// Runs `init` in `process` through `store`, which must be of that process. `None`: it died.
    pub(crate) fn init(&self, process: &Process, store: &FaultyStore) -> Option<Result<Initialised>> {
        let (context, store, unlock) = (context(process), Arc::new(store.clone()), self.unlock.clone());
        self.sim.run_one(process, async move {
            engine::init::run_in(&context, store, "memory", "shop", &unlock).await
        })
    }

    /// The same in a new process on a store without faults, which must succeed.
    pub(crate) fn initialised(self) -> World {
        let process = self.sim.process("init");
        self.init(&process, &self.store.of(&process)).unwrap().unwrap();
        self
    }

    /// Takes a backup in `process`. `None`: it died.
    pub(crate) fn backup(&self, process: &Process, store: &FaultyStore, label: &str) -> Option<Result<Summary>> {
        let (world, own, store, label) = (self.clone(), process.clone(), store.clone(), label.to_string());
        self.sim
            .run_one(process, async move { world.back_up(&own, &store, &label).await })
    }

    /// What a process does that takes a backup.
    pub(crate) async fn back_up(&self, process: &Process, store: &FaultyStore, label: &str) -> Result<Summary> {
        self.carry_out(self.cluster.plan(), process, store, label).await
    }

    /// The same as planned.
    pub(crate) async fn carry_out(
        &self,
        plan: Plan,
        process: &Process,
        store: &FaultyStore,
        label: &str,
    ) -> Result<Summary> {
        let context = context(process);
        let opened = database::open_store(&context, Arc::new(store.clone()), &self.unlock).await?;
        let options = Options {
            label: Some(label.into()),
            level: Level::Zstd(1),
            jobs: 2,
            wanted: backup::Wanted::default(),
            rebase: false,
            difference: backup::Difference::default(),
            audit: 1,
            max_rate: None,
            reader: engine::backup::Reader::Local,
            data_directory: None,
            standby: None,
        };
        let server = self.cluster.server(&process.runtime());
        backup::run_with(&context, &opened, &server, plan, &options).await
    }

    /// What a new process sees and can prove: the labels of all listed backups, each verified page by page. Whatever
    /// does not fit is a panic with `when`.
    pub(crate) fn judge(&self, when: &str) -> Vec<String> {
        let process = self.sim.process("judge");
        let store: Arc<FaultyStore> = Arc::new(self.store.of(&process));
        let (unlock, own, when) = (self.unlock.clone(), process.clone(), when.to_string());
        let judged = self.sim.run_one(&process, async move {
            let context = context(&own);
            let opened = database::open_store(&context, store, &unlock).await.unwrap();
            sound_ledger(&opened, &when).await;
            let mut labels = Vec::new();
            for backup in list::backups(&opened).await {
                let label = backup.label.unwrap();
                let request = verify::Request {
                    backup: Some(backup.id),
                    level: Depth::Pages,
                    jobs: 2,
                    binaries: None,
                    scratch: None,
                };
                let report = verify::run(&context, &opened, &request).await.unwrap();
                assert_eq!(report.outcome, Outcome::Passed, "{when}: {label}: {:?}", report.found);
                labels.push(label);
            }
            labels
        });
        judged.expect("the judge comes to an end")
    }
}

async fn sound_ledger(opened: &Opened, when: &str) {
    let alarms = opened
        .with_state(|state| state.alarms().map(|alarm| alarm.what.clone()).collect::<Vec<_>>())
        .await;
    assert_eq!(alarms, Vec::<String>::new(), "{when}");
}
