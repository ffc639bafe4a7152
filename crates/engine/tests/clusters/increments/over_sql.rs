//! Increments of a server whose machine nobody sees, by a role that may do nothing but execute five functions.

use engine::{
    backup::{Options, Reader, Summary, Wanted},
    pgclient::{Conninfo, catalog::grants_for_reader},
};
use pgformat::Major;
use testkit::clusters::majors_to_test;

use super::{
    fallbacks::change,
    rounds::full_matrix,
    workload::{self, Part, work},
};
use crate::{
    ask::sql,
    scene::{Depth, Scene, options, rests_on_wal},
};

const ALL: [Part; 5] = [
    Part::Random(4),
    Part::Databases,
    Part::Rows,
    Part::Truncation,
    Part::Rewrites,
];

/// How the role connects.
async fn poor(scene: &Scene) -> Conninfo {
    sql(&scene.cluster, "CREATE ROLE poor LOGIN NOSUPERUSER NOREPLICATION").await;
    sql(&scene.cluster, &grants_for_reader(scene.cluster.major(), "poor")).await;
    let text = scene.cluster.conninfo_text().replace("user=postgres", "user=poor");
    Conninfo::parse(&text, &|_| None).unwrap()
}

/// Where the data directory is, nobody says.
fn over_sql(options: &mut Options) {
    options.reader = Reader::Sql;
    options.data_directory = None;
}

async fn increment(scene: &Scene, poor: &Conninfo, audit: u8, what: &str) -> Summary {
    let taken = scene.take_as(poor, |options| {
        over_sql(options);
        options.wanted = Wanted::Incremental;
        options.audit = audit;
    });
    let summary = taken.await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let increment = rests_on_wal(&summary, what);
    if audit == 100 {
        assert_eq!(increment.audited, increment.kept, "{what}");
    }
    summary
}

/// One backup after another; each round of work begins after the one before was backed up.
async fn increments(major: Major, rounds: &[Part]) {
    let mut scene = Scene::begin(major, options(true, &[])).await;
    workload::begin(&scene.cluster).await;
    let poor = poor(&scene).await;
    scene.rows().await;
    let full = scene.take_as(&poor, over_sql).await.unwrap();
    assert_eq!(full.increment, None);
    assert_eq!(full.page_errors, Vec::<String>::new());
    let mut taken = Vec::new();
    for (part, round) in rounds.iter().zip(1..) {
        work(&scene.cluster, *part, round).await;
        let rows = scene.rows().await;
        let what = format!("PostgreSQL {major}, over SQL, {part:?}");
        let summary = increment(&scene, &poor, 100, &what).await;
        taken.push((summary.backup.id, rows));
    }
    change(&scene, 7).await;
    let rows = scene.rows().await;
    let summary = increment(
        &scene,
        &poor,
        1,
        &format!("PostgreSQL {major}, over SQL, little changed"),
    )
    .await;
    assert!(
        summary.bytes_read * 4 < summary.backup.bytes,
        "{} of {}",
        summary.bytes_read,
        summary.backup.bytes
    );
    taken.push((summary.backup.id, rows));
    let (last, earlier) = taken.split_last().unwrap();
    scene.brings_back(&last.0, &last.1, Depth::All).await;
    for (id, rows) in earlier {
        scene.brings_back(id, rows, Depth::Rows).await;
    }
    if major == Major::V15 {
        takes_turns(&mut scene, &poor).await;
    }
    scene.stop_receiving().await;
}

/// Who sees the machine goes on where it was left, and the other way round.
async fn takes_turns(scene: &mut Scene, poor: &Conninfo) {
    change(scene, 8).await;
    scene.by_wal(100, "of this machine, on one over SQL").await;
    change(scene, 9).await;
    let rows = scene.rows().await;
    let summary = increment(scene, poor, 100, "over SQL, on one of this machine").await;
    scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_rights_to_execute_alone_takes_increments_that_miss_nothing() {
    for major in majors_to_test() {
        let parts: &[Part] = match (full_matrix(), major) {
            (true, _) => &ALL,
            (false, Major::V15) => &ALL[..2],
            (false, _) => &ALL[..1],
        };
        increments(major, parts).await;
    }
}
