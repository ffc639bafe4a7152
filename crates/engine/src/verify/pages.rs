//! Level two: every frame opens, every page hashes to what was read, and fits its checksum.

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
    let (bad_in, bad_out) = async_channel::unbounded();
    let checked_before = facts.postgresql.data_checksums.then_some(Lsn(facts.start.lsn.0));
    let make = |reading| Checker {
        reading,
        checked_before,
        blocks_per_segment: facts.postgresql.relation_segment_blocks,
        bad: bad_in.clone(),
    };
    let mut files = 0u64;
    let count = |_: &FileEntry, _: &Handled, _| {
        files += 1;
        Ok(())
    };
    let walked = traverse.run(make, |_| Ok(()), count).await;
    while let Ok(bad) = bad_out.try_recv() {
        // What the source had already is no damage of the backup's; the manifest has told of it.
        if !facts.page_errors.contains(&bad) {
            findings
                .found
                .push(format!("block {} of {} does not fit its checksum", bad.block, bad.path));
        }
    }
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

struct Checker {
    reading: Reading,
    checked_before: Option<Lsn>,
    blocks_per_segment: u32,
    bad: async_channel::Sender<PageError>,
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
                        let path = String::from_utf8_lossy(&entry.path).into_owned();
                        // The channel has no bound and is read to its end after the walk.
                        let _ = bad.try_send(PageError {
                            path,
                            block: u64::from(block),
                        });
                    }
                }
                Ok(())
            })
            .await
    }
}
