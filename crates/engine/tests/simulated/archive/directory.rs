//! A server's data directory as `archive_command` meets it: `pg_wal`, the marks of what is ready and done, `pg_control`.
//!
//! What a server does: `access/transam/xlogarchive.c`, `postmaster/pgarch.c`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::Mutex,
};

use engine::pgformat::{
    Lsn, Tli,
    segment::{SegmentName, WalFileName},
};
use tempfile::TempDir;

use super::{FIRST, SEGMENT, segment_size};
use crate::model::Cluster;

/// What is in the last segment of a timeline after the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It was made anew.
    Zeros,
    /// It was another segment before.
    Recycled,
}

pub(crate) struct Directory {
    folder: TempDir,
    cluster: Cluster,
    rest: Rest,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// By timeline, the segment that is complete next.
    next: BTreeMap<u32, u64>,
    left: BTreeSet<u32>,
    /// Everything that was ever marked as done.
    done: BTreeSet<String>,
}

/// A stretch of WAL that the server takes for archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Archived {
    Wal(Tli, u64, u64),
    History(Tli),
}

impl Directory {
    pub(crate) fn new(cluster: &Cluster, rest: Rest) -> Directory {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("pg_wal/archive_status")).unwrap();
        fs::create_dir(folder.path().join("global")).unwrap();
        Directory {
            folder,
            cluster: cluster.clone(),
            rest,
            known: Mutex::default(),
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().into()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("pg_wal").join(name)
    }

    fn status(&self, name: &str, what: &str) -> PathBuf {
        self.folder.path().join(format!("pg_wal/archive_status/{name}.{what}"))
    }

    fn names(&self, what: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("pg_wal/archive_status")).unwrap();
        let files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = files
            .filter_map(|file| file.strip_suffix(what).map(str::to_string))
            .collect();
        names.sort_unstable();
        names
    }

    /// Writes what the server has completed since.
    pub(crate) fn write(&self) {
        fs::write(
            self.data().join("global/pg_control"),
            self.cluster.files().control_bytes().as_slice(),
        )
        .unwrap();
        let switches = self.cluster.switches();
        let mut known = self.known.lock().unwrap();
        for timeline in 1..=self.cluster.timeline().0 {
            let begins = timeline
                .checked_sub(2)
                .map_or(FIRST, |before| switches[before as usize].0);
            let end = self.cluster.end_of(Tli(timeline)).0;
            let next = known.next.entry(timeline).or_insert(begins / SEGMENT * SEGMENT);
            while *next + SEGMENT <= end {
                self.make(
                    &segment_name(timeline, *next),
                    &self.cluster.wal_of(Tli(timeline), *next, *next + SEGMENT),
                );
                *next += SEGMENT;
            }
            let (from, left) = (*next, timeline < self.cluster.timeline().0);
            if left && known.left.insert(timeline) {
                if from < end {
                    self.make(
                        &format!("{}.partial", segment_name(timeline, from)),
                        &self.partial(timeline, from, end),
                    );
                }
                let child = Tli(timeline + 1);
                let history = self.cluster.history(child).unwrap();
                self.make(&WalFileName::History(child).file_name(segment_size()), &history);
            }
        }
    }

    fn partial(&self, timeline: u32, from: u64, end: u64) -> Vec<u8> {
        let mut bytes = self.cluster.wal_of(Tli(timeline), from, end);
        let rest = bytes.len();
        match from.checked_sub(SEGMENT).filter(|before| *before >= FIRST) {
            Some(before) if self.rest == Rest::Recycled => {
                let old = self.cluster.wal_of(Tli(timeline), before, from);
                bytes.extend_from_slice(&old[rest..]);
            }
            _ => bytes.resize(SEGMENT as usize, 0),
        }
        bytes
    }

    fn make(&self, name: &str, bytes: &[u8]) {
        fs::write(self.file(name), bytes).unwrap();
        fs::write(self.status(name, "ready"), []).unwrap();
    }

    /// What the server wants archived next: histories first, then the oldest (`readyXlog`).
    pub(crate) fn next(&self) -> Option<String> {
        let ready = self.names(".ready");
        let history = ready.iter().find(|name| name.ends_with(".history"));
        history.or(ready.first()).cloned()
    }

    /// `archive_command` said that it is durable.
    pub(crate) fn done(&self, name: &str) {
        fs::rename(self.status(name, "ready"), self.status(name, "done")).unwrap();
    }

    /// Takes note of all that is marked as done, by whomever.
    fn note(&self) -> BTreeSet<String> {
        let mut known = self.known.lock().unwrap();
        known.done.extend(self.names(".done"));
        known.done.clone()
    }

    /// The server crashed before the newest mark was on disk: it asks for the file once more.
    pub(crate) fn forget(&self) {
        self.note();
        if let Some(name) = self.names(".done").iter().rfind(|name| self.file(name).exists()) {
            fs::rename(self.status(name, "done"), self.status(name, "ready")).unwrap();
        }
    }

    /// A checkpoint removes segments that are archived.
    pub(crate) fn recycle(&self) {
        self.note();
        let done = self.names(".done");
        for name in &done[..done.len().saturating_sub(1)] {
            if self.file(name).exists() {
                fs::remove_file(self.file(name)).unwrap();
            }
        }
        let files = fs::read_dir(self.folder.path().join("pg_wal")).unwrap();
        let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let starts = names.filter_map(|name| match WalFileName::parse(&name, segment_size()).ok()? {
            WalFileName::Segment(segment) | WalFileName::Partial(segment) => Some(segment.start(segment_size())),
            _ => None,
        });
        // The segments that are there, and the one that is being written.
        let current = self.cluster.flushed().0 / SEGMENT * SEGMENT;
        let unwritten = *self.known.lock().unwrap().next.values().next_back().unwrap_or(&FIRST);
        let oldest = starts.min().unwrap_or(Lsn(current)).0;
        self.cluster.recycle(Lsn(oldest.min(unwritten)));
    }

    /// What the server believes to be archived.
    pub(crate) fn archived(&self) -> Vec<Archived> {
        let archived = self
            .note()
            .into_iter()
            .map(|name| match WalFileName::parse(&name, segment_size()).unwrap() {
                WalFileName::Segment(segment) => {
                    let from = segment.start(segment_size()).0;
                    Archived::Wal(segment.timeline, from, from + SEGMENT)
                }
                WalFileName::Partial(segment) => {
                    let from = segment.start(segment_size()).0;
                    Archived::Wal(segment.timeline, from, self.cluster.end_of(segment.timeline).0)
                }
                WalFileName::History(timeline) => Archived::History(timeline),
                other => panic!("{other:?}"),
            });
        archived.collect()
    }
}

fn segment_name(timeline: u32, start: u64) -> String {
    SegmentName::holding(Tli(timeline), Lsn(start), segment_size()).file_name(segment_size())
}
