//! WAL between two backups that is damaged or gone.

use std::{fs, path::PathBuf, time::Duration};

use engine::repo::{
    ledger::{Entry, Severity},
    names,
    wal::{is_done, open_runs},
};
use pgformat::Lsn;

use super::fallbacks::{change, falls_back, flip, in_the_directory, small};
use crate::{
    ask::{until, value},
    receiving::{flushed, stream_of, write_wal},
    scene::{Depth, Scene},
};

/// A backup, some segments of WAL with changes between them, and the file of a finished run in their middle.
async fn with_finished_runs() -> (Scene, PathBuf) {
    let scene = small(true, &[]).await;
    scene.world.backup(&scene.cluster).await;
    change(&scene, 1).await;
    write_wal(&scene.cluster, 17).await;
    change(&scene, 2).await;
    let inside: Lsn = value(&scene.cluster, "pg_current_wal_insert_lsn()")
        .await
        .parse()
        .unwrap();
    write_wal(&scene.cluster, 34).await;
    let stream = stream_of(&scene.cluster, 1).await;
    let opened = scene.world.open().await;
    until("the segment is finished", || async {
        // Who finishes it reads it back before the open runs go, and would make it anew if it were damaged by then.
        let made_of = open_runs(&opened.repository, &stream, inside.0).await.unwrap();
        is_done(&opened.repository, &stream, inside.0).await.unwrap() && made_of.is_empty()
    })
    .await;
    assert!(flushed(&scene.cluster).await > inside.0 + stream.segment_size());
    let name = names::wal_done(
        stream.generation,
        1,
        stream.segment_of(inside.0),
        stream.done_start(inside.0),
    );
    let file = scene.world.target("repository/shop").join(name);
    assert!(file.exists(), "{}", file.display());
    (scene, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_wal_that_is_damaged_tells_of_no_changes() {
    let (mut scene, run) = with_finished_runs().await;
    flip(&run, in_the_directory);
    falls_back(&mut scene, "damaged").await;
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wal_that_went_is_no_ground_to_take_a_page_unread() {
    let (mut scene, run) = with_finished_runs().await;
    fs::remove_file(&run).unwrap();
    falls_back(&mut scene, "is not in the repository").await;
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_wal_whose_index_is_sound_still_tells_what_changed() {
    let (mut scene, run) = with_finished_runs().await;
    flip(&run, |length| length / 2);
    let rows = scene.rows().await;
    let (summary, _) = scene.by_wal(100, "damaged bytes").await;
    scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
    scene.stop_receiving().await;
}

/// By its names all WAL has come; waiting for more of it would never end.
#[tokio::test(flavor = "multi_thread")]
async fn wal_that_somebody_found_damaged_is_not_waited_for() {
    let (mut scene, run) = with_finished_runs().await;
    flip(&run, |length| length / 2);
    let folder = scene.world.target("repository/shop");
    let name = run.strip_prefix(&folder).unwrap().to_str().unwrap();
    let opened = scene.world.open().await;
    opened.begin_session().await.unwrap();
    let found = Entry::AlertRaised {
        alert: format!("wal-damaged-{name}"),
        severity: Severity::Critical,
        text: "a restore stumbled over it".into(),
    };
    opened.append(found).await.unwrap();
    let taken = tokio::time::timeout(Duration::from_secs(60), scene.by_hashes()).await;
    let (_, why) = taken.unwrap();
    assert!(why.contains("is not in the repository"), "{why}");
    scene.stop_receiving().await;
}
