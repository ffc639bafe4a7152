//! Servers that went two ways on one timeline: by its history nobody tells them apart.

use std::{path::PathBuf, process::Command};

use engine::{
    Error,
    archive::push,
    backup::Wanted,
    repo::wal::{WalStream, append_run, contiguous_end},
};
use pgformat::{
    Lsn, Major, Tli,
    segment::{SegmentName, SegmentSize},
};
use testkit::clusters::{Options, TestCluster};

use super::fallbacks::{change, small_on};
use crate::{
    ask::{until, value},
    receiving::stream_of,
    scene::{Depth, Scene, options},
};

/// A server that lost its last writes: its disk, or a replica of it, went back a little. What it wrote until then ends with a
/// segment, all of it in one. A backup begins with a segment.
struct Fork {
    /// Of the server as it is now.
    scene: Scene,
    /// What it was.
    lost: TestCluster,
    stream: WalStream,
    /// Where it went back to.
    from: u64,
    /// Where the segment ends.
    to: u64,
}

impl Fork {
    async fn new(wal_segment_size_mib: u32) -> Fork {
        let mut scene = small_on(Options {
            wal_segment_size_mib,
            ..options(true, &[])
        })
        .await;
        scene.world.backup(&scene.cluster).await;
        value(&scene.cluster, "SELECT pg_switch_wal()").await;
        scene.all_is_here().await;
        scene.stop_receiving().await;
        scene.cluster.stop().await;
        let copy = scene.world.target("copy");
        let copied = Command::new("cp")
            .arg("-a")
            .arg(scene.cluster.data_dir())
            .arg(&copy)
            .status();
        assert!(copied.unwrap().success());
        scene.cluster.start().await;
        let stream = stream_of(&scene.cluster, 1).await;
        let from = position(&scene).await;
        change(&scene, 1).await;
        value(&scene.cluster, "SELECT pg_switch_wal()").await;
        let to = stream.segment_of(position(&scene).await);
        assert_eq!(to, stream.segment_end(from), "what is lost is within one segment");

        scene.cluster.stop().await;
        let lost = std::mem::replace(&mut scene.cluster, TestCluster::on(Major::V15, &copy));
        scene.cluster.start().await;
        // Records of other sizes: each tells where the one before it begins, and nothing else of it.
        change(&scene, 2).await;
        change(&scene, 3).await;
        assert!(position(&scene).await < to);
        Fork {
            scene,
            lost,
            stream,
            from,
            to,
        }
    }

    /// The file of the segment as it was.
    fn lost_segment(&self) -> PathBuf {
        let size = SegmentSize::new(self.stream.segment_size()).unwrap();
        let name = SegmentName::holding(Tli(1), Lsn(self.from), size).file_name(size);
        self.lost.data_dir().join("pg_wal").join(name)
    }

    /// Stores what is lost as `archive_command` does.
    async fn push(&self) {
        let opened = self.scene.world.open().await;
        let request = push::Request {
            path: self.lost_segment(),
            current: self.lost.data_dir().to_owned(),
            jobs: 1,
        };
        push::run(&self.scene.world.context, &opened.repository, &request)
            .await
            .unwrap();
    }

    /// Stores what is lost as a receiver does that goes before it has made anything whole of it.
    async fn append(&self) {
        let opened = self.scene.world.open().await;
        let session = opened.begin_session().await.unwrap();
        let bytes = std::fs::read(self.lost_segment()).unwrap();
        let (begun, mut at) = (self.stream.segment_of(self.from), self.stored_from(self.from).await);
        while at < self.to {
            let end = (at + (4 << 20)).min(self.stream.done_end(at));
            let run = &bytes[(at - begun) as usize..(end - begun) as usize];
            at = append_run(&opened.repository, &session, &self.stream, at, run)
                .await
                .unwrap();
        }
    }

    /// Where what is stored ends, from `from` on.
    async fn stored_from(&self, from: u64) -> u64 {
        let opened = self.scene.world.open().await;
        contiguous_end(&opened.repository, &self.stream, from).await.unwrap()
    }
}

/// Where the server is, as a position.
async fn position(scene: &Scene) -> u64 {
    let query = "SELECT (pg_current_wal_lsn() - '0/0')::bigint";
    value(&scene.cluster, query).await.parse().unwrap()
}

fn is_two_servers<T: std::fmt::Debug>(refused: engine::Result<T>) {
    let Err(Error::Conflict { code, what, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(code, "two-servers");
    assert!(what.contains("follows on one at"), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_last_writes_is_told_from_what_it_was() {
    let mut fork = Fork::new(16).await;
    fork.push().await;
    assert_eq!(fork.stored_from(fork.from).await, fork.to);
    is_two_servers(fork.scene.take(|options| options.wanted = Wanted::Incremental).await);
    // None of its WAL goes on where that of the other ends.
    assert_eq!(fork.stored_from(fork.from).await, fork.to);
    let rows = fork.scene.rows().await;
    let (summary, why) = fork.scene.by_hashes().await;
    assert!(why.contains("is not in the repository"), "{why}");
    fork.scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
}

/// Behind a switch the last stretch of a long segment is empty: only who saw the switch knows that this is no damage.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_told_from_what_it_was_by_wal_that_was_never_made_whole() {
    let fork = Fork::new(64).await;
    fork.append().await;
    assert_eq!(fork.stored_from(fork.from).await, fork.to);
    is_two_servers(fork.scene.take(|options| options.wanted = Wanted::Incremental).await);
    assert_eq!(fork.stored_from(fork.from).await, fork.to);
}

/// A backup waits for WAL that is late, and takes pages unread for what that says.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_told_from_what_it_was_by_wal_that_comes_late() {
    let fork = Fork::new(16).await;
    let late = async {
        // By then it has been looked for.
        until("the backup's own WAL is here", || async {
            fork.stored_from(fork.to).await > fork.to
        })
        .await;
        fork.push().await;
    };
    let taken = fork.scene.take(|options| options.wanted = Wanted::Incremental);
    let (taken, ()) = tokio::join!(taken, late);
    is_two_servers(taken);
}
