//! What a delta restore never goes onto, and what it leaves untouched when it is refused.

use std::{fs, os::unix::fs::symlink, path::Path};

use engine::restore::{self, Onto, Request};
use pgformat::Major;
use testkit::clusters::TestCluster;

use crate::{
    act::{copy_directory, directory_beside, refusal, sql, value},
    delta::{assert_same, tree},
    world::{World, durable},
};

/// Plans a delta restore and asserts that it is refused, with nothing touched.
async fn check(world: &World, to: &Path, code: &str) {
    let request = Request {
        to: to.to_path_buf(),
        onto: Onto::Delta,
        ..world.request("unused")
    };
    check_request(world, &request, code).await;
}

async fn check_request(world: &World, request: &Request, code: &str) {
    let opened = world.open().await;
    let error = restore::plan(&world.context, &opened, request)
        .await
        .expect_err("it was not refused");
    let (found, what, hint) = refusal(error);
    assert_eq!(found, code, "{what}");
    assert!(!hint.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_stopped_cluster_of_the_same_identity_is_written_over() {
    let mut source = TestCluster::new(Major::V15, durable()).await;
    let world = World::new().await;
    world.backup(&source).await;

    check(&world, source.data_dir(), "target-running").await;
    // A server whose pid file somebody removed; it ends by itself a minute later at the earliest.
    let pid = fs::read(source.data_dir().join("postmaster.pid")).unwrap();
    fs::remove_file(source.data_dir().join("postmaster.pid")).unwrap();
    check(&world, source.data_dir(), "target-running").await;
    fs::write(source.data_dir().join("postmaster.pid"), pid).unwrap();
    assert_eq!(value(&source, "SELECT 1").await, "1");

    let theirs = world.target("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("precious"), "x").unwrap();
    check(&world, &theirs, "target-no-cluster").await;
    fs::write(theirs.join("PG_VERSION"), "14\n").unwrap();
    check(&world, &theirs, "target-other-version").await;
    fs::write(theirs.join("PG_VERSION"), "15\n").unwrap();
    check(&world, &theirs, "target-unknown-cluster").await;
    // A mark in which nothing stands shows nothing.
    fs::write(theirs.join("lastgood-restore-unfinished"), "").unwrap();
    check(&world, &theirs, "target-unknown-cluster").await;
    check(&world, &theirs.join("precious"), "target-no-directory").await;
    check(&world, &theirs.join("not/there"), "target-parent-missing").await;
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 3);

    // A mark of ours beside a pg_control: it is another cluster's all the same.
    let mut other = TestCluster::new(Major::V15, durable()).await;
    other.stop().await;
    let before = tree(other.data_dir());
    check(&world, other.data_dir(), "target-other-cluster").await;
    assert_same(&tree(other.data_dir()), &before);
    let mark = format!(
        "backup 20261120T143000Z-7f3k9q\nowner \ndata {}\nwhole\n",
        other.data_dir().display()
    );
    fs::write(other.data_dir().join("lastgood-restore-unfinished"), mark).unwrap();
    check(&world, other.data_dir(), "target-other-cluster").await;

    source.stop().await;
    let request = Request {
        to: source.data_dir().to_path_buf(),
        onto: Onto::Empty,
        ..world.request("unused")
    };
    check_request(&world, &request, "target-not-empty").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tablespace_that_a_living_cluster_uses_is_never_written_over() {
    let source = TestCluster::new(Major::V15, durable()).await;
    let space = directory_beside(&source, "space");
    sql(
        &source,
        &format!("CREATE TABLESPACE space LOCATION '{}'", space.display()),
    )
    .await;
    sql(&source, "CREATE TABLE public.kept TABLESPACE space AS SELECT 1 AS one").await;
    let world = World::new().await;
    world.backup(&source).await;
    // A plain copy of a cluster has links to its tablespaces.
    let mut source = source;
    source.stop().await;
    let copy = world.target("copy");
    copy_directory(source.data_dir(), &copy);
    source.start().await;
    check(&world, &copy, "target-running").await;
    source.stop().await;

    // Nothing shows that what is in it is this cluster's.
    let empty = world.target("empty");
    check(&world, &empty, "target-not-empty").await;
    fs::remove_file(copy.join(format!("pg_tblspc/{}", space_oid(&copy)))).unwrap();
    check(&world, &copy, "target-not-empty").await;
}

fn space_oid(data: &Path) -> String {
    let link = fs::read_dir(data.join("pg_tblspc")).unwrap().next().unwrap().unwrap();
    link.file_name().into_string().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_after_the_plan_is_not_removed() {
    let source = TestCluster::new(Major::V15, durable()).await;
    let world = World::new().await;
    world.backup(&source).await;
    let mut request = world.request("restored");
    world.restore(&request).await;
    let before = tree(&request.to);
    request.onto = Onto::Delta;
    let opened = world.open().await;
    let run = async || {
        let plan = restore::plan(&world.context, &opened, &request).await.unwrap();
        fs::write(request.to.join("late"), "x").unwrap();
        restore::run(&world.context, &opened, &request, plan).await
    };
    assert_eq!(refusal(run().await.unwrap_err()).0, "target-changed");
    fs::remove_file(request.to.join("late")).unwrap();
    assert_same(&tree(&request.to), &before);

    // A server that was started after the plan.
    let plan = restore::plan(&world.context, &opened, &request).await.unwrap();
    let mut server = TestCluster::on(Major::V15, &request.to);
    server.start().await;
    let refused = restore::run(&world.context, &opened, &request, plan).await.unwrap_err();
    assert_eq!(refusal(refused).0, "target-running");
    assert_eq!(value(&server, "SELECT 1").await, "1");
    server.stop().await;

    // A whole tree that somebody linked in is not entered.
    let theirs = world.target("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("precious"), "x").unwrap();
    symlink(&theirs, request.to.join("linked")).unwrap();
    let (plan, _) = world.delta(&request).await;
    assert!(plan.delta.unwrap().removes.contains(&"linked".into()));
    assert_eq!(fs::read(theirs.join("precious")).unwrap(), b"x");
}
