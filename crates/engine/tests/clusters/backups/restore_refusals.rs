//! Restores that are refused before anything is touched.

use std::{fs, path::Path};

use engine::restore::{self, Request};
use pgformat::Major;
use testkit::clusters::TestCluster;

use super::act::{directory_beside, files_below, refusal};
use crate::{
    ask::{sql, value},
    world::{World, durable},
};

/// Plans a restore and asserts that it is refused, by name, with nothing touched.
async fn check(world: &World, request: &Request, code: &str, named: &Path) {
    let opened = world.open().await;
    let before = request.to.is_dir().then(|| files_below(&request.to));
    let error = restore::plan(&world.context, &opened, request)
        .await
        .expect_err("it was not refused");
    let (found, what, hint) = refusal(error);
    assert_eq!(found, code, "{what}");
    assert!(what.contains(&named.display().to_string()), "{what}");
    assert!(!hint.is_empty());
    let after = request.to.is_dir().then(|| files_below(&request.to));
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_not_fit_is_refused_by_name_and_not_touched() {
    let source = TestCluster::new(Major::V15, durable()).await;
    let space = directory_beside(&source, "space");
    sql(
        &source,
        &format!("CREATE TABLESPACE space LOCATION '{}'", space.display()),
    )
    .await;
    let world = World::new().await;
    world.backup(&source).await;
    let moved = |name: &str| vec![(space.clone(), world.target(name))];

    let mut full = world.request("full");
    full.tablespaces = moved("free");
    fs::create_dir(&full.to).unwrap();
    fs::write(full.to.join("precious"), "x").unwrap();
    check(&world, &full, "target-not-empty", &full.to).await;

    let running = Request {
        to: source.data_dir().to_path_buf(),
        ..full.clone()
    };
    check(&world, &running, "target-running", source.data_dir()).await;
    assert_eq!(value(&source, "SELECT 1").await, "1");

    let orphan = Request {
        to: world.target("not/there/yet"),
        ..full.clone()
    };
    check(&world, &orphan, "target-parent-missing", &orphan.to).await;

    let file = Request {
        to: world.target("full/precious"),
        ..full.clone()
    };
    check(&world, &file, "target-no-directory", &file.to).await;

    let mut occupied = world.request("new");
    occupied.tablespaces = moved("full");
    check(&world, &occupied, "target-not-empty", &full.to).await;
    assert!(!occupied.to.exists());

    let mut nested = world.request("new");
    nested.tablespaces = moved("new/inside");
    fs::create_dir(world.target("new")).unwrap();
    check(&world, &nested, "targets-overlap", &nested.to).await;

    let unfinished = world.request("unfinished");
    fs::create_dir(&unfinished.to).unwrap();
    fs::write(unfinished.to.join("lastgood-restore-unfinished"), "").unwrap();
    let unfinished = Request {
        tablespaces: moved("free"),
        ..unfinished
    };
    check(&world, &unfinished, "target-unfinished", &unfinished.to).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_target_that_exists_is_used_and_keeps_its_owner() {
    let source = TestCluster::new(Major::V15, durable()).await;
    let world = World::new().await;
    world.backup(&source).await;
    let request = world.request("empty");
    fs::create_dir(&request.to).unwrap();
    testkit::clusters::give_to_server_user(&request.to);
    let restored = world.restore(&request).await;
    let mut server = TestCluster::on(Major::V15, &restored.to);
    server.start().await;
    assert_eq!(value(&server, "SELECT 1").await, "1");
}
