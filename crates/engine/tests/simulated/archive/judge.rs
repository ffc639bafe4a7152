//! What has to hold after every schedule, once everybody came to the end.

use std::{collections::BTreeSet, sync::Arc};

use engine::{
    database::{self, Opened},
    pgformat::Tli,
    repo::wal::{WalStream, assemble, coverage, is_done, newest_mark, read_history, read_index},
};
use testkit::sim::What;

use super::{
    FIRST, SEGMENT,
    directory::{Archived, Directory},
    index,
};
use crate::model::{
    Cluster,
    world::{World, context},
};

/// One server, and what it believes of its archive.
#[derive(Clone)]
pub(crate) struct Witness {
    /// Whether it was found out to be one of two. What both stored of one segment at the same moment, one as runs and one
    /// whole, before either could see the other's, is the pusher's then: an alarm tells of it.
    pub(crate) was_refused: bool,
    pub(crate) cluster: Cluster,
    pub(crate) directories: Vec<Arc<Directory>>,
    /// Labels of backups of it that succeeded.
    pub(crate) backups: Vec<String>,
}

/// Looks into the repository in a new process.
fn look<F: Future<Output = ()> + Send>(world: &World, judge: impl FnOnce(Opened) -> F + Send + 'static) {
    let process = world.sim.process("judge");
    let (own, looking) = (process.clone(), world.clone());
    let judged = world.sim.run_one(&process, async move {
        let store = Arc::new(looking.store.of(&own));
        let opened = database::open_store(&context(&own), store, &looking.unlock).await;
        judge(opened.unwrap()).await;
    });
    judged.expect("the judge comes to an end");
}

fn stream(cluster: &Cluster, timeline: Tli) -> WalStream {
    let generation = cluster.files().control().system_identifier;
    WalStream::new(generation, timeline.0, SEGMENT).unwrap()
}

/// The bytes from `from` to `to` are this server's.
async fn is_of(opened: &Opened, cluster: &Cluster, (timeline, from, to): (Tli, u64, u64), when: &str) {
    let compared = assemble(
        &opened.repository,
        stream(cluster, timeline),
        from,
        to,
        |start, bytes| {
            let written = cluster.wal_of(timeline, start, start + bytes.len() as u64);
            assert!(written == *bytes, "{when}: {timeline} {start:x} holds other bytes");
            Ok(())
        },
    );
    if let Err(error) = compared.await {
        panic!("{when}: {timeline} from {from:x} to {to:x}: {error}");
    }
}

/// Whatever the server was told to be durable is here, and is its own.
pub(crate) fn promises_are_kept(world: &World, witness: &Witness, when: &str) {
    let (witness, when) = (witness.clone(), when.to_string());
    look(world, async move |opened| {
        let cluster = &witness.cluster;
        for mut heard in cluster.heard() {
            if witness.was_refused {
                heard.2 = heard.2.saturating_sub(1) / SEGMENT * SEGMENT;
            }
            if heard.1 < heard.2 {
                is_of(&opened, cluster, heard, &format!("{when}: acknowledged")).await;
            }
        }
        for directory in &witness.directories {
            for archived in directory.archived() {
                match archived {
                    Archived::Wal(timeline, from, to) => {
                        is_of(&opened, cluster, (timeline, from, to), &format!("{when}: archived")).await;
                    }
                    Archived::History(timeline) => {
                        let generation = stream(cluster, timeline).generation;
                        let stored = read_history(&opened.repository, generation, timeline.0).await.unwrap();
                        assert_eq!(stored.as_deref(), cluster.history(timeline).as_deref(), "{when}");
                    }
                }
            }
        }
        let backups =
            opened.with_state(|state| state.backups().map(|backup| backup.summary.clone()).collect::<Vec<_>>());
        for backup in backups.await {
            if !witness.backups.contains(&backup.label.unwrap()) {
                continue;
            }
            let (start, stop) = (backup.start_lsn.unwrap().0, backup.stop_lsn.unwrap().0);
            let stretch = (Tli(backup.timeline.unwrap()), start, stop);
            is_of(&opened, cluster, stretch, &format!("{when}: backed up")).await;
        }
    });
}

