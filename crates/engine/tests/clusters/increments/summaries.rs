//! What PostgreSQL itself says that WAL changed, from 17 on (`summarize_wal`): we may name more pages, and never less.

use std::collections::{BTreeMap, BTreeSet};

use engine::repo::wal::{index::Relation, read_index};
use pgformat::{Lsn, Major};

use super::{
    rounds::full_matrix,
    workload::{self, Part, each, work},
};
use crate::{
    ask::{until, value},
    receiving::{flushed, here, stream_of, write_wal},
    scene::{Scene, options},
};

/// What we name of main forks.
#[derive(Default)]
struct Ours {
    blocks: BTreeMap<Relation, BTreeSet<u32>>,
    limits: BTreeMap<Relation, u32>,
    databases: BTreeSet<(u32, u32)>,
}

impl Ours {
    /// All finished runs from one position to another.
    async fn read(scene: &Scene, from: u64, to: u64) -> Ours {
        let stream = stream_of(&scene.cluster, 1).await;
        let opened = scene.world.open().await;
        let mut ours = Ours::default();
        let mut position = stream.done_start(from);
        while position < to {
            until("the run is finished", || async {
                read_index(&opened.repository, &stream, position)
                    .await
                    .unwrap()
                    .is_some()
            })
            .await;
            let index = read_index(&opened.repository, &stream, position)
                .await
                .unwrap()
                .unwrap();
            assert_eq!((index.summary.broken, index.summary.incomplete), (None, None));
            for one in index.blocks.relations {
                if one.fork == 0 {
                    ours.blocks.entry(one.relation).or_default().extend(one.blocks);
                    if let Some(limit) = one.limit {
                        let least = ours.limits.entry(one.relation).or_insert(limit);
                        *least = limit.min(*least);
                    }
                }
            }
            ours.databases.extend(index.blocks.databases);
            position = stream.done_end(position);
        }
        ours
    }

    fn tells(&self, relation: Relation, block: u32, is_limit: bool) -> bool {
        // A database made or dropped whole stands in a summary as a relation without a number.
        if relation.number == 0 || self.databases.contains(&(relation.space, relation.database)) {
            return self.databases.contains(&(relation.space, relation.database));
        }
        let limited = self.limits.get(&relation).is_some_and(|limit| *limit <= block);
        let named = self.blocks.get(&relation).is_some_and(|blocks| blocks.contains(&block));
        limited || named && !is_limit
    }
}

/// Where summaries begin and end.
const REDO: &str = "SELECT redo_lsn FROM pg_control_checkpoint()";

async fn every_block_of_a_summary_is_named(major: Major) {
    let mut scene = Scene::begin(major, options(true, &["summarize_wal = on"])).await;
    workload::begin(&scene.cluster).await;
    // Cut off, and neither made nor dropped within what is compared.
    let table = "CREATE TABLE public.cut AS SELECT i, repeat('-', 500) AS filler FROM generate_series(1, 2000) AS i";
    each(
        &scene.cluster,
        "postgres",
        &[table, "SELECT pg_switch_wal()", "CHECKPOINT"],
    )
    .await;
    let from: Lsn = value(&scene.cluster, REDO).await.parse().unwrap();
    let cut = ["DELETE FROM public.cut WHERE i > 1000", "VACUUM public.cut"];
    each(&scene.cluster, "postgres", &cut).await;
    let parts = [
        Part::Rows,
        Part::Aborts,
        Part::Truncation,
        Part::Rewrites,
        Part::Databases,
        Part::Random(17),
        Part::Hints,
    ];
    for (part, round) in parts.into_iter().zip(1..) {
        work(&scene.cluster, part, round).await;
        each(&scene.cluster, "postgres", &["CHECKPOINT"]).await;
    }
    let end: Lsn = value(&scene.cluster, REDO).await.parse().unwrap();
    until("all is summarized", || async {
        let question = format!("SELECT coalesce(max(end_lsn) >= '{end}', false) FROM pg_available_wal_summaries()");
        value(&scene.cluster, &question).await == "true"
    })
    .await;
    // The record across the end has to end in a finished run.
    write_wal(&scene.cluster, 34).await;
    let stream = stream_of(&scene.cluster, 1).await;
    here(&scene.world, &stream, flushed(&scene.cluster).await).await;

    let ours = Ours::read(&scene, from.0, stream.done_end(end.0)).await;
    let session = scene.cluster.session().await;
    let theirs = format!(
        "SELECT c.reltablespace::bigint, c.reldatabase::bigint, c.relfilenode::bigint, c.relblocknumber, c.is_limit_block
           FROM pg_available_wal_summaries() AS s, pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) AS c
          WHERE c.relforknumber = 0 AND s.start_lsn >= '{from}' AND s.end_lsn <= '{end}'"
    );
    let rows = session.query("read summaries", &theirs, &[]).await.unwrap();
    let oid = |value: i64| u32::try_from(value).unwrap();
    let mut missing = Vec::new();
    for row in &rows {
        let relation = Relation {
            space: oid(row.get(0)),
            database: oid(row.get(1)),
            number: oid(row.get(2)),
        };
        let (block, is_limit): (i64, bool) = (row.get(3), row.get(4));
        if !ours.tells(relation, oid(block), is_limit) {
            missing.push(format!("{relation:?} block {block}, limit: {is_limit}"));
        }
    }
    session.close().await;
    println!("PostgreSQL {major}: {} rows of summaries", rows.len());
    assert!(rows.len() > 3000, "{}", rows.len());
    assert!(
        missing.is_empty(),
        "PostgreSQL {major}: {} are not ours: {missing:#?}",
        missing.len()
    );
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_that_postgresql_says_was_changed_is_named_by_us() {
    every_block_of_a_summary_is_named(Major::V18).await;
    if full_matrix() {
        every_block_of_a_summary_is_named(Major::V17).await;
    }
}
