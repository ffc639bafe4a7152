//! A model of a server for a backup: it says what it is, and its WAL holds little more than the backup's end.

use async_trait::async_trait;
use bytes::Bytes;
use engine::{
    Result,
    pgclient::catalog::Rights,
    repo::manifest::Relation,
    server::{ReservedWal, RunningBackup, Server, ServerFacts, Started, Stopped, WalEvent, WalFeed},
};
use pgformat::{Lsn, Major, Tli, control::Control};

const SEGMENT_START: u64 = 0x3000000;
const RECORD_HEADER: usize = 24;

/// A server whose `pg_control` this is.
pub struct ModelServer {
    control: Control,
    wal: Bytes,
    start: Lsn,
    stop: Lsn,
}

impl ModelServer {
    pub fn new(control: Control) -> ModelServer {
        let mut wal = page_header(&control);
        let start = Lsn(SEGMENT_START + wal.len() as u64);
        let checkpoint = record(&mut wal, 0x10, Lsn(SEGMENT_START - 0x100), &[]);
        let mut data = vec![255, 8];
        data.extend_from_slice(&start.0.to_le_bytes());
        record(&mut wal, 0x50, checkpoint, &data);
        let stop = Lsn(SEGMENT_START + wal.len() as u64);
        ModelServer {
            control,
            wal: wal.into(),
            start,
            stop,
        }
    }

    pub fn facts_now(&self) -> ServerFacts {
        let control = &self.control;
        ServerFacts {
            major: Major::V15,
            version_num: 150_010,
            version: "15.10".into(),
            system_identifier: control.system_identifier,
            timeline: Tli(1),
            checkpoint_redo: self.start,
            in_recovery: false,
            block_size: control.block_size,
            wal_block_size: control.wal_block_size,
            wal_segment_size: control.wal_segment_size,
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
            databases: Vec::new(),
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
}

/// The long header of a segment's first page (`access/xlog_internal.h`).
fn page_header(control: &Control) -> Vec<u8> {
    let mut wal = Vec::new();
    wal.extend_from_slice(&Major::V15.wal_magic().to_le_bytes());
    wal.extend_from_slice(&2u16.to_le_bytes());
    wal.extend_from_slice(&1u32.to_le_bytes());
    wal.extend_from_slice(&SEGMENT_START.to_le_bytes());
    wal.extend_from_slice(&0u64.to_le_bytes());
    wal.extend_from_slice(&control.system_identifier.to_le_bytes());
    wal.extend_from_slice(&(control.wal_segment_size.bytes() as u32).to_le_bytes());
    wal.extend_from_slice(&control.wal_block_size.to_le_bytes());
    wal
}

/// Appends a record of the resource manager XLOG; returns where it begins.
fn record(wal: &mut Vec<u8>, info: u8, previous: Lsn, data: &[u8]) -> Lsn {
    let lsn = Lsn(SEGMENT_START + wal.len() as u64);
    let mut header = [0; RECORD_HEADER];
    header[..4].copy_from_slice(&((RECORD_HEADER + data.len()) as u32).to_le_bytes());
    header[8..16].copy_from_slice(&previous.0.to_le_bytes());
    header[16] = info;
    let crc = crc32c::crc32c_append(crc32c::crc32c(data), &header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    wal.extend_from_slice(&header);
    wal.extend_from_slice(data);
    wal.resize(wal.len().next_multiple_of(8), 0);
    lsn
}

#[async_trait]
impl Server for ModelServer {
    async fn facts(&self) -> Result<ServerFacts> {
        Ok(self.facts_now())
    }

    async fn reserve_wal(&self) -> Result<Box<dyn ReservedWal>> {
        Ok(Box::new(Wal(Some(self.wal.clone()))))
    }

    async fn start_backup(&self, _: &str) -> Result<Box<dyn RunningBackup>> {
        Ok(Box::new(Running {
            start: self.start,
            stop: self.stop,
        }))
    }

    async fn history(&self, _: Tli) -> Result<Bytes> {
        Ok(Bytes::new())
    }

    async fn relations(&self, _: &ServerFacts) -> Result<(Vec<Relation>, Vec<String>)> {
        Ok((Vec::new(), Vec::new()))
    }
}

/// All the WAL at once, then silence.
struct Wal(Option<Bytes>);

#[async_trait]
impl ReservedWal for Wal {
    fn unprotected(&self) -> Option<&str> {
        None
    }

    async fn stream(self: Box<Self>, _: Lsn, _: Tli) -> Result<Box<dyn WalFeed>> {
        Ok(self)
    }
}

#[async_trait]
impl WalFeed for Wal {
    async fn next(&mut self) -> Result<WalEvent> {
        match self.0.take() {
            Some(bytes) => {
                let server_end = Lsn(SEGMENT_START + bytes.len() as u64);
                Ok(WalEvent::Data {
                    start: Lsn(SEGMENT_START),
                    bytes,
                    server_end,
                    sent_micros: 0,
                })
            }
            None => std::future::pending().await,
        }
    }

    fn acknowledge(&mut self, _: Lsn) {}

    async fn heartbeat(&mut self) -> Result<()> {
        Ok(())
    }
}

struct Running {
    start: Lsn,
    stop: Lsn,
}

#[async_trait]
impl RunningBackup for Running {
    fn started(&self) -> Started {
        Started {
            start: self.start,
            timeline: Tli(1),
            in_recovery: false,
            reached: self.start,
        }
    }

    fn is_alive(&self) -> bool {
        true
    }

    async fn stop(self: Box<Self>) -> Result<Stopped> {
        Ok(Stopped {
            stop: self.stop,
            backup_label: format!("START WAL LOCATION: {} (file 000000010000000000000003)\n", self.start),
            tablespace_map: String::new(),
        })
    }
}
