//! A repository, the program as the servers' user may run it, and a server that archives.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use engine::pgformat::Major;
use testkit::clusters::{Options, TestCluster, give_to_server_user, server_user};

/// How long a server may take to archive what a test wrote, and a receiver to receive it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// No archiver before a test wants one: the segments wait.
pub(crate) const KEEP: &str = "/bin/false";

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> World {
        let folder = tempfile::Builder::new().prefix("lg-wal-").tempdir().unwrap();
        // Where it is built, the servers' user may have no right to look.
        fs::copy(env!("CARGO_BIN_EXE_lastgood"), folder.path().join("lastgood")).unwrap();
        give_to_server_user(folder.path());
        let world = World { folder };
        let repository = world.path("repository");
        let made = world.run(
            world.folder.path(),
            &[
                "init",
                "--repository",
                repository.to_str().unwrap(),
                "--database",
                "shop=host=/nowhere user=u",
            ],
        );
        succeeded(&made);
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A server that archives by `command`.
    pub(crate) async fn server(&self, major: Major, segment_mebibytes: u32, command: &str) -> TestCluster {
        let conf = vec![
            "fsync = on".into(),
            "archive_mode = on".into(),
            format!("archive_command = '{command}'"),
            // So that what was archived can be compared.
            "wal_keep_size = '4GB'".into(),
        ];
        let options = Options {
            wal_segment_size_mib: segment_mebibytes,
            conf,
            ..Options::default()
        };
        TestCluster::new(major, options).await
    }

    fn call(&self, words: &str) -> String {
        let (program, config) = (self.path("lastgood"), self.path("lastgood.toml"));
        format!("{} {words} --config {}", program.display(), config.display())
    }

    pub(crate) fn archive_command(&self) -> String {
        self.call("wal push %p shop")
    }

    pub(crate) fn restore_command(&self) -> String {
        self.call("wal get %f %p shop")
    }

    /// The program, called in `directory` by the servers' user.
    pub(crate) fn command(&self, directory: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(self.path("lastgood"));
        command
            .args(words)
            .args(["--config", self.path("lastgood.toml").to_str().unwrap()])
            .current_dir(directory)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some((user, group)) = server_user() {
            command.uid(user).gid(group);
        }
        command
    }

    pub(crate) fn run(&self, directory: &Path, words: &[&str]) -> Output {
        self.command(directory, words).output().unwrap()
    }

    /// `wal push`, by hand.
    pub(crate) fn push(&self, server: &TestCluster, file: &str) -> Output {
        self.run(server.data_dir(), &["wal", "push", file, "shop"])
    }

    /// `wal get` to a file of the test's, and its bytes if they were delivered.
    pub(crate) fn get(&self, server: &TestCluster, file: &str, more: &[&str]) -> (i32, Option<Vec<u8>>, String) {
        let to = self.path("got");
        let _ = fs::remove_file(&to);
        let words = [&["wal", "get", file, to.to_str().unwrap(), "shop"], more].concat();
        let output = self.run(server.data_dir(), &words);
        (code(&output), fs::read(&to).ok(), stderr(&output))
    }

    pub(crate) fn backup(&self, server: &TestCluster) {
        let (repository, key) = (self.path("repository"), self.path("shop.key"));
        let words = [
            "backup",
            &server.conninfo_text(),
            "--repository",
            repository.to_str().unwrap(),
            "--key-file",
            key.to_str().unwrap(),
            "--name",
            "shop",
        ];
        succeeded(&self.run(self.folder.path(), &words));
    }

    /// The id of the backup that was taken last.
    pub(crate) fn newest_backup(&self) -> String {
        let ids = fs::read_dir(self.path("repository/shop/backups")).unwrap();
        let mut ids: Vec<_> = ids.map(|id| id.unwrap().file_name().into_string().unwrap()).collect();
        ids.sort();
        ids.pop().unwrap()
    }

    /// The objects below `prefix` in the database's folder, in order of name.
    pub(crate) fn objects(&self, prefix: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.path("repository/shop").join(prefix), &mut found);
        found.sort();
        found
    }
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => walk(&path, found),
            false => found.push(path),
        }
    }
}

pub(crate) fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, stderr(output));
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) async fn sql(server: &TestCluster, statement: &str) {
    server
        .session()
        .await
        .execute("work for a test", statement)
        .await
        .unwrap();
}

/// Ends the segment that is being written.
pub(crate) async fn switch(server: &TestCluster) {
    sql(
        server,
        "CREATE TABLE IF NOT EXISTS public.switched (); DROP TABLE public.switched",
    )
    .await;
    sql(server, "SELECT pg_catalog.pg_switch_wal()").await;
}

/// Writes about so many MiB of WAL that does not compress.
pub(crate) async fn write(server: &TestCluster, mebibytes: u32) {
    sql(server, "CREATE TABLE IF NOT EXISTS public.noise (bytes bytea)").await;
    sql(
        server,
        "ALTER TABLE public.noise ALTER COLUMN bytes SET STORAGE EXTERNAL",
    )
    .await;
    let rows = mebibytes * 64;
    let insert = format!(
        "INSERT INTO public.noise SELECT pg_catalog.decode((SELECT pg_catalog.string_agg(pg_catalog.md5(n::text || m::text), '') \
         FROM pg_catalog.generate_series(1, 1024) m), 'hex') FROM pg_catalog.generate_series(1, {rows}) n"
    );
    sql(server, &insert).await;
}

pub(crate) async fn set_archive_command(server: &TestCluster, command: &str) {
    sql(server, &format!("ALTER SYSTEM SET archive_command = '{command}'")).await;
    sql(server, "SELECT pg_catalog.pg_reload_conf()").await;
}

/// The names in `pg_wal/archive_status` with that ending, without it.
pub(crate) fn marked(server: &TestCluster, ending: &str) -> Vec<String> {
    let status = server.data_dir().join("pg_wal/archive_status");
    let names = fs::read_dir(status).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names
        .filter_map(|name| name.to_str()?.strip_suffix(ending).map(str::to_string))
        .collect();
    names.sort();
    names
}

/// Waits until the server has nothing left to archive.
pub(crate) async fn archived(server: &TestCluster) {
    let began = Instant::now();
    while !marked(server, ".ready").is_empty() {
        let log = fs::read_to_string(server.log()).unwrap_or_default();
        assert!(
            began.elapsed() < PATIENCE,
            "still to archive: {:?}\n{log}",
            marked(server, ".ready")
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The whole segments that the server has archived and still has.
pub(crate) fn done_segments(server: &TestCluster) -> Vec<String> {
    let wal = server.data_dir().join("pg_wal");
    let done = marked(server, ".done").into_iter();
    done.filter(|name| name.len() == 24 && wal.join(name).exists())
        .collect()
}

pub(crate) fn segment(server: &TestCluster, name: &str) -> Vec<u8> {
    fs::read(server.data_dir().join("pg_wal").join(name)).unwrap()
}

/// Every segment that the server has archived comes back as it is.
pub(crate) fn compare_all(world: &World, server: &TestCluster) -> usize {
    let names = done_segments(server);
    for name in &names {
        let (code, got, said) = world.get(server, name, &[]);
        assert_eq!(code, 0, "{name}: {said}");
        assert!(
            got.unwrap() == segment(server, name),
            "{name} came back with other bytes"
        );
    }
    names.len()
}
