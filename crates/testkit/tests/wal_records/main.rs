//! WAL of real servers is read as PostgreSQL reads it: against `pg_waldump`, and against what was done.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod done;
mod waldump;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use pgformat::wal::{Record, WalPageHeader, Walker};

/// Visits every record of a stopped server, from the first segment still there on; where there are several of one
/// place, that of the latest timeline.
fn each_record(data_dir: &Path, mut visit: impl FnMut(&Record<'_>)) {
    let names: BTreeSet<String> = fs::read_dir(data_dir.join("pg_wal"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.len() == 24)
        .collect();
    let latest: BTreeMap<&str, &String> = names.iter().map(|name| (&name[8..], name)).collect();
    let mut walker: Option<Walker> = None;
    for name in latest.into_values() {
        let bytes = fs::read(data_dir.join("pg_wal").join(name)).unwrap();
        let walker = walker.get_or_insert_with(|| {
            let first = WalPageHeader::parse(&bytes).unwrap();
            Walker::new(first.long.unwrap().geometry, first.address).unwrap()
        });
        if let Err(stop) = walker.feed(&bytes, |record| visit(&record)) {
            assert!(stop.is_end(), "{name}: {stop}");
            return;
        }
    }
}
