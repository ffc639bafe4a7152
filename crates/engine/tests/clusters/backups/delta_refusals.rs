//! What a delta restore never goes onto, and what it leaves untouched when it is refused.

use std::{fs, os::unix::fs::symlink, path::Path};

use engine::{
    event::{Event, Stop},
    restore::{self, Onto, Request},
};
use pgformat::Major;
use testkit::clusters::TestCluster;

use super::{
    act::{copy_directory, directory_beside, refusal},
    delta::{assert_same, tree},
};
use crate::{
    ask::{sql, value},
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
    assert!(!heard_unfinished(&world));

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

const MARK: &str = "lastgood-restore-unfinished";
const CONTROL: &str = "global/pg_control";
const HIDDEN: &str = "global/pg_control.lastgood-before";

fn heard_unfinished(world: &World) -> bool {
    world.warnings().iter().any(|(code, _)| code == "restore-unfinished")
}

/// Runs a delta restore and stops it once it has begun to compare: what `pg_control` was is gone.
async fn stop_while_comparing(world: &World, request: &Request) {
    let stopping = Stop::default();
    let mut context = world.watching({
        let stopping = stopping.clone();
        move |event| {
            if matches!(event, Event::Step { step: "compare", .. }) {
                stopping.stop();
            }
        }
    });
    context.stop = stopping;
    let opened = world.open().await;
    let plan = restore::plan(&context, &opened, request).await.unwrap();
    let ended = restore::run(&context, &opened, request, plan).await;
    assert!(matches!(ended, Err(engine::Error::Interrupted)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_leaves_pg_control_as_it_was_found_whatever_older_restores_left() {
    let source = TestCluster::new(Major::V15, durable()).await;
    let world = World::new().await;
    world.backup(&source).await;
    let mut request = world.request("restored");
    world.restore(&request).await;
    request.onto = Onto::Delta;
    let opened = world.open().await;
    let refused = async || {
        let before = tree(&request.to);
        let plan = restore::plan(&world.context, &opened, &request).await.unwrap();
        fs::write(request.to.join("late"), "x").unwrap();
        let refused = restore::run(&world.context, &opened, &request, plan).await.unwrap_err();
        assert_eq!(refusal(refused).0, "target-changed");
        fs::remove_file(request.to.join("late")).unwrap();
        assert_same(&tree(&request.to), &before);
    };

    // Somebody undid a restore that died, and has run the cluster since.
    fs::write(request.to.join(HIDDEN), "last week's").unwrap();
    refused().await;
    assert!(!heard_unfinished(&world));

    // One that was cut off already stays so, and whoever asks for more is told.
    stop_while_comparing(&world, &request).await;
    assert!(!request.to.join(CONTROL).exists() && !request.to.join(HIDDEN).exists());
    world.heard.0.lock().unwrap().clear();
    refused().await;
    assert!(!request.to.join(CONTROL).exists() && heard_unfinished(&world));
    world.delta(&request).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_restore_of_another_cluster_is_not_gone_over() {
    let mut theirs = TestCluster::new(Major::V15, durable()).await;
    let ours = TestCluster::new(Major::V15, durable()).await;
    let (their_world, world) = (World::new().await, World::new().await);
    their_world.backup(&theirs).await;
    world.backup(&ours).await;
    theirs.stop().await;
    let to = theirs.data_dir().to_path_buf();

    // A delta restore that died over the old form of a mark, right after it had hidden pg_control: all else is whole.
    let mark = format!("backup 20261120T143000Z-7f3k9q\nowner \ndata {}\nwhole\n", to.display());
    fs::write(to.join(MARK), mark).unwrap();
    fs::rename(to.join(CONTROL), to.join(HIDDEN)).unwrap();
    let before = tree(&to);
    check(&world, &to, "target-other-cluster").await;
    assert_same(&tree(&to), &before);

    // One that died later, when the mark alone tells.
    let request = Request {
        to: to.clone(),
        onto: Onto::Delta,
        ..their_world.request("unused")
    };
    fs::rename(to.join(HIDDEN), to.join(CONTROL)).unwrap();
    fs::remove_file(to.join(MARK)).unwrap();
    stop_while_comparing(&their_world, &request).await;
    assert!(!to.join(HIDDEN).exists() && !to.join(CONTROL).exists());
    let before = tree(&to);
    check(&world, &to, "target-other-cluster").await;
    assert_same(&tree(&to), &before);

    // Their own goes on.
    let (plan, _) = their_world.delta(&request).await;
    assert!(plan.delta.unwrap().resumes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tablespace_of_another_clusters_unfinished_restore_is_not_gone_over() {
    let theirs = TestCluster::new(Major::V15, durable()).await;
    let ours = TestCluster::new(Major::V15, durable()).await;
    let (their_world, world) = (World::new().await, World::new().await);
    let (to, moved) = (world.target("restored"), world.target("moved"));
    let mut requests = Vec::new();
    for (source, world, name) in [(&theirs, &their_world, "theirs"), (&ours, &world, "ours")] {
        let space = directory_beside(source, name);
        sql(
            source,
            &format!("CREATE TABLESPACE space LOCATION '{}'", space.display()),
        )
        .await;
        sql(source, "CREATE TABLE public.kept TABLESPACE space AS SELECT 1 AS one").await;
        world.backup(source).await;
        requests.push(Request {
            to: to.clone(),
            onto: Onto::Delta,
            tablespaces: vec![(space, moved.clone())],
            ..world.request("unused")
        });
    }
    stop_while_comparing(&their_world, &requests[0]).await;
    fs::write(moved.join("theirs"), "x").unwrap();
    // Their data directory is gone, and the marks have the name of ours.
    fs::remove_dir_all(&to).unwrap();
    check_request(&world, &requests[1], "target-unfinished").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pid_file_that_no_server_here_explains_is_put_before_a_person() {
    let mut source = TestCluster::new(Major::V15, durable()).await;
    let world = World::new().await;
    world.backup(&source).await;
    source.crash().await;
    let request = Request {
        to: source.data_dir().to_path_buf(),
        onto: Onto::Delta,
        ..world.request("unused")
    };
    let opened = world.open().await;
    let plan = restore::plan(&world.context, &opened, &request).await.unwrap();
    let delta = plan.delta.as_ref().unwrap();
    let pid_file = request.to.join("postmaster.pid");
    let content = fs::read_to_string(&pid_file).unwrap();
    assert_eq!(delta.pid_file.as_deref(), Some(&*content));
    let only = restore::DeltaPlan {
        resumes: true,
        pid_file: delta.pid_file.clone(),
        ..restore::DeltaPlan::default()
    };
    assert!(delta.overwrites() && only.overwrites());
    let said = plan.lines().join("\n");
    assert!(
        said.contains("postmaster.pid is there") && said.contains("make sure"),
        "{said}"
    );

    // Whoever writes it anew after the plan lives, wherever that is.
    fs::write(&pid_file, content.replacen("ready", "starting", 1)).unwrap();
    let before = tree(&request.to);
    let refused = restore::run(&world.context, &opened, &request, plan).await.unwrap_err();
    assert_eq!(refusal(refused).0, "target-changed");
    assert_same(&tree(&request.to), &before);

    // One that cannot be read says nothing, least of all that nobody is there.
    fs::remove_file(&pid_file).unwrap();
    fs::create_dir(&pid_file).unwrap();
    check(&world, &request.to, "target-unreadable").await;
}
