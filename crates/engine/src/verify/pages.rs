//! Level two: every frame opens, every page hashes to what was read, and fits its checksum.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pgformat::{
    Lsn,
    page::{self, PageCheck},
    relation,
};
use repo::manifest::{Manifest, PageError};

use crate::{
    Result,
    database::Opened,
    event::Context,
    traverse::{FileEntry, Handled, Handler, Reading, Traverse},
};

use super::{Findings, damage};

/// Reads every file as a restore would, and writes nothing.
pub(super) async fn check(
    context: &Context,
    opened: &Opened,
    manifest: &Manifest,
    jobs: usize,
    findings: &mut Findings,
) -> Result<()> {
    let facts = &manifest.facts;
    let traverse = Traverse {
        context,
        repository: &opened.repository,
        manifest,
        jobs,
    };
    let bad = Arc::new(Mutex::new(Bad::new(&facts.page_errors)));
    let checked_before = facts.postgresql.data_checksums.then_some(Lsn(facts.start.lsn.0));
    let make = |reading| Checker {
        reading,
        checked_before,
        blocks_per_segment: facts.postgresql.relation_segment_blocks,
        bad: bad.clone(),
    };
    let mut files = 0u64;
    let count = |_: &FileEntry, _: &Handled, _| {
        files += 1;
        Ok(())
    };
    let walked = traverse.run(make, |_| Ok(()), count).await;
    lock(&bad).judge(facts.totals.page_errors, findings);
    if let Err(error) = walked {
        return damage(findings, error);
    }
    if files != facts.totals.files {
        findings.found.push(format!(
            "the file table has {files} files, the manifest says {}",
            facts.totals.files
        ));
    }
    let pages = facts.totals.pages;
    findings.checked.push(format!(
        "{files} files, {pages} pages: opened, hashed{}",
        match checked_before {
            Some(_) => ", checksums fit",
            None => " (the cluster has no checksums)",
        }
    ));
    Ok(())
}

/// Findings of one kind that are named; the rest is counted.
const NAMED: usize = 1000;

/// Pages whose checksum does not fit. What the source had already is no damage of the backup's; its manifest tells of
/// it, of the first ten thousand by name.
struct Bad {
    known: BTreeSet<(String, u64)>,
    count: u64,
    unknown: u64,
    named: Vec<String>,
}

impl Bad {
    fn new(known: &[PageError]) -> Bad {
        Bad {
            known: known.iter().map(|error| (error.path.clone(), error.block)).collect(),
            count: 0,
            unknown: 0,
            named: Vec::new(),
        }
    }

    fn take(&mut self, path: &[u8], block: u64) {
        let page = (String::from_utf8_lossy(path).into_owned(), block);
        self.count += 1;
        if !self.known.contains(&page) {
            self.unknown += 1;
            if self.named.len() < NAMED {
                let (path, block) = page;
                self.named
                    .push(format!("block {block} of {path} does not fit its checksum"));
            }
        }
    }

    /// `expected` is how many the manifest counts. If it does not name them all, the numbers must be equal.
    fn judge(&mut self, expected: u64, findings: &mut Findings) {
        let all_known = expected == self.known.len() as u64;
        if self.unknown == 0 || (!all_known && self.count == expected) {
            return;
        }
        findings.found.append(&mut self.named);
        if !all_known || self.unknown > NAMED as u64 {
            let count = self.count;
            findings.found.push(format!(
                "{count} pages do not fit their checksum; the source had {expected} such pages"
            ));
        }
    }
}

fn lock(bad: &Mutex<Bad>) -> MutexGuard<'_, Bad> {
    // Whoever panicked while holding it has left whole numbers behind.
    bad.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Checker {
    reading: Reading,
    checked_before: Option<Lsn>,
    blocks_per_segment: u32,
    bad: Arc<Mutex<Bad>>,
}

impl Handler for Checker {
    async fn file(&mut self, entry: &FileEntry, _: bool) -> Result<Handled> {
        let relation = relation::classify(&entry.path).filter(|_| entry.relation);
        let (Some(before), Some(relation)) = (self.checked_before, relation) else {
            return self.reading.read(entry, |_, _| Ok(())).await;
        };
        let (size, blocks, bad) = (self.reading.page_size, self.blocks_per_segment, self.bad.clone());
        self.reading
            .read(entry, |offset, bytes| {
                for (number, bytes) in bytes.chunks_exact(size as usize).enumerate() {
                    let at = offset + number as u64 * u64::from(size);
                    let Some(block) = relation.block_at(at, size, blocks) else {
                        break;
                    };
                    if let PageCheck::Bad { .. } = page::verify(bytes, block, before) {
                        lock(&bad).take(&entry.path, u64::from(block));
                    }
                }
                Ok(())
            })
            .await
    }
}