/// What holds where one server writes: everything that is stored is its WAL, finished where it is complete and with the
/// index that its bytes have; and holes are told.
pub(crate) fn the_archive_is_sound(world: &World, witness: &Witness, holes: Holes, when: &str) {
    let (witness, when) = (witness.clone(), when.to_string());
    look(world, async move |opened| {
        let cluster = &witness.cluster;
        let gaps = opened.with_state(|state| state.gaps().to_vec()).await;
        if holes == Holes::None {
            assert!(gaps.is_empty(), "{when}: {gaps:?}");
        }
        let mut begun = None;
        for timeline in (1..=cluster.timeline().0).map(Tli) {
            let when = format!("{when}: timeline {timeline}");
            let next = stream(cluster, Tli(timeline.0 + 1));
            let stream = stream(cluster, timeline);
            let stretches = coverage(&opened.repository, &stream).await.unwrap();
            let end = cluster.end_of(timeline).0;
            // What backups left before anybody received is no loss. Who received a timeline receives those that leave it.
            begun = cluster.received_from(timeline).into_iter().chain(begun).min();
            let claimed_from = match holes {
                Holes::None => 0,
                Holes::Told => begun.unwrap_or(u64::MAX),
            };
            for (from, to) in &stretches {
                assert!(*to <= end, "{when}: more is here than was written: {to:x} {end:x}");
                is_of(&opened, cluster, (timeline, *from, *to), &when).await;
                let complete = from.next_multiple_of(SEGMENT)..stream.segment_of(*to);
                for segment in complete.step_by(SEGMENT as usize) {
                    // What a receiver took for lost, and a backup's late write brought after all, is finished at the next start.
                    let was_lost = gaps
                        .iter()
                        .any(|gap| gap.timeline == timeline.0 && gap.from.0 < segment + SEGMENT && segment < gap.to.0);
                    let done = is_done(&opened.repository, &stream, segment).await.unwrap();
                    if done || !was_lost {
                        is_indexed(&opened, cluster, &stream, segment, &when).await;
                    }
                }
            }
            let told = |from: u64, to: u64| {
                let mut at = from;
                while let Some(gap) = gaps
                    .iter()
                    .find(|gap| gap.timeline == timeline.0 && (gap.from.0..gap.to.0).contains(&at))
                {
                    at = gap.to.0;
                }
                at >= to || to <= claimed_from
            };
            for pair in stretches.windows(2) {
                let (from, to) = (pair[0].1, pair[1].0);
                assert!(
                    told(from, to),
                    "{when}: from {from:x} to {to:x} nothing is here, and nobody says so: {gaps:?}"
                );
            }
            let reached = stretches.last().map_or(end, |(_, to)| *to);
            // The segment in which a timeline is left comes along with the next one.
            let brought_along = holes == Holes::Told
                && reached >= stream.segment_of(end)
                && has(&opened, &next, stream.segment_of(end)).await;
            assert!(
                told(reached, end) || brought_along,
                "{when}: from {reached:x} on nothing is here: {stretches:x?} {gaps:?}"
            );
            begun = begun.map(|_| stream.segment_of(end));
            if let Some(mark) = newest_mark(&opened.repository, &stream).await.unwrap() {
                let position = mark.position.0;
                // Who begins where nothing is yet says so of nothing.
                let inside = stretches.iter().any(|(from, to)| (*from..=*to).contains(&position));
                let nothing = position == stream.segment_of(position);
                assert!(inside || nothing, "{when}: a mark at {position:x}, and {stretches:x?}");
            }
        }
    });
}

/// Whether the byte at `position` is here.
async fn has(opened: &Opened, stream: &WalStream, position: u64) -> bool {
    let stretches = coverage(&opened.repository, stream).await.unwrap();
    stretches.iter().any(|(from, to)| (*from..*to).contains(&position))
}

/// Open runs go only after the finished one that holds them is there, and finished ones never.
pub(crate) fn nothing_goes_that_is_not_kept_elsewhere(world: &World, witness: &Witness, when: &str) {
    let generation = witness.cluster.files().control().system_identifier;
    let mut finished = BTreeSet::new();
    for change in world.store.history() {
        let Some(rest) = change.name.strip_prefix(&format!("wal/{generation}/")) else {
            continue;
        };
        let (timeline, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let Some((segment, start)) = rest.split_once('/') else {
            continue;
        };
        match (segment, &change.what) {
            ("done", What::Created(_)) => {
                finished.insert((timeline.to_string(), start.to_string()));
            }
            ("done", what) => panic!("{when}: {} went: {what:?}", change.name),
            (_, What::Deleted) => assert!(
                finished
                    .iter()
                    .any(|(of, start)| of == timeline && start.starts_with(segment)),
                "{when}: {} went before anything holds it; {finished:?}",
                change.name
            ),
            _ => {}
        }
    }
}

/// Not one byte after the place where two servers went apart is of another one than all others.
pub(crate) fn all_is_of_one(world: &World, clusters: [&Cluster; 2], when: &str) {
    let (clusters, when) = (clusters.map(Cluster::clone), when.to_string());
    look(world, async move |opened| {
        let stream = stream(&clusters[0], Tli(1));
        let stretches = coverage(&opened.repository, &stream).await.unwrap();
        let mut differ = [None, None];
        for (from, to) in &stretches {
            let compared = assemble(&opened.repository, stream, *from, *to, |start, bytes| {
                for (cluster, differs) in clusters.iter().zip(&mut differ) {
                    let end = (start + bytes.len() as u64).min(cluster.flushed().0);
                    let written = cluster.wal_of(Tli(1), start.min(end), end);
                    if written != bytes {
                        differs.get_or_insert(start);
                    }
                }
                Ok(())
            });
            compared.await.unwrap();
        }
        assert!(
            differ.contains(&None),
            "{when}: the WAL of both is mixed: {differ:x?} {stretches:x?}"
        );
    });
}

/// Whether WAL may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holes {
    None,
    Told,
}

async fn is_indexed(opened: &Opened, cluster: &Cluster, stream: &WalStream, segment: u64, when: &str) {
    let done = is_done(&opened.repository, stream, segment).await.unwrap();
    assert!(done, "{when}: {segment:x} is complete and not finished");
    let stored = read_index(&opened.repository, stream, segment).await.unwrap().unwrap();
    let (timeline, generation) = (Tli(stream.timeline), stream.generation);
    let end = segment + SEGMENT;
    let alone = index::of(generation, segment, &cluster.wal_of(timeline, segment, end));
    if stored == alone {
        return;
    }
    let before = (segment - SEGMENT).max(FIRST);
    let joined = index::of(generation, before, &cluster.wal_of(timeline, before, end));
    assert!(
        stored.summary.joined && stored == joined,
        "{when}: {segment:x} has another index"
    );
}
