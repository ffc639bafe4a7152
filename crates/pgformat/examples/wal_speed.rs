//! How fast WAL is walked, and read for what it means: `wal_speed SEGMENT...`, finished segments in order.
//!
//! Each pass is made several times and the best is printed: other programs only ever make it slower.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::hint::black_box;
use std::time::Instant;

use pgformat::wal::{Event, Record, WalPageHeader, Walker};

const PASSES: u32 = 5;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let mut wal = Vec::new();
    for path in std::env::args_os().skip(1) {
        wal.extend(std::fs::read(path)?);
    }
    measure("walk", &wal, |record| {
        black_box(record.lsn);
        Ok(())
    })?;
    measure("walk, parts", &wal, |record| {
        black_box(record.parts()?.main_data);
        Ok(())
    })?;
    measure("walk, parts, every page, every event", &wal, |record| {
        let parts = record.parts()?;
        for block in parts.blocks() {
            black_box((block.relation, block.fork, block.block));
        }
        match black_box(parts.event()?) {
            Event::Transaction(transaction) => {
                for xid in transaction.subtransactions.iter() {
                    black_box(xid);
                }
                for relation in transaction.dropped.iter() {
                    black_box(relation);
                }
            }
            other => drop(black_box(other)),
        }
        Ok(())
    })
}

fn measure(what: &str, wal: &[u8], mut visit: impl FnMut(&Record<'_>) -> pgformat::Result<()>) -> Outcome<()> {
    let first = WalPageHeader::parse(wal)?;
    let long = first.long.ok_or("the first file does not begin a segment")?;
    let (mut best, mut records) = (f64::INFINITY, 0u64);
    for _ in 0..PASSES {
        let mut walker = Walker::new(long.geometry, first.address)?;
        let (begun, mut failed) = (Instant::now(), None);
        records = 0;
        for piece in wal.chunks(1 << 20) {
            walker.feed(piece, |record| {
                records += 1;
                if let Err(error) = visit(&record) {
                    failed.get_or_insert(error);
                }
            })?;
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        best = best.min(begun.elapsed().as_secs_f64());
    }
    println!(
        "{what}: {:.2} GB/s, {:.0} ns a record ({records} records of {} bytes)",
        wal.len() as f64 / best / 1e9,
        best * 1e9 / records.max(1) as f64,
        wal.len() as u64 / records.max(1),
    );
    Ok(())
}
