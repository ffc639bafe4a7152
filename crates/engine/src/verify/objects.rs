//! Level one: every object that the backup needs is there, whole, and the one that was written.

use repo::{
    Repository,
    envelope::{Pin, check_hash},
    manifest::Manifest,
    names,
    wal::{Assembly, WalStream, read_history},
};

use crate::{
    Result,
    database::Opened,
    event::{Context, Event},
    workers::{died, watched},
};

use super::{Findings, damage};

/// Reads every object once and compares it with what refers to it. Goes on after damage, to name all of it.
pub(super) async fn check(
    context: &Context,
    opened: &Opened,
    manifest: &Manifest,
    jobs: usize,
    findings: &mut Findings,
) -> Result<()> {
    let (mut count, mut total) = (0u64, 0u64);
    for (_, pin) in wanted(manifest) {
        count += 1;
        total += pin.size;
    }
    let (work_in, work_out) = async_channel::bounded::<(String, Pin)>(jobs.max(1) * 2);
    let (done_in, done_out) = async_channel::bounded(jobs.max(1) * 2);
    for _ in 0..jobs.max(1) {
        let repository = opened.repository.clone();
        let (work, done, stop) = (work_out.clone(), done_in.clone(), context.stop.clone());
        let watch = done_in.clone();
        let worker = async move {
            while let Ok((name, pin)) = work.recv().await {
                let result = match stop.check() {
                    Ok(()) => object(&repository, &name, &pin).await,
                    Err(error) => Err(error),
                };
                if done.send(Ok((pin.size, result))).await.is_err() {
                    return;
                }
            }
        };
        context.runtime.workers.spawn(Box::pin(watched(worker, watch)));
    }
    drop((work_out, done_in));
    let feed = async {
        for object in wanted(manifest) {
            if work_in.send(object).await.is_err() {
                break;
            }
        }
        work_in.close();
        Ok::<(), crate::Error>(())
    };
    let collect = async {
        let (mut read, mut seen) = (0, 0);
        while let Ok(outcome) = done_out.recv().await {
            let (size, result) = outcome?;
            read += size;
            seen += 1;
            if let Err(error) = result {
                damage(findings, error)?;
            }
            context.observer.event(Event::Progress { done: read, total });
        }
        if seen == count { Ok(()) } else { Err(died()) }
    };
    futures::try_join!(feed, collect)?;
    findings.checked.push(format!(
        "{count} objects, {total} bytes: present, whole, the ones that were written"
    ));
    wal(opened, manifest, findings).await
}

/// Everything that the manifest pins; names are made as they are asked for, since a large backup has a million.
fn wanted(manifest: &Manifest) -> impl Iterator<Item = (String, Pin)> {
    let (facts, needed) = (&manifest.facts, &manifest.needed);
    let files = (0..)
        .zip(facts.table())
        .map(|(number, pin)| (names::files(&facts.backup, number), pin));
    let source = |number| needed.sources.get(number).unwrap_or(facts.backup);
    let maps = needed.maps.iter();
    let maps = maps.map(move |map| (names::map(&source(map.source), map.number), map.pin()));
    let packs = needed.packs.iter();
    let packs = packs.map(move |pack| (names::pack(&source(pack.source), pack.number), pack.pin()));
    files.chain(maps).chain(packs)
}

async fn object(repository: &Repository, name: &str, pin: &Pin) -> Result<()> {
    let bytes = repository
        .store()
        .get(name)
        .await?
        .ok_or_else(|| repo::Error::Missing { name: name.into() })?;
    if check_hash(name, &bytes)? != *pin {
        let what = "it is not the object that was written here".into();
        return Err(repo::Error::Damaged {
            name: name.into(),
            what,
        }
        .into());
    }
    // The session's key is an object too, without which this one is noise.
    repository.learn_session(name, &bytes).await?;
    Ok(())
}

/// The WAL from start to end, and the histories of its timelines.
async fn wal(opened: &Opened, manifest: &Manifest, findings: &mut Findings) -> Result<()> {
    let facts = &manifest.facts;
    let generation = facts.postgresql.generation;
    let mut bytes = 0;
    for range in facts.wal_needed() {
        let stream = WalStream::new(generation, range.timeline, facts.postgresql.segment_size)?;
        let from = stream.segment_of(range.from.0);
        let mut assembly = Assembly::new(&opened.repository, stream, from, range.to.0);
        loop {
            match assembly.next().await {
                Ok(Some(run)) => bytes += run.bytes.len(),
                Ok(None) => break,
                Err(error) => return damage(findings, error.into()),
            }
        }
    }
    let tip = facts.stop.timeline;
    if tip > 1 {
        match read_history(&opened.repository, generation, tip).await {
            Ok(Some(_)) => {}
            Ok(None) => findings.found.push(format!(
                "{} is missing from the repository",
                names::wal_history(generation, tip)
            )),
            Err(error) => damage(findings, error.into())?,
        }
    }
    findings.checked.push(format!(
        "{bytes} bytes of WAL from {} to {}: no gap",
        facts.start.lsn, facts.stop.lsn
    ));
    Ok(())
}
