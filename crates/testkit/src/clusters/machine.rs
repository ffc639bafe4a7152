//! What this machine has: PostgreSQL's programs, and a user who may run a server.

use std::{env, path::PathBuf};

use pgclient::{Binaries, cluster::RunAs};
use pgformat::Major;

/// Debian's user for servers.
const SERVER_USER: &str = "postgres";

/// The programs of one version: Debian's, or those that `scripts/setup-versions` fetched.
pub fn binaries(major: Major) -> Binaries {
    let fetched = cache().join(major.number().to_string()).join("bin");
    let debian = PathBuf::from(format!("/usr/lib/postgresql/{}/bin", major.number()));
    let directory = if debian.join("postgres").exists() {
        debian
    } else {
        fetched
    };
    Binaries::find(major, Some(&directory)).unwrap_or_else(|_| {
        panic!(
            "no PostgreSQL {major} in {}: run scripts/setup and scripts/setup-versions, or `make test`, which does both",
            directory.display()
        )
    })
}

/// The same rule as in `scripts/setup-versions`.
fn cache() -> PathBuf {
    if let Some(configured) = env::var_os("LASTGOOD_TEST_POSTGRES") {
        return configured.into();
    }
    if is_root() {
        return "/var/cache/lastgood/postgres".into();
    }
    PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/lastgood/postgres")
}

/// The versions that a test of all versions takes: the oldest, Debian's and the newest, or with
/// `LASTGOOD_MATRIX=full` every one.
pub fn majors_to_test() -> Vec<Major> {
    if env::var_os("LASTGOOD_MATRIX").is_some_and(|matrix| matrix == "full") {
        return Major::ALL.to_vec();
    }
    vec![Major::V13, Major::V15, Major::V18]
}

/// Whom to run servers as: `None` is ourselves. PostgreSQL refuses to run as root.
pub fn server_user() -> Option<RunAs> {
    if !is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(SERVER_USER)).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    Some(found.unwrap_or_else(|| panic!("there is no user {SERVER_USER}: run scripts/setup")))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
