use std::fs;

use pgclient::{
    Binaries, Cluster, Error,
    cluster::{StopMode, is_running},
};
use pgformat::Major;

use crate::server::{LONG, Server};

#[tokio::test]
async fn a_server_gets_nothing_of_our_environment_but_paths_and_language() {
    let server = Server::new("", &[]).await;
    let pid = server.cluster.as_ref().unwrap().pid();
    // Set by cargo for every test.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    for variable in environment
        .split('\0')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, _)| name)
    {
        // What postgres sets itself to tell its children where libraries and data are.
        let own = ["PGDATA", "PGSYSCONFDIR", "PGLOCALEDIR", "PG_GRANDPARENT_PID"].contains(&variable);
        let kept = ["PATH", "LANG", "HOME", "TZ"].contains(&variable) || variable.starts_with("LC_");
        assert!(kept || own, "{variable}");
    }
}

#[tokio::test]
async fn a_running_server_is_seen_and_not_started_twice() {
    let mut server = Server::new("", &[]).await;
    let pid = server.cluster.as_ref().unwrap().pid();
    assert_eq!(
        is_running(&server.data_dir()).unwrap().map(i32::cast_unsigned),
        Some(pid)
    );
    let refused = Cluster::start(&server.binaries, &server.data_dir(), server.start.clone());
    assert!(matches!(refused, Err(Error::Local { .. })), "{refused:?}");
    server.stop(StopMode::Fast).await;
    assert_eq!(is_running(&server.data_dir()).unwrap(), None);
}

#[tokio::test]
async fn a_server_that_cannot_start_tells_why_at_once() {
    let server = Server::prepare("", &[("shared_buffers", "nonsense")]).await;
    let mut cluster = Cluster::start(&server.binaries, &server.data_dir(), server.start.clone()).unwrap();
    let error = cluster.wait_ready(LONG).await.unwrap_err();
    let Error::ServerExited { log_tail, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(log_tail.contains("shared_buffers"), "{log_tail}");
}

#[tokio::test]
async fn a_server_runs_on_the_directory_given_whatever_its_configuration_says() {
    let mut server = Server::prepare("", &[]).await;
    let elsewhere = server.data_dir().parent().unwrap().join("elsewhere");
    let conf = server.data_dir().join("postgresql.conf");
    let mut text = fs::read_to_string(&conf).unwrap();
    text.push_str(&format!(
        "data_directory = '{0}'\nexternal_pid_file = '{0}.pid'\n",
        elsewhere.display()
    ));
    fs::write(&conf, text).unwrap();
    server.start().await;
    assert!(server.data_dir().join("postmaster.pid").exists());
    assert!(!elsewhere.with_extension("pid").exists());
    server.stop(StopMode::Fast).await;
}

#[tokio::test]
async fn a_dropped_server_is_gone_and_a_killed_one_recovers() {
    let mut server = Server::new("", &[]).await;
    server.cluster.take().unwrap().kill_9().await.unwrap();
    assert_eq!(is_running(&server.data_dir()).unwrap(), None);
    server.start().await;
    drop(server.cluster.take());
    assert_eq!(is_running(&server.data_dir()).unwrap(), None);
    server.start().await;
    server.stop(StopMode::Immediate).await;
}

#[test]
fn programs_of_another_version_are_not_taken() {
    let fifteen = Binaries::find(Major::V15, None).unwrap();
    let error = Binaries::find(Major::V16, Some(fifteen.directory())).unwrap_err();
    assert!(error.to_string().contains("(PostgreSQL 15)"), "{error}");
}
