//! New, empty clusters.

use std::{fs, os::unix::fs::DirBuilderExt, path::Path};

use pgformat::Major;

use super::{
    Binaries, Cluster, RunAs,
    process::{give_directory, run},
};
use crate::{Error, Result};

/// How a new cluster is made.
#[derive(Debug, Clone)]
pub struct Initdb {
    /// Name of the bootstrap superuser.
    pub superuser: String,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
    /// MiB of a WAL segment.
    pub wal_segment_mebibytes: u32,
    /// Authentication for all connections, as in `pg_hba.conf`.
    pub authentication: String,
    /// User and group to run as; must be given if we are root.
    pub run_as: Option<RunAs>,
    /// More arguments.
    pub arguments: Vec<String>,
}

impl Default for Initdb {
    fn default() -> Self {
        Self {
            superuser: "postgres".to_owned(),
            data_checksums: true,
            wal_segment_mebibytes: 16,
            authentication: "trust".to_owned(),
            run_as: None,
            arguments: Vec::new(),
        }
    }
}

impl Cluster {
    /// Makes a new, empty cluster. The directory is created, with the user to run as for owner.
    pub async fn initdb(binaries: &Binaries, data_dir: &Path, how: &Initdb) -> Result<()> {
        let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(data_dir);
        made.map_err(|source| Error::Local {
            doing: "create",
            path: data_dir.to_owned(),
            source,
        })?;
        give_directory(data_dir, how.run_as)?;
        let mut arguments = vec![
            format!("--pgdata={}", data_dir.display()),
            format!("--username={}", how.superuser),
            format!("--auth={}", how.authentication),
            format!("--wal-segsize={}", how.wal_segment_mebibytes),
            "--encoding=UTF8".to_owned(),
            "--locale=C".to_owned(),
            "--no-sync".to_owned(),
        ];
        match (how.data_checksums, binaries.major() >= Major::V18) {
            (true, false) => arguments.push("--data-checksums".to_owned()),
            (false, true) => arguments.push("--no-data-checksums".to_owned()),
            // On by default from 18 on, off before.
            _ => {}
        }
        arguments.extend(how.arguments.iter().cloned());
        run(&binaries.program("initdb"), &arguments, how.run_as).await
    }
}
