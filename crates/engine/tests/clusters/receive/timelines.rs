//! Promotions are followed, and who was left behind is not listened to.

use std::{fs, time::Duration};

use pgclient::Conninfo;
use pgformat::Major;
use testkit::clusters::{TestCluster, caught_up, majors_to_test, standby_of};

use engine::{
    Error,
    repo::wal::{coverage, newest_mark, put_history, read_history},
};

use crate::{
    ask::{sql, until, value},
    receiving::{
        Receiving, compare, equals_server, flushed, here, keeping, keeping_small, no_slot, promote_alone, slot,
        stream_of, write_wal,
    },
    world::World,
};

async fn promote(standby: &TestCluster) {
    sql(standby, "SELECT pg_promote()").await;
    sql(standby, "CREATE TABLE public.after_promotion (x int)").await;
}

/// What is here of the second timeline equals the server's, the first is here up to where it was left, and everything
/// that finds the way is kept.
async fn followed(world: &World, server: &TestCluster) {
    let (old, new) = (stream_of(server, 1).await, stream_of(server, 2).await);
    assert!(equals_server(world, server, &new).await > 0);
    let opened = world.open().await;
    let history = read_history(&opened.repository, new.generation, 2)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        history,
        fs::read(server.data_dir().join("pg_wal/00000002.history")).unwrap()
    );
    let history = pgformat::history::History::parse(pgformat::Tli(2), &history).unwrap();
    let switch = history.switches()[0].at.0;
    let stretches = coverage(&opened.repository, &old).await.unwrap();
    assert_eq!(stretches.len(), 1, "{stretches:x?}");
    assert!(stretches[0].1 >= switch, "{stretches:x?} {switch:x}");
    let generation = new.generation.to_string();
    let known = opened.with_state(|state| state.knows_timeline(&generation, 2)).await;
    assert!(known);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_promoted_is_followed_to_its_new_timeline() {
    for major in majors_to_test() {
        let mut primary = TestCluster::new(major, keeping()).await;
        let world = World::new().await;
        let standby = standby_of(&mut primary, &world.target("standby")).await;
        let receiving = Receiving::start(&world, standby.conninfo(), slot()).await;
        write_wal(&primary, 20).await;
        let old = stream_of(&primary, 1).await;
        caught_up(&primary, &standby).await;
        here(&world, &old, flushed(&primary).await).await;
        promote(&standby).await;
        write_wal(&standby, 5).await;
        let new = stream_of(&standby, 2).await;
        here(&world, &new, flushed(&standby).await).await;
        assert_eq!(receiving.warnings(), Vec::<String>::new(), "PostgreSQL {major}");
        assert_eq!(receiving.stop().await.timeline, Some(2), "PostgreSQL {major}");
        followed(&world, &standby).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_not_asked_whether_more_was_written() {
    let mut primary = TestCluster::new(Major::V15, keeping()).await;
    let world = World::new().await;
    let stream = stream_of(&primary, 1).await;
    let standby = standby_of(&mut primary, &world.target("standby")).await;
    let marked = || async {
        let opened = world.open().await;
        newest_mark(&opened.repository, &stream).await.unwrap().is_some()
    };
    let mut options = slot();
    options.mark_interval = Duration::from_millis(50);
    let receiving = Receiving::start(&world, standby.conninfo(), options).await;
    write_wal(&primary, 2).await;
    caught_up(&primary, &standby).await;
    here(&world, &stream, flushed(&primary).await).await;
    receiving.stop().await;
    assert!(!marked().await, "a standby that is cut off would have said the same");
    let receiving = Receiving::start(&world, primary.conninfo(), slot()).await;
    write_wal(&primary, 1).await;
    here(&world, &stream, flushed(&primary).await).await;
    receiving.stop().await;
    assert!(marked().await);
}

/// A connection string that names two servers.
fn both(first: &TestCluster, second: &TestCluster) -> Conninfo {
    let text = format!(
        "host={},{} port={},{} user=postgres dbname=postgres sslmode=disable",
        first.folder().display(),
        second.folder().display(),
        first.port(),
        second.port()
    );
    Conninfo::parse(&text, &|_| None).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_takes_over_and_the_old_primary_is_refused() {
    let mut primary = TestCluster::new(Major::V15, keeping()).await;
    let world = World::new().await;
    let standby = standby_of(&mut primary, &world.target("standby")).await;
    let old = stream_of(&primary, 1).await;
    let receiving = Receiving::start(&world, both(&primary, &standby), slot()).await;
    write_wal(&primary, 10).await;
    here(&world, &old, flushed(&primary).await).await;
    caught_up(&primary, &standby).await;
    primary.crash().await;
    promote(&standby).await;
    let new = stream_of(&standby, 2).await;
    here(&world, &new, flushed(&standby).await).await;
    receiving.stop().await;
    followed(&world, &standby).await;

    // It comes back, and writes on as if nothing had happened.
    primary.start().await;
    write_wal(&primary, 3).await;
    let opened = world.open().await;
    let before = coverage(&opened.repository, &old).await.unwrap();
    let failed = Receiving::start(&world, primary.conninfo(), slot()).await.fails().await;
    let Error::Conflict { code, what, .. } = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(code, "timeline-behind");
    assert!(what.contains("timeline 2 went on from"), "{what}");
    assert_eq!(coverage(&opened.repository, &old).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_timeline_is_received_to_its_end_before_the_new_one() {
    let mut primary = TestCluster::new(Major::V15, keeping()).await;
    let world = World::new().await;
    let standby = standby_of(&mut primary, &world.target("standby")).await;
    let old = stream_of(&primary, 1).await;
    let receiving = Receiving::start(&world, primary.conninfo(), slot()).await;
    write_wal(&primary, 3).await;
    here(&world, &old, flushed(&primary).await).await;
    receiving.stop().await;
    // Nobody receives this, nor the promotion.
    write_wal(&primary, 30).await;
    caught_up(&primary, &standby).await;
    promote(&standby).await;
    let new = stream_of(&standby, 2).await;
    let receiving = Receiving::start(&world, standby.conninfo(), slot()).await;
    here(&world, &new, flushed(&standby).await).await;
    assert_eq!(receiving.stop().await.gaps, vec![]);
    followed(&world, &standby).await;
    let opened = world.open().await;
    let stretches = coverage(&opened.repository, &old).await.unwrap();
    assert!(compare(&opened, &primary, &old, stretches[0].0, stretches[0].1).await > 30 << 20);
}

/// Receives the first timeline for a while, not its end; then the server is promoted, and somebody else stores of the
/// second one first. What a receiver without a slot makes of it.
async fn overtaken(recycled: bool) -> (World, TestCluster) {
    let mut cluster = TestCluster::new(Major::V15, keeping_small()).await;
    let world = World::new().await;
    let old = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), no_slot()).await;
    write_wal(&cluster, 3).await;
    here(&world, &old, flushed(&cluster).await).await;
    let end = receiving.stop().await.position.unwrap().0;
    write_wal(&cluster, 4).await;
    promote_alone(&mut cluster).await;
    write_wal(&cluster, 2).await;
    world.backup(&cluster).await;
    if recycled {
        let name = format!("{:08X}{:08X}{:08X}", 1, end >> 32, (end & 0xFFFF_FFFF) >> 20);
        fs::remove_file(cluster.data_dir().join("pg_wal").join(name)).unwrap();
    }
    let new = stream_of(&cluster, 2).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), no_slot()).await;
    here(&world, &new, flushed(&cluster).await).await;
    until("what is missing of the old one was asked for", || async {
        let opened = world.open().await;
        let gaps = opened.with_state(|state| state.gaps().len()).await;
        let history = read_history(&opened.repository, new.generation, 2).await.unwrap();
        let history = pgformat::history::History::parse(pgformat::Tli(2), &history.unwrap()).unwrap();
        let reached = coverage(&opened.repository, &old).await.unwrap();
        gaps > 0 || reached.last().unwrap().1 >= history.switches()[0].at.0
    })
    .await;
    sql(&cluster, "CREATE TABLE public.last (x int)").await;
    here(&world, &new, flushed(&cluster).await).await;
    assert_eq!(receiving.stop().await.gaps.len(), usize::from(recycled));
    (world, cluster)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_timelines_tail_is_fetched_though_a_backup_has_stored_the_new_one() {
    let (world, cluster) = overtaken(false).await;
    followed(&world, &cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_timelines_tail_is_a_recorded_gap_where_the_server_has_recycled_it() {
    overtaken(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_left_behind_while_it_is_received_is_told_of() {
    let cluster = TestCluster::new(Major::V15, keeping_small()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    write_wal(&cluster, 1).await;
    here(&world, &stream, flushed(&cluster).await).await;
    let opened = world.open().await;
    let session = opened.begin_session().await.unwrap();
    let switch = value(&cluster, "pg_current_wal_flush_lsn()").await;
    let history = format!("1\t{switch}\tno recovery target specified\n");
    let stored = put_history(&opened.repository, &session, stream.generation, 2, history.as_bytes());
    stored.await.unwrap();
    write_wal(&cluster, 3).await;
    let failed = receiving.fails().await;
    let Error::Conflict { code, .. } = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(code, "timeline-behind");
}
