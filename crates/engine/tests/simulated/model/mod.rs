//! A PostgreSQL in memory: a few relations, a `pg_control`, WAL that the real walker accepts, backups that live in
//! sessions.
//!
//! It does what a backup rests on and nothing else: WAL is written from the start of a backup to its end, the record
//! that ends a backup names its start, whoever streams gets the bytes in order, and a restart takes every session
//! with it. Time comes from the process that asks, so that a seed decides everything.

mod files;
mod promotion;
mod server;
pub(crate) mod source;
mod wal;
pub(crate) mod world;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use engine::{
    backup::Plan,
    pgformat::{Lsn, Major, Tli, control::Control, segment::SegmentSize},
    repo::{manifest::Owner, runtime::Runtime},
    server::ServerFacts,
    source::Source,
};
use pgclient::catalog::{Collation, Database, Rights};

pub(crate) use files::Files;
pub(crate) use server::ModelServer;
use wal::Wal;

/// One cluster. Clones are the same.
#[derive(Clone)]
pub(crate) struct Cluster {
    shared: Arc<Mutex<Shared>>,
    files: Files,
}

pub(crate) struct Shared {
    wal: Wal,
    /// Timelines that were left, each to its end.
    past: Vec<Wal>,
    /// What it was told to be durable: by timeline and first position, up to which one.
    heard: BTreeMap<(u32, u64), u64>,
    /// Where the first receiver began that said of any of a timeline's WAL that it is durable.
    received: BTreeMap<u32, u64>,
    /// Nothing before it is in the server's directory any more, whoever asks.
    recycled: Lsn,
    /// Counts restarts: sessions of an earlier life are gone.
    life: u64,
    /// Backups that run on the server.
    running: usize,
    /// The slot of a receiver.
    slot: source::Slot,
}

impl Cluster {
    /// A cluster whose relations hold what `seed` says.
    pub(crate) fn new(seed: u64) -> Cluster {
        let files = Files::new(seed);
        let shared = Shared {
            wal: Wal::new(files.control().system_identifier),
            past: Vec::new(),
            heard: BTreeMap::new(),
            received: BTreeMap::new(),
            recycled: Lsn(0),
            life: 0,
            running: 0,
            slot: source::Slot::default(),
        };
        Cluster {
            shared: Arc::new(Mutex::new(shared)),
            files,
        }
    }

    /// The server as one process reaches it.
    pub(crate) fn server(&self, runtime: &Runtime) -> ModelServer {
        ModelServer::new(self.clone(), runtime.clone())
    }

    /// What its data directory holds.
    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Everybody's session ends.
    pub(crate) fn restart(&self) {
        let mut shared = self.lock();
        shared.life += 1;
        shared.running = 0;
        shared.slot.holder = None;
    }

    /// Backups that the server believes to be running.
    pub(crate) fn running_backups(&self) -> usize {
        self.lock().running
    }

    /// A plan to back it up.
    pub(crate) fn plan(&self) -> Plan {
        self.plan_reading(Arc::new(self.files.clone()))
    }

    /// The same with its files as `source` shows them.
    pub(crate) fn plan_reading(&self, source: Arc<dyn Source>) -> Plan {
        let owner = Owner {
            user: "postgres".into(),
            group: "postgres".into(),
        };
        let control = self.files.control();
        Plan::from_parts(source, self.facts(), control, owner)
    }

    /// What it says about itself.
    fn facts(&self) -> ServerFacts {
        ServerFacts {
            timeline: self.timeline(),
            ..facts(&self.files.control())
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }
}

/// WAL segments are small, so that a short backup crosses from one into the next.
const WAL_SEGMENT_BYTES: u64 = 1 << 20;

fn segment_size() -> SegmentSize {
    SegmentSize::new(WAL_SEGMENT_BYTES).unwrap()
}

fn facts(control: &Control) -> ServerFacts {
    let collation = Collation {
        provider: "libc".into(),
        locale: "C".into(),
        recorded_version: None,
        actual_version: None,
    };
    let database = Database {
        oid: 5,
        name: "postgres".into(),
        bytes: Some(1 << 20),
        allows_connections: true,
        may_connect: true,
        is_template: false,
        collation,
    };
    ServerFacts {
        major: Major::V15,
        version_num: 150_014,
        version: "15.14".into(),
        system_identifier: control.system_identifier,
        timeline: Tli(1),
        checkpoint_redo: Lsn(0x0600_0028),
        in_recovery: false,
        block_size: control.block_size,
        wal_block_size: control.wal_block_size,
        wal_segment_size: segment_size(),
        relation_segment_blocks: control.blocks_per_segment,
        data_checksums: true,
        wal_level: "replica".into(),
        full_page_writes: true,
        fsync: true,
        archive_mode: "off".into(),
        max_wal_senders: 10,
        max_replication_slots: 10,
        wal_keep_mebibytes: 0,
        max_slot_wal_keep_mebibytes: None,
        synchronous_standby_names: String::new(),
        data_directory: None,
        config_file: None,
        hba_file: None,
        bootstrap_superuser: "postgres".into(),
        tablespaces: Vec::new(),
        databases: vec![database],
        rights: Rights {
            role: "postgres".into(),
            database: "postgres".into(),
            superuser: true,
            replication: true,
            backup: true,
            read_files: true,
            switch_wal: true,
            restore_point: true,
            read_settings: true,
        },
    }
}
